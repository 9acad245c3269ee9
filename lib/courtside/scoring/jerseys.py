"""How right the numbers are that tracks were given, against the roster of the labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from courtside.scoring.frames import ScoredFrames

__all__ = ["JERSEY_METRICS", "MERGED_METRICS", "combine_jerseys", "jersey_metrics", "score_jerseys"]

JERSEY_METRICS = {
    "jersey_right": "players of the roster with a number whose tracks were given that number",
    "jersey_wrong": "players whose tracks were given another number, or one though the roster has none",
    "jersey_unknown": "players of the roster with a number whose tracks were given none",
    "jersey_unreadable": "players without a number in the roster whose tracks were given none",
}
"""Each count's definition. A player that no track follows counts as not given a number."""

MERGED_METRICS = {
    f"merged_{name}": f"{name} with players in place of tracks, so after accepted merges"
    for name in ("fragments_per_object", "idf1", "hota")
}
"""What is scored again with players in place of tracks."""


def score_jerseys(
    frames: ScoredFrames, threshold: float, detections: pd.DataFrame, roster: pd.DataFrame | None
) -> dict[str, Any] | None:
    """Numbers against ``roster``, a table ``ROSTER``: JSON-safe, with each player's answer under ``players``.

    None without a roster. A track belongs to the object that it overlaps in most frames, at an IoU of
    ``threshold`` or more; a player's number is the one that its numbered tracks carry in most frames.
    Only objects that are labelled in ``frames`` count. ``detections`` is a table ``PLAYER_DETECTIONS``.
    """
    if roster is None:
        return None
    tracks, objects = _pairs(frames, threshold)
    shared = pd.Series(1, index=pd.MultiIndex.from_arrays([tracks, objects])).groupby(level=[0, 1]).sum()
    numbers = detections.drop_duplicates("tracking_id").set_index("tracking_id")["jersey_number"]
    given: dict[int, dict[str, int]] = {}
    for track, counts in shared.groupby(level=0):
        number = numbers.get(track)
        if isinstance(number, str):
            owner = int(counts.idxmax()[1])
            votes = given.setdefault(owner, {})
            votes[number] = votes.get(number, 0) + int(counts.max())
    labelled = {int(one) for ids in frames.object_ids for one in ids}
    players = []
    for row in roster.itertuples(index=False):
        if int(row.object_id) not in labelled:
            continue
        votes = given.get(int(row.object_id), {})
        told = max(votes, key=votes.get) if votes else None
        true = row.jersey_number if isinstance(row.jersey_number, str) else None
        players.append({"object_id": int(row.object_id), "true": true, "given": told})
    return {"players": players, "metrics": jersey_metrics(players)}


def jersey_metrics(players: list[dict[str, Any]]) -> dict[str, int]:
    """The counts of JERSEY_METRICS over ``players`` with the keys ``true`` and ``given``.

    >>> jersey_metrics([{"true": "7", "given": "7"}, {"true": "7", "given": None}])["jersey_right"]
    1
    """
    counts = dict.fromkeys(JERSEY_METRICS, 0)
    for player in players:
        true, told = player["true"], player["given"]
        if told is None:
            counts["jersey_unreadable" if true is None else "jersey_unknown"] += 1
        else:
            counts["jersey_right" if told == true else "jersey_wrong"] += 1
    return counts


def combine_jerseys(parts: list[dict[str, Any] | None]) -> dict[str, Any] | None:
    """The numbers of several videos together; None where none of them has a roster."""
    players = [player for part in parts if part is not None for player in part["players"]]
    if all(part is None for part in parts):
        return None
    return {"players": players, "metrics": jersey_metrics(players)}


def _pairs(frames: ScoredFrames, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Track and object of each overlap that is enough, the best object of each track in each frame."""
    tracks, objects = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for ids, found, iou in zip(frames.object_ids, frames.tracking_ids, frames.iou, strict=True):
        if not len(ids) or not len(found):
            continue
        best = iou.argmax(axis=0)
        enough = iou[best, np.arange(len(found))] >= threshold
        tracks.append(found[enough])
        objects.append(ids[best[enough]])
    return np.concatenate(tracks), np.concatenate(objects)
