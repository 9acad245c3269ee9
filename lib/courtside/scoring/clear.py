"""CLEAR and Identity counts through motmetrics' accumulator, fed with our own distances."""

from __future__ import annotations

import motmetrics
import numpy as np
import pandas as pd

from courtside.scoring.frames import EPS, ScoredFrames

__all__ = ["SWITCH_COUNTING", "clear_counts", "correspond"]

SWITCH_COUNTING = (
    "num_switches, num_fragmentations and mota are motmetrics': an object stays with the track that last "
    "followed it, however long ago, as long as the two overlap enough (if two objects claim one track, the "
    "lower object id has it); the others are matched at the least total distance. TrackEval, the "
    "MOTChallenge's own, prefers only the track of the frame just before, and also counts a fragmentation "
    "where an object was out of view. So the figures differ on crowded clips, MOTA by up to about 0.01; "
    "TrackEval's are under trackeval. mostly_tracked is 80 % or more of an object's boxes here, more than "
    "80 % in TrackEval."
)


def correspond(frames: ScoredFrames, threshold: float) -> tuple[dict[str, int | float], pd.DataFrame]:
    """Match tracks to objects in each frame, after Bernardin & Stiefelhagen 2008.

    The distance of a pair is 1 - IoU; pairs below ``threshold`` cannot match. Returns the counts of
    :func:`clear_counts` and the correspondences: a row per match, switch, miss and false positive with
    ``kind`` ("match", "switch", "miss", "false_positive"), ``position`` (index into the scored frames),
    ``object_id`` and ``tracking_id`` (-1 where there is none), in order of ``position``.
    """
    accumulator = motmetrics.MOTAccumulator()
    for position, (objects, tracks, iou) in enumerate(
        zip(frames.object_ids, frames.tracking_ids, frames.iou, strict=True)
    ):
        # motmetrics reads NaN as: this pair must not match.
        distance = np.where(iou >= threshold - EPS, 1 - iou, np.nan)
        accumulator.update(objects, tracks, distance, frameid=position)
    events = accumulator.events
    kinds = {"MATCH": "match", "SWITCH": "switch", "MISS": "miss", "FP": "false_positive"}
    events = events[events["Type"].isin(list(kinds))]
    log = pd.DataFrame(
        {
            "kind": events["Type"].astype(str).map(kinds).to_numpy(),
            "position": events.index.get_level_values("FrameId").to_numpy(np.int64),
            "object_id": events["OId"].fillna(-1).to_numpy(np.int64),
            "tracking_id": events["HId"].fillna(-1).to_numpy(np.int64),
        }
    )
    return clear_counts(accumulator), log


def clear_counts(accumulator: motmetrics.MOTAccumulator) -> dict[str, int | float]:
    """Counts that sum over sequences; the ratios are made from the sums.

    ``matches`` (switches included), ``misses``, ``false_positives``, ``num_switches``,
    ``num_fragmentations``, ``iou_sum`` over the matches; ``mostly_tracked`` (80 % or more of an object's
    boxes matched), ``partially_tracked``, ``mostly_lost`` (under 20 %); ``idtp``, ``idfp``, ``idfn`` of
    the one-to-one assignment of tracks to objects with the most boxes in common (Ristani et al. 2016).
    """
    names = [
        "num_detections", "num_misses", "num_false_positives", "num_switches", "num_fragmentations",
        "mostly_tracked", "partially_tracked", "mostly_lost", "idtp", "idfp", "idfn",
    ]  # fmt: skip
    renamed = {"num_detections": "matches", "num_misses": "misses", "num_false_positives": "false_positives"}
    events = accumulator.events
    if len(events) == 0:
        return dict.fromkeys([renamed.get(name, name) for name in names], 0) | {"iou_sum": 0.0}
    found = motmetrics.metrics.create().compute(accumulator, metrics=names, return_dataframe=False)
    matched = events["Type"].isin(["MATCH", "SWITCH"])
    iou_sum = float((1 - events.loc[matched, "D"]).sum())
    return {renamed.get(name, name): round(float(found[name])) for name in names} | {"iou_sum": iou_sum}
