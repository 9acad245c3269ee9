"""The event log: which track or object went wrong, in which frames."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from courtside import tables

__all__ = ["log_events"]

_NONE = -1


def log_events(
    log: pd.DataFrame,
    numbers: np.ndarray,
    start_s: np.ndarray,
    end_s: np.ndarray,
    track_prompts: Mapping[int, str],
    object_prompts: Mapping[int, str],
) -> pd.DataFrame:
    """A row per error, as ``tables.EVENTS``, from the correspondences of ``clear.correspond``.

    ``numbers``, ``start_s`` and ``end_s`` [F] are each scored frame's number in the video and the
    seconds at which it appears and ends. A ``switch`` and a ``fragment`` are moments: ``frame`` is the
    one in which the object is followed by the new track, or again, and ``duration_s`` is 0. A ``miss``
    and a ``false_positive`` are runs of consecutive scored frames and last until the run's last frame
    ends. ``previous_tracking_id`` is the track that last matched the object. The prompt is the track's,
    for a miss the one prompt that means the object. There are as many switches and fragments as
    ``num_switches`` and ``num_fragmentations`` say, and the runs' scored frames add up to the misses
    and the false positives.
    """
    rows: list[tuple[str, int, int, int, int, int]] = []
    for object_id, own in log[log["object_id"] >= 0].groupby("object_id"):
        rows += _errors_of_object(int(object_id), own.sort_values("position"))
    alone = log[log["kind"] == "false_positive"]
    for tracking_id, own in alone.groupby("tracking_id"):
        for first, last in _runs(np.sort(own["position"].to_numpy())):
            rows.append(("false_positive", first, last, _NONE, int(tracking_id), _NONE))
    names = ["event", "first", "last", "object_id", "tracking_id", "previous_tracking_id"]
    found = pd.DataFrame(rows, columns=names)
    found = found.sort_values(["first", "event", "object_id", "tracking_id"], ignore_index=True)
    first, last = (found[name].to_numpy(np.int64) for name in ("first", "last"))
    moment = found["event"].isin(["switch", "fragment"]).to_numpy(bool)
    prompts = [
        object_prompts.get(object_id) if event == "miss" else track_prompts.get(tracking_id)
        for event, object_id, tracking_id in zip(
            found["event"], found["object_id"], found["tracking_id"], strict=True
        )
    ]
    events = pd.DataFrame(
        {
            "event": found["event"].astype("string"),
            "frame": numbers[first],
            "last_frame": numbers[last],
            "time_s": start_s[first],
            "duration_s": np.where(moment, 0.0, end_s[last] - start_s[first]),
            "prompt": pd.array(prompts, dtype="string"),
            **{name: found[name].astype("Int64").replace(_NONE, pd.NA) for name in names[3:]},
        }
    )
    return tables.check(events, tables.EVENTS, "the event log")


def _errors_of_object(object_id: int, own: pd.DataFrame) -> list[tuple[str, int, int, int, int, int]]:
    """Switches, fragments and miss runs of one object, whose rows are in order of position."""
    rows: list[tuple[str, int, int, int, int, int]] = []
    misses: list[tuple[int, int]] = []
    previous, interrupted = _NONE, False
    for kind, position, tracking_id in zip(own["kind"], own["position"], own["tracking_id"], strict=True):
        if kind == "miss":
            misses.append((position, previous))
            interrupted = previous != _NONE
            continue
        if interrupted:
            rows.append(("fragment", position, position, object_id, tracking_id, previous))
        if kind == "switch":
            rows.append(("switch", position, position, object_id, tracking_id, previous))
        previous, interrupted = tracking_id, False
    last_track = dict(misses)
    for first, last in _runs(np.array([position for position, _ in misses], np.int64)):
        rows.append(("miss", first, last, object_id, _NONE, last_track[first]))
    return rows


def _runs(positions: np.ndarray) -> list[tuple[int, int]]:
    """First and last of each stretch of consecutive numbers in sorted ``positions``.

    >>> _runs(np.array([3, 4, 5, 9]))
    [(3, 5), (9, 9)]
    """
    if len(positions) == 0:
        return []
    starts = np.flatnonzero(np.r_[True, np.diff(positions) != 1])
    ends = np.r_[starts[1:], len(positions)] - 1
    return [(int(positions[a]), int(positions[b])) for a, b in zip(starts, ends, strict=True)]
