"""The command ``courtside``: track a video, score it, report on it, move data in and out."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from courtside import commands, measure, run
from courtside.commands import TRACKERS, add, add_quiet
from courtside.errors import CourtsideError, SettingError
from courtside.settings import DEFAULT_MODEL, READERS, Settings, default_folder

__all__ = ["TRACKERS", "build_parser", "headline", "main"]

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    0 when all went well, 2 with one sentence on stderr for what the user can fix, 130 after Ctrl-C,
    and 1 from ``doctor`` when something that every run needs is missing, from ``labels check`` when labels
    have errors, from ``eval`` and ``sportsmot`` when a run failed, and from ``compare`` when --fail-if holds.
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
    _add_share(parsers)
    measure.add_parsers(parsers)
    commands.add_parsers(parsers)
    _add_doctor(parsers)
    return parser


def _add_track(parsers) -> None:
    parser = add(
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
        help="sam3 follows prompts, sam3-associate does so without memory, labels repeats ground truth "
        "(--labels), the others link the boxes of --detections, or what SAM 3 detects (default: sam3)",
    )
    parser.add_argument(
        "--prompt",
        action="append",
        default=[],
        dest="prompts",
        metavar="TEXT",
        help='what to follow, such as "player in white"; may be given several times',
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
        help="fast sees two frames in five and remembers less, and the report says so (default: exact)",
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
    add_quiet(parser)
    parser.set_defaults(command=_track)


def _add_score(parsers) -> None:
    parser = add(
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
    add_quiet(parser)
    parser.set_defaults(command=_score)


def _add_read(parsers) -> None:
    parser = add(
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
    add_quiet(parser)
    parser.set_defaults(command=_read)


def _add_report(parsers) -> None:
    parser = add(
        parsers,
        "report",
        "make the report of a run again",
        "Make report.html again from the tables of a run, and first the scores and the overlay video where\n"
        "they are missing or out of date.",
        "  courtside report reports/game-sam3",
    )
    _add_run(parser)
    add_quiet(parser)
    parser.set_defaults(command=_report)


def _add_share(parsers) -> None:
    parser = add(
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
    add_quiet(parser)
    parser.set_defaults(command=_share)


def _add_doctor(parsers) -> None:
    parser = add(
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

    from courtside.players import tracks_said

    settings = _stored_settings(options)
    done = run.execute(settings, stages=("read",), again=("read",), progress=not options.quiet)
    players = done.players()
    for row, tracks in zip(players.itertuples(index=False), tracks_said(players), strict=True):
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
    changed |= _reading(options, parameters["reader"]) if hasattr(options, "reader") else {}
    return Settings(**(parameters | changed))


def _reading(options: argparse.Namespace, before: str | None = None) -> dict:
    """The options on reading numbers that were given; ``before`` is the reader of the run, if it has one."""
    if options.reader_model is not None and (options.reader or before) != "smolvlm":
        raise SettingError("--reader-model names the weights of smolvlm: give --reader smolvlm with it")
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
