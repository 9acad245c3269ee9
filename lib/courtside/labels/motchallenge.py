"""The MOTChallenge's text files, checked line by line: gt.txt, det.txt, seqinfo.ini and MOTS.

``gt.txt``
    A row per object per frame, commas or spaces between 9 or 10 columns: frame (**from 1**), object id
    (0 or more), left, top, width, height in pixels of the upright frame, conf (0: ignored, that is
    neither required nor punished), class, visibility in [0, 1] (-1: unknown). With 10 columns the last
    three are world coordinates, as in MOT15, and are not read. A file ``labels.txt`` beside it, as CVAT
    writes, names the classes from 1, one a line.
MOTS
    A row per mask, spaces between 6 columns: frame (**from 1**), object id, class (10: an area to ignore),
    height, width, and COCO's compressed run-length string (https://motchallenge.net/instructions).
``seqinfo.ini``
    ``imWidth``, ``imHeight``, ``frameRate``, ``seqLength`` (frames in the video), optionally ``name``.

Coordinates are taken as they are written, without a shift by one pixel, as TrackEval does.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from courtside import tables
from courtside.errors import LabelsError, TableError
from courtside.labels.rows import COLUMNS, Findings, Rows, Sequence, Truth
from courtside.labels.source import Source, read_text
from courtside.masks import rle_to_box

if TYPE_CHECKING:
    from courtside.video import Video

__all__ = [
    "read_detections",
    "read_mot",
    "read_mots",
    "read_numbers",
    "read_seqinfo",
    "whole_length",
]

_MOTS_COLUMNS = "frame id class height width rle"
_MOTS_IGNORED = 10


def read_mot(source: Source, sequence: Sequence | None, found: Findings, *, may_be_empty: bool) -> Truth:
    """A gt.txt, with the names of its classes where ``labels.txt`` lies beside it."""
    rows = read_numbers(source.text(), source, 9, 10, COLUMNS, found)
    if len(rows) == 0 and not may_be_empty and not found.errors:
        raise LabelsError(
            f"{source} has no rows; write {COLUMNS} for each object, or, if there is truly nobody to see, "
            "list the frames you looked at in labelled_frames.txt"
        )
    table = rows.truth(*_limits(sequence))
    names = source.beside("labels.txt")
    if names is None:
        return Truth(table)
    labels = [name.strip() for name in names.text().splitlines()]
    kinds = dict(zip(rows.values[:, 1].astype(int), rows.values[:, 7].astype(int), strict=True))
    for object_id, kind in kinds.items():
        if not 1 <= kind <= len(labels):
            found.refuse(
                f"{source}: object {object_id} is of class {kind}, but {names} has {len(labels)} lines"
            )
    classes = {one: labels[kind - 1] for one, kind in kinds.items() if 1 <= kind <= len(labels)}
    return Truth(table, classes=classes)


def read_mots(source: Source, sequence: Sequence | None, found: Findings) -> Truth:
    """A MOTS file: masks, and boxes around them. Masks without a pixel have no box and are refused."""
    values, lines, masks = [], [], []
    size = None if sequence is None else (sequence.width, sequence.height)
    for line, text in enumerate(source.text().splitlines(), start=1):
        fields = text.split()
        if not fields:
            continue
        where = f"{source}, line {line}"
        if len(fields) != 6 or not all(field.isdecimal() for field in fields[:5]):
            found.refuse(
                f"{where}: {text[:40]!r} is not of the form {_MOTS_COLUMNS}; write five whole numbers and a "
                "run-length string"
            )
            continue
        frame, object_id, kind, height, width = map(int, fields[:5])
        size = size or (width, height)
        if (width, height) != size:
            found.refuse(
                f"{where}: a mask of {width} x {height} pixels, but the video has {size[0]} x {size[1]}; "
                "draw the masks at the video's size"
            )
            continue
        try:
            box = rle_to_box(fields[5], height, width)
        except TableError as error:
            found.refuse(f"{where}: {error}")
            continue
        if box is None:
            found.refuse(f"{where}: the mask has no pixel; remove the row")
            continue
        values.append([frame, object_id, *box.to_xywh(), kind != _MOTS_IGNORED, kind, -1])
        lines.append(line)
        masks.append(fields[5])
    rows = Rows(source, np.array(values, np.float64).reshape(-1, 9), np.array(lines, int), found)
    return Truth(rows.truth(*_limits(sequence), masks=masks), size=size)


def read_detections(path: str | Path, video: Video | None = None) -> pd.DataFrame:
    """Boxes from a MOTChallenge ``det.txt``, as ``tables.DETECTIONS``, in order of frame.

    Rows are ``frame, id, left, top, width, height, confidence`` and up to three columns that are not
    read, as the id is not; frames count from 1, confidence is in [0, 1]. A file without rows is a
    detector that found nothing: an empty table. Raises :class:`LabelsError` naming file, line and fix
    for NaN, a size that is not positive, wrong columns, and with ``video`` also for a frame that it
    does not have or a box outside its frame. Where the video is known to be cut short, boxes of its
    lost frames are left out instead.
    """
    path = Path(path)
    if path.is_dir():
        raise LabelsError(f"{path} is a folder; give the detections file in it, such as det/det.txt")
    columns = "frame,-1,left,top,width,height,confidence"
    rows = read_numbers(read_text(path, f"write rows of {columns}"), path, 7, 10, columns, Findings())
    rows.refuse_infinite()
    rows.refuse_frames(None if video is None else whole_length(video), "" if video is None else video.name)
    rows.refuse_boxes(None if video is None else (video.width, video.height))
    confidence = rows.values[:, 6]
    rows.refuse(
        (confidence < 0) | (confidence > 1),
        lambda i: f"confidence {confidence[i]:g} is not in [0, 1]; rescale this detector's confidences",
    )
    frames = rows.values[:, 0].astype(np.int64) - 1
    table = pd.DataFrame({"frame": frames, **rows.boxes(), "confidence": confidence})
    if video is not None:
        table = table[table["frame"] < video.frame_count]
    table = table.sort_values("frame", kind="stable", ignore_index=True)
    return tables.check(table, tables.DETECTIONS, str(path))


def read_numbers(text: str, source: object, fewest: int, most: int, columns: str, found: Findings) -> Rows:
    """The rows of ``fewest`` to ``most`` numbers, each as long as the first; blank lines are skipped."""
    values: list[list[float]] = []
    lines: list[int] = []
    for line, row in enumerate(text.splitlines(), start=1):
        row = row.strip()
        if not row:
            continue
        # Splitting at runs of commas would shift the columns after an empty one.
        fields = row.removesuffix(",").split(",") if "," in row else row.split()
        if not fewest <= len(fields) <= most or (values and len(fields) != len(values[0])):
            wanted = f"{len(values[0])} as above" if values else f"{fewest} to {most}".removeprefix("1 to ")
            found.refuse(
                f"{source}, line {line}: {len(fields)} columns instead of {wanted}; write {columns} in each"
            )
            continue
        wrong = next((i for i, field in enumerate(fields) if not _is_number(field)), None)
        if wrong is not None:
            found.refuse(
                f"{source}, line {line}: column {wrong + 1} is {fields[wrong].strip()!r}, not a number; "
                f"write {columns} without a header line"
            )
            continue
        values.append([float(field) for field in fields])
        lines.append(line)
    table = np.array(values).reshape(len(values), -1 if values else fewest)
    return Rows(source, table, np.array(lines, int), found)


def read_seqinfo(path: Path, video: Video | None) -> Sequence:
    """The video as seqinfo.ini describes it, checked against ``video`` where that is given."""
    fix = "write a section [Sequence] with imWidth, imHeight, frameRate and seqLength"
    stated: dict[str, tuple[int, str]] = {}
    for line, text in enumerate(read_text(path, fix).splitlines(), start=1):
        key, separator, value = text.partition("=")
        if separator:
            stated[key.strip().lower()] = (line, value.strip())
    numbers: dict[str, float] = {}
    for key in ("imWidth", "imHeight", "frameRate", "seqLength"):
        if key.lower() not in stated:
            raise LabelsError(f"{path} has no {key}; {fix}")
        line, text = stated[key.lower()]
        number = float(text) if _is_number(text) else math.nan
        if not (0 < number < math.inf) or (key != "frameRate" and number != int(number)):
            kind = "positive number" if key == "frameRate" else "positive whole number"
            raise LabelsError(f"{path}, line {line}: {key} is {text!r}; give a {kind}")
        numbers[key] = number
    sequence = Sequence(
        name=stated.get("name", (0, ""))[1] or None,
        width=int(numbers["imWidth"]),
        height=int(numbers["imHeight"]),
        fps=numbers["frameRate"],
        frame_count=int(numbers["seqLength"]),
        whose="seqLength of seqinfo.ini",
        times_s=None if video is None else video.times_s,
        kept=None if video is None else video.frame_count,
    )
    if video is None:
        return sequence
    labelled, actual = (sequence.width, sequence.height), (video.width, video.height)
    if labelled != actual:
        turned = "label the upright picture" if labelled == actual[::-1] else "scale them to the video's size"
        raise LabelsError(
            f"{path}, line {stated['imwidth'][0]}: labels for {labelled[0]} x {labelled[1]} pixels, but "
            f"{video.name} has {actual[0]} x {actual[1]}; use the labels made for this video or {turned}"
        )
    if not video.frame_count <= sequence.frame_count <= whole_length(video):
        longer = sequence.frame_count > video.frame_count
        other = "find its whole file" if longer else "correct seqLength and write labelled_frames.txt"
        raise LabelsError(
            f"{path}, line {stated['seqlength'][0]}: labels for {sequence.frame_count} frames, but "
            f"{video.name} has {video.frame_count}; use the labels made for this video or {other}"
        )
    return sequence


def whole_length(video: Video) -> int:
    """How many frames the video has, or had before it was cut short; containers state that roughly."""
    if video.stated_frame_count == video.frame_count:
        return video.frame_count
    return math.ceil(video.stated_frame_count * 1.02) + 1


def _limits(sequence: Sequence | None) -> tuple[tuple[int, int] | None, int | None, str]:
    """What :meth:`Rows.truth` checks against: size, length, and whose length that is."""
    if sequence is None:
        return None, None, ""
    return (sequence.width, sequence.height), sequence.frame_count, sequence.whose


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True
