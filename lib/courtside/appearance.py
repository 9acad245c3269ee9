"""Whether two tracks look like one person: by hair, skin, sleeves, legs and shoes, not by the jersey."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from courtside.teams import evenly, to_lab

__all__ = ["BANDS", "PLACES", "SHADES", "Likeness", "body_colors", "look", "moments"]

BANDS = 16
"""A body from top to bottom in bands of one height."""

SHADES = (0.2, 0.8)
"""The pixels that stand for a band, as shares of those that are darker: hair and face, skin and sleeve, shoe
and sock share a band."""

PLACES = BANDS * len(SHADES)
"""The colours of a body: the darker and the lighter one of each band in turn."""

_ROWS = 100  # of a body are enough
_LEAST_PX = 6
_TOGETHER, _FEWEST = 6, 2  # looks in a row that count as one, and how few may be left over
_MOST_MOMENTS = 40  # such groups of a track
_LEAST_PAIRS, _MOST_PAIRS, _MOST_OF_A_TRACK = 6, 400, 8  # to learn from
_LEAST_SCALE = 9.0  # squared, of a CIELAB channel, between two moments of one thing
_ROUNDS = 20
_ALIKE = 0.3  # the colours of a body depend on each other: all say less than what they would say alone
_ASTRAY = 0.06  # of looks at one person are at another one: who was in front, or was followed for a while
_TWINS = 0.001  # of two people look like one


def body_colors(
    image: np.ndarray, box_xyxy: tuple[float, float, float, float], mask: np.ndarray | None = None
) -> np.ndarray:
    """The colours of a body, float64 [PLACES, 3] in CIELAB.

    ``image`` is uint8 (H, W, 3) RGB, ``mask`` bool (H, W); without one the middle of the box counts. NaN
    where less than six pixels are to be seen, and throughout where the frame cuts off head or feet.
    """
    height, width = image.shape[:2]
    x1, y1, x2, y2 = box_xyxy
    colors = np.full((PLACES, 3), np.nan)
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
    shares = (np.arange(height)[rows] + 0.5 - y1) / (y2 - y1)
    edges = np.searchsorted(shares, np.arange(BANDS + 1) / BANDS)
    bands = colors.reshape(BANDS, len(SHADES), 3)
    for band, (top, bottom) in zip(bands, pairwise(edges), strict=True):
        pixels = body[top:bottom][own[top:bottom]]
        if len(pixels) >= _LEAST_PX:
            wanted = [int(len(pixels) * shade) for shade in SHADES]
            band[:] = pixels[np.argpartition(pixels.sum(axis=1), wanted)[wanted]]
    # OpenCV turns what is not a number into a colour.
    return np.where(np.isfinite(colors), to_lab(colors), np.nan)


def moments(looks: np.ndarray) -> np.ndarray:
    """Of ``looks``, float64 [n, PLACES, 3] in order of time, each few in a row in one: their medians
    [m, PLACES, 3], at most 40."""
    seen = looks[np.isfinite(looks).any(axis=(1, 2))]
    starts = [at for at in range(0, len(seen), _TOGETHER) if len(seen) - at >= _FEWEST]
    chosen = (starts[place] for place in evenly(len(starts), _MOST_MOMENTS))
    medians = [_median(seen[start : start + _TOGETHER]) for start in chosen]
    return np.array(medians).reshape(-1, PLACES, 3)


def look(moments: np.ndarray) -> np.ndarray:
    """What somebody looks like: the median, float64 [PLACES, 3], of ``moments``; NaN where there are none."""
    return _median(moments) if len(moments) else np.full((PLACES, 3), np.nan)


@dataclass(frozen=True, slots=True, eq=False)
class Likeness:
    """How much looks differ in one video: of one person ``own``, and of two ``others``.

    Both are squared scales, float64 [PLACES, 3] in CIELAB. What the jersey shows differs little between those
    who wear it, and so says little; where hair and shoes are blurred, they say little too.
    """

    own: np.ndarray
    others: np.ndarray

    @classmethod
    def learn(cls, looks: Mapping[int, np.ndarray], others: Iterable[tuple[int, int]]) -> Likeness | None:
        """From what tracks look like, float64 [n, PLACES, 3] each, as :func:`moments` gives it.

        ``others`` are pairs of tracks that are two people, of a team or not. None where there are too few.
        """
        few = {track: own[evenly(len(own), _MOST_OF_A_TRACK)] for track, own in looks.items()}
        same = _apart(few, [(track, track) for track in few])
        different = _apart(few, [pair for pair in sorted(others) if {*pair} <= few.keys()])
        if min(len(same), len(different)) < _LEAST_PAIRS:
            return None
        own = _scales(same)
        return cls(own, np.maximum(_scales(different), own))

    def log_ratios(self, one: np.ndarray, others: np.ndarray) -> np.ndarray:
        """The natural logarithms, float64 [n], of how much likelier it is that the looks ``one``, float64
        [PLACES, 3], and each of ``others``, [n, PLACES, 3], are of one person than of two of those it was
        learnt from.

        0 where too little was seen. Differences are Cauchy distributed: who turns round shows hair for a
        face, and a few places that are far off must not decide.
        """
        away = others - one
        said = _ALIKE * np.nansum(_log_cauchy(away, self.own) - _log_cauchy(away, self.others), axis=1)
        if_one = np.logaddexp(np.log1p(-_ASTRAY) + said, np.log(_ASTRAY))
        return if_one - np.logaddexp(np.log1p(-_TWINS), np.log(_TWINS) + said)


def _apart(looks: Mapping[int, np.ndarray], pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """How far apart, float64 [n, PLACES, 3], moments of the first and the second of some ``pairs`` are; of a
    track and itself, each two."""
    found = [np.zeros((0, PLACES, 3))]
    for first, second in (pairs[place] for place in evenly(len(pairs), _MOST_PAIRS)):
        away = looks[first][:, None] - looks[second][None]
        which = (
            np.triu_indices(len(away), 1) if first == second else np.indices(away.shape[:2]).reshape(2, -1)
        )
        found.append(away[tuple(which)])
    return np.concatenate(found)


def _median(values: np.ndarray) -> np.ndarray:
    """The median along the first axis of what is not NaN; NumPy's own takes seven times as long on so few."""
    ordered = np.sort(values, axis=0)
    counts = np.isfinite(values).sum(axis=0, keepdims=True)
    low = np.take_along_axis(ordered, np.maximum((counts - 1) // 2, 0), axis=0)
    high = np.take_along_axis(ordered, counts // 2, axis=0)
    return ((low + high) / 2)[0]


def _scales(away: np.ndarray) -> np.ndarray:
    """The squared scales, float64 [PLACES, 3], of Cauchy distributions of ``away``, float64 [n, PLACES, 3].

    The likeliest by expectation and maximisation (Liu & Rubin 1995). The three channels of a place are one
    vector: mostly none is far off where the others aren't.
    """
    seen = np.isfinite(away).all(axis=2)
    squares = np.where(np.isfinite(away), away, 0) ** 2
    counts = np.maximum(seen.sum(axis=0), 1)[:, None]
    # A quarter of what is Cauchy distributed lies beyond its scale, on either side.
    scales = np.fmax(_median(np.abs(away)) ** 2, _LEAST_SCALE)
    for _ in range(_ROUNDS):
        weights = seen * 4 / (1 + np.einsum("npc,pc->np", squares, 1 / scales))
        scales = np.maximum(np.einsum("np,npc->pc", weights, squares) / counts, _LEAST_SCALE)
    return scales


def _log_cauchy(away: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The logarithms of the densities of places, float64 [n, PLACES], but for a constant."""
    return -0.5 * np.log(scales).sum(axis=1) - 2 * np.log1p((away**2 / scales).sum(axis=2))
