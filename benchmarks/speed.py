"""What following faster than exactly costs: time, and how well players are followed, on rendered clips.

    python benchmarks/speed.py [--clips game-962 crowd-962] [--frames 120] [--trial stride=3,frames=4]

All speeds follow the same clips in one process, one after the other on each clip, and are scored as a run is.
A ``--trial``, any number of them, is a speed of one's own; prints a Markdown table.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from courtside.labels import read_labels
from courtside.sam3 import Sam3Tracker
from courtside.sam3.speed import SPEEDS, Speed
from courtside.scoring.counts import Counts, metrics_of
from courtside.video import Video
from minicourt.clip import render_clip
from minicourt.evaluate import EVERYONE, as_table, counts_of

MODEL = Path(__file__).parent.parent / "data" / "models" / "sam3-tiny"


def trial(text: str) -> Speed:
    """A speed from a text such as "stride=2.5,frames=4"."""
    values = dict(part.split("=") for part in text.split(","))
    whole = {name: int(value) for name, value in values.items() if name != "stride"}
    return Speed(text, float(values.get("stride", 1)), **whole)


def follow(tracker: Sam3Tracker, folder: Path) -> tuple[float, Counts]:
    """Seconds of tracking the clip in ``folder``, and what came out beside its labels."""
    video = Video(folder / "video.mp4")
    # Processor time, since other programs may share the machine; the wall's where a GPU works.
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    started = clock()
    frames = list(tracker.track(video, [EVERYONE], progress=False))
    seconds = clock() - started
    counts = counts_of(as_table(frames, video), read_labels(folder, video), video, [EVERYONE])
    return seconds, counts[EVERYONE]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--clips",
        nargs="+",
        default=["game-962", "crowd-962", "reentry-962", "lookalike-962"],
        help="level-seed of each",
    )
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--trial", type=trial, action="append", default=[])
    options = parser.parse_args()
    speeds = [*SPEEDS.values(), *options.trial]
    trackers = {each: Sam3Tracker(options.model, options.device, speed=each) for each in speeds}
    seconds: dict[Speed, float] = dict.fromkeys(speeds, 0.0)
    counts: dict[Speed, Counts] = {}
    with tempfile.TemporaryDirectory() as folder:
        for clip in options.clips:
            level, seed = clip.rsplit("-", 1)
            path = Path(folder) / clip
            render_clip(path, level=level, seed=int(seed), frames=options.frames)
            for speed, tracker in trackers.items():
                tracker.load()
                took, found = follow(tracker, path)
                seconds[speed] += took
                counts[speed] = counts[speed] + found if speed in counts else found
                metrics = metrics_of(found)
                print(f"{clip}, {speed.name}: {took:.1f} s, IDF1 {metrics['idf1']:.3f}", flush=True)

    print(f"\n{', '.join(options.clips)}, {options.frames} frames each\n")
    print("| speed | time | MOTA | IDF1 | ids for players |\n|---|---|---|---|---|")
    for speed in speeds:
        metrics, of = metrics_of(counts[speed]), counts[speed]
        print(
            f"| {speed.name} | {seconds[speed] / seconds[speeds[0]]:.2f} | {metrics['mota']:.3f} |"
            f" {metrics['idf1']:.3f} | {of.predicted_tracks} for {of.true_objects} |"
        )


if __name__ == "__main__":
    main()
