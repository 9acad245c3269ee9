"""What the numbers mean, in words: names of the metrics, headline cards, and the sentence above them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from courtside.report.blocks import Card
from courtside.report.overlay import clock

__all__ = [
    "ERROR_ROWS",
    "METRICS",
    "RULE_OF_THUMB",
    "SUSPECT_ROWS",
    "count",
    "lead",
    "pace",
    "percent",
    "scored_cards",
    "tone_of",
    "tracked_cards",
]

METRICS = {
    "predicted_tracks": ("Tracks", "ids that the tracker gave out"),
    "true_objects": ("True players", "people labelled by hand"),
    "fragments_per_object": ("Fragments per player", "ids that one player was followed under; 1 is ideal"),
    "mota": ("MOTA", "1 minus misses, false boxes and switches per labelled box; 1 is perfect, no lower end"),
    "idf1": ("IDF1", "how much of the video each player keeps one and the same id; 1 is perfect"),
    "idp": ("IDP", "share of tracked boxes that carry the right id"),
    "idr": ("IDR", "share of labelled boxes that were given the right id"),
    "hota": ("HOTA", "finding players and keeping their ids, over 19 IoU thresholds; 1 is perfect"),
    "deta": ("DetA", "the finding half of HOTA"),
    "assa": ("AssA", "the id-keeping half of HOTA"),
    "precision": ("Precision", "share of tracked boxes that are on a player"),
    "recall": ("Recall", "share of labelled boxes that were found"),
    "motp_iou": ("MOTP", "mean IoU of matched boxes: how tightly they fit; 1 is perfect"),
    "num_switches": ("Id switches", "times a player's id changed to another"),
    "num_fragmentations": ("Fragmentations", "times a player was lost and then found again"),
    "mostly_tracked": ("Mostly tracked", "players followed for at least 80 % of their frames"),
    "mostly_lost": ("Mostly lost", "players followed for less than 20 % of their frames"),
    "purity": ("Purity", "share of matched boxes on the player their track follows most; 1 is perfect"),
    "longest_correct_run_s": (
        "Longest correct run (s)",
        "longest time one id follows a player, mean of players",
    ),
    "reentry_recovery": ("Re-entries recovered", "players back in view with their old id, by seconds away"),
    "jersey_right": ("Numbers right", "players of the roster whose tracks were given their number"),
    "jersey_wrong": ("Numbers wrong", "players whose tracks were given a number that is not theirs"),
    "jersey_unknown": ("Numbers unknown", "players with a number in the roster who were given none"),
    "jersey_unreadable": ("Numbers unreadable", "players without a number in the roster who were given none"),
    "jersey_accuracy": (
        "Tracks named right",
        "share of the tracks of numbered players that were given theirs",
    ),
    "jersey_coverage": ("Tracks named", "share of the tracks of numbered players that were given any number"),
    "jersey_accuracy_answered": (
        "Given numbers right",
        "share of the tracks with a number that have the right",
    ),
    "jersey_wrong_rate": (
        "Tracks named wrong",
        "share of the players' tracks that were given a wrong number",
    ),
    "merged_fragments_per_object": ("Fragments after merging", "the same with players in place of tracks"),
    "merged_idf1": ("IDF1 after merging", "the same with players in place of tracks"),
    "merged_hota": ("HOTA after merging", "the same with players in place of tracks"),
}
"""Name and meaning of each metric of ``scores.json``, in the order in which a report shows them."""

_HEADLINE = {
    "mota": "Counts misses, false boxes and switches. 1 is perfect; below 0, errors outnumber players.",
    "idf1": "How much of the video each player keeps one and the same id. 1 is perfect.",
    "hota": "Finding players and keeping their ids, weighed equally. 1 is perfect.",
}
ERROR_ROWS = {
    "title": "Every error",
    "one": "error",
    "many": "errors",
    "none": "Not one error was found.",
    "hint": "Choose an error below to see the moments before, at and after it.",
}
SUSPECT_ROWS = {
    "title": "Moments to look at",
    "one": "moment to look at",
    "many": "moments to look at",
    "none": "Nothing looks suspicious. Without labels that is no proof.",
    "hint": "Choose a moment below to see it. There are no labels, so these are suspicions.",
}
"""What the player says of its rows, with labels and without."""

_UNDEFINED = "undefined"
_TONES = {"mota": (0.8, 0.5), "idf1": (0.8, 0.5), "hota": (0.65, 0.4)}
_WORST_RATIO = (1.2, 2.0)
RULE_OF_THUMB = (
    "Good and fair are a rule of thumb: MOTA and IDF1 from 0.8 and 0.5, HOTA from 0.65 and 0.4, "
    "tracks and fragments per player up to 1.2 and 2."
)


def count(number: int, one: str, many: str | None = None) -> str:
    """A number with its noun.

    >>> count(1, "track"), count(1200, "track"), count(0, "switch", "switches")
    ('1 track', '1,200 tracks', '0 switches')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def tone_of(metric: str, value: float | None) -> str:
    """``good``, ``fair`` or ``poor`` by the rule of thumb, empty for what has none or is undefined.

    >>> tone_of("mota", 0.9), tone_of("fragments_per_object", 3.3), tone_of("mota", None)
    ('good', 'poor', '')
    """
    if value is None or not math.isfinite(value):
        return ""
    if metric in _TONES:
        good, fair = _TONES[metric]
        return "good" if value >= good else "fair" if value >= fair else "poor"
    if metric in ("fragments_per_object", "tracks_per_player"):
        good, fair = _WORST_RATIO
        return "good" if value <= good else "fair" if value <= fair else "poor"
    return ""


def pace(speed: Mapping[str, Any] | None) -> str:
    """How a faster way of tracking differs from the exact one, to go on with; empty where it doesn't.

    >>> pace({"name": "fast", "stride": 2.0, "conditioning": 2, "frames": 3, "dormant": 30})
    ', not exactly: the model saw 1 frame in 2 and remembered less'
    """
    if not speed:
        return ""
    said = [f"saw 1 frame in {speed['stride']:.3g}"] if speed["stride"] > 1 else []
    said += ["remembered less"] if speed["frames"] or speed["conditioning"] else []
    return f", not exactly: the model {' and '.join(said)}" if said else ""


def lead(metrics: Mapping[str, Any]) -> str:
    """A few sentences that say how it went, from the ``metrics`` of ``scores.json``."""
    tracks, players = metrics["predicted_tracks"], metrics["true_objects"]
    if tracks is None or players is None:
        return "The labels do not say whom the prompts mean, so nothing could be scored."
    if not players:
        return f"The labels hold nobody to follow; the tracker made {count(tracks, 'track')} all the same."
    if not tracks:
        return f"Nothing was followed: there are {count(players, 'true player')} and not one track."
    said = [f"The tracker made {count(tracks, 'track')} for {count(players, 'true player')}."]
    recall, precision, switches = (metrics[name] for name in ("recall", "precision", "num_switches"))
    if recall is not None and precision is not None:
        said.append(
            f"It found {percent(recall)} of the labelled player positions, "
            f"and {percent(precision)} of its own boxes are on a labelled player."
        )
    if switches is not None:
        changes = f"Ids changed {count(switches, 'time')} while a player was followed."
        said.append(changes if switches else "No player's id ever changed.")
    return " ".join(said)


def scored_cards(metrics: Mapping[str, Any]) -> list[Card]:
    """The headline numbers of a video with labels."""
    tracks, players = metrics["predicted_tracks"], metrics["true_objects"]
    fragments, switches = metrics["fragments_per_object"], metrics["num_switches"]
    ratio = tracks / players if players and tracks else None
    return [
        Card(
            "Tracks for true players",
            _UNDEFINED if tracks is None or players is None else f"{tracks:,} for {players:,}",
            "One track a player is ideal. More means that ids broke, or that others were followed too.",
            tone_of("tracks_per_player", ratio),
        ),
        Card(
            "Fragments per player",
            _number(fragments, 1),
            "Different ids that one player was followed under, on average. 1 is ideal.",
            tone_of("fragments_per_object", fragments),
        ),
        Card(
            "Id switches",
            _UNDEFINED if switches is None else f"{switches:,}",
            "Times the id on a player changed to another, such as when two crossed.",
        ),
        *(
            Card(METRICS[name][0], _number(metrics[name], 2), meaning, tone_of(name, metrics[name]))
            for name, meaning in _HEADLINE.items()
        ),
    ]


def tracked_cards(
    tracks: int, longest_s: float, duration_s: float, on_screen: float, empty_share: float
) -> list[Card]:
    """The headline numbers of a video without labels: what was followed, not how well."""
    share = longest_s / duration_s if duration_s else 0.0
    return [
        Card("Tracks", f"{tracks:,}", "Ids given out. A player who is lost and found may have several."),
        Card(
            "Longest track",
            clock(longest_s, 0 if longest_s >= 10 else 1),
            f"The longest that one id was followed, first to last frame: {percent(share)} of the video.",
        ),
        Card("Tracks on screen", f"{on_screen:.1f}", "Followed at once, on average over all frames."),
        Card(
            "Frames without a track", percent(empty_share), "Share of the video in which nobody was followed."
        ),
    ]


def percent(share: float) -> str:
    """Rounded, but never to 0 or 100 % when it is neither.

    >>> percent(0.5), percent(0.999), percent(0.0)
    ('50 %', 'over 99 %', '0 %')
    """
    if 0 < share < 0.005:
        return "under 1 %"
    if 0.995 <= share < 1:
        return "over 99 %"
    return f"{100 * share:.0f} %"


def _number(value: float | None, decimals: int) -> str:
    return _UNDEFINED if value is None else f"{value:.{decimals}f}"
