"""Tracks that were cut where one labelling job ends and the next begins, made whole again."""

from __future__ import annotations

from collections.abc import Sequence as Many
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from courtside.labels.rows import Findings
from courtside.types import BoundingBox

__all__ = ["Job", "Part", "join"]

_LEAST_IOU = 0.5


class Job(NamedTuple):
    """Frames ``start`` to ``stop``, labelled together; ``number`` where each job has a file of its own."""

    number: int | None
    start: int
    stop: int


class Part(NamedTuple):
    """One track as a job has it: ``boxes`` are left, top, width and height by frame."""

    label: str
    job: int
    boxes: dict[int, tuple[float, float, float, float]]


def join(parts: Many[Part], jobs: Many[Job], found: Findings) -> tuple[list[int], set[tuple[int, int]]]:
    """Which parts are of one object, and which of their boxes to leave out.

    At each border between jobs, parts of equal label are matched one to one, at the greatest total IoU of
    pairs at 0.5 or more: the mean over the frames that both have, or, where the jobs do not overlap, that
    of the last box before the border and the first one after. Where one file has all jobs, CVAT has joined
    what overlaps, and only parts that end and begin at the border itself can belong together.

    Returns for each part the number of the object's first part, and the (part, frame) pairs that an
    earlier part of the object has as well.
    """
    same: dict[int, int] = {}
    alone = 0
    for before, after in pairwise(jobs):
        ending = [i for i, part in enumerate(parts) if _ends(part, before, after)]
        starting = [i for i, part in enumerate(parts) if _starts(part, before, after)]
        iou = np.array([[_overlap(parts[a], parts[b], before, after) for b in starting] for a in ending])
        iou = np.where(iou >= _LEAST_IOU, iou, 0).reshape(len(ending), len(starting))
        row, column = linear_sum_assignment(iou, maximize=True)
        pairs = {starting[b]: ending[a] for a, b in zip(row, column, strict=True) if iou[a, b] > 0}
        same |= pairs
        alone += len(starting) - len(pairs)
    if same or alone:
        rest = f"; {alone} that begin at a border fit none" if alone else ""
        found.notes.append(f"{len(same)} tracks were joined to their part in the job before{rest}")
    first = list(range(len(parts)))
    seen: set[tuple[int, int]] = set()
    dropped: set[tuple[int, int]] = set()
    # Files and tracks come in any order; an object's first part is to be seen before what goes on from it.
    order = sorted(range(len(parts)), key=lambda i: (i in same, min(parts[i].boxes, default=0)))
    for number in order:
        while first[number] in same:
            first[number] = same[first[number]]
        for frame in parts[number].boxes:
            if number in same and (first[number], frame) in seen:
                dropped.add((number, frame))
            seen.add((first[number], frame))
    return first, dropped


def _ends(part: Part, before: Job, after: Job) -> bool:
    """Whether ``part`` may go on in ``after``."""
    if before.number is None:
        return before.stop in part.boxes and max(part.boxes) == before.stop
    shared = range(min(after.start, before.stop), before.stop + 1)
    return part.job == before.number and any(frame in part.boxes for frame in shared)


def _starts(part: Part, before: Job, after: Job) -> bool:
    """Whether ``part`` may go on from ``before``."""
    if after.number is None:
        return after.start in part.boxes and min(part.boxes) == after.start
    shared = range(after.start, max(after.start, before.stop) + 1)
    return part.job == after.number and any(frame in part.boxes for frame in shared)


def _overlap(first: Part, second: Part, before: Job, after: Job) -> float:
    if first.label != second.label:
        return 0.0
    frames = sorted(set(first.boxes) & set(second.boxes))
    pairs = [(frame, frame) for frame in frames]
    if not pairs and after.start > before.stop:
        pairs = [(before.stop, after.start)]
    if not pairs:
        return 0.0
    boxes = [
        (BoundingBox.from_xywh(*first.boxes[a]), BoundingBox.from_xywh(*second.boxes[b])) for a, b in pairs
    ]
    return float(np.mean([a.iou(b) for a, b in boxes]))
