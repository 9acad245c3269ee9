"""The commands that move data in and out: labels, export, sql and sportsmot."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from courtside.errors import SettingError
from courtside.settings import DEFAULT_MODEL

if TYPE_CHECKING:
    from courtside.labels import Check
    from courtside.video import Video

__all__ = ["FORMATS", "TRACKERS", "add", "add_parsers", "add_quiet", "print_rows"]

FORMATS = ("mot", "mots", "coco", "cvat", "csv")
TRACKERS = ("sam3", "sam3-associate", "bytetrack", "ocsort", "botsort", "labels")
"""Both are spelled out again, since importing what they name would make --help wait for NumPy."""

_RUNS = Path("reports")
_WIDEST = 40


def add_parsers(parsers) -> None:
    """Add the commands of this module."""
    _add_labels(parsers)
    _add_export(parsers)
    _add_sql(parsers)
    _add_sportsmot(parsers)


def add(parsers, name: str, does: str, about: str, examples: str) -> argparse.ArgumentParser:
    """A command's parser, with examples below its options."""
    return parsers.add_parser(
        name,
        help=does,
        description=about,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_quiet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def _add_labels(parsers) -> None:
    parser = parsers.add_parser("labels", help="say everything that is wrong with labels")
    check = add(
        parser.add_subparsers(title="commands", metavar="COMMAND", required=True),
        "check",
        "say everything that is wrong with labels, at once",
        "Read labels as --labels does and print every error with its file and row, what looks wrong though\n"
        "it can be read, and how the labels were made. PATH is a labels folder, the export of a labelling\n"
        "tool, or a tree of labelled videos. Exit code 1 means that there are errors.",
        "  courtside labels check data/labels/game\n  courtside labels check game-cvat.zip --video game.mp4",
    )
    check.add_argument("path", metavar="PATH", help="a folder or file of labels")
    check.add_argument(
        "--video", metavar="FILE", help="the video (default: the video.mp4 in the folder, if any)"
    )
    check.set_defaults(command=_check_labels)


def _add_export(parsers) -> None:
    parser = add(
        parsers,
        "export",
        "write tracks for other tools, or all tables to a database",
        "Write the tracks of a run to a file: mot (MOTChallenge text), mots (masks without overlaps), coco\n"
        "(with masks), cvat (to correct the tracks in CVAT) or csv. Or copy the tables of all runs below a\n"
        "folder into a database: rows of the same runs are replaced, in one transaction, so that it can be\n"
        "done again.",
        "  courtside export reports/game-sam3 --format cvat --out game.xml\n"
        "  courtside export --to sqlite:///runs.db\n"
        "  courtside export reports/eval --to postgresql://me@host/games",
    )
    parser.add_argument(
        "run", nargs="?", metavar="RUN", help="a run folder; with --to a folder of runs: reports"
    )
    parser.add_argument("--format", choices=FORMATS, help="the format of the file")
    parser.add_argument("--out", metavar="FILE", help="the file (default: tracks-<format> in the run folder)")
    parser.add_argument("--to", metavar="URL", help="a database, as SQLAlchemy names it")
    add_quiet(parser)
    parser.set_defaults(command=_export)


def _add_sql(parsers) -> None:
    parser = add(
        parsers,
        "sql",
        "ask all runs a question in SQL",
        "Run an SQL query (DuckDB's) over the tables of all runs below a folder: player_detections,\n"
        "players, jersey_reads, events and scores, each with a column run.",
        '  courtside sql "select run, idf1, hota from scores where prompt is null"\n'
        '  courtside sql "select run, event, count(*) from events group by all" --csv',
    )
    parser.add_argument("query", metavar="QUERY", help="what to ask")
    parser.add_argument(
        "--runs", metavar="DIR", default="reports", help="where the runs are (default: reports)"
    )
    parser.add_argument("--csv", action="store_true", help="print CSV instead of a table")
    parser.set_defaults(command=_sql)


def _add_sportsmot(parsers) -> None:
    parser = add(
        parsers,
        "sportsmot",
        "evaluate on the basketball of SportsMOT",
        "Track and score the basketball sequences of SportsMOT by its published protocol. ROOT holds\n"
        "splits_txt and dataset as they are unpacked. Trackers other than sam3 link det/det.txt of each\n"
        "sequence. What is done already is not done again. Exit code 1 means that a sequence failed.",
        "  courtside sportsmot ~/data/sportsmot\n"
        "  courtside sportsmot ~/data/sportsmot --split test --tracker botsort",
    )
    parser.add_argument("root", metavar="ROOT", help="the folder of SportsMOT")
    parser.add_argument(
        "--split", default="val", help="train, val or test, which has no labels (default: val)"
    )
    parser.add_argument("--tracker", choices=TRACKERS[:-1], default="sam3", help="(default: sam3)")
    parser.add_argument(
        "--prompt", action="append", dest="prompts", metavar="TEXT", help='(default: "basketball player")'
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, metavar="M", help=f"(default: {DEFAULT_MODEL})")
    parser.add_argument("--device", default="auto", help="(default: auto)")
    parser.add_argument(
        "--out", metavar="DIR", default="reports/sportsmot", help="(default: reports/sportsmot)"
    )
    add_quiet(parser)
    parser.set_defaults(command=_sportsmot)


def _check_labels(options: argparse.Namespace) -> int:
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


def _export(options: argparse.Namespace) -> int:
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


def _sql(options: argparse.Namespace) -> int:
    """Print what a query over the tables of all runs gives."""
    from courtside.query import query

    names, rows = query(options.runs, options.query)
    if options.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerows([names, *rows])
    else:
        print_rows(names, rows)
    return 0


def _sportsmot(options: argparse.Namespace) -> int:
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
