"""What a viewer of the tracks notices: pieces per player, purity, long correct runs, re-entries."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pandas as pd

__all__ = ["REENTRY_GAPS", "product_counts", "reentries"]

REENTRY_GAPS = {"0-1 s": 1.0, "1-5 s": 5.0, ">5 s": np.inf}
"""The most seconds out of view in each class of gaps, shortest class first."""


def product_counts(log: pd.DataFrame, start_s: np.ndarray, end_s: np.ndarray) -> dict[str, int | float]:
    """Counts behind the product measures, from the correspondences of ``clear.correspond``.

    ``start_s`` and ``end_s``, float64 [F], are when each scored frame appears and gives way to the
    video's next one. All of these sum over sequences.

    ``fragments``, ``followed_objects``
        Each object's number of different tracks that matched it in at least one frame, summed over the
        objects matched at all; and how many those are. Fragments per object is their quotient: 1 is
        ideal. Objects never matched do not count, lest losing a player look like an improvement.
    ``pure_boxes``
        Each track's matched boxes on the object that it matches most, summed over tracks. Purity is
        their share of all matched boxes: 1 when no track ever moves to another player. False positives
        do not count; precision does that.
    ``longest_run_sum_s``
        Each object's longest correct run in seconds, summed over objects. A correct run is a stretch of
        consecutive scored frames in which the object is labelled and matched by one and the same
        track, from its first frame's appearance to its last frame's end; a miss, an absence or a
        change of track ends it. The measure is the mean over all true objects (0 for one never matched).
    ``reentry_recovered``, ``reentry_total``
        Per gap length in REENTRY_GAPS, see :func:`reentries`.
    """
    matched = log[log["kind"].isin(["match", "switch"])]
    pairs = matched.groupby(["tracking_id", "object_id"]).size()
    longest = [_longest_run_s(positions, tracks, start_s, end_s) for _, positions, tracks in _by_object(log)]
    recovered, total = dict.fromkeys(REENTRY_GAPS, 0), dict.fromkeys(REENTRY_GAPS, 0)
    for _, _, gap_s, is_recovered in reentries(log, start_s, end_s):
        name = next(name for name, most_s in REENTRY_GAPS.items() if gap_s <= most_s)
        total[name] += 1
        recovered[name] += is_recovered
    return {
        "fragments": int(matched.groupby("object_id")["tracking_id"].nunique().sum()),
        "followed_objects": int(matched["object_id"].nunique()),
        "pure_boxes": int(pairs.groupby("tracking_id").max().sum()),
        "longest_run_sum_s": float(sum(longest)),
        "reentry_recovered": tuple(recovered.values()),
        "reentry_total": tuple(total.values()),
    }


def reentries(
    log: pd.DataFrame, start_s: np.ndarray, end_s: np.ndarray
) -> Iterator[tuple[int, int, float, bool]]:
    """Object id, position where it is back, seconds out of view, and whether its track was recovered.

    An object re-enters when it is labelled again after scored frames without a (required) label of it:
    it had left the picture, or was hidden. The gap lasts from the end of its last frame to the
    appearance of the first one after. It is recovered when the first track that matches the object
    before it goes out of view again is the one that matched it last before the gap. Objects that no
    track had matched before have nothing to recover and do not count.
    """
    for object_id, positions, tracks in _by_object(log):
        returns = np.flatnonzero(np.diff(positions) > 1) + 1
        for start, stop in pairwise([*returns, len(positions)]):
            before, after = tracks[:start], tracks[start:stop]
            before, after = before[before >= 0], after[after >= 0]
            if len(before):
                # Rounded, so that 25 frames at 25 a second are not a hair over one second.
                gap_s = round(start_s[positions[start]] - end_s[positions[start - 1]], 6)
                yield object_id, int(positions[start]), gap_s, bool(len(after) and after[0] == before[-1])


def _by_object(log: pd.DataFrame) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Each object's id, scored positions with a label of it, and the track there (-1: missed)."""
    for object_id, rows in log[log["object_id"] >= 0].groupby("object_id"):
        rows = rows.sort_values("position")
        yield int(object_id), rows["position"].to_numpy(), rows["tracking_id"].to_numpy()


def _longest_run_s(
    positions: np.ndarray, tracks: np.ndarray, start_s: np.ndarray, end_s: np.ndarray
) -> float:
    first = np.flatnonzero(np.r_[True, (np.diff(positions) != 1) | (np.diff(tracks) != 0)])
    last = np.r_[first[1:], len(positions)] - 1
    runs_s = end_s[positions[last]] - start_s[positions[first]]
    return float(runs_s[tracks[first] >= 0].max(initial=0.0))
