"""Which team a track belongs to: from its prompt, or from the colour of its torso."""

from __future__ import annotations

import re
from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import ArrayLike
from PIL import ImageColor
from scipy.cluster.vq import kmeans2
from scipy.optimize import linear_sum_assignment

__all__ = ["REFEREE", "find_teams", "match_teams", "name_color", "to_lab"]

REFEREE = "referee"
"""The team of those who officiate."""

_APART = 14.0  # in CIELAB: teams whose middles are nearer than this wear the same
_MARGIN = 0.7  # of the distance to the other team
_FAR = 45.0
_MOST_COUNT = 20  # torsos of a track
_HUES = ((20, "red"), (42, "orange"), (70, "yellow"), (165, "green"), (195, "teal"), (262, "blue"))
_HUES += ((300, "purple"), (340, "pink"), (361, "red"))


def find_teams(prompts: Mapping[int, str | None], colors: Mapping[int, np.ndarray]) -> dict[int, str | None]:
    """The team of each track, by its id; None where that is not clear.

    ``prompts`` gives each track's prompt. One that says "referee" makes a referee; where prompts say what
    someone is "in" ("player in white"), that is the team. The others are parted in two by ``colors``,
    float64 [torsos, 3] RGB 0 to 255 of each track, by k-means on medians in CIELAB, each counted as often as
    the track was seen, up to 20 times: a track that is not at least 30 % nearer to one team's middle than to
    the other's, or is far from both, has no team. Where all wear about the same, there is one team.
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
    rest = [track for track in teams if teams[track] is None and len(colors.get(track, ()))]
    if not rest:
        return teams
    middles = to_lab([np.median(colors[track], axis=0) for track in rest])
    if len(np.unique(middles, axis=0)) == 1:
        return teams | dict.fromkeys(rest, name_color(middles[0]))
    # A moment in which somebody is half hidden has any colour: who was seen for longer counts for more.
    counts = [min(len(colors[track]), _MOST_COUNT) for track in rest]
    seen = np.repeat(middles, counts, axis=0)
    centers, _ = kmeans2(seen, 2, minit="++", rng=np.random.default_rng(0), missing="warn")
    if not np.isfinite(centers).all() or np.linalg.norm(centers[0] - centers[1]) < _APART:
        same = name_color(np.median(middles, axis=0))
        return teams | dict.fromkeys(rest, same)
    names = [name_color(center) for center in centers]
    if names[0] == names[1]:
        order = np.argsort(centers[:, 0])
        names[order[0]], names[order[1]] = f"dark {names[0]}", f"light {names[1]}"
    distances = np.linalg.norm(middles[:, None] - centers[None], axis=2)
    for track, (first, second) in zip(rest, distances, strict=True):
        near, far = min(first, second), max(first, second)
        if near <= _MARGIN * far and near <= _FAR:
            teams[track] = names[int(second < first)]
    return teams


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
