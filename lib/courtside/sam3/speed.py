"""Following faster than exactly: which frames the model sees, what it remembers, and what lies between."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass

import numpy as np

from courtside.errors import SettingError
from courtside.types import BoundingBox, Detection, FrameDetections

__all__ = ["EXACT", "SPEEDS", "Speed", "between", "parse_duration"]


@dataclass(frozen=True, slots=True)
class Speed:
    """How far from the exact answers to go.

    The model sees every ``stride``-th frame, which may be a fraction; what it found is moved in a straight
    line between them. Of an object, the tracker reads at most ``conditioning`` conditioning frames and those
    of the last ``frames`` - 1 frames (None: as many as the model was trained with). An object that was not
    seen for ``dormant`` frames that the model saw is looked for only where a detection fits nobody else
    (None: always).
    """

    name: str
    stride: float = 1.0
    conditioning: int | None = None
    frames: int | None = None
    dormant: int | None = None

    def seen(self, frame_count: int) -> list[int]:
        """The frames of a video that the model sees: the first, the last, and evenly between.

        >>> Speed("", stride=2.5).seen(10)
        [0, 2, 4, 6, 9]
        """
        count = max(1, math.ceil((frame_count - 1) / self.stride)) + 1
        if self.stride <= 1 or count >= frame_count:
            return list(range(frame_count))
        return [int(index * (frame_count - 1) / (count - 1)) for index in range(count)]

    def for_budget(self, seconds: float, frame_s: float, frame_count: int) -> Speed:
        """This, seeing no more frames than take ``seconds`` at ``frame_s`` seconds a frame.

        Raises :class:`SettingError` where less than every ``MOST_STRIDE``-th frame could be seen.
        """
        stride = max(1.0, frame_s * frame_count / seconds) if seconds > 0 else math.inf
        if stride > MOST_STRIDE:
            least = frame_s * frame_count / MOST_STRIDE
            raise SettingError(
                f"the time budget is too short: at {frame_s:.2g} s a frame here,"
                f" every {MOST_STRIDE}th of {frame_count} frames takes {math.ceil(least)} s"
            )
        return dataclasses.replace(self, stride=max(self.stride, stride))


MOST_STRIDE = 12
"""Frames further apart than this are too far apart to follow a player who runs."""

EXACT = Speed("exact")
SPEEDS = {"exact": EXACT, "fast": Speed("fast", stride=2.5, conditioning=2, frames=3, dormant=30)}
"""The speeds by name. Only ``exact`` gives what SAM 3 gives."""


def parse_duration(text: str | float) -> float:
    """Seconds from a number of them, or a text such as "90s", "5min" or "1.5 h".

    >>> parse_duration("5min"), parse_duration("90"), parse_duration("1.5 h")
    (300.0, 90.0, 5400.0)
    """
    matched = re.fullmatch(r"\s*(\d+\.?\d*)\s*(s|sec|m|min|h)?\s*", str(text))
    if not matched or float(matched[1]) == 0:
        raise SettingError(f"the time budget {text!r} is no duration: give it as 90s, 5min or 1h")
    return float(matched[1]) * {"m": 60, "min": 60, "h": 3600}.get(matched[2], 1)


def between(first: FrameDetections, last: FrameDetections, number: int, time_s: float) -> FrameDetections:
    """What a frame between two others shows, if everything in both moves in a straight line at its own pace.

    Boxes lie on the line between theirs; a mask is that of the nearer frame, moved and scaled into its box.
    What is in one of the two alone is shown as far as the middle.
    """
    share = (number - first.frame_number) / (last.frame_number - first.frame_number)
    near, far = (first, last) if share < 0.5 else (last, first)
    other = {each.tracking_id: each for each in far}
    detections = []
    for each in near:
        match = other.get(each.tracking_id)
        detections.append(each if match is None else _moved(each, match, min(share, 1 - share)))
    return FrameDetections(number, time_s, tuple(detections))


def _moved(near: Detection, far: Detection, share: float) -> Detection:
    corners = [a + (b - a) * share for a, b in zip(near.bbox.to_xyxy(), far.bbox.to_xyxy(), strict=True)]
    box = BoundingBox(*corners)
    if near.mask is None:
        return dataclasses.replace(near, bbox=box)
    height, width = near.mask.shape
    mask = np.zeros_like(near.mask)
    x1, y1, x2, y2 = (round(side) for side in corners)
    x2, y2 = max(x1 + 1, x2), max(y1 + 1, y2)
    rows = _taken(y1, y2, near.bbox.y1, near.bbox.y2, height)
    columns = _taken(x1, x2, near.bbox.x1, near.bbox.x2, width)
    mask[y1:y2, x1:x2] = near.mask[np.ix_(rows, columns)][: height - y1, : width - x1]
    return dataclasses.replace(near, bbox=BoundingBox(x1, y1, min(x2, width), min(y2, height)), mask=mask)


def _taken(start: int, stop: int, first: float, last: float, limit: int) -> np.ndarray:
    """The old row or column that each new one from ``start`` to ``stop`` takes, as [first, last] scales."""
    places = first + (np.arange(stop - start) + 0.5) * (last - first) / (stop - start)
    return np.clip(places.astype(int), 0, limit - 1)
