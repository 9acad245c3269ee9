"""What a batch came to: a row a run, combined rows, a table to print, ``summary.csv`` and ``index.html``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from courtside import watch
from courtside.errors import CourtsideError, SettingError
from courtside.eval.jobs import Job
from courtside.files import whole
from courtside.folder import Run
from courtside.scoring import Scores, combine

__all__ = ["COLUMNS", "markdown", "shown_columns", "summarize", "write_summary"]

METRICS = (
    "predicted_tracks", "true_objects", "fragments_per_object", "mota", "idf1", "hota", "deta", "assa",
    "precision", "recall", "num_switches", "num_fragmentations", "purity", "jersey_right", "jersey_wrong",
    "jersey_unknown",
)  # fmt: skip
SECONDS = ("track", "read", "score", "overlay", "report")
COLUMNS = (
    "run", "clip", "tracker", "prompts", "state", "why", *METRICS, "frames", "frames_per_s",
    *(f"{stage}_s" for stage in SECONDS), "device", "labels_sha256",
)  # fmt: skip
"""The columns of ``summary.csv``. ``frames_per_s`` is of tracking alone; a combined row has no ``run``."""

_SHOWN = {
    "clip": "clip", "tracker": "tracker", "predicted_tracks": "tracks", "true_objects": "players",
    "mota": "MOTA", "idf1": "IDF1", "hota": "HOTA", "assa": "AssA", "num_switches": "switches",
    "fragments_per_object": "fragments", "frames_per_s": "frames/s", "state": "state",
}  # fmt: skip


def summarize(jobs: Sequence[Job], records: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """A row a job in order, COLUMNS, then one for each tracker and prompts: all of its clips as one.

    ``records`` are those of the batch (:func:`courtside.eval.batch.read_records`). A run that is not done
    has its state and reason, and no numbers. Combined rows sum counts, not ratios, over the scored clips,
    whose number they state; of clips that failed nothing is in them.
    """
    rows, scored = [], {}
    for job in jobs:
        record = records.get(job.name, {"state": "pending", "why": "it was not run yet"})
        prompts = "; ".join(job.settings.prompts)
        row = {"run": job.name, "clip": job.clip, "tracker": job.tracker, "prompts": prompts}
        row |= {name: record.get(name) for name in ("state", "why")}
        found = scored.setdefault((job.tracker, prompts), [0, [], []])
        found[0] += 1
        if record["state"] == "done":
            try:
                numbers, scores = _read(Run(job.settings.out))
            except CourtsideError as error:
                numbers, scores = {"state": "failed", "why": str(error)}, None
            row |= numbers
            if scores is not None:
                found[1].append(scores)
                found[2].append(row)
        rows.append(row)
    for (tracker, prompts), (total, scores, own) in scored.items():
        rows += _combined(tracker, prompts, total, scores, own)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    counts = ["predicted_tracks", "true_objects", "num_switches", "num_fragmentations", "frames"]
    counts += [name for name in METRICS if name.startswith("jersey")]
    return table.astype(dict.fromkeys(counts, "Int64"))


def write_summary(table: pd.DataFrame, out: str | Path, title: str) -> Path:
    """Write ``summary.csv`` and ``index.html``, which links the reports, to ``out``; the page's path."""
    out = Path(out)
    with whole(out / "summary.csv") as part:
        table.to_csv(part, index=False, float_format="%.6g")
    path = out / "index.html"
    with whole(path) as part:
        part.write_text(_page(table, title), encoding="utf-8")
    return path


def shown_columns(table: pd.DataFrame) -> tuple[list[str], list[list[Any]]]:
    """Headings and rows of the columns that a person reads first; why something failed is not among them."""
    names = dict(_SHOWN)
    if table["prompts"].nunique() > 1:
        names = {"clip": "clip", "tracker": "tracker", "prompts": "prompts"} | names
    values = table[list(names)].astype(object).where(table[list(names)].notna(), None)
    return list(names.values()), [[_rounded(value) for value in row] for row in values.to_numpy().tolist()]


def markdown(table: pd.DataFrame) -> str:
    """The combined rows, or all where there are none, as a Markdown table."""
    chosen = table[table["run"].isna()]
    names, rows = shown_columns(chosen if len(chosen) else table)
    lines = [names, ["---"] * len(names), *rows]
    cells = [["" if value is None else str(value).replace("|", "\\|") for value in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _read(run: Run) -> tuple[dict[str, Any], Scores | None]:
    """What a finished run's files say, and its scores where it has labels."""
    status, config = run.status(), run.config()
    for stage in SECONDS:
        if status[stage]["state"] != "done":
            why = status[stage]["why"]
            said = f"its stage {stage} is {status[stage]['state']}{f' ({why})' if why else ''}"
            return {"state": "failed", "why": said}, None
    row: dict[str, Any] = {f"{stage}_s": status[stage]["seconds"] for stage in SECONDS}
    row["frames"] = config["inputs"]["video"]["frame_count"]
    row["frames_per_s"] = run.tracked_per_s()
    row["device"] = (config.get("device") or {}).get("device")
    content = run.scores()
    if content is None:
        return row, None
    row |= {name: content["metrics"].get(name) for name in METRICS}
    row["labels_sha256"] = content["protocol"]["labels_sha256"]
    return row, Scores.from_json(content)


def _combined(
    tracker: str, prompts: str, total: int, scores: Sequence[Scores], own: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    if not scores:
        return []
    row = {"tracker": tracker, "prompts": prompts, "state": "done"}
    row["clip"] = f"all {total}" if len(scores) == total else f"{len(scores)} of {total}"
    try:
        done = combine(scores)
    except SettingError as error:
        return [row | {"state": "failed", "why": str(error)}]
    row |= {name: done.metrics.get(name) for name in METRICS}
    row |= {f"{stage}_s": sum(each[f"{stage}_s"] or 0 for each in own) for stage in SECONDS}
    row["frames"] = sum(each["frames"] for each in own)
    timed = [each for each in own if each["frames_per_s"]]
    spent = sum(each["frames"] / each["frames_per_s"] for each in timed)
    row["frames_per_s"] = sum(each["frames"] for each in timed) / spent if timed else None
    row["labels_sha256"] = done.protocol["labels_sha256"]
    return [row]


def _rounded(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return round(value, 3 if abs(value) < 10 else 1)


def _page(table: pd.DataFrame, title: str) -> str:
    from courtside.report import blocks, words
    from courtside.report.figures import speed_against_quality
    from courtside.report.page import whole_page

    runs, combined = table[table["run"].notna()], table[table["run"].isna()]
    failed = runs[runs["state"] != "done"]
    said = f"{words.count(int((runs['state'] == 'done').sum()), 'run')} of {len(runs)} done"
    said += f", {len(failed)} not." if len(failed) else "."
    top = blocks.stack(
        blocks.styles(),
        blocks.Block(f"<h1>{escape(title)}</h1>", title),
        blocks.paragraph(said, "lead"),
        blocks.paragraph(f"Written {watch.now()}. summary.csv beside this page has more columns.", "quiet"),
    )
    sections: list[tuple[str, blocks.Block]] = []
    if len(failed):
        rows = [(_link(row.run), row.state, row.why or "") for row in failed.itertuples()]
        sections.append(("What is not done, and why", blocks.table(("Run", "State", "Why"), rows)))
    if len(combined):
        table_of = blocks.table(_heads(combined), _cells(combined))
        said = blocks.paragraph(_PROTOCOL, "quiet")
        sections.append(("Each way to track, over its clips", blocks.stack(table_of, said)))
    points = combined.dropna(subset=["frames_per_s", "idf1"])
    if len(points):
        draw = partial(speed_against_quality, points, "idf1", words.METRICS["idf1"][0])
        sections.append(("Speed against quality", blocks.picture(draw, "IDF1 over frames a second")))
    sections.append(("Each run", blocks.table(_heads(runs, linked=True), _cells(runs, linked=True))))
    body = [_section(top)]
    for heading, block in sections:
        body += [f'<section class="text"><h2>{escape(heading)}</h2></section>', _section(block)]
    return whole_page(f"{title} · Courtside", "\n".join(body))


_PROTOCOL = (
    "Clips are combined by summing counts. Rows that stand on different clips can't be compared; a paired "
    "comparison with its uncertainty is what courtside compare is for."
)


def _section(block: Any) -> str:
    return f'<section class="output">{block._repr_html_()}</section>'


def _heads(table: pd.DataFrame, linked: bool = False) -> dict[str, str]:
    from courtside.report import words

    heads = {"Run": "opens its report"} if linked else {"Tracker": "", "Prompts": "", "Clips": ""}
    about = {words.METRICS[name][0]: words.METRICS[name][1] for name in _page_metrics(table)}
    return heads | about | {"Frames/s": "of tracking alone, on the machine that ran it"}


def _page_metrics(table: pd.DataFrame) -> list[str]:
    names = [
        "idf1", "hota", "assa", "mota", "precision", "recall", "num_switches", "predicted_tracks",
        "true_objects", "fragments_per_object",
    ]  # fmt: skip
    numbers = ["jersey_right", "jersey_wrong", "jersey_unknown"]
    return names + [name for name in numbers if table[name].notna().any()]


def _cells(table: pd.DataFrame, linked: bool = False) -> list[list[Any]]:
    names = [*_page_metrics(table), "frames_per_s"]
    rows = []
    for row in table.to_dict("records"):
        first = [row["tracker"], row["prompts"] or None, row["clip"]]
        first = [_link(row["run"], row["state"])] if linked else first
        rows.append(first + [_json_safe(row[name]) for name in names])
    return rows


def _json_safe(value: Any) -> Any:
    if pd.isna(value):
        return None
    return int(value) if float(value).is_integer() and not isinstance(value, float) else float(value)


def _link(run: str, state: str = "") -> Any:
    from courtside.report.blocks import Html

    if state != "done":
        return run
    return Html(f'<a href="{escape(json.dumps(f"{run}/report.html")[1:-1])}">{escape(run)}</a>')
