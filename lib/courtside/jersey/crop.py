"""Where a number may stand: torsos cut upright out of the best frames of each track."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from courtside.appearance import body_colors
from courtside.masks import decode_rle
from courtside.scoring.frames import box_iou
from courtside.teams import to_lab

if TYPE_CHECKING:
    from courtside.jersey.finder import Place
    from courtside.video import Video

__all__ = ["BODY_PX", "SIDE_PX", "Torso", "blur_others", "choose", "cut"]

BODY_PX = 320
"""A whole body's height at the scale of a crop."""

SIDE_PX = 180
"""A crop is a square of this many pixels: the torso and some room around it."""

_MIDDLE = 0.33  # of the body's height, from the top of the head to the middle of the crop
_CHEST = (0.18, 0.45)  # of the body's height: the rows of a mask that say where the torso is
_CLOTH = slice(60, 125), slice(76, 104)  # the part of a crop that shows least of arms and neck
_MOST_LEAN = 0.5  # radians; who leans further has bent over, and shows no number
_LOOK_EVERY_S = 0.08
_MOST_LOOKS = 240
_AGAIN_S, _PROMISING = 0.04, 0.3  # after a look of so much quality there is one more
_SOMEBODY_ELSES = 30.0  # in CIELAB: what is around a number and a jersey that differ by more are two people's
_ABOUT = 12  # looks before and after that say what colour a jersey has
_LEAST_PX = 8
_FEATHER_PX, _BLUR_PX, _COARSE_PX = 1.5, 11, 9
_CLOSE_PX, _EDGE_PX = 13, 7  # of a crop of half the size
_SAME = 0.7  # boxes that overlap more are held to be of one person, followed twice
_BOX = ["x1", "y1", "x2", "y2"]


@dataclass(frozen=True, slots=True, eq=False)
class Torso:
    """One look at a track: ``image`` uint8 (SIDE_PX, SIDE_PX, 3) RGB, upright, a body being BODY_PX high.

    ``box_xyxy`` is the player's box in the frame, in pixels. ``quality`` in [0, 1] compares looks: how much
    of the torso nobody nearer covers, halved where the frame cuts it off, times the chance that a number is
    to be seen on it; 0 where what may be a number is ``elsewhere``, on somebody else's jersey. ``rgb`` is the
    median colour of the jersey, 0 to 255, ``around`` that of the place where a number may stand, None where
    there is none. ``body``, float64 [PLACES, 3], is what :func:`courtside.appearance.body_colors` says of the
    whole body, None of a look that only follows another.
    """

    tracking_id: int
    frame: int
    time_s: float
    box_xyxy: tuple[float, float, float, float]
    quality: float
    rgb: tuple[float, float, float]
    around: tuple[float, float, float] | None
    body: np.ndarray | None = field(repr=False)
    image: np.ndarray = field(repr=False)
    elsewhere: bool = False


def choose(
    video: Video, detections: pd.DataFrame, *, progress: bool = True
) -> Iterator[tuple[int, list[Torso]]]:
    """Each track of ``detections`` with its torsos in order of time, as soon as the track has ended.

    Frames about 0.08 s apart are looked at, further apart in long tracks, at most 240 of a track; where one
    may show a number, so is the frame 0.04 s later. ``detections`` is a table ``PLAYER_DETECTIONS``. A track
    whose boxes are all below 8 pixels in width or height has no torso. Memory grows with the tracks on
    screen, not with the video.
    """
    from courtside.jersey.finder import find_numbers

    looks = _looks(detections, video)
    lasts = looks.groupby("tracking_id")["frame"].max().to_dict()
    for tracking_id in sorted({*detections["tracking_id"]} - {*lasts}):
        yield int(tracking_id), []
    kept: dict[int, list[Torso]] = {}
    numbers = sorted(looks["frame"].unique().tolist())
    rows = iter(looks.groupby("frame", sort=True))
    frames = video.frames_at(numbers)
    for frame in tqdm(frames, total=len(numbers), desc="crops", unit="frame", disable=not progress):
        _, here = next(rows)
        looks_here = [look for look in here.itertuples(index=False) if _is_wanted(look, kept)]
        masks = [_mask(video, look) for look in looks_here]
        cuts = [
            cut(frame.image, _box(look), mask, look.others)
            for look, mask in zip(looks_here, masks, strict=True)
        ]
        found = find_numbers(cuts)
        for look, mask, crop, places in zip(looks_here, masks, cuts, found, strict=True):
            body = None if look.after >= 0 else body_colors(frame.image, _box(look), mask)
            torso = _torso(look, crop, body, places[0] if places else None)
            kept.setdefault(torso.tracking_id, []).append(torso)
        for tracking_id in here["tracking_id"]:
            if frame.index == lasts[tracking_id]:
                yield int(tracking_id), _own(kept.pop(tracking_id))


def _is_wanted(look: tuple, kept: dict[int, list[Torso]]) -> bool:
    """Whether a look is due by itself, or follows one that may have shown a number."""
    if look.after < 0:
        return True
    before = kept.get(look.tracking_id)
    return before is not None and before[-1].frame == look.after and before[-1].quality >= _PROMISING


def _own(torsos: list[Torso]) -> list[Torso]:
    """A track's torsos, those marked on which what may be a number is on the jersey of somebody in front.

    What is around it then has neither the colour of the track's jersey nor the one that is usually around.
    """
    places = [place for place, torso in enumerate(torsos) if torso.around is not None]
    if not places:
        return torsos
    jersey = to_lab([torso.rgb for torso in torsos])
    around = to_lab([torsos[place].around for place in places])
    torsos = torsos.copy()
    for which, place in enumerate(places):
        usual = (
            np.median(jersey[max(0, place - _ABOUT) : place + _ABOUT + 1], axis=0),
            np.median(around[max(0, which - _ABOUT) : which + _ABOUT + 1], axis=0),
        )
        if min(np.linalg.norm(around[which] - color) for color in usual) > _SOMEBODY_ELSES:
            torsos[place] = replace(torsos[place], quality=0.0, elsewhere=True)
    return torsos


def cut(
    image: np.ndarray,
    box_xyxy: tuple[float, float, float, float],
    mask: np.ndarray | None = None,
    others_xyxy: np.ndarray | None = None,
) -> np.ndarray:
    """The torso in ``box_xyxy`` of a frame, uint8 (SIDE_PX, SIDE_PX, 3) RGB.

    With ``mask``, bool (H, W) of the frame, it is centred on the chest and a lean of the body is turned
    upright; without, it is centred on the box. What is outside the frame repeats its edge. Whatever isn't the
    player's is blurred, so that nobody else's number is read: what lies off the mask or, without one, the
    torsos of the boxes ``others_xyxy``, float (n, 4), but not what of this torso they are behind.
    """
    x1, y1, x2, y2 = box_xyxy
    height = max(y2 - y1, 1.0)
    center = np.array([(x1 + x2) / 2, y1 + _MIDDLE * height])
    lean = 0.0
    if mask is not None:
        center[0], lean = _axis(mask, box_xyxy, center[0])
    scale = BODY_PX / height
    # Only what the crop can show is scaled, however large the frame.
    reach = SIDE_PX / scale
    left, top = (int(max(0, side - reach)) for side in center)
    window = slice(top, int(center[1] + reach) + 2), slice(left, int(center[0] + reach) + 2)
    part = image[window]
    if part.size == 0:
        return np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)
    if mask is not None:
        own = mask[window].astype(np.uint8)
    else:
        own = _without(part.shape[:2], (left, top), box_xyxy, others_xyxy)
    cos, sin = np.cos(lean), np.sin(lean)
    turn = np.array([[cos, -sin], [sin, cos]])

    def upright(pixels: np.ndarray, how: int) -> np.ndarray:
        at, by = center - (left, top), scale
        if scale < 0.5:
            # Interpolation alone would alias, so large bodies are averaged first.
            small = cv2.resize(pixels, None, fx=2 * scale, fy=2 * scale, interpolation=cv2.INTER_AREA)
            at, by = at * (small.shape[1] / part.shape[1], small.shape[0] / part.shape[0]), 0.5
            pixels = small
        matrix = np.column_stack([by * turn, SIDE_PX / 2 - by * turn @ at])
        return cv2.warpAffine(pixels, matrix, (SIDE_PX, SIDE_PX), flags=how, borderMode=cv2.BORDER_REPLICATE)

    torso = upright(part, cv2.INTER_CUBIC)
    if own.all() or not own.any():
        return torso
    own = upright(255 * own, cv2.INTER_LINEAR)
    if mask is not None:
        # Masks may leave digits out, and stop short of the cloth's edge. At half the size that takes a tenth
        # of the time.
        half = cv2.resize(own, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        half = cv2.dilate(cv2.morphologyEx(half, cv2.MORPH_CLOSE, _round(_CLOSE_PX)), _round(_EDGE_PX))
        own = cv2.resize(half, own.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return blur_others(torso, own)


def blur_others(torso: np.ndarray, own: np.ndarray) -> np.ndarray:
    """A torso of which only what is ``own``, uint8 (SIDE_PX, SIDE_PX) from 0 to 255, stays sharp."""
    if own.min() == 255:
        return torso
    share = cv2.GaussianBlur(own, (0, 0), _FEATHER_PX) * np.float32(1 / 255)
    # A wide blur of few pixels costs a tenth of that of many.
    small = cv2.resize(torso, None, fx=1 / _COARSE_PX, fy=1 / _COARSE_PX, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), _BLUR_PX / _COARSE_PX)
    blurred = cv2.resize(small, torso.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return cv2.blendLinear(torso, blurred, share, 1 - share)


def _without(
    size: tuple[int, int],
    corner: tuple[int, int],
    box_xyxy: tuple[float, float, float, float],
    others_xyxy: np.ndarray | None,
) -> np.ndarray:
    """1, and 0 where the torso of one of the others is to be seen, uint8 of ``size`` with that ``corner``."""
    own = np.ones(size, np.uint8)
    if others_xyxy is None or not len(others_xyxy):
        return own
    boxes = np.vstack([others_xyxy, box_xyxy])
    places = np.maximum(_torsos(boxes) - np.tile(corner, 2), 0).round().astype(int)
    # From the farthest to the nearest, who hides what is behind.
    for which in np.argsort(boxes[:, 3], kind="stable"):
        x1, y1, x2, y2 = places[which]
        own[y1:y2, x1:x2] = which == len(boxes) - 1
    return own


def _round(side_px: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side_px, side_px))


def _looks(detections: pd.DataFrame, video: Video) -> pd.DataFrame:
    """The rows to look at, and of each ``whole`` in [0, 1], how much of the torso is to be seen, ``others``,
    float64 [n, 4], the boxes of all others in the frame, and ``after``, the frame of the look that it
    follows, -1 where it is due by itself."""
    table = detections[["frame", "tracking_id", "time_s", *_BOX, "mask_rle"]]
    large = (table["x2"] - table["x1"] >= _LEAST_PX) & (table["y2"] - table["y1"] >= _LEAST_PX)
    table = table[large & (table["frame"] < video.frame_count)]
    every = max(1, round(_LOOK_EVERY_S * video.fps))
    longest = table.groupby("tracking_id")["frame"].transform("size")
    steps = every * np.maximum(1, np.ceil(longest / (every * _MOST_LOOKS))).astype(int)
    middle = table.groupby("tracking_id")["frame"].transform(lambda frames: frames.iloc[len(frames) // 2])
    due = (table["frame"] % steps == 0) | (table["frame"] == middle)
    later = max(1, round(_AGAIN_S * video.fps))
    after = (table["frame"] - later).where(~due & ((table["frame"] - later) % steps == 0), -1)
    table, chosen = table.assign(after=after), due | (after >= 0)
    frames = table.loc[chosen, "frame"].unique()
    seen = table[table["frame"].isin(frames)].sort_values(["frame", "tracking_id"], kind="stable")
    boxes = [group[_BOX].to_numpy(float) for _, group in seen.groupby("frame", sort=True)]
    whole = np.concatenate([np.zeros(0), *(_visible(here, video) for here in boxes)])
    others = [here[overlap < _SAME] for here in boxes for overlap in box_iou(here, here)]
    seen = seen.assign(whole=whole, others=pd.Series(others, index=seen.index, dtype=object))
    return seen[chosen.reindex(seen.index)]


def _visible(boxes: np.ndarray, video: Video) -> np.ndarray:
    """The share of each torso, float64 [n], that no nearer box covers, halved where the frame cuts it off."""
    torso = _torsos(boxes)
    low = np.maximum(torso[:, None, :2], boxes[None, :, :2])
    shared = np.clip(np.minimum(torso[:, None, 2:], boxes[None, :, 2:]) - low, 0, None).prod(axis=-1)
    # Who stands nearer to the camera has the feet lower in the picture.
    nearer = boxes[None, :, 3] > boxes[:, None, 3]
    area = np.maximum((torso[:, 2:] - torso[:, :2]).prod(axis=1), 1e-9)
    covered = np.minimum(1.0, (shared * nearer).max(axis=1, initial=0) / area)
    inside = (boxes[:, :2] >= 1).all(axis=1) & (boxes[:, 2] <= video.width - 1)
    inside &= boxes[:, 3] <= video.height - 1
    return (1 - covered) * np.where(inside, 1.0, 0.5)


def _torsos(boxes: np.ndarray) -> np.ndarray:
    """Where in each box, float64 [n, 4], the torso is to be expected."""
    wide, high = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    middle = (boxes[:, 0] + boxes[:, 2]) / 2
    return np.column_stack(
        [middle - 0.3 * wide, boxes[:, 1] + 0.15 * high, middle + 0.3 * wide, boxes[:, 1] + 0.5 * high]
    )


def _mask(video: Video, look: tuple) -> np.ndarray | None:
    if not isinstance(look.mask_rle, str):
        return None
    return decode_rle(look.mask_rle, video.height, video.width)


def _box(look: tuple) -> tuple[float, float, float, float]:
    return float(look.x1), float(look.y1), float(look.x2), float(look.y2)


def _torso(look: tuple, crop: np.ndarray, body: np.ndarray | None, place: Place | None) -> Torso:
    """A look as a torso; ``place`` is the likeliest one of a number."""
    return Torso(
        tracking_id=int(look.tracking_id),
        frame=int(look.frame),
        time_s=float(look.time_s),
        box_xyxy=_box(look),
        quality=0.0 if place is None else float(look.whole) * place.chance,
        rgb=_median(crop[_CLOTH]),
        around=None if place is None else _median(_part(crop, place)),
        body=body,
        image=crop,
    )


def _part(crop: np.ndarray, place: Place) -> np.ndarray:
    """What stands at a place of a torso, whatever its tilt."""
    left, top = (int(max(0, at)) for at in (place.x - place.wide / 2, place.y - place.high / 2))
    return crop[top : int(place.y + place.high / 2) + 1, left : int(place.x + place.wide / 2) + 1]


def _median(pixels: np.ndarray) -> tuple[float, float, float]:
    red, green, blue = np.median(pixels.reshape(-1, 3), axis=0)
    return float(red), float(green), float(blue)


def _axis(mask: np.ndarray, box_xyxy: tuple[float, float, float, float], x: float) -> tuple[float, float]:
    """Where the middle of the chest is, in pixels from the left, and how far it leans, in radians.

    ``x`` and no lean where the mask shows too little of the chest.
    """
    x1, y1, x2, y2 = box_xyxy
    rows = [int(np.clip(y1 + share * (y2 - y1), 0, mask.shape[0])) for share in _CHEST]
    left, right = max(0, int(x1)), max(0, int(np.ceil(x2)))
    chest = mask[rows[0] : rows[1], left:right]
    counts = chest.sum(axis=1)
    there = np.flatnonzero(counts > 0)
    if len(there) < 4:
        return x, 0.0
    middles = (chest[there] @ np.arange(chest.shape[1])) / counts[there] + left + 0.5
    down = there - there.mean()
    lean = float(np.arctan(down @ middles / (down @ down)))
    if abs(lean) > _MOST_LEAN:
        lean = 0.0
    return float(np.median(middles)), lean
