"""Time the report: figures and page of a labelled 300-frame 720p run, part by part.

    python benchmarks/report.py [RUN]

Without RUN a clip is rendered and tracked first, which is not timed. Prints seconds of wall clock and of
this process, and the size of each part; the goal is a whole path (file to report) under 90 s on two cores.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat

from courtside.report.blocks import Block
from courtside.report.html import to_html
from courtside.report.sections import Report
from courtside.run import Run, Settings, execute

PARTS = (
    "headline", "player", "timeline", "on_screen", "frames", "contact_sheet", "players", "score_table",
    "prompt_table", "errors", "left_out", "settings",
)  # fmt: skip


@contextmanager
def run_of(arguments: list[str]) -> Iterator[Run]:
    if arguments:
        yield Run(arguments[0])
        return
    from minicourt.clip import render_clip

    with tempfile.TemporaryDirectory() as folder:
        clip = render_clip(Path(folder) / "clip", seed=7, frames=300)
        settings = Settings(
            video=clip / "video.mp4",
            out=Path(folder) / "run",
            tracker="bytetrack",
            detections=clip / "det" / "det.txt",
            labels=clip,
        )
        yield execute(settings, stages=("track", "score", "overlay"))


def timed(name: str, work: Callable[[], object]) -> object:
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    size = len(result.html if isinstance(result, Block) else result) / 1e3
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{name:14} {wall:7.2f} s {cpu:7.2f} s cpu {size:9.0f} kB")
    return result


def main() -> None:
    with run_of(sys.argv[1:]) as run:
        report = Report(run)
        video = report.video
        print(f"{video.frame_count} frames, {video.width} x {video.height}, {len(report.detections)} boxes")
        start, cpu = time.perf_counter(), time.process_time()
        shown = [timed(name, getattr(report, name)) for name in PARTS]
        cells = [
            nbformat.v4.new_code_cell(
                outputs=[nbformat.v4.new_output("display_data", {"text/html": block._repr_html_()})]
            )
            for block in shown
        ]
        timed("page", lambda: to_html(nbformat.v4.new_notebook(cells=cells)))
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        print(
            f"{'all':14} {wall:7.2f} s {cpu:7.2f} s cpu; {wall / video.duration_s:.2f} x the video's length"
        )


if __name__ == "__main__":
    main()
