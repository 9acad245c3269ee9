"""One colour for each track, the same in every figure, table and overlay of a report."""

from __future__ import annotations

import math

__all__ = ["color_of", "ink_on", "rgb_of"]

# Picked far apart in OKLab and ordered so that the first twelve (ten players and two referees) differ most
# for normal sight, deuteranopia and protanopia alike.
_PALETTE = (
    "#1870c2", "#28842d", "#6f00c2", "#ebb1fd", "#f0c543", "#950f66", "#2fbda7",
    "#d65cf9", "#2b9099", "#883c04", "#f69147", "#0fb129", "#794df9", "#ee1401",
    "#be5590", "#b729c4", "#f982aa", "#30aff8", "#65e222", "#51d4f2",
)  # fmt: skip
_LIGHTNESS_STEPS = (-0.10, 0.07, -0.05, 0.04)


def color_of(tracking_id: int) -> str:
    """The colour of a track as ``#rrggbb``.

    It depends on the id alone. Ids 1 to 20 take the palette as it is; each further round of twenty takes the
    same colours lighter or darker and turned in hue, so neighbours stay apart and no two of the first 200
    ids are equal. Colours are no substitute for the printed id: 105 of them cannot all be told apart.

    >>> color_of(1), color_of(21) == color_of(1)
    ('#1870c2', False)
    """
    turn, place = divmod(int(tracking_id) - 1, len(_PALETTE))
    if turn == 0:
        return _PALETTE[place]
    lightness, a, b = _to_oklab(_PALETTE[place])
    lightness = min(0.9, max(0.36, lightness + _LIGHTNESS_STEPS[(turn - 1) % len(_LIGHTNESS_STEPS)]))
    chroma, hue = math.hypot(a, b), math.atan2(b, a) + math.radians(7.0 * turn)
    return _from_oklab(lightness, chroma * math.cos(hue), chroma * math.sin(hue))


def rgb_of(tracking_id: int) -> tuple[int, int, int]:
    """:func:`color_of` as three integers 0 to 255.

    >>> rgb_of(1)
    (24, 112, 194)
    """
    return _channels(color_of(tracking_id))


def ink_on(color: str) -> str:
    """Black or white as ``#rrggbb``: the one that reads better on ``color`` (WCAG contrast at least 4.5).

    >>> ink_on("#f0c543"), ink_on("#1870c2")
    ('#000000', '#ffffff')
    """
    luminance = sum(
        w * _linear(c / 255) for w, c in zip((0.2126, 0.7152, 0.0722), _channels(color), strict=True)
    )
    return "#000000" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "#ffffff"


def _channels(color: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(color.lstrip("#"))
    return red, green, blue


def _linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def _gamma(value: float) -> float:
    value = min(1.0, max(0.0, value))
    return 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055


def _to_oklab(color: str) -> tuple[float, float, float]:
    """Björn Ottosson's OKLab (2020): lightness 0 to 1, then green-red and blue-yellow."""
    r, g, b = (_linear(c / 255) for c in _channels(color))
    long = math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b)
    medium = math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b)
    short = math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b)
    return (
        0.2104542553 * long + 0.7936177850 * medium - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * medium + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * medium - 0.8086757660 * short,
    )


def _from_oklab(lightness: float, a: float, b: float) -> str:
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )
    return "#" + "".join(f"{round(255 * _gamma(value)):02x}" for value in linear)
