"""What may lie beside the boxes in a labels folder: labelled frames, prompts, masks, and a roster."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from courtside import tables
from courtside.errors import LabelsError, TableError
from courtside.labels.motchallenge import read_numbers
from courtside.labels.rows import Findings
from courtside.labels.source import Source, read_json, read_text
from courtside.masks import run_lengths

__all__ = [
    "NAMES",
    "plain",
    "read_labelled_frames",
    "read_prompts",
    "read_roster",
    "roster_of",
    "with_masks",
]

NAMES = ("seqinfo.ini", "labelled_frames.txt", "prompts.json", "masks.json", "roster.csv")
"""The files that have a meaning of their own in a labels folder."""


def plain(prompt: str) -> str:
    """A prompt without its capitals and spacing, by which prompts are compared."""
    return " ".join(prompt.split()).casefold()


def read_labelled_frames(path: Path, frame_count: int | None, found: Findings) -> np.ndarray | None:
    """Labelled frames from 0, int64, sorted, each once; None without the file."""
    if not path.exists():
        return None
    rows = read_numbers(
        read_text(path, "write one frame number a line"), path, 1, 1, "one frame number", found
    )
    if len(rows) == 0:
        raise LabelsError(f"{path} lists no frame; write one number a line, or remove the file")
    rows.refuse_infinite()
    rows.refuse_frames(frame_count, "seqLength of seqinfo.ini")
    return np.unique(rows.values[:, 0].astype(np.int64) - 1)


def read_prompts(path: Path, found: Findings) -> dict[str, tuple[int, ...]] | None:
    """Object ids by prompt; None without the file."""
    if not path.exists():
        return None
    prompts: dict[str, tuple[int, ...]] = {}
    seen: dict[str, str] = {}
    for prompt, objects in _object(path).items():
        numbers = isinstance(objects, list) and all(type(one) is int and one >= 0 for one in objects)
        if not numbers:
            found.refuse(f"{path}: prompt {prompt!r} has {objects!r}; list its object ids, such as [1, 2]")
        elif plain(prompt) in seen:
            found.refuse(f"{path}: prompts {prompt!r} and {seen[plain(prompt)]!r} are the same; keep one")
        else:
            prompts[prompt] = tuple(objects)
            seen[plain(prompt)] = prompt
    return prompts


def with_masks(truth: pd.DataFrame, path: Path, size: tuple[int, int], found: Findings) -> pd.DataFrame:
    """``truth`` with its ``mask_rle`` from masks.json, if there is one; ``size`` is (width, height)."""
    if not path.exists():
        return truth
    content = _object(path)
    for key, expected in zip(("height", "width"), (size[1], size[0]), strict=True):
        if content.get(key) != expected:
            raise LabelsError(
                f"{path}: {key} is {content.get(key)}, but {expected} in seqinfo.ini; "
                "render or draw the masks at the video's size"
            )
    frames = content.get("frames")
    if not isinstance(frames, dict):
        raise LabelsError(f'{path}: "frames" is missing; write {{"frames": {{"1": {{"<id>": "<rle>"}}}}}}')
    row_of = {key: row for row, key in enumerate(zip(truth["frame"], truth["object_id"], strict=True))}
    masks: list[str | None] = list(truth["mask_rle"].astype(object).where(truth["mask_rle"].notna(), None))
    for frame, objects in frames.items():
        if not re.fullmatch(r"\d+", frame) or not isinstance(objects, dict):
            found.refuse(f'{path}: frame {frame!r} is not a number with {{"<id>": "<rle>"}}; correct it')
            continue
        for object_id, rle in objects.items():
            row = row_of.get((int(frame) - 1, int(object_id))) if re.fullmatch(r"\d+", object_id) else None
            if row is None:
                found.refuse(
                    f"{path}: frame {frame}, object {object_id!r} has no row in gt.txt; "
                    "add its box there or remove the mask"
                )
            elif not isinstance(rle, str):
                found.refuse(
                    f"{path}: frame {frame}, object {object_id} is no string; write COCO's compressed counts"
                )
            elif found.gather and (wrong := _fault(rle, size)):
                # Looking into every mask is worth its time only where everything is asked for.
                found.refuse(f"{path}: frame {frame}, object {object_id}: {wrong}")
            else:
                masks[row] = rle
    return truth.assign(mask_rle=pd.array(masks, dtype="string"))


def read_roster(path: Path, found: Findings) -> pd.DataFrame | None:
    """``tables.ROSTER`` from roster.csv; None without the file."""
    if not path.exists():
        return None
    columns = "object_id,team,jersey_number"
    reader = csv.reader(read_text(path, f"write a header {columns}").splitlines())
    header = [name.strip().lower() for name in next(reader, [])]
    places = []
    for names in (("object_id", "id"), ("team",), ("jersey_number", "number")):
        place = next((header.index(name) for name in names if name in header), None)
        if place is None:
            raise LabelsError(f"{path}, line 1: no column {names[0]}; write the header {columns}")
        places.append(place)
    rows: dict[int, tuple[str | None, str | None]] = {}
    for fields in reader:
        where = f"{path}, line {reader.line_num}"
        if not any(field.strip() for field in fields):
            continue
        if len(fields) != len(header):
            found.refuse(f"{where}: {len(fields)} columns instead of {len(header)}; write {columns}")
            continue
        object_id, team, number = (fields[place].strip() for place in places)
        if not re.fullmatch(r"\d+", object_id):
            found.refuse(f"{where}: object id {object_id!r} is no whole number; use the ids of gt.txt")
        elif number and not re.fullmatch(r"\d{1,2}", number):
            found.refuse(f"{where}: jersey number {number!r}; write one or two digits, or nothing")
        elif int(object_id) in rows:
            found.refuse(f"{where}: object {object_id} occurs twice; keep one of the rows")
        else:
            rows[int(object_id)] = (team or None, number or None)
    return tables.check(_roster(rows), tables.ROSTER, str(path))


def roster_of(players: dict[int, tuple[str | None, str | None]]) -> pd.DataFrame | None:
    """``tables.ROSTER`` out of (team, number) by object id; None where nothing is known of anyone."""
    known = {key: pair for key, pair in sorted(players.items()) if any(pair)}
    return tables.check(_roster(known), tables.ROSTER, "the labels' attributes") if known else None


def _roster(rows: dict[int, tuple[str | None, str | None]]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "object_id": np.array(list(rows), np.int64),
            "team": pd.array([team for team, _ in rows.values()], dtype="string"),
            "jersey_number": pd.array([number for _, number in rows.values()], dtype="string"),
        }
    )


def _object(path: Path) -> dict[str, Any]:
    content = read_json(Source(path))
    if not isinstance(content, dict):
        raise LabelsError(f"{path}, line 1: not a JSON object; write {{...}}")
    return content


def _fault(rle: str, size: tuple[int, int]) -> str:
    """What is wrong with a run-length string, or nothing."""
    try:
        run_lengths(rle, size[1], size[0])
    except TableError as error:
        return str(error)
    return ""
