"""Whether two tracks look like one person: by hair, skin, sleeves, legs and shoes, not by the jersey."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np

from courtside.teams import to_lab

__all__ = ["BANDS", "Likeness", "Look", "body_colors", "moments"]

BANDS = (0.0, 0.07, 0.15, 0.32, 0.48, 0.62, 0.78, 0.92, 1.0)
"""The body in bands, as shares of its height from the top: hair, face, chest, waist, shorts, knees, shins and
shoes lie between each two."""

_ROWS = 160  # of a body are enough
_LEAST_PX = 6
_TOGETHER, _FEWEST = 6, 2  # looks in a row that count as one, and how few may be left over
_MOST_MOMENTS = 40  # such groups of a track
_LEAST_PAIRS, _MOST_TRACKS, _MOST_OF_A_TRACK = 6, 400, 8  # to learn from
_LEAST_VARIANCE = 2.0  # of a CIELAB channel, between two looks at one thing
_MOST_AWAY = 60.0
_FREEDOM = 3.0
_MOST_OF_A_BAND = 2.5  # who turns round shows hair for a face: no band decides alone
_ALIKE = 0.5  # the colours of a body depend on each other: all say half of what they would say alone
_MOST_COUNT = 3


def body_colors(
    image: np.ndarray, box_xyxy: tuple[float, float, float, float], mask: np.ndarray | None = None
) -> np.ndarray:
    """The median colour of each of the BANDS of a body, float64 [bands, 3] in CIELAB.

    ``image`` is uint8 (H, W, 3) RGB, ``mask`` bool (H, W); without one the middle of the box counts. NaN
    where less than six pixels are to be seen, and throughout where the frame cuts off head or feet.
    """
    height, width = image.shape[:2]
    x1, y1, x2, y2 = box_xyxy
    colors = np.full((len(BANDS) - 1, 3), np.nan)
    if y1 < 1 or y2 > height - 1:
        return colors
    x1, x2 = max(x1, 0), min(x2, width)
    if mask is None:
        x1, x2 = x1 + (x2 - x1) / 4, x2 - (x2 - x1) / 4
    step = max(1, int((y2 - y1) / _ROWS))
    rows, columns = slice(int(y1), int(np.ceil(y2)), step), slice(int(x1), int(np.ceil(x2)), step)
    body = image[rows, columns]
    own = np.ones(body.shape[:2], bool)
    if mask is not None:
        # The outline is mixed with what lies behind.
        own = cv2.erode(mask[rows, columns].astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    band = np.digitize((np.arange(height)[rows] + 0.5 - y1) / (y2 - y1), BANDS[1:-1])
    for place, (top, bottom) in enumerate(pairwise(np.searchsorted(band, range(len(BANDS))))):
        pixels = body[top:bottom][own[top:bottom]]
        middle = len(pixels) // 2
        if len(pixels) >= _LEAST_PX:
            colors[place] = np.partition(pixels, middle, axis=0)[middle]
    # OpenCV turns what is not a number into a colour.
    return np.where(np.isfinite(colors), to_lab(colors), np.nan)


class Look(NamedTuple):
    """What somebody looks like.

    ``colors`` float64 [bands, 3] in CIELAB, NaN where none was seen, are medians of so many ``moments``.
    """

    colors: np.ndarray
    moments: int

    @classmethod
    def of(cls, moments: np.ndarray) -> Look:
        """From ``moments``, float64 [m, bands, 3], of which more than three share their light."""
        if not len(moments):
            return cls(np.full((len(BANDS) - 1, 3), np.nan), 0)
        return cls(_median(moments), min(len(moments), _MOST_COUNT))


@dataclass(frozen=True, slots=True, eq=False)
class Likeness:
    """How much looks differ in one video: of one person ``within``, of people ``between`` them.

    Both are variances, float64 [bands, 3] in CIELAB. What the jersey shows differs little between those who
    wear it, and so says little; where hair and shoes are blurred, they say little too.
    """

    within: np.ndarray
    between: np.ndarray

    @classmethod
    def learn(cls, looks: Mapping[int, np.ndarray], others: Iterable[tuple[int, int]]) -> Likeness | None:
        """From what tracks look like, float64 [n, bands, 3] each, as :func:`moments` gives it.

        ``others`` are pairs of tracks that are two people, of a team or not. None where there are too few.
        """
        few = {track: _some(own, _MOST_OF_A_TRACK) for track, own in looks.items()}
        pairs = [(track, track) for track in _some(list(few), _MOST_TRACKS)]
        others = [pair for pair in sorted(others) if {*pair} <= few.keys()]
        same, different = (_apart(few, each) for each in (pairs, _some(others, _MOST_TRACKS)))
        if min(len(same), len(different)) < _LEAST_PAIRS:
            return None
        # Some tracks change the player, so the middle of what they differ by counts, and their mean a little.
        middle = (1.4826 * _median(same)) ** 2
        within = np.maximum(middle, _mean(same**2) / 4) / 2 + _LEAST_VARIANCE
        return cls(within, np.maximum(_mean(different**2) / 2 - within, 0))

    def log_ratios(self, one: Look, others: Sequence[Look]) -> np.ndarray:
        """The natural logarithms, float64 [n], of how much likelier ``one`` and each of ``others`` look so if
        they are one person than if they are two of those it was learnt from.

        0 where too little was seen. That of probabilistic linear discriminant analysis with heavy tails
        (Prince & Elder 2007, Kenny 2010) and independent colours, halved since they aren't.
        """
        away = one.colors - np.array([other.colors for other in others]).reshape(-1, *one.colors.shape)
        shares = np.array([1 / max(other.moments, 1) for other in others]) + 1 / max(one.moments, 1)
        noise = self.within * shares[:, None, None]
        said = _log_student(away, noise) - _log_student(away, noise + 2 * self.between)
        bands = _ALIKE * np.nansum(said, axis=2)
        return bands.clip(-_MOST_OF_A_BAND, _MOST_OF_A_BAND).sum(axis=1)


def _some(items: Sequence, most: int) -> Sequence:
    """``most`` of the items at most, evenly spread."""
    return items[:: -(-len(items) // most) or 1]


def _apart(looks: Mapping[int, np.ndarray], pairs: Iterable[tuple[int, int]]) -> np.ndarray:
    """How far apart, float64 [n, bands, 3], moments of the first and the second of ``pairs`` are; of a track
    and itself, each two."""
    found = [np.zeros((0, len(BANDS) - 1, 3))]
    for first, second in pairs:
        away = np.abs(looks[first][:, None] - looks[second][None]).clip(max=_MOST_AWAY)
        which = (
            np.triu_indices(len(away), 1) if first == second else np.indices(away.shape[:2]).reshape(2, -1)
        )
        found.append(away[tuple(which)])
    return np.concatenate(found)


def moments(looks: np.ndarray) -> np.ndarray:
    """Of ``looks``, float64 [n, bands, 3] in order of time, each few in a row in one: their medians
    [m, bands, 3], at most 40."""
    seen = looks[np.isfinite(looks).any(axis=(1, 2))]
    starts = [at for at in range(0, len(seen), _TOGETHER) if len(seen) - at >= _FEWEST]
    medians = [_median(seen[start : start + _TOGETHER]) for start in _some(starts, _MOST_MOMENTS)]
    return np.array(medians).reshape(-1, len(BANDS) - 1, 3)


def _median(values: np.ndarray) -> np.ndarray:
    """The median along the first axis of what is not NaN; NumPy's own takes seven times as long on so few."""
    ordered = np.sort(values, axis=0)
    counts = np.isfinite(values).sum(axis=0, keepdims=True)
    low = np.take_along_axis(ordered, np.maximum((counts - 1) // 2, 0), axis=0)
    high = np.take_along_axis(ordered, counts // 2, axis=0)
    return ((low + high) / 2)[0]


def _mean(values: np.ndarray) -> np.ndarray:
    return np.ma.masked_invalid(values).mean(axis=0).filled(np.nan)


def _log_student(away: np.ndarray, variance: np.ndarray) -> np.ndarray:
    return -0.5 * np.log(variance) - (_FREEDOM + 1) / 2 * np.log1p(away**2 / (_FREEDOM * variance))
