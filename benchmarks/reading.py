"""Time the reader on one core, and print how right and how calibrated reading is on labelled clips.

    python benchmarks/reading.py [DIR ...]

Each DIR holds ``video.mp4`` and labels with a ``roster.csv``; their boxes serve as tracks.
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from courtside.jersey import make_reader
from courtside.run import Settings, execute
from minicourt.torsos import render_torsos

BINS = np.array([0.0, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0])


def time_reader(count: int = 20) -> float:
    """Seconds for ``count`` rendered torsos, the best of three."""
    reader = make_reader("rapidocr")
    images = [render_torsos(np.random.default_rng(seed))[0].image for seed in range(count)]
    reader.read(images[:1])
    taken = []
    for _ in range(3):
        start = time.process_time()
        reader.read(images)
        taken.append(time.process_time() - start)
    return min(taken)


def measure(folder: Path, out: Path) -> list[tuple[float, bool | None]]:
    """For each player of the roster: the confidence of its number, and whether it is right; None unknown."""
    settings = Settings(video=folder / "video.mp4", out=out, tracker="labels", labels=folder)
    run = execute(settings, stages=("track", "read", "score"), progress=False)
    sure = {track: row.confidence for row in run.players().itertuples() for track in row.tracking_ids}
    shift = int((run.labels().ground_truth["object_id"] == 0).any())
    metrics = run.scores()["metrics"]
    counts = [f"{name} {value}" for name, value in metrics.items() if name.startswith("jersey")]
    print(f"{folder.name}: {', '.join(counts)}")
    return [
        (sure[one["object_id"] + shift], None if one["given"] is None else one["given"] == one["true"])
        for one in run.scores()["protocol"]["jerseys"]["players"]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    print(f"20 crops: {time_reader():.2f} s of CPU on one core")
    players = []
    with tempfile.TemporaryDirectory() as scratch:
        for place, folder in enumerate(options.folders):
            players += measure(folder, Path(scratch) / str(place))
    for low, high in itertools.pairwise(BINS):
        here = [right for sure, right in players if low <= sure < high or sure == high == 1]
        given = [right for right in here if right is not None]
        if here:
            share = f"{np.mean(given):.2f}" if given else "-"
            print(
                f"confidence {low:.2f} to {high:.2f}: {len(here)} players, {len(given)} given, {share} right"
            )


if __name__ == "__main__":
    main()
