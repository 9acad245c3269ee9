"""How right the numbers are that tracks were given, and how sure, against the roster of the labels."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from courtside.scoring.frames import ScoredFrames, ratio

__all__ = [
    "JERSEY_METRICS",
    "JERSEY_RATES",
    "MERGED_METRICS",
    "combine_jerseys",
    "confusion",
    "jersey_metrics",
    "jersey_rates",
    "reliability",
    "score_jerseys",
]

JERSEY_METRICS = {
    "jersey_right": "players of the roster with a number whose tracks were given that number",
    "jersey_wrong": "players whose tracks were given another number, or one though the roster has none",
    "jersey_unknown": "players of the roster with a number whose tracks were given none",
    "jersey_unreadable": "players without a number in the roster whose tracks were given none",
}
"""Each count's definition. A player that no track follows counts as not given a number."""

JERSEY_RATES = {
    "jersey_accuracy": "share of the tracks of players with a number in the roster that were given it",
    "jersey_coverage": "share of the tracks of players with a number in the roster that were given any",
    "jersey_accuracy_answered": "share of the tracks with a number whose number is their player's",
    "jersey_wrong_rate": "share of the tracks on players of the roster that were given a number not theirs",
}
"""Each share's definition. Tracks that were joined count as one, and the parts of one that was cut each;
those on nobody of the roster do not."""

MERGED_METRICS = {
    f"merged_{name}": f"{name} with players in place of tracks, after cuts and merges; nobody's are left out"
    for name in ("fragments_per_object", "idf1", "hota")
}
"""What is scored again with players in place of tracks."""

_CLASSES = (0.0, 0.5, 0.8, 0.95, 0.99, 1.0)


def score_jerseys(
    frames: ScoredFrames,
    threshold: float,
    detections: pd.DataFrame,
    roster: pd.DataFrame | None,
    players: pd.DataFrame | None = None,
) -> dict[str, Any] | None:
    """Numbers against ``roster``, a table ``ROSTER``: JSON-safe, with each player's answer under ``players``.

    None without a roster. A track belongs to the object that it overlaps in most frames, at an IoU of
    ``threshold`` or more; a player's number is the one that its numbered tracks carry in most frames.
    Only objects that are labelled in ``frames`` count. ``detections`` is a table ``PLAYER_DETECTIONS`` of the
    same tracks, each of one player. ``players``, a table ``PLAYERS``, adds under ``tracks`` what each of its
    rows that is on one of these objects was read as, and how sure that was; without it there are none.
    """
    if roster is None:
        return None
    tracks, objects = _pairs(frames, threshold)
    shared = pd.Series(1, index=pd.MultiIndex.from_arrays([tracks, objects])).groupby(level=[0, 1]).sum()
    of = detections.drop_duplicates("tracking_id").set_index("tracking_id")
    numbers = of["jersey_number"]
    given: dict[int, dict[str, int]] = {}
    for track, counts in shared.groupby(level=0):
        number = numbers.get(track)
        if isinstance(number, str):
            owner = int(counts.idxmax()[1])
            votes = given.setdefault(owner, {})
            votes[number] = votes.get(number, 0) + int(counts.max())
    labelled = {int(one) for ids in frames.object_ids for one in ids}
    true = {
        int(row.object_id): _text(row.jersey_number)
        for row in roster.itertuples(index=False)
        if int(row.object_id) in labelled
    }
    answers = []
    for one, number in true.items():
        votes = given.get(one, {})
        answers.append(
            {"object_id": one, "true": number, "given": max(votes, key=votes.get) if votes else None}
        )
    return _told(answers, [] if players is None else _read(players, of["player_id"], shared, true))


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


def jersey_rates(tracks: list[dict[str, Any]]) -> dict[str, float | None]:
    """The shares of JERSEY_RATES over ``tracks`` with the keys ``true`` and ``given``; None of nothing.

    >>> jersey_rates([{"true": "7", "given": "7"}, {"true": "7", "given": None}])["jersey_coverage"]
    0.5
    """
    numbered = [track for track in tracks if track["true"] is not None]
    answered = [track for track in tracks if track["given"] is not None]
    right = sum(track["given"] == track["true"] for track in answered)
    return {
        "jersey_accuracy": ratio(right, len(numbered)),
        "jersey_coverage": ratio(sum(track["given"] is not None for track in numbered), len(numbered)),
        "jersey_accuracy_answered": ratio(right, len(answered)),
        "jersey_wrong_rate": ratio(len(answered) - right, len(tracks)),
    }


def confusion(tracks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Which numbers are taken for which others, a row for each ``true`` and ``likeliest`` that differ.

    So many ``tracks`` were read so, ``given`` of them were given that number, and the surest with this
    ``confidence``. What was given comes first, then what is frequent.
    """
    found: dict[tuple[str | None, str], list[dict[str, Any]]] = {}
    for track in tracks:
        if track["likeliest"] not in (None, track["true"]):
            found.setdefault((track["true"], track["likeliest"]), []).append(track)
    rows = [
        {
            "true": true,
            "likeliest": likeliest,
            "tracks": len(those),
            "given": sum(track["given"] is not None for track in those),
            "confidence": max(track["confidence"] for track in those),
        }
        for (true, likeliest), those in found.items()
    ]
    return sorted(rows, key=lambda row: (-row["given"], -row["tracks"], -row["confidence"]))


def reliability(tracks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How often a likeliest number is right against how sure it is, a row for each class of confidence.

    ``low`` and ``high`` bound the class, ``tracks`` are in it, with the mean ``confidence``; ``right`` is
    the share of them whose likeliest number is the player's, given or not, from ``right_low`` to
    ``right_high`` with 95 % confidence (Wilson 1927). Classes without a track are left out.
    """
    # Its import takes as long as a report of many runs, and only this waits for it.
    from scipy.stats import binomtest

    read = [track for track in tracks if track["likeliest"] is not None]
    sure = np.array([track["confidence"] for track in read])
    right = np.array([track["likeliest"] == track["true"] for track in read], bool)
    rows = []
    for low, high in pairwise(_CLASSES):
        inside = (sure > low) & (sure <= high)
        count = int(inside.sum())
        if count:
            bounds = binomtest(int(right[inside].sum()), count).proportion_ci(method="wilson")
            rows.append(
                {
                    "low": low,
                    "high": high,
                    "tracks": count,
                    "confidence": float(sure[inside].mean()),
                    "right": float(right[inside].mean()),
                    "right_low": float(bounds.low),
                    "right_high": float(bounds.high),
                }
            )
    return rows


def combine_jerseys(parts: list[dict[str, Any] | None]) -> dict[str, Any] | None:
    """The numbers of several videos together; None where none of them has a roster."""
    if all(part is None for part in parts):
        return None
    players, tracks = (
        [one for part in parts if part is not None for one in part[name]] for name in ("players", "tracks")
    )
    return _told(players, tracks)


def _told(players: list[dict[str, Any]], tracks: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "players": players,
        "tracks": tracks,
        "metrics": jersey_metrics(players) | jersey_rates(tracks),
        "confusion": confusion(tracks),
        "reliability": reliability(tracks),
    }


def _read(
    players: pd.DataFrame, names: pd.Series, shared: pd.Series, true: dict[int, str | None]
) -> list[dict[str, Any]]:
    """Each row of ``players`` whose track is on an object of ``true``, the one in most frames.

    ``names`` are the ``player_id`` of tracks, null of one that is nobody's.
    """
    by_name = players.set_index("player_id", drop=False)
    rows = []
    for track, counts in shared.groupby(level=0):
        owner = int(counts.idxmax()[1])
        if owner in true and isinstance(names[track], str):
            row = by_name.loc[names[track]]
            rows.append(
                {
                    "player_id": row["player_id"],
                    "object_id": owner,
                    "true": true[owner],
                    "likeliest": _text(row["likeliest"]),
                    "given": _text(row["jersey_number"]),
                    "confidence": float(row["confidence"]),
                }
            )
    return rows


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


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
