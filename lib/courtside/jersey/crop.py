"""Where a number may stand: torsos cut upright out of the best frames of each track."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pandas as pd
from scipy.special import expit
from tqdm import tqdm

from courtside.masks import decode_rle

if TYPE_CHECKING:
    from courtside.video import Video

__all__ = ["BODY_PX", "SIDE_PX", "Torso", "choose", "cut", "legible", "windows"]

BODY_PX = 320
"""A whole body's height at the scale of a crop."""

SIDE_PX = 180
"""A crop is a square of this many pixels: the torso and some room around it."""

_MIDDLE = 0.33  # of the body's height, from the top of the head to the middle of the crop
_CHEST = (0.18, 0.45)  # of the body's height: the rows of a mask that say where the torso is
_MOST_LEAN = 0.5  # radians; who leans further has bent over, and shows no number
_LOOK_EVERY_S = 0.08
_MOST_LOOKS = 240
_LEAST_PX = 8
_STROKE_PX = 15  # wider than a digit's strokes, narrower than a torso
_DIGITS_PX = (17, 22, 28, 36, 46)
_WIDTHS = {1: 0.62, 2: 1.35}  # of the height, by the number of digits
_MARGIN = {1: 0.28, 2: 0.15}  # of the height: what the reader sees around the digits
_SURROUND = 0.3  # of the height: what should be plain cloth
_MOST_OVERLAP = 0.5
# Logistic regression on which windows of real torsos were read rightly; see windows().
_NONE, _INSIDE, _AROUND, _ASIDE, _UPDOWN, _HEIGHT, _TWO = -6.5, 2.67, -0.74, -1.2, -0.88, 2.2, 0.98
_BOX = ["x1", "y1", "x2", "y2"]


@dataclass(frozen=True, slots=True, eq=False)
class Torso:
    """One look at a track: ``image`` uint8 (SIDE_PX, SIDE_PX, 3) RGB, upright, a body being BODY_PX high.

    ``box_xyxy`` is the player's box in the frame, in pixels. ``quality`` in [0, 1] compares looks: how much
    of the torso nobody nearer covers, halved where the frame cuts it off, times how likely a number is
    read on it (:func:`legible`). ``rgb`` is the median colour of the chest, 0 to 255.
    """

    tracking_id: int
    frame: int
    time_s: float
    box_xyxy: tuple[float, float, float, float]
    quality: float
    rgb: tuple[float, float, float]
    image: np.ndarray = field(repr=False)


def choose(
    video: Video, detections: pd.DataFrame, *, progress: bool = True
) -> Iterator[tuple[int, list[Torso]]]:
    """Each track of ``detections`` with its torsos in order of time, as soon as the track has ended.

    Frames about 0.08 s apart are looked at, further apart in long tracks, at most 240 of a track;
    ``detections`` is a table ``PLAYER_DETECTIONS``. A track whose boxes are all below 8 pixels in width or
    height has no torso. Memory grows with the tracks on screen, not with the video.
    """
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
        for look in here.itertuples(index=False):
            mask = None
            if isinstance(look.mask_rle, str):
                mask = decode_rle(look.mask_rle, video.height, video.width)
            tracking_id = int(look.tracking_id)
            kept.setdefault(tracking_id, []).append(_look(frame.image, look, mask))
            if frame.index == lasts[tracking_id]:
                yield tracking_id, kept.pop(tracking_id)


def cut(
    image: np.ndarray, box_xyxy: tuple[float, float, float, float], mask: np.ndarray | None = None
) -> np.ndarray:
    """The torso in ``box_xyxy`` of a frame, uint8 (SIDE_PX, SIDE_PX, 3) RGB.

    With ``mask``, bool (H, W) of the frame, it is centred on the chest and a lean of the body is turned
    upright; without, it is centred on the box. What is outside the frame repeats its edge.
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
    part = image[top : int(center[1] + reach) + 2, left : int(center[0] + reach) + 2]
    if part.size == 0:
        return np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)
    center -= (left, top)
    if scale < 0.5:
        # Interpolation alone would alias, so large bodies are averaged first.
        small = cv2.resize(part, None, fx=2 * scale, fy=2 * scale, interpolation=cv2.INTER_AREA)
        center *= (small.shape[1] / part.shape[1], small.shape[0] / part.shape[0])
        part, scale = small, 0.5
    cos, sin = np.cos(lean) * scale, np.sin(lean) * scale
    turn = np.array([[cos, -sin], [sin, cos]])
    matrix = np.column_stack([turn, SIDE_PX / 2 - turn @ center])
    return cv2.warpAffine(
        part, matrix, (SIDE_PX, SIDE_PX), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )


def legible(image: np.ndarray) -> float:
    """How likely a number is read in the best window of a torso, in (0, 1), ranked as by :func:`windows`.

    Low when the torso is blurred, small, or seen from the side, since no strokes stand out on it then.
    """
    _, scores = _rank(image, 6)
    return float(expit(scores.max()))


def windows(image: np.ndarray, count: int = 5) -> np.ndarray:
    """Where a number may stand in a torso: up to ``count`` windows, int64 [n, 4] as left, top, width, height.

    A number is made of strokes, has plain cloth around it, and stands in the middle of the chest or back. So
    windows for one digit and for two, of several sizes, are ranked by how likely a number is read in them:
    by logistic regression on the logarithms of the mean top-hat inside, of the mean gradient in a surround
    of 30 % of their height and of that height (alike from 36 pixels on), the squares of their distance from
    the middle, and the number of digits. Of windows that overlap by more than half the best stays. They
    include a margin, narrow around two digits and wider around one.
    """
    boxes, scores = _rank(image, 4)
    kept: list[np.ndarray] = []
    for box in boxes[np.argsort(-scores, kind="stable")]:
        if all(_overlap(box, other) < _MOST_OVERLAP for other in kept):
            kept.append(box)
        if len(kept) == count:
            break
    return np.array(kept)


def _rank(image: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
    """The best windows of each size, ``step`` pixels apart, and the logit of each being read rightly."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    hats = [cv2.integral(hat) for hat in _hats(gray)]
    edges = cv2.integral(cv2.morphologyEx(gray, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)))
    found, scores = [], []
    for high, digits in itertools.product(_DIGITS_PX, _WIDTHS):
        wide = int(_WIDTHS[digits] * high)
        pad, margin = round(_SURROUND * high), round(_MARGIN[digits] * high)
        left, top = np.meshgrid(
            np.arange(max(pad, 46 - wide // 2), min(SIDE_PX - wide - pad, 135 - wide // 2), step),
            np.arange(max(pad, 36 - high // 2), min(SIDE_PX - high - pad, 150 - high // 2), step),
        )
        left, top = left.ravel(), top.ravel()
        inside = (left, top, left + wide, top + high)
        whole = (left - pad, top - pad, left + wide + pad, top + high + pad)
        around = (_sum(edges, whole) - _sum(edges, inside)) / (2 * pad * (wide + high + 2 * pad))
        stroke = np.maximum(*(_sum(hat, inside) for hat in hats)) / (wide * high)
        score = (
            _NONE
            + _INSIDE * np.log(stroke / 255 + 0.02)
            + _AROUND * np.log(around / 255 + 0.02)
            + _ASIDE * ((left + wide / 2 - SIDE_PX / 2) / 30) ** 2
            + _UPDOWN * ((top + high / 2 - 100) / 30) ** 2
            + _HEIGHT * np.log(min(high, 36))
            + _TWO * (digits == 2)
        )
        best = np.argsort(-score, kind="stable")[:12]
        size = np.broadcast_to([wide + 2 * margin, high + 2 * margin], (len(best), 2))
        found.append(np.column_stack([left[best] - margin, top[best] - margin, size]))
        scores.append(score[best])
    return np.concatenate(found).astype(np.int64), np.concatenate(scores)


def _hats(gray: np.ndarray) -> list[np.ndarray]:
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_STROKE_PX, _STROKE_PX))
    return [cv2.morphologyEx(gray, kind, kernel) for kind in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT)]


def _sum(integral: np.ndarray, box: tuple[np.ndarray, ...]) -> np.ndarray:
    left, top, right, bottom = box
    corners = integral[bottom, right] - integral[top, right] - integral[bottom, left] + integral[top, left]
    return corners.astype(np.float64)


def _overlap(first: np.ndarray, second: np.ndarray) -> float:
    low = np.maximum(first[:2], second[:2])
    high = np.minimum(first[:2] + first[2:], second[:2] + second[2:])
    shared = float(np.prod(np.clip(high - low, 0, None)))
    return shared / (float(np.prod(first[2:]) + np.prod(second[2:])) - shared)


def _looks(detections: pd.DataFrame, video: Video) -> pd.DataFrame:
    """The rows to look at, with ``whole`` in [0, 1]: how much of each torso is to be seen."""
    table = detections[["frame", "tracking_id", "time_s", *_BOX, "mask_rle"]]
    large = (table["x2"] - table["x1"] >= _LEAST_PX) & (table["y2"] - table["y1"] >= _LEAST_PX)
    table = table[large & (table["frame"] < video.frame_count)]
    every = max(1, round(_LOOK_EVERY_S * video.fps))
    longest = table.groupby("tracking_id")["frame"].transform("size")
    steps = every * np.maximum(1, np.ceil(longest / (every * _MOST_LOOKS))).astype(int)
    middle = table.groupby("tracking_id")["frame"].transform(lambda frames: frames.iloc[len(frames) // 2])
    chosen = (table["frame"] % steps == 0) | (table["frame"] == middle)
    frames = table.loc[chosen, "frame"].unique()
    seen = table[table["frame"].isin(frames)].sort_values(["frame", "tracking_id"], kind="stable")
    whole = [_visible(group[_BOX].to_numpy(float), video) for _, group in seen.groupby("frame", sort=True)]
    seen = seen.assign(whole=np.concatenate([np.zeros(0), *whole]))
    return seen[chosen.reindex(seen.index)]


def _visible(boxes: np.ndarray, video: Video) -> np.ndarray:
    """The share of each torso, float64 [n], that no nearer box covers, halved where the frame cuts it off."""
    wide, high = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    middle = (boxes[:, 0] + boxes[:, 2]) / 2
    torso = np.column_stack(
        [middle - 0.3 * wide, boxes[:, 1] + 0.15 * high, middle + 0.3 * wide, boxes[:, 1] + 0.5 * high]
    )
    low = np.maximum(torso[:, None, :2], boxes[None, :, :2])
    shared = np.clip(np.minimum(torso[:, None, 2:], boxes[None, :, 2:]) - low, 0, None).prod(axis=-1)
    # Who stands nearer to the camera has the feet lower in the picture.
    nearer = boxes[None, :, 3] > boxes[:, None, 3]
    area = np.maximum((torso[:, 2:] - torso[:, :2]).prod(axis=1), 1e-9)
    covered = np.minimum(1.0, (shared * nearer).max(axis=1, initial=0) / area)
    inside = (boxes[:, :2] >= 1).all(axis=1) & (boxes[:, 2] <= video.width - 1)
    inside &= boxes[:, 3] <= video.height - 1
    return (1 - covered) * np.where(inside, 1.0, 0.5)


def _look(image: np.ndarray, look: tuple, mask: np.ndarray | None) -> Torso:
    box = (look.x1, look.y1, look.x2, look.y2)
    crop = cut(image, box, mask)
    chest = crop[55:105, 72:108].reshape(-1, 3)
    return Torso(
        tracking_id=int(look.tracking_id),
        frame=int(look.frame),
        time_s=float(look.time_s),
        box_xyxy=tuple(map(float, box)),
        quality=float(look.whole) * legible(crop),
        rgb=tuple(map(float, np.median(chest, axis=0))),
        image=crop,
    )


def _axis(mask: np.ndarray, box_xyxy: tuple[float, float, float, float], x: float) -> tuple[float, float]:
    """Where the middle of the chest is, in pixels from the left, and how far it leans, in radians.

    ``x`` and no lean where the mask shows too little of the chest.
    """
    _, y1, _, y2 = box_xyxy
    rows = [int(np.clip(y1 + share * (y2 - y1), 0, mask.shape[0])) for share in _CHEST]
    chest = mask[rows[0] : rows[1]]
    counts = chest.sum(axis=1)
    there = np.flatnonzero(counts > 0)
    if len(there) < 4:
        return x, 0.0
    middles = (chest[there] @ np.arange(mask.shape[1])) / counts[there] + 0.5
    slope = float(np.polyfit(there, middles, 1)[0])
    lean = float(np.arctan(slope))
    if abs(lean) > _MOST_LEAN:
        lean = 0.0
    return float(np.median(middles)), lean
