"""Which team a track belongs to: from its prompt, or from the colour of its torso."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import combinations

import cv2
import numpy as np
from numpy.typing import ArrayLike
from PIL import ImageColor
from scipy.optimize import linear_sum_assignment

__all__ = [
    "REFEREE",
    "cloth_of",
    "evenly",
    "find_teams",
    "log_wears",
    "match_teams",
    "name_color",
    "to_lab",
]

REFEREE = "referee"
"""The team of those who officiate."""

_WEIGHTS = np.array([0.6, 1.0, 1.0])  # of CIELAB: light and shade say less than hue
_SPREAD = 6.0  # of one jersey's colour, so weighted
_STRAY = 0.5  # of torsos show anything else
_LOG_STRAY = float(np.log(_STRAY / (100 * 120 * 120 * _WEIGHTS.prod())))  # then any colour is as likely
_APART = 14.0  # in CIELAB: teams whose colours are nearer than this wear the same
_LEAST_GAIN = 0.2  # nats a torso for two colours against one
_CLEAR = 1.0  # nats for one team against the other
_MOST_COUNT = 20  # torsos of a track
_MOST_TRACKS, _MOST_STARTS, _ROUNDS = 200, 10, 8  # to learn from, to begin with
_HUES = ((20, "red"), (42, "orange"), (70, "yellow"), (165, "green"), (195, "teal"), (262, "blue"))
_HUES += ((300, "purple"), (340, "pink"), (361, "red"))


def find_teams(prompts: Mapping[int, str | None], colors: Mapping[int, np.ndarray]) -> dict[int, str | None]:
    """The team of each track, by its id; None where that is not clear.

    ``prompts`` gives each track's prompt. One that says "referee" makes a referee; where prompts say what
    someone is "in" ("player in white"), that is the team. The others are parted in two by ``colors``,
    float64 [torsos, 3] RGB 0 to 255 of each track, of which up to 20 count: a track wears one of two, and its
    torsos have that colour unless they show an arm, a neighbour or the floor. A track whose torsos hardly
    speak for one team more than for the other has none. Where one colour says nearly as much as two, there is
    one team.
    """
    teams: dict[int, str | None] = {}
    for track, prompt in prompts.items():
        said = re.search(r"\b(?:in|of|from|wearing)\s+(?:the\s+)?(.+)$", prompt or "", re.IGNORECASE)
        if REFEREE in (prompt or "").casefold():
            teams[track] = REFEREE
        elif said:
            teams[track] = said.group(1).strip()
        else:
            teams[track] = None
    seen = {
        track: to_lab(colors[track]) * _WEIGHTS
        for track in teams
        if teams[track] is None and len(colors.get(track, ()))
    }
    if not seen:
        return teams
    cloths = _cloths([own[evenly(len(own), _MOST_COUNT)] for own in seen.values()])
    names = [name_color(cloth / _WEIGHTS) for cloth in cloths]
    if len(cloths) == 1:
        return teams | dict.fromkeys(seen, names[0])
    if names[0] == names[1]:
        order = np.argsort(cloths[:, 0])
        names[order[0]], names[order[1]] = f"dark {names[0]}", f"light {names[1]}"
    for track, own in seen.items():
        first, second = _log_wearing(own, cloths).mean(axis=0) * min(len(own), _MOST_COUNT)
        if abs(first - second) >= _CLEAR:
            teams[track] = names[int(second > first)]
    return teams


def cloth_of(colors: np.ndarray) -> np.ndarray:
    """What a track wears, by the ``colors`` of its torsos, float64 [torsos, 3] RGB 0 to 255: float64 [3] for
    :func:`log_wears`, NaN where there are none."""
    return np.median(to_lab(colors) * _WEIGHTS, axis=0) if len(colors) else np.full(3, np.nan)


def log_wears(colors: np.ndarray, cloths: np.ndarray) -> np.ndarray:
    """The natural logarithms, float64 [k], of how much likelier the torsos of a track are if it wears each of
    ``cloths``, float64 [k, 3] by :func:`cloth_of`, or shows anything as often, than if it wears anything.

    ``colors`` are float64 [torsos, 3] RGB 0 to 255; 0 where there are none, or where a cloth isn't known.
    """
    said = np.zeros(len(cloths))
    known = ~np.isnan(cloths).any(axis=1)
    if len(colors):
        torsos = to_lab(colors[evenly(len(colors), _MOST_COUNT)]) * _WEIGHTS
        said[known] = (_log_wearing(torsos, cloths[known]) - _LOG_STRAY + np.log(_STRAY)).sum(axis=0)
    return said


def _cloths(tracks: Sequence[np.ndarray]) -> np.ndarray:
    """The colours of the jerseys, float64 [1 or 2, 3], from those of the torsos of each track.

    A track wears one of them, and so does each of its torsos, or it has, as often, any colour at all: the
    likeliest one or two by expectation maximisation, begun from what the tracks show that were seen most.
    """
    tracks = sorted(tracks, key=len, reverse=True)[:_MOST_TRACKS]
    middles = np.array([np.median(own, axis=0) for own in tracks[:_MOST_STARTS]])
    log_one, one = max((_climb(tracks, start[None]) for start in middles), key=lambda found: found[0])
    pairs = (_climb(tracks, np.array(pair)) for pair in combinations(middles, 2))
    apart = [found for found in pairs if np.linalg.norm(found[1][0] - found[1][1]) >= _APART]
    log_two, two = max(apart, key=lambda found: found[0], default=(-np.inf, one))
    return two if log_two - log_one >= _LEAST_GAIN * sum(map(len, tracks)) else one


def _climb(tracks: Sequence[np.ndarray], cloths: np.ndarray) -> tuple[float, np.ndarray]:
    """The log likelihood of all torsos of ``tracks`` at its peak near ``cloths``, [k, 3], and those there."""
    torsos = np.concatenate(tracks)
    starts = np.cumsum([0, *map(len, tracks[:-1])])
    counts = [len(own) for own in tracks]
    for _ in range(_ROUNDS):
        each = _log_wearing(torsos, cloths)
        whole = np.add.reduceat(each, starts) - np.log(len(cloths))
        total = np.logaddexp.reduce(whole, axis=1)
        shares = np.repeat(np.exp(whole - total[:, None]), counts, axis=0) * (1 - np.exp(_LOG_STRAY - each))
        cloths = shares.T @ torsos / np.maximum(shares.sum(axis=0), 1e-9)[:, None]
    return float(total.sum()), cloths


def _log_wearing(torsos: np.ndarray, cloths: np.ndarray) -> np.ndarray:
    """The logarithms, float64 [n, k], of how likely a torso has its colour if its track wears each of
    ``cloths``."""
    away = ((torsos[:, None] - cloths) ** 2).sum(axis=2)
    scale = -1.5 * np.log(2 * np.pi * _SPREAD**2) + np.log(1 - _STRAY)
    return np.logaddexp(scale - away / (2 * _SPREAD**2), _LOG_STRAY)


def evenly(count: int, most: int) -> np.ndarray:
    """The places of ``most`` of ``count`` items at most, evenly spread.

    >>> evenly(9, 3).tolist(), evenly(2, 3).tolist(), evenly(0, 3).tolist()
    ([0, 4, 8], [0, 1], [])
    """
    return np.linspace(0, count - 1, min(count, most)).astype(int)


def match_teams(
    found: Mapping[str, np.ndarray],
    wanted: Mapping[str, tuple[str, ...]],
    scores: Mapping[tuple[str, str], float],
) -> dict[str, str]:
    """Which team of a roster each found team is: by name, else by its tracks' numbers and its colour.

    ``found`` gives the mean colour of each found team, float64 [3] RGB; ``wanted`` are the roster's
    teams; ``scores`` the logarithm of how well the tracks of a found team fit the numbers of a wanted
    one. Each wanted team is given once; one of more teams than the roster has stays unmatched.
    """
    plain = {name.casefold(): name for name in wanted}
    matched = {name: plain[name.casefold()] for name in found if name.casefold() in plain}
    left = [name for name in found if name not in matched and name != REFEREE]
    free = [name for name in wanted if name not in matched.values()]
    if not left or not free:
        return matched
    # Ten units of CIELAB weigh as much as one unit of evidence.
    gain = np.array([[scores[one, other] - _away(found[one], other) / 10 for other in free] for one in left])
    rows, columns = linear_sum_assignment(gain, maximize=True)
    return matched | {left[row]: free[column] for row, column in zip(rows, columns, strict=True)}


def name_color(lab: np.ndarray) -> str:
    """A plain name of a colour, float [3] in CIELAB: white, gray, black, or that of its hue.

    >>> name_color(np.array([90.0, 0, 0])), name_color(np.array([40.0, 20, -50]))
    ('white', 'blue')
    """
    lightness, a, b = (float(part) for part in lab)
    if np.hypot(a, b) < 12:
        return "black" if lightness < 35 else "gray" if lightness < 65 else "white"
    rgb = cv2.cvtColor(np.array(lab, np.float32).reshape(1, 1, 3), cv2.COLOR_LAB2RGB)
    hue = float(cv2.cvtColor(np.clip(rgb, 0, 1), cv2.COLOR_RGB2HSV)[0, 0, 0])
    return next(name for limit, name in _HUES if hue < limit)


def _away(rgb: np.ndarray, name: str) -> float:
    """How far a colour is from the one that ``name`` says, in CIELAB; 0 where it says none."""
    for word in re.findall(r"[a-z]+", name.casefold()):
        try:
            return float(np.linalg.norm(to_lab(rgb) - to_lab(ImageColor.getrgb(word))))
        except ValueError:
            continue
    return 0.0


def to_lab(rgb: ArrayLike) -> np.ndarray:
    """Colours, [..., 3] RGB from 0 to 255, in CIELAB, float64 of the same shape."""
    rgb = np.asarray(rgb, np.float32)
    return cv2.cvtColor(rgb.reshape(1, -1, 3) / 255, cv2.COLOR_RGB2LAB).astype(float).reshape(rgb.shape)
