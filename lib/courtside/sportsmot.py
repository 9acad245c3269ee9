"""SportsMOT's basketball, tracked and scored by its published protocol, for whoever has the data.

The tree is that of https://github.com/MCG-NJU/SportsMOT: ``splits_txt/basketball.txt`` and ``<split>.txt``
name sequences, one a line; a sequence is a folder ``dataset/<split>/<name>`` (or ``<split>/<name>``) with
``img1/``, ``seqinfo.ini`` and, except in the test split, ``gt/gt.txt``.

The protocol is TrackEval's for the MOTChallenge without preprocessing, as every labelled box is a player:
boxes, HOTA over the IoU 0.05 to 0.95, CLEAR and Identity at 0.5, sequences combined by summing counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from courtside.errors import CourtsideError, LabelsError
from courtside.exports import export_tracks
from courtside.files import whole
from courtside.folder import Run
from courtside.run import execute
from courtside.scoring import Scores, combine
from courtside.settings import DEFAULT_MODEL, Settings, absolute

__all__ = ["COLUMNS", "evaluate", "find_sequences"]

COLUMNS = ("sequence", "HOTA", "DetA", "AssA", "IDF1", "MOTA", "IDSW", "Frag", "frames", "why")
"""The summary's columns; ratios are in percent, as published, and MOTA, IDSW and Frag are TrackEval's."""


def find_sequences(root: str | Path, split: str = "val", sport: str = "basketball") -> list[Path]:
    """The folders of a sport's sequences in a split, in the order of its list.

    Raises :class:`LabelsError` naming what is missing.
    """
    root = Path(root)
    names = [_listed(root / "splits_txt" / f"{name}.txt") for name in (split, sport)]
    wanted = [name for name in names[0] if name in set(names[1])]
    if not wanted:
        raise LabelsError(f"{root / 'splits_txt'}: {split}.txt and {sport}.txt have no sequence in common")
    folders = [root / "dataset" / split, root / split]
    base = next((folder for folder in folders if folder.is_dir()), None)
    if base is None:
        raise LabelsError(f"there is no folder {folders[0]} or {folders[1]}; unpack that split there")
    missing = [name for name in wanted if not (base / name / "img1").is_dir()]
    if missing:
        raise LabelsError(
            f"{base} lacks the pictures of {len(missing)} of {len(wanted)} {sport} sequences, such as "
            f"{missing[0]}/img1; unpack the split anew"
        )
    return [base / name for name in wanted]


def evaluate(
    root: str | Path,
    out: str | Path,
    *,
    split: str = "val",
    sport: str = "basketball",
    tracker: str = "sam3",
    prompts: Sequence[str] = ("basketball player",),
    model: str = DEFAULT_MODEL,
    device: str = "auto",
    progress: bool = True,
) -> tuple[pd.DataFrame, int]:
    """Track and score each sequence, a run folder each in ``out``; a finished one is not done again.

    Trackers that link boxes take them from ``det/det.txt`` in the sequence. Writes ``summary.csv`` and the
    tracks as TrackEval and the challenge's server take them, ``<tracker>/data/<sequence>.txt``. A sequence
    that fails is a row that says why, and the others go on.

    Returns the summary, COLUMNS, whose last row combines all that was scored, and how many failed.
    """
    folder = absolute(out)
    rows: list[dict[str, Any]] = []
    scores: list[Scores] = []
    sequences = find_sequences(root, split, sport)
    for sequence in tqdm(sequences, desc=f"SportsMOT {split}", unit="sequence", disable=not progress):
        row: dict[str, Any] = {"sequence": sequence.name}
        try:
            settings = Settings(
                video=sequence / "img1",
                out=folder / tracker / sequence.name,
                tracker=tracker,
                prompts=tuple(prompts) if tracker.startswith("sam3") else (),
                detections=None if tracker.startswith("sam3") else sequence / "det" / "det.txt",
                model=model,
                device=device,
                labels=sequence if (sequence / "gt" / "gt.txt").is_file() else None,
            )
            run = execute(settings, stages=("track", "score"), progress=progress)
            export_tracks(run, "mot", folder / tracker / "data" / f"{sequence.name}.txt")
            row |= _add_scores(run, scores)
        except CourtsideError as error:
            row["why"] = str(error)
        rows.append(row)
    failed = sum("why" in row for row in rows)
    if scores:
        of = "" if len(scores) == len(rows) else f" {len(scores)} of {len(rows)}"
        rows.append({"sequence": f"COMBINED{of}", **_published(combine(scores))})
    summary = pd.DataFrame(rows, columns=list(COLUMNS))
    folder.mkdir(parents=True, exist_ok=True)
    with whole(folder / "summary.csv") as part:
        summary.to_csv(part, index=False, float_format="%.2f")
    return summary, failed


def _add_scores(run: Run, scores: list[Scores]) -> dict[str, Any]:
    content = run.scores()
    if content is None:
        return {}
    scores.append(Scores.from_json(content))
    return _published(scores[-1])


def _published(scores: Scores) -> dict[str, Any]:
    metrics, trackeval = scores.metrics, scores.protocol["trackeval"]
    ratios = {
        "HOTA": metrics["hota"],
        "DetA": metrics["deta"],
        "AssA": metrics["assa"],
        "IDF1": metrics["idf1"],
    }
    ratios["MOTA"] = trackeval["mota"]
    return {
        **{name: None if value is None else 100 * value for name, value in ratios.items()},
        "IDSW": trackeval["num_switches"],
        "Frag": trackeval["num_fragmentations"],
        "frames": scores.protocol["frames_scored"],
    }


def _listed(path: Path) -> list[str]:
    if not path.is_file():
        raise LabelsError(
            f"there is no {path}; name the folder of SportsMOT that holds splits_txt and dataset"
        )
    return path.read_text().split()
