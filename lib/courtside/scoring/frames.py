"""Tracks beside labelled objects, frame by frame, with the IoU of each pair."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from courtside.errors import LabelsError, SettingError, TableError
from courtside.labels import Labels
from courtside.masks import encode_rle, rle_iou

__all__ = ["EPS", "Comparison", "ScoredFrames", "box_iou", "compare", "ratio"]

EPS = float(np.finfo(np.float64).eps)
"""An IoU counts as equal to a threshold within this much, as in TrackEval."""

_BOX = ["x1", "y1", "x2", "y2"]


def ratio(part: float, whole: float) -> float | None:
    """``part / whole``; None of nothing."""
    return float(part / whole) if whole else None


def box_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU of each pair of xyxy boxes, float64 [..., N, 4] and [..., M, 4], as float64 [..., N, M] in [0, 1].

    Two boxes without area have IoU 0.

    >>> box_iou(np.array([[0.0, 0, 10, 10]]), np.array([[5.0, 0, 15, 10], [0, 0, 10, 10]])).round(3)
    array([[0.333, 1.   ]])
    """
    corners = np.minimum(first[..., :, None, 2:], second[..., None, :, 2:])
    sides = np.clip(corners - np.maximum(first[..., :, None, :2], second[..., None, :, :2]), 0, None)
    overlap = sides[..., 0] * sides[..., 1]
    areas = [(boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1]) for boxes in (first, second)]
    union = areas[0][..., :, None] + areas[1][..., None, :] - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)


@dataclass(frozen=True, eq=False)
class ScoredFrames:
    """What is scored: per labelled frame the required objects, the tracks, and their IoU.

    ``numbers`` are the frames' numbers in the video, int64 [F], from 0. Per frame ``object_ids`` int64
    [N], ``tracking_ids`` int64 [M], both sorted, and ``iou`` float64 [N, M]. ``ignored_rows`` counts
    labels that were neither required nor punished, ``dropped_predictions`` the boxes matched to those.
    """

    numbers: np.ndarray
    object_ids: list[np.ndarray]
    tracking_ids: list[np.ndarray]
    iou: list[np.ndarray]
    ignored_rows: int
    dropped_predictions: int


@dataclass(frozen=True, eq=False)
class Comparison:
    """Every label and every tracked box of the labelled frames, before choosing whom to score.

    Lists have one entry a labelled frame; ``prompts`` holds per tracked box the prompt or None.
    """

    numbers: np.ndarray
    object_ids: list[np.ndarray]
    ignored: list[np.ndarray]
    tracking_ids: list[np.ndarray]
    prompts: list[np.ndarray]
    iou: list[np.ndarray]

    def select(
        self, objects: Collection[int], prompts: Collection[str | None] | None, threshold: float
    ) -> ScoredFrames:
        """The frames with ``objects`` required of the tracks of ``prompts`` (None: of all tracks).

        Ignored labels are handled as in the MOTChallenge, whoever they show: in each frame tracks are
        matched one to one with required and ignored labels together, at the greatest total IoU of
        pairs at ``threshold`` or more; tracks that fall to an ignored label are dropped from the frame.
        """
        wanted = np.array(sorted(objects), np.int64)
        kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        ignored_rows = dropped_predictions = 0
        for ids, ignored, tracks, texts, iou in zip(
            self.object_ids, self.ignored, self.tracking_ids, self.prompts, self.iou, strict=True
        ):
            required = ~ignored & np.isin(ids, wanted)
            chosen = np.ones(len(tracks), bool)
            if prompts is not None:
                chosen = np.array([text in prompts for text in texts], bool)
            if ignored.any():
                ignored_rows += int(ignored.sum())
                dropped = _on_ignored(iou, required, ignored, chosen, threshold)
                dropped_predictions += len(dropped)
                chosen[dropped] = False
            kept.append((ids[required], tracks[chosen], iou[np.ix_(required, chosen)]))
        return ScoredFrames(
            numbers=self.numbers,
            object_ids=[ids for ids, _, _ in kept],
            tracking_ids=[tracks for _, tracks, _ in kept],
            iou=[iou for _, _, iou in kept],
            ignored_rows=ignored_rows,
            dropped_predictions=dropped_predictions,
        )


def _on_ignored(
    iou: np.ndarray, required: np.ndarray, ignored: np.ndarray, chosen: np.ndarray, threshold: float
) -> np.ndarray:
    """Columns of ``iou`` among ``chosen`` that are matched to an ignored row."""
    rows, columns = np.flatnonzero(required | ignored), np.flatnonzero(chosen)
    gain = iou[np.ix_(rows, columns)]
    gain = np.where(gain >= threshold - EPS, gain, 0.0)
    row, column = linear_sum_assignment(gain, maximize=True)
    return columns[column[(gain[row, column] > 0) & ignored[rows[row]]]]


def compare(detections: pd.DataFrame, labels: Labels, match: str) -> Comparison:
    """Pair the tracks and the labels of each labelled frame.

    ``match`` is ``"box"`` or ``"mask"``. Raises :class:`SettingError` when masks are asked for and a
    track has none, :class:`LabelsError` when a required label has none.
    """
    frames = labels.labelled_frames
    truth = labels.ground_truth.sort_values(["frame", "object_id"])
    found = detections.sort_values(["frame", "tracking_id"])
    truth = truth[truth["frame"].isin(frames)]
    found = found[found["frame"].isin(frames)]
    if match == "mask":
        found, truth = _tracked_masks(found), _masked(truth, labels)
    spans = [
        np.searchsorted(table["frame"].to_numpy(), [frames, frames + 1]).T.tolist()
        for table in (truth, found)
    ]
    truth_shapes, found_shapes = (
        table["mask_rle"].to_numpy(object) if match == "mask" else table[_BOX].to_numpy()
        for table in (truth, found)
    )
    iou = []
    for number, (a, b), (c, d) in zip(frames, *spans, strict=True):
        if match == "box":
            iou.append(box_iou(truth_shapes[a:b], found_shapes[c:d]))
            continue
        try:
            iou.append(rle_iou(list(truth_shapes[a:b]), list(found_shapes[c:d]), labels.height, labels.width))
        except TableError as error:
            raise LabelsError(f"{labels.folder}, frame {number + 1}, labels or tracks: {error}") from error
    prompts = found["prompt"].astype(object).where(found["prompt"].notna(), None).to_numpy(object)

    def cut(values: np.ndarray, span: list[list[int]]) -> list[np.ndarray]:
        return [values[start:stop] for start, stop in span]

    return Comparison(
        numbers=frames,
        object_ids=cut(truth["object_id"].to_numpy(), spans[0]),
        ignored=cut(truth["ignored"].to_numpy(bool), spans[0]),
        tracking_ids=cut(found["tracking_id"].to_numpy(), spans[1]),
        prompts=cut(prompts, spans[1]),
        iou=iou,
    )


def _masked(truth: pd.DataFrame, labels: Labels) -> pd.DataFrame:
    """``truth`` with a mask in each row; ignored rows may lack one and then overlap nothing."""
    missing = truth["mask_rle"].isna()
    required = truth[missing & ~truth["ignored"]]
    if len(required):
        row = required.iloc[0]
        raise LabelsError(
            f"{labels.folder}: frame {row['frame'] + 1} has no mask of object "
            f"{row['object_id']}; add it or score boxes"
        )
    nothing = encode_rle(np.zeros((labels.height, labels.width), bool)) if missing.any() else ""
    return truth.assign(mask_rle=truth["mask_rle"].fillna(nothing))


def _tracked_masks(found: pd.DataFrame) -> pd.DataFrame:
    missing = found[found["mask_rle"].isna()]
    if len(missing):
        row = missing.iloc[0]
        raise SettingError(
            f"track {row['tracking_id']} has no mask in frame {row['frame']}; score boxes, or track with a "
            "tracker that gives masks"
        )
    return found
