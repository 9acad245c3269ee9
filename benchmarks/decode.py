"""Time a full decode through ``Video`` against plain PyAV decoding to RGB, and print the ratio.

    python benchmarks/decode.py [CLIP] [--repeats N]

Both run in this process, in turn, with FFmpeg's own choice of threads; opening counts on both sides.
The best of the repeats is taken, since other work on the machine only ever adds time. Goal: 1.2 or less.
Without CLIP, ten seconds of 720p noise that moves are written to a temporary folder.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import av
import numpy as np

from courtside.video import Video, VideoWriter

GOAL = 1.2


def write_clip(path: Path, frames: int = 300, width: int = 1280, height: int = 720) -> Path:
    """A textured picture that pans, so that the decoder has motion and detail to work on."""
    rng = np.random.default_rng(7)
    coarse = rng.integers(0, 255, (height // 8, width // 4, 3), np.uint8)
    texture = coarse.repeat(8, axis=0).repeat(8, axis=1)
    with VideoWriter(path, width, height, 30) as writer:
        for i in range(frames):
            writer.write(np.roll(texture, 3 * i, axis=1)[:, :width])
    return path


def decode_with_pyav(path: Path) -> int:
    count = 0
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for frame in container.decode(video=0):
            frame.to_ndarray(format="rgb24")
            count += 1
    return count


def decode_with_video(path: Path) -> int:
    return sum(1 for _ in Video(path).frames())


def seconds(decode, path: Path) -> tuple[float, float, int]:
    """Wall seconds, processor seconds and the number of frames."""
    wall, cpu = time.perf_counter(), time.process_time()
    count = decode(path)
    return time.perf_counter() - wall, time.process_time() - cpu, count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", nargs="?", type=Path, help="a video file; by default one is made")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clip = arguments.clip or write_clip(Path(folder) / "clip.mp4")
        plain, ours = [], []
        for _ in range(arguments.repeats):
            for times, decode in ((plain, decode_with_pyav), (ours, decode_with_video)):
                times.append(seconds(decode, clip))
        start = time.perf_counter()
        video = Video(clip)
        opening = time.perf_counter() - start
    counts = {count for _, _, count in plain + ours}
    if len(counts) != 1:
        raise SystemExit(f"the two disagree on the number of frames: {sorted(counts)}")
    (count,) = counts
    (plain_wall, plain_cpu), (wall, cpu) = (
        (min(t[0] for t in x), min(t[1] for t in x)) for x in (plain, ours)
    )
    ratio = wall / plain_wall
    print(f"{video.width}x{video.height} {video.codec}, {count} frames, best of {arguments.repeats}")
    print(
        f"plain PyAV  {plain_wall:6.2f} s, {plain_cpu:.2f} s of processor, {count / plain_wall:.0f} frames/s"
    )
    print(f"Video       {wall:6.2f} s, {cpu:.2f} s of processor, {count / wall:.0f} frames/s")
    print(f"opening     {opening:6.2f} s, counted above")
    print(f"ratio       {ratio:6.2f} (goal {GOAL} or less), {cpu / plain_cpu:.2f} of processor time")


if __name__ == "__main__":
    main()
