"""The commands that measure: eval, many runs at once, and compare."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from courtside.commands import add, add_quiet, print_rows
from courtside.errors import SettingError

__all__ = ["add_parsers"]


def add_parsers(parsers) -> None:
    """Add the commands of this module."""
    _add_eval(parsers)
    _add_compare(parsers)


def _add_eval(parsers) -> None:
    parser = add(
        parsers,
        "eval",
        "track a labelled set in many ways, and sum it up",
        "Track every video of a set with its prompts by each of its trackers, a run folder and report each,\n"
        "and write index.html and summary.csv. What is done and unchanged is not done again; what fails\n"
        "says why while the others go on; after Ctrl-C the same command goes on. Exit code 1 means that a\n"
        "run failed.",
        "  courtside eval data/eval.toml\n"
        "  courtside eval my.toml --jobs 2 --out reports/mine\n"
        "  courtside eval data/eval.toml --engine ray --address auto --gpus-per-job 1\n"
        "  courtside eval data/eval.toml --markdown",
    )
    parser.add_argument("set", metavar="SET", help="a TOML file that names videos, prompts and trackers")
    parser.add_argument(
        "--out", metavar="DIR", help="where run folders and summary go (default: reports/<name of the set>)"
    )
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="at most so many at once (default: as cores and memory allow)"
    )
    parser.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="where jobs run (default: local)"
    )
    parser.add_argument(
        "--address", metavar="A", help="ray: the cluster, such as auto (default: this machine)"
    )
    parser.add_argument(
        "--gpus-per-job", type=float, metavar="N", help="ray: GPUs a job (default: 1 where there are any)"
    )
    parser.add_argument("--list", action="store_true", help="say what there is to do, and do nothing")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    add_quiet(parser)
    parser.set_defaults(command=_eval)


def _eval(options: argparse.Namespace) -> int:
    from courtside.eval.batch import LocalEngine, read_records, run_batch
    from courtside.eval.jobs import read_set
    from courtside.eval.summary import markdown, shown_columns, summarize, write_summary
    from courtside.run import is_finished

    if options.jobs is not None and options.jobs < 1:
        raise SettingError(f"--jobs is {options.jobs}; it must be at least 1")
    if options.engine == "local" and (options.address or options.gpus_per_job is not None):
        raise SettingError("--address and --gpus-per-job are for --engine ray: add it, or leave them out")
    out = Path(options.out) if options.out else Path("reports") / Path(options.set).stem
    jobs = read_set(options.set, out)
    if options.list:
        known: dict[tuple[str, ...], str] = {}
        states = [(job.name, "done" if is_finished(job.settings, known=known) else "to do") for job in jobs]
        print_rows(["run", "state"], states)
        return 0
    engine = partial(LocalEngine, most=options.jobs)
    if options.engine == "ray":
        from courtside.eval.cluster import RayEngine

        engine = partial(RayEngine, most=options.jobs, address=options.address, gpus=options.gpus_per_job)
    try:
        records = run_batch(jobs, out, engine, progress=not options.quiet)
    except KeyboardInterrupt:
        if out.is_dir():
            write_summary(summarize(jobs, read_records(out)), out, Path(options.set).stem)
        raise
    table = summarize(jobs, records)
    page = write_summary(table, out, Path(options.set).stem)
    if options.markdown:
        print(markdown(table))
    else:
        print_rows(*shown_columns(table))
        print(f"summary: {page}")
    left = table[table["run"].notna() & (table["state"] != "done")]
    for row in left.itertuples():
        print(f"courtside: {row.run} is {row.state}: {row.why}", file=sys.stderr)
    return 1 if len(left) else 0


def _add_compare(parsers) -> None:
    parser = add(
        parsers,
        "compare",
        "say what differs between runs, and how sure that is",
        "Compare runs of the same clips, scored by the same labels: metrics beside each other with their\n"
        "differences, over all clips and for each. RUN is a run folder or a folder of runs. The first is\n"
        "what others are compared with; a single one is a folder of such folders. Intervals say what may be\n"
        "chance. Exit code 1 means that a condition of --fail-if holds for the difference over all clips,\n"
        "or that this is undefined.",
        "  courtside compare reports/game-sam3 reports/game-bytetrack\n"
        "  courtside compare reports/eval/bytetrack reports/eval/sam3 --out comparison.html\n"
        '  courtside compare baseline reports/eval/sam3 --fail-if "IDF1 < -0.01" --fail-if "HOTA < -0.01"',
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders, or folders of runs")
    parser.add_argument(
        "--fail-if",
        action="append",
        default=[],
        dest="conditions",
        metavar="CONDITION",
        help='fail where a difference is so, such as "IDF1 < -0.01"; may be given several times',
    )
    parser.add_argument(
        "--out", metavar="FILE", help="write a page with the frames where they differ, by 03-compare-runs"
    )
    parser.set_defaults(command=_compare)


def _compare(options: argparse.Namespace) -> int:
    from courtside.compare import compare, failing, find_sides
    from courtside.report.comparison import metric_rows, write_comparison
    from courtside.report.words import METRICS

    if options.out and Path(options.out).suffix.lower() != ".html":
        raise SettingError(f"--out {options.out} is no HTML file: name it {Path(options.out).stem}.html")
    comparison = compare(find_sides(options.runs))
    failures = failing(comparison, options.conditions)
    for note in comparison.notes:
        print(f"note: {note}")
    for side, name in enumerate(comparison.names[1:], start=1):
        clips = f"{len(comparison.clips)} clip{'s' * (len(comparison.clips) != 1)}"
        print(f"{name} against {comparison.names[0]}, over {clips}:")
        heads = ["metric", comparison.names[0], name, "difference", "95 % interval", "reads as"]
        print_rows(heads, [_rounded(row) for row in metric_rows(comparison.combined(side))])
        if len(comparison.clips) > 1:
            table = comparison.per_clip(side)
            table = table[table["metric"].isin(("idf1", "hota", "mota"))]
            rows = [
                _rounded((comparison.clips[row.clip].name, METRICS[row.metric][0], *row[3:]))
                for row in table.itertuples()
            ]
            print_rows(["clip", "metric", comparison.names[0], name, "difference"], rows)
    if options.out:
        print(f"comparison: {write_comparison(options.runs, options.out)}")
    for said in failures:
        print(f"courtside: {said}", file=sys.stderr)
    return 1 if failures else 0


def _rounded(row: Sequence[object]) -> list[object]:
    return [round(value, 4) if isinstance(value, float) else value for value in row]
