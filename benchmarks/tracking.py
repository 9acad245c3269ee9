"""Speed of tracking by detection: ours against the plain loop over the packages trackers and supervision.

    python benchmarks/tracking.py [--clip FOLDER] [--repeats 5]

``--clip`` holds ``video.mp4`` and ``det/det.txt``; without it, ten made-up walkers in 300 frames.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import supervision
import trackers
from trackers.utils.state_representations import XCYCSRStateEstimator

from courtside import tables
from courtside.labels import read_detections
from courtside.trackers import make_tracker
from courtside.video import Video

CLASSES = {"bytetrack": trackers.ByteTrackTracker, "ocsort": trackers.OCSORTTracker}


def walkers(frames: int = 300, count: int = 10) -> tuple[SimpleNamespace, pd.DataFrame]:
    """A video that nobody decodes, and boxes of ``count`` people who walk with jitter."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1200, count) + np.cumsum(rng.normal(0, 2, (frames, count)), axis=0)
    y = rng.uniform(100, 500, count) + np.cumsum(rng.normal(0, 1, (frames, count)), axis=0)
    columns = {"frame": np.repeat(np.arange(frames), count), "x1": x.ravel(), "y1": y.ravel()}
    table = pd.DataFrame(columns)
    table["x2"], table["y2"] = table["x1"] + 50, table["y1"] + 120
    table["confidence"] = rng.uniform(0.5, 1, len(table))
    video = SimpleNamespace(name="walkers", frame_count=frames, fps=25.0, times_s=np.arange(frames) / 25)
    return video, table[list(tables.DETECTIONS.columns)]


def plain(name: str, video: Video | SimpleNamespace, table: pd.DataFrame) -> int:
    """The loop of the package's manual, from arrays to tracker ids."""
    fixed = {"state_estimator_class": XCYCSRStateEstimator} if name == "bytetrack" else {}
    tracker = CLASSES[name](frame_rate=video.fps, **fixed, **make_tracker(name, detections=table).settings)
    frames, count = table["frame"].to_numpy(), 0
    xyxy, confidence = table[["x1", "y1", "x2", "y2"]].to_numpy(np.float32), table["confidence"].to_numpy()
    for frame in range(video.frame_count):
        here = frames == frame
        given = supervision.Detections(
            xyxy=xyxy[here], confidence=confidence[here], class_id=np.zeros(int(here.sum()), int)
        )
        tracked = tracker.update(given, timestamp=float(video.times_s[frame]))
        count += int((tracked.tracker_id >= 0).sum())
    return count


def ours(name: str, video: Video | SimpleNamespace, table: pd.DataFrame) -> int:
    return sum(len(frame) for frame in make_tracker(name, detections=table).track(video, progress=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clip", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if options.clip is None:
        video, table = walkers()
    else:
        video = Video(options.clip / "video.mp4")
        table = read_detections(options.clip / "det" / "det.txt", video)
    print(f"{video.name}: {video.frame_count} frames, {len(table)} boxes, best of {options.repeats}")
    for name in CLASSES:
        best = {}
        for run in (plain, ours):
            seconds, counts = [], set()
            for _ in range(options.repeats):
                # Processor time, since other programs may share the machine.
                start = time.process_time()
                counts.add(run(name, video, table))
                seconds.append(time.process_time() - start)
            best[run] = min(seconds), statistics.median(seconds), counts
        assert best[plain][2] == best[ours][2], "both must track the same boxes"
        (fast, median, _), (own, own_median, _) = best[plain], best[ours]
        print(
            f"{name}: plain {fast * 1000:.0f} ms (median {median * 1000:.0f}), ours {own * 1000:.0f} ms"
            f" (median {own_median * 1000:.0f}), {video.frame_count / own:.0f} frames/s,"
            f" ratio ours/plain {own / fast:.2f}"
        )


if __name__ == "__main__":
    main()
