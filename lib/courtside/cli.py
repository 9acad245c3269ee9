"""The command ``courtside``: track a video, score it, report on it, move data in and out."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from courtside import commands, run
from courtside.errors import CourtsideError, SettingError
from courtside.settings import DEFAULT_MODEL, READERS, Settings, default_folder

__all__ = ["TRACKERS", "build_parser", "headline", "main"]

FORMATS = ("mot", "mots", "coco", "cvat", "csv")
TRACKERS = ("sam3", "bytetrack", "ocsort", "botsort", "labels")
"""Both are spelled out again, since importing what they name would make --help wait for NumPy."""

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    0 when all went well, 2 with one sentence on stderr for what the user can fix, 130 after Ctrl-C,
    and 1 from ``doctor`` when something that every run needs is missing, from ``labels check`` when labels
    have errors, and from ``sportsmot`` when a sequence failed.
    """
    options = build_parser().parse_args(arguments)
    try:
        return options.command(options)
    except CourtsideError as error:
        print(f"courtside: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "\ncourtside: interrupted; everything so far is kept, and the same command goes on from there",
            file=sys.stderr,
        )
        return _INTERRUPTED


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="courtside",
        description="Follow basketball players through handheld phone video, and measure how well it went.",
        epilog="Each command explains itself: courtside track --help",
    )
    parsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_track(parsers)
    _add_read(parsers)
    _add_score(parsers)
    _add_report(parsers)
    _add_labels(parsers)
    _add_share(parsers)
    _add_export(parsers)
    _add_sql(parsers)
    _add_sportsmot(parsers)
    _add_doctor(parsers)
    return parser


def _add(parsers, name: str, does: str, about: str, examples: str) -> argparse.ArgumentParser:
    return parsers.add_parser(
        name,
        help=does,
        description=about,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_track(parsers) -> None:
    parser = _add(
        parsers,
        "track",
        "follow the players in a video and report on it",
        "Follow the players in a video, score the tracks where there are labels, draw them, and write\n"
        "report.html. A run that was stopped goes on from its last finished stage when the same command\n"
        "is given again.",
        '  courtside track game.mp4 --prompt "player in white" --prompt referee\n'
        "  courtside track game.mp4 --tracker bytetrack --detections det.txt\n"
        "  courtside track clip/video.mp4 --tracker botsort --detections clip/det/det.txt --labels clip",
    )
    parser.add_argument("video", metavar="VIDEO", help="a video file, or a folder of JPEG frames")
    parser.add_argument(
        "--tracker",
        choices=TRACKERS,
        default="sam3",
        help="sam3 follows prompts, labels repeats ground truth (--labels), the others link the boxes of "
        "a detections file (default: sam3)",
    )
    parser.add_argument(
        "--prompt",
        action="append",
        default=[],
        dest="prompts",
        metavar="TEXT",
        help='what sam3 follows, such as "player in white"; may be given several times',
    )
    parser.add_argument(
        "--detections", metavar="FILE", help="boxes in MOTChallenge form (det.txt), to be linked"
    )
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="M",
        help=f"a folder of SAM 3 video weights, or a name on the Hugging Face hub (default: {DEFAULT_MODEL})",
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cuda, cuda:0, mps or cpu (default: auto, which says why)"
    )
    parser.add_argument(
        "--speed",
        choices=("exact", "fast"),
        help="fast sees every second frame and remembers less, and the report says so (default: exact)",
    )
    parser.add_argument(
        "--time-budget",
        metavar="TIME",
        help="such as 5min: time the first frames here, then see as many as sam3 can follow in that time",
    )
    _add_scoring(parser, "score against these labels: a folder, or what a labelling tool exported")
    _add_reading(parser)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="options",
        metavar="NAME=VALUE",
        help="a setting of the tracker's own, such as track_activation_threshold=0.3",
    )
    parser.add_argument(
        "--out", metavar="RUN", help="the run folder (default: reports/<video>-<tracker> in this folder)"
    )
    parser.add_argument("--again", action="store_true", help="run every stage, even where nothing changed")
    _add_quiet(parser)
    parser.set_defaults(command=_track)


def _add_score(parsers) -> None:
    parser = _add(
        parsers,
        "score",
        "score a run again, such as with other labels",
        "Score the tracks of a run against labels and write scores.json and events.parquet. What is left\n"
        "out stays as it was. The report is not made again: courtside report does that.",
        "  courtside score reports/game-sam3 --labels data/labels/game\n"
        "  courtside score reports/game-sam3 --threshold 0.75",
    )
    _add_run(parser)
    _add_scoring(parser, "the labels (default: those that the run has)")
    _add_quiet(parser)
    parser.set_defaults(command=_score)


def _add_read(parsers) -> None:
    parser = _add(
        parsers,
        "read",
        "read the jersey numbers of a run again, such as with a roster",
        "Read the numbers of a run's tracks and write jersey_reads.parquet and players.parquet. What is\n"
        "left out stays as it was. Scores and report are not made again: courtside report does that.",
        "  courtside read reports/game-sam3 --roster roster.csv\n"
        "  courtside read reports/game-sam3 --merge accept",
    )
    _add_run(parser)
    _add_reading(parser)
    _add_quiet(parser)
    parser.set_defaults(command=_read)


def _add_report(parsers) -> None:
    parser = _add(
        parsers,
        "report",
        "make the report of a run again",
        "Make report.html again from the tables of a run, and first the scores and the overlay video where\n"
        "they are missing or out of date.",
        "  courtside report reports/game-sam3",
    )
    _add_run(parser)
    _add_quiet(parser)
    parser.set_defaults(command=_report)


def _add_labels(parsers) -> None:
    parser = parsers.add_parser("labels", help="say everything that is wrong with labels")
    check = _add(
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
    check.set_defaults(command=commands.check_labels)


def _add_share(parsers) -> None:
    parser = _add(
        parsers,
        "share",
        "write a report to pass on, without names, paths and faces",
        "Write the report of a run as one HTML file for others: names of files, folders and teams are taken\n"
        "out, and with --hide-faces the heads of all people found are pixelated in every picture and in the\n"
        "video. The run, the video and the labels stay as they are.",
        "  courtside share reports/game-sam3 --hide-faces --out game.html",
    )
    _add_run(parser)
    parser.add_argument("--out", required=True, metavar="FILE", help="the HTML file to write")
    parser.add_argument(
        "--hide-faces",
        action="store_true",
        help="pixelate the heads of everybody tracked, labelled or detected",
    )
    _add_quiet(parser)
    parser.set_defaults(command=_share)


def _add_export(parsers) -> None:
    parser = _add(
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
    _add_quiet(parser)
    parser.set_defaults(command=commands.export)


def _add_sql(parsers) -> None:
    parser = _add(
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
    parser.set_defaults(command=commands.sql)


def _add_sportsmot(parsers) -> None:
    parser = _add(
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
    _add_quiet(parser)
    parser.set_defaults(command=commands.sportsmot)


def _add_doctor(parsers) -> None:
    parser = _add(
        parsers,
        "doctor",
        "say what is installed, what is missing, and what to do about it",
        "Look at everything a run needs: versions, the device and why it was chosen, video codecs, the\n"
        "weights and the login for the default model, the notebook kernel, disk and memory.\n"
        "Nothing is downloaded. Exit code 1 means that something every run needs is missing.",
        "  courtside doctor",
    )
    parser.set_defaults(command=_doctor)


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder made by courtside track")


def _add_scoring(parser: argparse.ArgumentParser, about_labels: str) -> None:
    parser.add_argument("--labels", metavar="PATH", help=about_labels)
    parser.add_argument(
        "--match", choices=("box", "mask"), help="compare boxes or masks with the labels (default: box)"
    )
    parser.add_argument(
        "--threshold", type=float, metavar="IOU", help="least overlap of a match, 0 to 1 (default: 0.5)"
    )


def _add_reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reader", choices=(*READERS, "none"), help="who reads jersey numbers (default: rapidocr, offline)"
    )
    parser.add_argument(
        "--reader-model", metavar="M", help="weights for smolvlm: a folder, or a name on the Hugging Face hub"
    )
    parser.add_argument(
        "--roster", metavar="FILE", help="a CSV file with team,jersey_number: only these numbers are given"
    )
    parser.add_argument(
        "--merge",
        choices=("propose", "accept"),
        help="accept joins tracks that are surely one player (default: propose)",
    )


def _add_quiet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quiet", action="store_true", help="show no progress")


def _track(options: argparse.Namespace) -> int:
    settings = Settings(
        video=options.video,
        out=options.out or default_folder(options.video, options.tracker),
        tracker=options.tracker,
        prompts=options.prompts,
        detections=options.detections,
        model=options.model,
        device=options.device,
        options=dict(map(_option, options.options)) | _speed(options),
        **_scoring(options),
        **_reading(options),
    )
    again = run.STAGES if options.again else ()
    return _finish(run.execute(settings, again=again, progress=not options.quiet))


def _read(options: argparse.Namespace) -> int:
    import pandas as pd

    settings = _stored_settings(options)
    done = run.execute(settings, stages=("read",), again=("read",), progress=not options.quiet)
    for row in done.players().itertuples(index=False):
        tracks = ", ".join(map(str, row.tracking_ids))
        who = " ".join(part for part in (row.team, row.jersey_number) if not pd.isna(part))
        said = f"{row.confidence:.0%} sure" if not pd.isna(row.jersey_number) else f"unknown: {row.why}"
        same = "" if pd.isna(row.same_as) else f"; the same as {row.same_as}, {row.same_confidence:.0%} sure"
        print(f"{row.player_id} (track {tracks}): {who + ', ' if who else ''}{said}{same}")
    print(f"players: {done.players_path}")
    return 0


def _score(options: argparse.Namespace) -> int:
    settings = _stored_settings(options)
    if settings.labels is None:
        raise SettingError(f"the run {options.run} has no labels: name them with --labels")
    done = run.execute(settings, stages=("read", "score"), again=("score",), progress=not options.quiet)
    print(headline(done))
    print(f"scores: {done.scores_path}")
    print(f"the report does not show them yet: courtside report {options.run}")
    return 0


def _report(options: argparse.Namespace) -> int:
    settings = _stored_settings(options)
    return _finish(
        run.execute(settings, stages=run.STAGES[1:], again=("report",), progress=not options.quiet)
    )


def _share(options: argparse.Namespace) -> int:
    from courtside.report.share import share

    progress = not options.quiet
    path = share(run.Run(options.run), options.out, hide_faces=options.hide_faces, progress=progress)
    print(f"report to pass on: {path}")
    if options.hide_faces:
        print("people whom nothing found keep their faces: look through the video before you pass it on")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from courtside import doctor

    findings = doctor.examine()
    print(doctor.describe(findings))
    return 1 if any(finding.state == "missing" for finding in findings) else 0


def _stored_settings(options: argparse.Namespace) -> Settings:
    parameters = run.Run(options.run).settings().parameters()
    changed = _scoring(options) if hasattr(options, "labels") else {}
    changed |= _reading(options) if hasattr(options, "reader") else {}
    return Settings(**(parameters | changed))


def _reading(options: argparse.Namespace) -> dict:
    """The options on reading numbers that were given."""
    given = {name: getattr(options, name) for name in ("reader", "reader_model", "roster", "merge")}
    return {name: value for name, value in given.items() if value is not None}


def _scoring(options: argparse.Namespace) -> dict:
    """The options on scoring that were given."""
    given = {name: getattr(options, name) for name in ("labels", "match", "threshold")}
    return {name: value for name, value in given.items() if value is not None}


def _speed(options: argparse.Namespace) -> dict:
    given = {name: getattr(options, name) for name in ("speed", "time_budget")}
    return {name: value for name, value in given.items() if value is not None}


def _option(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise SettingError(f"--set {text} is not of the form NAME=VALUE, such as minimum_iou_threshold=0.2")
    try:
        return name, json.loads(value.lower() if value.lower() in ("true", "false") else value)
    except ValueError:
        return name, value


def _finish(done: run.Run) -> int:
    print(headline(done))
    print(f"report: {done.report_path}")
    return 0


def headline(done: run.Run) -> str:
    """One line on a finished run: how many tracks, and how good they are where that is known."""
    import pandas as pd

    table = pd.read_parquet(done.detections_path, columns=["tracking_id"])
    config = done.config()
    count = table["tracking_id"].nunique()
    tracks = f"{count} track{'' if count == 1 else 's'} in {config['inputs']['video']['frame_count']} frames"
    scores = done.scores()
    if scores is None:
        return f"{tracks}; not scored, since there are no labels"
    metrics = scores["metrics"]
    numbers = [f"{name} {_number(metrics[key])}" for name, key in (("MOTA", "mota"), ("IDF1", "idf1"))]
    of = f" for {metrics['true_objects']} labelled" if metrics.get("true_objects") is not None else ""
    return f"{tracks}{of}; {', '.join(numbers)}"


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    sys.exit(main())
