"""Everything that is wrong with labels, at once, and what looks wrong though it can be read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from courtside.errors import LabelsError, TableError, some
from courtside.labels.folder import Labels, gather_labels
from courtside.labels.rows import Findings
from courtside.masks import rle_to_box
from courtside.types import BoundingBox

if TYPE_CHECKING:
    from courtside.video import Video

__all__ = ["Check", "check_labels"]

_SAME_BOX_IOU = 0.9
_JUMP_HEIGHTS = 2.0
_MASK_IOU = 0.5
_BOX = ["x1", "y1", "x2", "y2"]


@dataclass(frozen=True)
class Check:
    """What was found in the labels at ``path``.

    ``errors`` keep the labels from being read, each naming file, place and fix. ``warnings`` are what looks
    wrong, with its frames counted from 0. ``notes`` say how the labels were made. ``labels`` is what could
    be read, None where that is nothing; with errors it is only a part.
    """

    path: Path
    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    labels: Labels | None


def check_labels(path: str | Path, video: Video | None = None) -> Check:
    """Read the labels at ``path`` as ``read_labels`` does, going on after each fault."""
    path = Path(path)
    found, labels = Findings(gather=True), None
    try:
        labels = gather_labels(path, video, found)
    except (LabelsError, TableError) as error:
        found.errors.append(str(error))
    warnings = [] if labels is None else _doubts(labels)
    notes = found.notes if labels is None else [*labels.notes]
    return Check(path, tuple(found.errors), tuple(warnings), tuple(notes), labels)


def _doubts(labels: Labels) -> list[str]:
    truth = labels.ground_truth
    doubts: list[str] = []
    ids = {int(one) for one in truth["object_id"].unique()}
    for prompt, objects in (labels.prompts or {}).items():
        unknown = sorted(set(objects) - ids)
        if unknown:
            doubts.append(f"prompt {prompt!r} means objects that are nowhere: {some(unknown)}")
    if labels.roster is not None:
        unknown = sorted(set(labels.roster["object_id"]) - ids)
        if unknown:
            doubts.append(f"the roster names objects that are nowhere: {some(unknown)}")
        doubts += _twins(truth, labels.roster)
    outside = truth.loc[~truth["frame"].isin(labels.labelled_frames), "frame"].unique()
    if len(outside):
        doubts.append(f"{len(outside)} frames have boxes but are not listed as labelled: {some(outside)}")
    empty = np.setdiff1d(labels.labelled_frames, truth["frame"])
    if len(empty):
        doubts.append(f"{len(empty)} labelled frames have no box: {some(empty)}; right if nobody was in view")
    doubts += _doubled(truth)
    doubts += _jumps(truth)
    doubts += _strange_masks(truth, labels)
    return doubts


def _twins(truth: pd.DataFrame, roster: pd.DataFrame) -> list[str]:
    """Pairs of objects in view at once that the roster gives one team and number."""
    frames = truth.groupby("object_id")["frame"].agg(set)
    doubts = []
    known = roster.dropna(subset=["team", "jersey_number"])
    for (team, number), own in known.groupby(["team", "jersey_number"]):
        seen = [one for one in own["object_id"] if one in frames.index]
        for i, first in enumerate(seen):
            for second in seen[i + 1 :]:
                both = sorted(frames[first] & frames[second])
                if both:
                    doubts.append(
                        f"objects {first} and {second} are both {team} {number}, and in view at once in "
                        f"frames {some(both)}"
                    )
    return doubts


def _doubled(truth: pd.DataFrame) -> list[str]:
    """Two ids on nearly the same box."""
    pairs = truth.merge(truth, on="frame", suffixes=("", "_other"))
    pairs = pairs[pairs["object_id"] < pairs["object_id_other"]]
    boxes, others = pairs[_BOX].to_numpy(), pairs[[f"{name}_other" for name in _BOX]].to_numpy()
    sides = np.minimum(boxes[:, 2:], others[:, 2:]) - np.maximum(boxes[:, :2], others[:, :2])
    shared = np.clip(sides, 0, None).prod(axis=1)
    areas = [(b[:, 2:] - b[:, :2]).prod(axis=1) for b in (boxes, others)]
    pairs = pairs[shared > _SAME_BOX_IOU * (areas[0] + areas[1] - shared)]
    return [
        f"objects {first} and {second} have the same box in frames {some(own['frame'])}; one person twice?"
        for (first, second), own in pairs.groupby(["object_id", "object_id_other"])
    ]


def _jumps(truth: pd.DataFrame) -> list[str]:
    """Objects that move further from one frame to the next than twice their height."""
    doubts = []
    for object_id, own in truth.sort_values("frame").groupby("object_id"):
        boxes, frames = own[_BOX].to_numpy(), own["frame"].to_numpy()
        moved = np.linalg.norm(np.diff((boxes[:, :2] + boxes[:, 2:]) / 2, axis=0), axis=1)
        far = (moved > _JUMP_HEIGHTS * (boxes[:-1, 3] - boxes[:-1, 1])) & (np.diff(frames) == 1)
        if far.any():
            doubts.append(
                f"object {object_id} jumps, by up to {moved[far].max():.0f} pixels, into frames "
                f"{some(frames[1:][far])}; two people under one id?"
            )
    return doubts


def _strange_masks(truth: pd.DataFrame, labels: Labels) -> list[str]:
    """Masks that do not lie in their box."""
    doubts, far = [], []
    for row in truth.dropna(subset=["mask_rle"]).itertuples():
        try:
            around = rle_to_box(row.mask_rle, labels.height, labels.width)
        except TableError as error:
            doubts.append(f"frame {row.frame}, object {row.object_id}: {error}")
            continue
        box = BoundingBox(row.x1, row.y1, row.x2, row.y2).clip(labels.width, labels.height)
        if around is None or around.iou(box) < _MASK_IOU:
            far.append(f"{row.frame} (object {row.object_id})")
    if far:
        doubts.append(f"{len(far)} masks do not fill their box: frames {some(far)}")
    return doubts
