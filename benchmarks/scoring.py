"""Time to score 36,000 boxes, beside trackers' evaluation of the same boxes alone.

    python benchmarks/scoring.py [--frames 3600] [--objects 10] [--repeats 3]

The tracks are the labels of a made scene with jitter, gaps, switches and false alarms, so that every
kind of error is counted. trackers' evaluation is its own IoU, CLEAR, Identity and HOTA on ready arrays;
ours adds motmetrics' CLEAR and Identity, checked tables, product measures, the event log and the protocol.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from trackers.eval import box_iou, compute_clear_metrics, compute_hota_metrics, compute_identity_metrics

from courtside.labels import Labels
from courtside.scoring import score

BOX = ["x1", "y1", "x2", "y2"]
FPS = 25.0


def make_scene(frame_count: int, objects: int) -> tuple[Labels, pd.DataFrame]:
    """Labels of ``objects`` players that wander over 1280 x 720 pixels, and faulty tracks of them."""
    rng = np.random.default_rng(7)
    phase, speed = rng.uniform(0, 2 * np.pi, (2, objects)), rng.uniform(0.002, 0.01, (2, objects))
    frame, player = np.divmod(np.arange(frame_count * objects), objects)
    x = 600 + 560 * np.sin(phase[0, player] + speed[0, player] * frame)
    y = 300 + 280 * np.sin(phase[1, player] + speed[1, player] * frame)
    boxes = np.stack([x, y, x + 50, y + 120], axis=1)

    def texts(value: str | None, size: int) -> pd.arrays.StringArray:
        return pd.array([value] * size, dtype="string")

    truth = pd.DataFrame({"frame": frame, "object_id": player, **dict(zip(BOX, boxes.T, strict=True))})
    truth = truth.assign(ignored=False, visibility=np.nan, mask_rle=texts(None, len(truth)))
    labels = Labels(
        folder=Path("made"), name="made", width=1280, height=720, fps=FPS, frame_count=frame_count,
        ground_truth=truth, roster=None, prompts=None, sha256="0" * 64,
        labelled_frames=np.arange(frame_count),
    )  # fmt: skip
    # A new track every 300 frames, at another moment for each player.
    tracking_id = 1 + player + objects * ((frame + 37 * player) // 300)
    missed = (frame + 53 * player) % 97 < 9
    alarm = rng.random(len(frame)) < 0.1
    found = boxes + rng.normal(0, 3, boxes.shape)
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
    shift = np.where(alarm, 400, 0)[:, None] * [1, 0, 1, 0]
    kept = ~missed
    size = int(kept.sum())
    tracks = pd.DataFrame(
        {
            "video": texts("made.mp4", size),
            "frame": frame[kept],
            "time_s": frame[kept] / FPS,
            "tracking_id": tracking_id[kept],
            "prompt": texts(None, size),
            "class_id": np.zeros(size, np.int64),
            "class_name": texts("player", size),
            "confidence": np.ones(size),
            **dict(zip(BOX, (found + shift)[kept].T, strict=True)),
            "mask_rle": texts(None, size),
            "jersey_number": texts(None, size),
            "player_id": texts(None, size),
        }
    )
    return labels, tracks


def evaluate_alone(frames: list[tuple[np.ndarray, ...]]) -> float:
    """trackers' IoU, CLEAR, Identity and HOTA; returns its MOTA."""
    objects, tracks = [one[0] for one in frames], [one[2] for one in frames]
    similarity = [box_iou(one[1], one[3]) for one in frames]
    compute_identity_metrics(objects, tracks, similarity)
    compute_hota_metrics(objects, tracks, similarity)
    return compute_clear_metrics(objects, tracks, similarity)["MOTA"]


def best_time(run: Callable[[], object], repeats: int) -> tuple[float, object]:
    """The least seconds of ``repeats`` runs, and what the last one returned."""
    times_s, result = [], None
    for _ in range(repeats):
        start = time.perf_counter()
        result = run()
        times_s.append(time.perf_counter() - start)
    return min(times_s), result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=3600)
    parser.add_argument("--objects", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    labels, tracks = make_scene(arguments.frames, arguments.objects)
    cut = [
        {frame: (rows[name].to_numpy(), rows[BOX].to_numpy()) for frame, rows in table.groupby("frame")}
        for table, name in ((labels.ground_truth, "object_id"), (tracks, "tracking_id"))
    ]
    nothing = (np.empty(0, np.int64), np.empty((0, 4)))
    frames = [(*cut[0][frame], *cut[1].get(frame, nothing)) for frame in range(labels.frame_count)]
    times_s = np.arange(labels.frame_count) / FPS

    alone_s, mota = best_time(lambda: evaluate_alone(frames), arguments.repeats)
    ours_s, scores = best_time(lambda: score(tracks, labels, times_s=times_s), arguments.repeats)
    boxes = f"{len(labels.ground_truth):,} labelled and {len(tracks):,} tracked boxes"
    print(f"{boxes} in {labels.frame_count:,} frames, best of {arguments.repeats}")
    trackeval = scores.protocol["trackeval"]["mota"]
    print(f"trackers.eval alone        {alone_s:6.2f} s   MOTA {mota:.4f}")
    print(f"courtside.scoring.score    {ours_s:6.2f} s   MOTA {trackeval:.4f} as TrackEval counts it")
    print(f"                                      {scores.metrics['mota']:.4f} as motmetrics does")
    print(f"ratio                      {ours_s / alone_s:6.2f}")


if __name__ == "__main__":
    main()
