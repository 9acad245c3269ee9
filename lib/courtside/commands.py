"""The commands that move data in and out: labels, export, sql and sportsmot."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from courtside.errors import SettingError

if TYPE_CHECKING:
    from courtside.labels import Check
    from courtside.video import Video

__all__ = ["check_labels", "export", "print_rows", "sportsmot", "sql"]

_RUNS = Path("reports")
_WIDEST = 40


def check_labels(options: argparse.Namespace) -> int:
    """Print everything that is wrong with labels; 1 where something is, 0 where they can be read."""
    from courtside import labels

    path = Path(options.path)
    folders = [path]
    if path.is_dir() and not (path / "gt").exists() and options.video is None:
        folders = labels.sequences(path) or folders
    wrong = 0
    for folder in folders:
        check = labels.check_labels(folder, _video(folder, options.video))
        wrong += bool(check.errors)
        _print_check(check)
    if len(folders) > 1:
        print(f"{len(folders)} labelled videos, {wrong} of them with errors")
    return 1 if wrong else 0


def export(options: argparse.Namespace) -> int:
    """Write a run's tracks to a file, or the tables of all runs to a database."""
    if (options.format is None) == (options.to is None):
        raise SettingError("say where to: --format with one RUN for a file, or --to URL for a database")
    if options.to is not None:
        from courtside.query import copy_to

        rows = copy_to(options.run or _RUNS, options.to, progress=not options.quiet)
        print(", ".join(f"{name}: {count} rows" for name, count in rows.items()))
        return 0
    if options.run is None:
        raise SettingError(f"name the run to export: courtside export RUN --format {options.format}")
    from courtside.exports import default_path, export_tracks
    from courtside.folder import Run

    run = Run(options.run)
    path = Path(options.out) if options.out else default_path(run, options.format)
    for sentence in export_tracks(run, options.format, path):
        print(f"note: {sentence}")
    print(f"{options.format}: {path}")
    return 0


def sql(options: argparse.Namespace) -> int:
    """Print what a query over the tables of all runs gives."""
    from courtside.query import query

    names, rows = query(options.runs, options.query)
    if options.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerows([names, *rows])
    else:
        print_rows(names, rows)
    return 0


def sportsmot(options: argparse.Namespace) -> int:
    """Track and score the sequences of SportsMOT's basketball."""
    from courtside.sportsmot import evaluate

    scores, failed = evaluate(
        options.root,
        options.out,
        split=options.split,
        tracker=options.tracker,
        prompts=options.prompts or ["basketball player"],
        model=options.model,
        device=options.device,
        progress=not options.quiet,
    )
    print_rows(list(scores.columns), scores.astype(object).where(scores.notna(), None).to_numpy().tolist())
    print(f"summary: {Path(options.out) / 'summary.csv'}")
    return 1 if failed else 0


def print_rows(names: list[str], rows: Iterable[Sequence]) -> None:
    """Columns one under the other: numbers to the right, long texts cut."""
    rows = list(rows)
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max([len(name), *(len(row[i]) for row in cells)]) for i, name in enumerate(names)]
    right = [all(isinstance(row[i], int | float | None) for row in rows) for i in range(len(names))]
    for row in [names, ["-" * width for width in widths], *cells]:
        texts = [
            text.rjust(width) if number else text.ljust(width)
            for text, width, number in zip(row, widths, right, strict=True)
        ]
        print("  ".join(texts).rstrip())


def _print_check(check: Check) -> None:
    if check.labels is not None:
        truth = check.labels.ground_truth
        print(
            f"{check.path}: {truth['object_id'].nunique()} objects, {len(truth)} boxes, "
            f"{truth['mask_rle'].notna().sum()} masks in {len(check.labels.labelled_frames)} labelled of "
            f"{check.labels.frame_count} frames of {check.labels.width} x {check.labels.height} pixels"
        )
    else:
        print(f"{check.path}: cannot be read")
    for kind in ("errors", "warnings", "notes"):
        for sentence in getattr(check, kind):
            print(f"  {kind.removesuffix('s')}: {sentence}")
    if not check.errors and not check.warnings:
        print("  nothing is wrong")


def _video(folder: Path, named: str | None) -> Video | None:
    """The video that was named, or the one in the folder, by which labels can be checked."""
    from courtside.video import Video

    if named is not None:
        return Video(named)
    for name in ("video.mp4", "video.mov"):
        if (folder / name).is_file():
            return Video(folder / name)
    return None


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = " ".join(str(value).split())
    return text if len(text) <= _WIDEST else text[: _WIDEST - 3] + "..."
