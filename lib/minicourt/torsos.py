"""Rendered torsos with and without numbers, as Courtside cuts them: what the finder of numbers learns from.

Each is a body at one scale (``BODY_PX`` high) seen from any side: cloth is half a cylinder on which a number,
letters and a logo are printed, with folds, arms, hair and other people before it, and then filmed: small,
shaken, noisy and compressed. Closer than :mod:`minicourt.people`, where a torso is three quads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from courtside.jersey.crop import BODY_PX, SIDE_PX, blur_others
from minicourt.palette import FLOORS, HAIR, SKIN, jitter

__all__ = ["RenderedTorso", "render_torsos"]

_FONTS = (
    "DejaVuSans-Bold", "DejaVuSans", "DejaVuSansMono-Bold", "DejaVuSerif-Bold", "STIXGeneralBol", "cmb10",
    "cmss10", "cmtt10", "DejaVuSansMono", "DejaVuSans-BoldOblique", "DejaVuSerif",
)  # fmt: skip
_LETTERS = list("ABCDEFGHIJKLMNOPRSTUVWXYZaeioulnrst")
_PAD = 8
_SEEN, _GONE = 0.5, 0.12  # shares of a digit: shown, and not there; what lies between has no right answer
_LEAST_PX = 7  # a digit's height on film


@dataclass(frozen=True, slots=True, eq=False)
class RenderedTorso:
    """``image`` is uint8 (SIDE_PX, SIDE_PX, 3) RGB. ``number`` is what can be read of it, empty where nothing
    can; it stands at ``place``: x and y of its middle, width and height, in pixels of the image, and by how
    much it is turned clockwise, in radians."""

    image: np.ndarray = field(repr=False)
    number: str
    place: tuple[float, float, float, float, float] | None


@dataclass(frozen=True, slots=True, eq=False)
class _Drawn:
    """A torso before it is filmed: float32 RGB, what can be read, its box x1, y1, x2, y2, and where the
    number's columns and rows run, each (right, down); ``high`` is a digit's height."""

    image: np.ndarray
    number: str
    box: tuple[float, float, float, float] | None
    columns: tuple[float, float]
    rows: tuple[float, float]
    high: float


@dataclass(slots=True)
class _Body:
    """``half`` is half the width from the front, ``wide`` as seen when turned by ``yaw`` (radians)."""

    middle: float
    half: float
    wide: float
    yaw: float
    lean: float
    shoulders: float
    waist: float

    def at(self, across: float, down: float) -> tuple[float, float]:
        return self.middle + across + self.lean * (down - SIDE_PX / 2), down

    def across(self) -> tuple[np.ndarray, np.ndarray]:
        """For each pixel how far it lies from the body's middle, in half widths, and its row."""
        down, right = np.mgrid[0:SIDE_PX, 0:SIDE_PX].astype(np.float32)
        middle = self.middle + self.lean * (down - SIDE_PX / 2)
        return (right - middle) / max(self.wide, 1.0), down


def render_torsos(rng: np.random.Generator, films: int = 1) -> list[RenderedTorso]:
    """One torso, all of it drawn by lot, filmed so many times: no number in three of ten, else one or two
    digits."""
    while True:
        drawn = _draw(rng, _number(rng))
        if drawn is None:
            continue
        # Some films are too small or shaken to read.
        shown = [_film(rng, drawn) for _ in range(2 * films)]
        shown = [film for film in shown if film is not None]
        if len(shown) >= films:
            return shown[:films]


def _number(rng: np.random.Generator) -> str:
    kind = rng.choice(4, p=[0.3, 0.25, 0.03, 0.42])
    return ("", f"{rng.integers(10)}", f"0{rng.integers(10)}", f"{rng.integers(10, 100)}")[kind]


# Drawing


def _draw(rng: np.random.Generator, number: str) -> _Drawn | None:
    """A torso with this number; None if a digit is half seen."""
    turned = rng.random() < (0.15 if number else 0.6)
    yaw = np.radians(rng.uniform(-90, 90) if turned else np.clip(rng.normal(0, 32), -90, 90))
    half = rng.uniform(30, 46)
    wide = float(np.hypot(half * np.cos(yaw), half * rng.uniform(0.5, 0.7) * np.sin(yaw)))
    body = _Body(
        SIDE_PX / 2 + rng.normal(0, 5), half, wide, yaw, rng.normal(0, 0.1), rng.uniform(36, 56),
        rng.uniform(132, 160),
    )  # fmt: skip
    jersey, skin = _color(rng), np.array(jitter(rng, SKIN[rng.integers(len(SKIN))]))
    image = _background(rng)
    _behind(rng, image, body, jersey, skin)
    shape = _outline(rng, body)
    cloth = _cloth(rng, body, jersey, skin)
    height, slope, prints = _printed(rng, body, cloth, shape, jersey, skin, number)
    cloth *= _light(rng, body)[..., None]
    image = image * (1 - shape[..., None]) + cloth * shape[..., None]
    cover = _in_front(rng, image, body, jersey, skin)
    seen, text = np.zeros((SIDE_PX, SIDE_PX), bool), ""
    for digit, (ink, whole) in zip(number, prints, strict=True):
        share = float((ink * (1 - cover)).sum()) / max(1.0, whole)
        if _GONE < share < _SEEN:
            return None
        if share >= _SEEN:
            seen |= ink > 0.3 * ink.max()
            text += digit
    box = None
    if text:
        down, right = np.nonzero(seen)
        box = float(right.min()), float(down.min()), float(right.max() + 1), float(down.max() + 1)
    return _Drawn(np.clip(image, 0, 255), text, box, (body.lean, 1.0), (1.0, -slope), height)


def _color(rng: np.random.Generator) -> np.ndarray:
    """White, near black, or any colour: float64 (3,) RGB."""
    kind = rng.random()
    if kind < 0.5:
        value, spread = (rng.uniform(185, 255), 8) if kind < 0.3 else (rng.uniform(8, 65), 10)
        return np.clip(value + rng.normal(0, spread, 3), 0, 255)
    hsv = np.uint8([[[rng.integers(180), rng.integers(90, 256), rng.integers(70, 256)]]])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].astype(float)


def _waves(rng: np.random.Generator, across: int, down: int, height: float) -> np.ndarray:
    """Smooth noise, float32 (SIDE_PX, SIDE_PX), of so many bumps."""
    bumps = rng.normal(0, 1, (down + 1, across + 1)).astype(np.float32)
    return height * cv2.resize(bumps, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC)


def _line(image: np.ndarray, start: Sequence[float], end: Sequence[float], color, width: float) -> None:
    first, last = (tuple(int(value) for value in point) for point in (start, end))
    cv2.line(image, first, last, tuple(map(float, np.atleast_1d(color))), max(1, int(width)), cv2.LINE_AA)


def _fill(image: np.ndarray, corners: Sequence[Sequence[float]], color) -> None:
    points = np.int32(np.round(corners))
    cv2.fillPoly(image, [points], tuple(map(float, np.atleast_1d(color))), cv2.LINE_AA)


def _oval(image: np.ndarray, middle: Sequence[float], axes: Sequence[float], color, width: int = -1) -> None:
    center, radii = (tuple(int(value) for value in pair) for pair in (middle, axes))
    cv2.ellipse(image, center, radii, 0, 0, 360, tuple(map(float, np.atleast_1d(color))), width, cv2.LINE_AA)


def _background(rng: np.random.Generator) -> np.ndarray:
    image = np.empty((SIDE_PX, SIDE_PX, 3), np.float32)
    image[:] = (
        _color(rng) * 0.5 + 45 if rng.random() < 0.5 else jitter(rng, FLOORS[rng.integers(len(FLOORS))])
    )
    image += _waves(rng, 3, 3, 14)[..., None]
    for _ in range(rng.integers(0, 5)):
        _line(image, rng.uniform(-20, 200, 2), rng.uniform(-20, 200, 2), _color(rng), rng.integers(1, 14))
    for _ in range(rng.integers(0, 3)):
        _oval(image, rng.uniform(0, 180, 2), rng.uniform(8, 50, 2), _color(rng))
    return image


def _behind(rng: np.random.Generator, image: np.ndarray, body: _Body, jersey, skin) -> None:
    """Arms held aside, head, neck and shorts."""
    for side in (-1, 1):
        if rng.random() < 0.8:
            elbow = side * (body.wide + rng.uniform(2, 30)), body.shoulders + rng.uniform(20, 70)
            hand = elbow[0] + rng.uniform(-30, 30), elbow[1] + rng.uniform(-45, 50)
            shoulder = body.at(side * body.wide * 0.85, body.shoulders + 8)
            _line(image, shoulder, body.at(*elbow), skin, rng.uniform(13, 20))
            _line(image, body.at(*elbow), body.at(*hand), skin, rng.uniform(10, 16))
    _oval(image, body.at(0, body.shoulders - 28), (18, 24), skin)
    if rng.random() < 0.7:
        _oval(image, body.at(0, body.shoulders - 38), (19, 18), jitter(rng, HAIR[rng.integers(len(HAIR))]))
    _line(image, body.at(0, body.shoulders - 12), body.at(0, body.shoulders + 4), skin, 18)
    top, bottom = body.wide * 1.05, body.wide * 1.35
    hem = body.waist - 4
    corners = [body.at(-top, hem), body.at(top, hem), body.at(bottom, 190), body.at(-bottom, 190)]
    _fill(image, corners, jersey if rng.random() < 0.6 else _color(rng))


def _outline(rng: np.random.Generator, body: _Body) -> np.ndarray:
    """The jersey's shape, float32 in 0..1."""
    wide, top = body.wide, body.shoulders
    arms, waists = rng.uniform(0.62, 0.95), rng.uniform(0.85, 1.05, 2)
    corners = [
        (-wide * arms, top), (-wide * 0.35, top - 6), (wide * 0.35, top - 6), (wide * arms, top),
        (wide * 0.98, top + 28), (wide * waists[0], body.waist), (-wide * waists[1], body.waist),
        (-wide * 0.98, top + 28),
    ]  # fmt: skip
    shape = np.zeros((SIDE_PX, SIDE_PX), np.float32)
    _fill(shape, [body.at(*corner) for corner in corners], 1.0)
    return shape


def _cloth(rng: np.random.Generator, body: _Body, jersey, skin) -> np.ndarray:
    """The jersey's pattern, float32 RGB of the whole picture."""
    cloth = np.empty((SIDE_PX, SIDE_PX, 3), np.float32)
    cloth[:] = jersey
    trim, wide, top, waist = _color(rng), body.wide, body.shoulders, body.waist
    pattern = rng.random()
    if pattern < 0.2:
        for side in (-wide, wide):
            corners = [(side * 0.72, top), (side * 1.2, top), (side * 1.2, waist), (side * 0.8, waist)]
            _fill(cloth, [body.at(*corner) for corner in corners], trim)
    elif pattern < 0.3:
        count = int(rng.integers(4, 12))
        for place in range(count):
            across = (2 * (place + 0.5) / count - 1) * wide
            width = wide / count * rng.uniform(0.2, 1)
            _line(cloth, body.at(across, 0), body.at(across, SIDE_PX), trim, width)
    elif pattern < 0.38:
        for _ in range(rng.integers(1, 4)):
            down = rng.uniform(top, waist)
            _line(cloth, (0, down), (SIDE_PX, down + rng.normal(0, 6)), trim, rng.integers(2, 16))
    elif pattern < 0.45:
        left, right = top + rng.uniform(0, 80, 2)
        _fill(cloth, [body.at(-60, left), body.at(60, right), body.at(60, 200), body.at(-60, 200)], trim)
    if rng.random() < 0.5:
        _oval(cloth, body.at(0, top - 4), (wide * 0.42, rng.uniform(8, 22)), trim, int(rng.integers(2, 5)))
        _oval(cloth, body.at(0, top - 6), (wide * 0.38, rng.uniform(5, 16)), skin)
    if rng.random() < 0.35:
        for side in (-wide, wide):
            _line(cloth, body.at(side * 0.95, top), body.at(side * 0.9, top + 40), trim, 3)
    if rng.random() < 0.3:
        _line(cloth, (0, waist - 3), (SIDE_PX, waist - 3), trim, rng.integers(2, 7))
    return cloth


def _printed(
    rng: np.random.Generator, body: _Body, cloth: np.ndarray, shape: np.ndarray, jersey, skin, number: str
) -> tuple[float, float, list[tuple[np.ndarray, float]]]:
    """Print number, letters and logos on ``cloth``: the number's height, how steeply the print falls to the
    left, and of each digit where its ink is seen, float32 in 0..1 of the picture, and how much ink there is
    from the front."""
    ink = _color(rng)
    while np.abs(ink - jersey).mean() <= rng.uniform(25, 70):
        ink = _color(rng)
    across, down = body.across()
    # A point at some angle on the cylinder is seen at the sine of it, less the turn of the body.
    angle = np.arcsin(np.clip(across, -0.999, 0.999)) - body.yaw
    facing = (np.abs(across) < 0.995) & (np.abs(angle) < 1.45)
    folds, slope = rng.uniform(0, 1) ** 2 * 4, rng.normal(0, 0.07)
    columns = angle * body.half * 1.15 + _waves(rng, 4, 4, folds)
    rows = down + _waves(rng, 4, 4, folds * 0.7) + slope * across * body.wide

    def project(stamp: np.ndarray, middle: float, aside: float = 0.0) -> np.ndarray:
        there = facing if aside == 0 else np.abs(across) < 0.995
        right = np.where(there, columns - aside + stamp.shape[1] / 2, -99).astype(np.float32)
        low = (rows - middle + stamp.shape[0] / 2).astype(np.float32)
        return cv2.remap(stamp, right, low, cv2.INTER_LINEAR, borderValue=0) * shape

    def put(stamp: np.ndarray, middle: float, color, aside: float = 0.0) -> None:
        seen = project(stamp, middle, aside)[..., None]
        cloth[:] = cloth * (1 - seen) + color * seen

    _put_sides(rng, body, put, skin)
    height, middle, prints = 0.0, rng.uniform(65, 125), []
    if number:
        front = rng.random() < 0.45
        height = rng.uniform(16, 34) if front else rng.uniform(26, 52)
        middle = rng.uniform(84, 112) if front else rng.uniform(80, 104)
        stamp, spans = _stamp(rng, number, height)
        widest = int(body.half * 2.6) + 2 * _PAD
        if stamp.shape[1] > widest:
            spans = [
                (left * widest / stamp.shape[1], right * widest / stamp.shape[1]) for left, right in spans
            ]
            stamp = cv2.resize(stamp, (widest, stamp.shape[0]), interpolation=cv2.INTER_AREA)
        if rng.random() < 0.25:
            put(cv2.dilate(stamp, np.ones((5, 5))), middle, _color(rng))
        put(stamp, middle, ink)
        for left, right in spans:
            alone = stamp.copy()
            alone[:, : max(0, int(left))] = 0
            alone[:, int(right) + 1 :] = 0
            prints.append((project(alone, middle), float(alone.sum())))
    if rng.random() < 0.4:
        size = rng.uniform(6, 16) if number else rng.uniform(7, 26)
        off = height / 2 + size * 0.9 + 4
        word = _word(rng, size)
        where = middle + (-off if rng.random() < 0.75 else off) if number else middle
        put(word, where, ink if rng.random() < 0.8 else _color(rng))
    for _ in range(rng.integers(0, 3)):
        logo = np.zeros((40, 110), np.float32)
        _oval(logo, (rng.uniform(10, 100), 20), rng.uniform(2, 8, 2), 1.0)
        put(logo, body.shoulders + rng.uniform(14, 34), _color(rng) if rng.random() < 0.5 else ink)
    return height, slope, prints


def _put_sides(rng: np.random.Generator, body: _Body, put: Callable[..., None], skin) -> None:
    """Panels and armholes at the sides of the jersey, which from aside look like digits."""
    trim, aside = _color(rng), np.pi / 2 * body.half * 1.15
    panel = rng.uniform(5, 32) if rng.random() < 0.3 else 0.0
    hole = rng.uniform(8, 22), rng.uniform(18, 42)
    edge, holes = rng.uniform(0, 7) * (rng.random() < 0.6), rng.random() < 0.75
    middle, inside = body.shoulders + rng.uniform(8, 28), skin if rng.random() < 0.8 else skin * 0.4
    for side in (-aside, aside):
        if panel:
            put(np.ones((SIDE_PX, int(panel)), np.float32), body.waist, trim, side)
        if holes:
            for more, color in ((edge, trim), (0.0, inside)):
                wide, high = hole[0] + more, hole[1] + more
                stamp = np.zeros((int(2 * high) + 4, int(2 * wide) + 4), np.float32)
                _oval(stamp, (wide + 2, high + 2), (wide, high), 1.0)
                put(stamp, middle, color, side)


def _word(rng: np.random.Generator, size: float) -> np.ndarray:
    word = "".join(rng.choice(_LETTERS, rng.integers(3, 10)))
    font = _font(_FONTS[rng.integers(len(_FONTS))], max(6, int(size)))
    _, _, right, bottom = font.getbbox(word)
    image = Image.new("L", (int(right) + _PAD, int(bottom) + _PAD))
    ImageDraw.Draw(image).text((_PAD // 2, _PAD // 2), word, fill=255, font=font)
    return np.asarray(image, np.float32) / 255


def _light(rng: np.random.Generator, body: _Body) -> np.ndarray:
    """How bright the cloth is, float32: a round body, and folds."""
    across, _ = body.across()
    light = 1 - 0.35 * rng.random() * np.clip(np.abs(across), 0, 1) ** 2 + rng.uniform(-0.25, 0.25) * across
    bumps = rng.integers(3, 9), rng.integers(3, 7)
    light += _waves(rng, int(bumps[0]), int(bumps[1]), rng.uniform(0, 0.11))
    for _ in range(rng.integers(0, 6)):
        fold = np.zeros((SIDE_PX, SIDE_PX), np.float32)
        start = rng.uniform(40, 140, 2)
        _line(fold, start, start + rng.normal(0, 35, 2), rng.uniform(-0.5, 0.35), rng.integers(2, 7))
        light += cv2.GaussianBlur(fold, (0, 0), rng.uniform(1.5, 4))
    return light


def _in_front(rng: np.random.Generator, image: np.ndarray, body: _Body, jersey, skin) -> np.ndarray:
    """An arm, hair or somebody else before the jersey: what they cover, float32 in 0..1."""
    cover = np.zeros((SIDE_PX, SIDE_PX), np.float32)

    def over(start, end, color, width: float) -> None:
        drawn = np.zeros((SIDE_PX, SIDE_PX), np.float32)
        _line(drawn, start, end, 1.0, width)
        image[:] = image * (1 - drawn[..., None]) + color * drawn[..., None]
        np.maximum(cover, drawn, out=cover)

    top, turned = body.shoulders, abs(np.sin(body.yaw))
    if rng.random() < 0.25 + 0.6 * turned:
        side = -np.sign(body.yaw) * (1 if rng.random() < 0.7 else -1)
        shoulder = side * body.wide * rng.uniform(0, 0.9) * (1 - 0.7 * turned)
        elbow = shoulder + rng.uniform(-25, 25), top + rng.uniform(35, 70)
        hand = elbow[0] + rng.uniform(-45, 45), elbow[1] + rng.uniform(-40, 45)
        upper = skin if rng.random() < 0.85 else jersey * 0.9
        over(body.at(shoulder, top + 8), body.at(*elbow), upper, rng.uniform(13, 20))
        over(body.at(*elbow), body.at(*hand), skin, rng.uniform(10, 16))
    if rng.random() < 0.15:
        end = body.at(rng.uniform(-15, 15), top + rng.uniform(10, 60))
        hair = jitter(rng, HAIR[rng.integers(len(HAIR))])
        over(body.at(rng.uniform(-10, 10), top - 30), end, np.array(hair), rng.uniform(8, 26))
    if rng.random() < 0.1:
        across = rng.choice([-1, 1]) * rng.uniform(0.3, 1.2) * body.wide
        start = body.middle + across, top + rng.uniform(-20, 40)
        over(start, (start[0] + rng.uniform(-30, 30), 190), _color(rng), rng.uniform(20, 60))
    return cover


# Digits


@cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf", size)


def _stamp(rng: np.random.Generator, number: str, height: float) -> tuple[np.ndarray, list]:
    """The number as ink, float32 in 0..1 with a margin, and each digit's first and last column."""
    return (_typeset if rng.random() < 0.45 else _in_blocks)(rng, number, height)


def _typeset(rng: np.random.Generator, number: str, height: float) -> tuple[np.ndarray, list]:
    font = _font(_FONTS[rng.integers(len(_FONTS))], round(height * 1.38))
    image = Image.new("L", (int(height * 2.6) + 2 * _PAD, int(height * 1.1) + 2 * _PAD))
    pen, right, spans = ImageDraw.Draw(image), float(_PAD), []
    gap = rng.uniform(-0.04, 0.14) * height
    for digit in number:
        first, _, last, _ = pen.textbbox((0, 0), digit, font=font, anchor="ls")
        pen.text((right - first, height + _PAD), digit, fill=255, font=font, anchor="ls")
        spans.append((right, right + last - first))
        right += last - first + gap
    stamp = np.asarray(image, np.float32)[:, : int(right - gap + _PAD) + 1] / 255
    if rng.random() < 0.35:
        stamp = cv2.dilate(stamp, np.ones((int(rng.integers(2, 4)),) * 2))
    return stamp, spans


def _in_blocks(rng: np.random.Generator, number: str, height: float) -> tuple[np.ndarray, list]:
    """Digits of thick strokes with cut or rounded corners, as sports jerseys have them."""
    scale = 4
    width, thick = height * rng.uniform(0.34, 0.66), height * rng.uniform(0.08, 0.22)
    gap, corner = rng.uniform(0.04, 0.22) * height + thick, rng.uniform(0.08, 0.28)
    rounded = rng.random() < 0.5
    right, spans = _PAD + thick / 2, []
    size = int(2 * _PAD + len(number) * (width + gap) + thick), int(height + 2 * _PAD)
    image = np.zeros((size[1] * scale, size[0] * scale), np.uint8)
    for digit in number:
        wide = width * (0.55 if digit == "1" else 1)
        for stroke in _strokes(rng, digit, corner):
            points = np.array(stroke) * (wide, height - thick) + (right, _PAD + thick / 2)
            for _ in range(2 * (rounded and len(points) > 3)):
                points = _cut_corners(points)
            drawn = np.round(points * scale).astype(np.int32)
            cv2.polylines(image, [drawn], False, 255, int(thick * scale), cv2.LINE_AA)
        spans.append((right - thick / 2, right + wide + thick / 2))
        right += wide + gap
    stamp = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return stamp[:, : int(min(size[0], right - gap + thick / 2 + _PAD)) + 1], spans


def _cut_corners(points: np.ndarray) -> np.ndarray:
    """Chaikin's rounding of a line, its ends kept."""
    between = np.empty((2 * len(points) - 2, 2))
    between[0::2] = 0.75 * points[:-1] + 0.25 * points[1:]
    between[1::2] = 0.25 * points[:-1] + 0.75 * points[1:]
    return np.vstack([points[:1], between, points[-1:]])


def _strokes(rng: np.random.Generator, digit: str, c: float) -> list[list[tuple[float, float]]]:
    """A digit's strokes from (0, 0) at the top left to (1, 1), corners cut by ``c``, in one of its shapes."""
    m = 0.5 + rng.uniform(-0.06, 0.06)
    ring = [(c, 0), (1 - c, 0), (1, c), (1, 1 - c), (1 - c, 1), (c, 1), (0, 1 - c), (0, c), (c, 0)]
    upper = [(c, 0), (1 - c, 0), (1, c), (1, m - c), (1 - c, m), (c, m), (0, m - c), (0, c), (c, 0)]
    bow = [(1 - c, m), (1, m + c), (1, 1 - c), (1 - c, 1), (c, 1), (0, 1 - c)]
    hook = [(0, c), *ring[:3]]
    shapes = {
        "0": [[ring]],
        "1": [
            [[(0.5, 0), (0.5, 1)]],
            [[(0.15, 0.22), (0.5, 0), (0.5, 1)]],
            [[(0.2, 0.2), (0.5, 0), (0.5, 1)], [(0.15, 1), (0.85, 1)]],
        ],
        "2": [
            [[(0, 0.25), *hook, (1, m - 0.4 * c), (1 - c, m + 0.08), (0, 0.96), (0, 1), (1, 1)]],
            [[(0, 0.22), *hook, (1, m - c), (1 - c, m), (c, m), (0, m + c), (0, 1), (1, 1)]],
        ],
        "3": [[[(0, 0.2), *hook, (1, m - c), (1 - c, m), (0.35, m)], [*bow, (0, 0.8)]]],
        "4": [
            [[(0.78, 1), (0.78, 0), (0.62, 0), (0, 0.62), (0, 0.72), (1, 0.72)]],
            [[(0, 0), (0, m), (1, m)], [(1, 0), (1, 1)]],
        ],
        "5": [[[(1, 0), (0, 0), (0, m - 0.02), *bow, (0, 0.8)]]],
        "6": [[[(1, 0.2), *ring[2::-1], *ring[7:2:-1], (1, m + c), (1 - c, m), (0, m)]]],
        "7": [
            [[(0, 0), (1, 0), (1, 0.12), (0.35, 1)]],
            [[(0, 0.15), (0, 0), (1, 0), (1, 0.2), (0.5, 0.6), (0.5, 1)]],
        ],
        "8": [[upper, [*bow, (0, m + c), (c, m)]]],
        "9": [[[(0, 0.8), *ring[6::-1], (0, c), (0, m - c), (c, m), (1, m)]]],
    }[digit]
    return shapes[rng.integers(len(shapes))]


# Filming


def _film(rng: np.random.Generator, drawn: _Drawn) -> RenderedTorso | None:
    """The picture as a phone films it, further away; None where the number is too small or shaken."""
    image = drawn.image
    if rng.random() < 0.3:
        image = np.clip((image - 128) * rng.uniform(0.5, 1.1) + 128 + rng.normal(0, 20), 0, 255)
    scale = min(1.0, float(np.exp(rng.uniform(np.log(90), np.log(420)))) / BODY_PX)
    if drawn.number and drawn.high * scale < _LEAST_PX:
        return None
    if rng.random() < 0.45:
        length, angle = int(rng.uniform(2, 12)), rng.uniform(0, np.pi)
        if drawn.number and length > 0.28 * drawn.high:
            return None
        image = cv2.filter2D(image, -1, _shake(length, angle), borderType=cv2.BORDER_REPLICATE)
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.6))
    side = max(24, int(SIDE_PX * scale))
    small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    small = np.clip(small + rng.normal(0, rng.uniform(0, 7), small.shape), 0, 255).astype(np.uint8)
    if rng.random() < 0.9:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.uniform(18, 85))]
        small = cv2.imdecode(cv2.imencode(".jpg", small, quality)[1], cv2.IMREAD_COLOR)
    if rng.random() < 0.25:
        less = max(16, int(side * rng.uniform(0.6, 1)))
        smaller = cv2.resize(small, (less, less), interpolation=cv2.INTER_AREA)
        small = cv2.resize(smaller, (side, side), interpolation=cv2.INTER_LINEAR)
    grown = cv2.resize(small, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC)
    zoom = rng.uniform(0.88, 1.14)
    turn = cv2.getRotationMatrix2D((SIDE_PX / 2, SIDE_PX / 2), rng.normal(0, 8), zoom)
    turn[:, 2] += rng.normal(0, 6, 2)
    shown = cv2.warpAffine(grown, turn, (SIDE_PX, SIDE_PX), borderMode=cv2.BORDER_REPLICATE)
    place = drawn.box and _placed(drawn, turn, zoom)
    return RenderedTorso(_hidden(rng, shown, place), drawn.number, place)


def _hidden(rng: np.random.Generator, image: np.ndarray, place: tuple | None) -> np.ndarray:
    """The picture, now and then with what is not the player's blurred as Courtside does it."""
    own, kind = np.ones((SIDE_PX, SIDE_PX), np.uint8), rng.random()
    if kind < 0.2:
        corner, size = rng.uniform(-30, 150, 2), rng.uniform(30, 90, 2)
        (x1, y1), (x2, y2) = np.maximum(corner, 0).astype(int), np.maximum(corner + size, 0).astype(int)
        own[y1:y2, x1:x2] = 0
    elif kind < 0.45:
        own[:] = 0
        _oval(own, (90 + rng.normal(0, 5), 95), (rng.uniform(45, 75), rng.uniform(85, 120)), 1)
    if place is not None:
        _oval(own, place[:2], (0.7 * place[2], 0.7 * place[3]), 1)
    return blur_others(image, 255 * own)


def _placed(drawn: _Drawn, turn: np.ndarray, zoom: float) -> tuple[float, float, float, float, float]:
    """Where the number is after ``turn``, an affine map (2, 3); of its columns' and rows' slant the mean."""
    x1, y1, x2, y2 = drawn.box
    middle = turn @ ((x1 + x2) / 2, (y1 + y2) / 2, 1)
    down, right = turn[:, :2] @ drawn.columns, turn[:, :2] @ drawn.rows
    tilt = (np.arctan2(-down[0], down[1]) + np.arctan2(right[1], right[0])) / 2
    return float(middle[0]), float(middle[1]), (x2 - x1) * zoom, (y2 - y1) * zoom, float(tilt)


def _shake(length: int, angle: float) -> np.ndarray:
    """A line of motion blur as a kernel that sums to 1."""
    kernel = np.zeros((2 * length + 1, 2 * length + 1), np.float32)
    step = np.array([np.cos(angle), np.sin(angle)]) * length
    _line(kernel, length - step, length + step, 1.0, 1)
    return kernel / kernel.sum()
