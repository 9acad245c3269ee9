"""The command ``courtside``: track a video, score it, report on it, and look at what is installed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from courtside import run
from courtside.errors import CourtsideError, SettingError
from courtside.settings import DEFAULT_MODEL, Settings, default_folder

__all__ = ["TRACKERS", "build_parser", "headline", "main"]

TRACKERS = ("sam3", "bytetrack", "ocsort", "botsort", "labels")
"""Spelled out again, since importing the trackers would make --help wait for NumPy."""

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    0 when all went well, 2 with one sentence on stderr for what the user can fix, 130 after Ctrl-C,
    and from ``doctor`` 1 when something that every run needs is missing.
    """
    options = build_parser().parse_args(arguments)
    try:
        return options.command(options)
    except CourtsideError as error:
        print(f"courtside: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "\ncourtside: interrupted; finished stages are kept, and the same command goes on from there",
            file=sys.stderr,
        )
        return _INTERRUPTED


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="courtside",
        description="Follow basketball players through handheld phone video, and measure how well it went.",
        epilog="Each command explains itself: courtside track --help",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_track(commands)
    _add_score(commands)
    _add_report(commands)
    _add_doctor(commands)
    return parser


def _add(commands, name: str, does: str, about: str, examples: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=does,
        description=about,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_track(commands) -> None:
    parser = _add(
        commands,
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
    _add_scoring(parser, "score against this folder of labels (gt/gt.txt and seqinfo.ini)")
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


def _add_score(commands) -> None:
    parser = _add(
        commands,
        "score",
        "score a run again, such as with other labels",
        "Score the tracks of a run against labels and write scores.json and events.parquet. What is left\n"
        "out stays as it was. The report is not made again: courtside report does that.",
        "  courtside score reports/game-sam3 --labels data/labels/game\n"
        "  courtside score reports/game-sam3 --threshold 0.75",
    )
    _add_run(parser)
    _add_scoring(parser, "the folder of labels (default: the one that the run has)")
    _add_quiet(parser)
    parser.set_defaults(command=_score)


def _add_report(commands) -> None:
    parser = _add(
        commands,
        "report",
        "make the report of a run again",
        "Make report.html again from the tables of a run, and first the scores and the overlay video where\n"
        "they are missing or out of date.",
        "  courtside report reports/game-sam3",
    )
    _add_run(parser)
    _add_quiet(parser)
    parser.set_defaults(command=_report)


def _add_doctor(commands) -> None:
    parser = _add(
        commands,
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
    parser.add_argument("--labels", metavar="DIR", help=about_labels)
    parser.add_argument(
        "--match", choices=("box", "mask"), help="compare boxes or masks with the labels (default: box)"
    )
    parser.add_argument(
        "--threshold", type=float, metavar="IOU", help="least overlap of a match, 0 to 1 (default: 0.5)"
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
        options=dict(map(_option, options.options)),
        **_scoring(options),
    )
    again = run.STAGES if options.again else ()
    return _finish(run.execute(settings, again=again, progress=not options.quiet))


def _score(options: argparse.Namespace) -> int:
    settings = _stored_settings(options)
    if settings.labels is None:
        raise SettingError(f"the run {options.run} has no labels: name their folder with --labels")
    done = run.execute(settings, stages=("score",), again=("score",), progress=not options.quiet)
    print(headline(done))
    print(f"scores: {done.scores_path}")
    print(f"the report does not show them yet: courtside report {options.run}")
    return 0


def _report(options: argparse.Namespace) -> int:
    settings = _stored_settings(options)
    return _finish(
        run.execute(settings, stages=run.STAGES[1:], again=("report",), progress=not options.quiet)
    )


def _doctor(options: argparse.Namespace) -> int:
    from courtside import doctor

    findings = doctor.examine()
    print(doctor.describe(findings))
    return 1 if any(finding.state == "missing" for finding in findings) else 0


def _stored_settings(options: argparse.Namespace) -> Settings:
    parameters = run.Run(options.run).settings().parameters()
    changed = _scoring(options) if hasattr(options, "labels") else {}
    return Settings(**(parameters | changed))


def _scoring(options: argparse.Namespace) -> dict:
    """The options on scoring that were given."""
    given = {name: getattr(options, name) for name in ("labels", "match", "threshold")}
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
