"""The commands that measure: eval, many runs at once, and compare."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from courtside.commands import add, add_quiet, print_rows
from courtside.errors import SettingError

__all__ = ["add_parsers"]


def add_parsers(parsers) -> None:
    """Add the commands of this module."""
    _add_eval(parsers)


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
    if options.engine == "ray":
        from courtside.eval.cluster import RayEngine

        engine = RayEngine(jobs, options.jobs, address=options.address, gpus=options.gpus_per_job)
    else:
        engine = LocalEngine(jobs, options.jobs)
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
    failed = int((table.loc[table["run"].notna(), "state"] != "done").sum())
    if failed:
        print(f"courtside: {failed} of {len(jobs)} runs are not done; the table says why", file=sys.stderr)
    return 1 if failed else 0
