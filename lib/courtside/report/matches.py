"""Which track followed which labelled object in each frame, as the event log of the scores tells it."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd

__all__ = ["followed_by", "main_objects"]

_BOX = ["x1", "y1", "x2", "y2"]


def followed_by(
    truth: pd.DataFrame, events: pd.DataFrame, detections: pd.DataFrame, objects: Collection[int]
) -> pd.DataFrame:
    """Columns ``frame``, ``object_id``, ``tracking_id`` (Int64, NA for a miss), a row per required label.

    ``truth`` is :data:`courtside.tables.GROUND_TRUTH` of the scored frames; of it the rows of ``objects``
    that are not ignored were required. The events (:data:`courtside.tables.EVENTS`) name the track at each
    switch, return and miss, which settles all other frames too: an object is followed by one track from one
    such event to the next. An object that was never lost and never switched has no event that names its
    track, so that is the one in ``detections`` with the largest summed overlap of boxes.
    """
    required = truth[~truth["ignored"] & truth["object_id"].isin(list(objects))]
    parts = []
    for object_id, rows in required.groupby("object_id"):
        frames = np.sort(rows["frame"].to_numpy())
        own = events[events["object_id"].eq(object_id).fillna(False)].sort_values("frame", kind="stable")
        missed = np.zeros(len(frames), bool)
        for first, last in own.loc[own["event"] == "miss", ["frame", "last_frame"]].to_numpy(int):
            missed |= (frames >= first) & (frames <= last)
        tracks = _tracks_from(own, frames)
        if (tracks[~missed] < 0).any():
            tracks[tracks < 0] = _most_overlapping(rows[~rows["frame"].isin(frames[missed])], detections)
        tracking_id = pd.array(tracks, dtype="Int64")
        tracking_id[missed] = pd.NA
        parts.append(pd.DataFrame({"frame": frames, "object_id": object_id, "tracking_id": tracking_id}))
    if not parts:
        nothing = {"frame": "int64", "object_id": "int64", "tracking_id": "Int64"}
        return pd.DataFrame({name: pd.Series([], dtype=kind) for name, kind in nothing.items()})
    return pd.concat(parts, ignore_index=True).sort_values(["frame", "object_id"], ignore_index=True)


def main_objects(matches: pd.DataFrame) -> dict[int, tuple[int, int]]:
    """For each track that followed anybody: the object that it followed most, and in how many frames.

    >>> table = pd.DataFrame({"object_id": [4, 4, 5], "tracking_id": pd.array([1, 1, 1], "Int64")})
    >>> main_objects(table)
    {1: (4, 2)}
    """
    pairs = matches.dropna(subset="tracking_id").groupby(["tracking_id", "object_id"]).size()
    return {
        int(tracking_id): (int(sizes.idxmax()[1]), int(sizes.max()))
        for tracking_id, sizes in pairs.groupby(level=0)
    }


def _tracks_from(own: pd.DataFrame, frames: np.ndarray) -> np.ndarray:
    """The track at each of ``frames``, int64, by an object's events in order; -1 where none names one."""
    tracks = np.full(len(frames), -1, np.int64)
    since = 0
    for event, frame, now, before in own[
        ["event", "frame", "tracking_id", "previous_tracking_id"]
    ].itertuples(index=False, name=None):
        at = int(np.searchsorted(frames, frame))
        if pd.notna(before):
            tracks[since:at] = int(before)
            since = max(since, at)
        if event in ("switch", "fragment") and pd.notna(now):
            tracks[at:] = int(now)
            since = max(since, at)
    return tracks


def _most_overlapping(rows: pd.DataFrame, detections: pd.DataFrame) -> int:
    pairs = rows.merge(detections[["frame", "tracking_id", *_BOX]], on="frame", suffixes=("", "_track"))
    low = np.maximum(pairs[["x1", "y1"]].to_numpy(), pairs[["x1_track", "y1_track"]].to_numpy())
    high = np.minimum(pairs[["x2", "y2"]].to_numpy(), pairs[["x2_track", "y2_track"]].to_numpy())
    overlap = np.clip(high - low, 0, None).prod(axis=1)
    sides = [
        (pairs[f"x2{end}"] - pairs[f"x1{end}"]) * (pairs[f"y2{end}"] - pairs[f"y1{end}"])
        for end in ("", "_track")
    ]
    iou = pd.Series(overlap / np.maximum(sides[0] + sides[1] - overlap, 1e-9).to_numpy())
    return int(iou.groupby(pairs["tracking_id"].to_numpy()).sum().idxmax())
