"""Colours of the rendered world: jerseys with their names, skin, hair, shoes, floors and walls.

All colours are RGB in 0..255. A jersey's name is what a person on the sideline would call it; the
bases of different names keep apart, so that "player in red" has one answer.
"""

from __future__ import annotations

import numpy as np

__all__ = [
    "DISTINCT_PAIRS",
    "FLOORS",
    "HAIR",
    "JERSEYS",
    "JERSEY_NAMES",
    "PAINTS",
    "SHOES",
    "SIMILAR_PAIRS",
    "SKIN",
    "WALLS",
    "jitter",
    "luminance",
    "shade_names",
]

JERSEYS: dict[str, list[tuple[int, int, int]]] = {
    "white": [(240, 240, 240), (230, 232, 236), (248, 246, 238)],
    "black": [(22, 22, 26), (34, 34, 38), (14, 14, 16)],
    "red": [(200, 25, 30), (172, 20, 36), (222, 44, 42)],
    "blue": [(28, 60, 190), (22, 92, 208), (24, 30, 96)],
    "green": [(20, 122, 52), (0, 142, 82), (42, 104, 42)],
    "yellow": [(240, 206, 32), (250, 222, 64), (226, 190, 22)],
    "orange": [(238, 120, 20), (226, 102, 24), (248, 140, 52)],
    "purple": [(92, 36, 142), (112, 50, 162), (78, 30, 116)],
}
JERSEY_NAMES = tuple(JERSEYS)
DISTINCT_PAIRS = (
    ("white", "red"), ("white", "blue"), ("white", "black"), ("white", "green"), ("yellow", "blue"),
    ("yellow", "black"), ("red", "blue"), ("orange", "blue"), ("yellow", "purple"), ("white", "purple"),
    ("orange", "black"), ("green", "orange"), ("yellow", "green"), ("red", "black"), ("white", "orange"),
)  # fmt: skip
SIMILAR_PAIRS = (
    ("red", "orange"), ("blue", "purple"), ("yellow", "orange"), ("white", "yellow"), ("black", "blue"),
    ("black", "purple"), ("green", "black"), ("green", "blue"),
)  # fmt: skip

SKIN = [(255, 220, 190), (235, 195, 160), (205, 155, 115), (160, 110, 75), (115, 75, 50), (80, 52, 38)]
HAIR = [(20, 16, 14), (45, 30, 20), (80, 55, 30), (150, 110, 60), (10, 10, 10), (105, 60, 30), (90, 90, 90)]
SHOES = [(240, 240, 240), (20, 20, 20), (200, 40, 40), (60, 60, 220), (250, 200, 40), (90, 220, 120)]
FLOORS = [
    (205, 165, 115), (190, 145, 95), (220, 185, 140), (170, 125, 80), (160, 150, 140), (120, 130, 150),
    (180, 120, 90), (210, 190, 160),
]  # fmt: skip
PAINTS = [
    (150, 40, 40), (40, 60, 120), (60, 60, 60), (190, 140, 90), (30, 100, 80), (200, 120, 50), (90, 50, 110),
]  # fmt: skip
WALLS = [(60, 60, 70), (180, 180, 185), (120, 100, 80), (30, 30, 35), (90, 110, 140), (200, 195, 180)]

DARK_BELOW, LIGHT_ABOVE = 62.0, 180.0


def jitter(rng: np.random.Generator, color, spread: float = 8.0) -> tuple[float, float, float]:
    """``color`` with Gaussian noise of ``spread`` on each channel, clipped to 0..255."""
    return tuple(float(c) for c in np.clip(np.asarray(color, float) + rng.normal(size=3) * spread, 0, 255))


def luminance(color) -> float:
    """Rec. 601 luma of an RGB colour, 0..255."""
    return 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]


def shade_names(color) -> tuple[str, ...]:
    """``("dark",)`` below luma 62, ``("light",)`` above 180, else nothing: what a coach would shout."""
    luma = luminance(color)
    return ("dark",) if luma < DARK_BELOW else ("light",) if luma > LIGHT_ABOVE else ()
