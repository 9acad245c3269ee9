"""Hiding faces: where heads are, and a video whose frames have them pixelated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from courtside.masks import decode_rle, mask_to_box
from courtside.scoring.frames import box_iou
from courtside.video import Frame, Video

__all__ = ["FacelessVideo", "head_regions", "heads_of", "link", "pixelate"]

_BOX = ["x1", "y1", "x2", "y2"]
_HEIGHTS, _WIDTHS = 0.25, 0.6
_MARGIN = 0.06
_BLOCKS = 3
_HOLD_S = 0.5
_BRIDGE_S = 2.0
_LINKED_FRAMES = 15


def heads_of(boxes: np.ndarray) -> np.ndarray:
    """Where the head may be in each box of a person, float64 [n, 4] xyxy.

    The whole width from the top down to a quarter of the height or 0.6 of the width, whichever is more, with
    a margin of 6 % of the height around it. So a standing person's head and shoulders are covered; of one
    who is cut off, bent or lying down, whose box is wide for its height, a larger part up to all of it.

    >>> heads_of(np.array([[0, 0, 40, 100], [0, 0, 200, 100]], float)).tolist()
    [[-6.0, -6.0, 46.0, 31.0], [-6.0, -6.0, 206.0, 106.0]]
    """
    boxes = np.asarray(boxes, float).reshape(-1, 4)
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    margin = _MARGIN * height
    down = np.minimum(np.maximum(_HEIGHTS * height, _WIDTHS * width), height)
    top = boxes[:, 1]
    return np.stack([boxes[:, 0] - margin, top - margin, boxes[:, 2] + margin, top + down + margin], axis=1)


def head_regions(people: list[pd.DataFrame], times_s: np.ndarray, size: tuple[int, int]) -> list[np.ndarray]:
    """The regions to hide in each frame, a float64 [n, 4] xyxy for each of ``times_s``.

    ``people`` are tables with ``frame``, ``who``, an id that stays a person's, xyxy, and perhaps
    ``mask_rle``, of masks of ``size`` (width, height), which then tell where the head is. Between two boxes
    up to 2 s apart a person is hidden as well, moving evenly from one to the other, and for half a second
    before the first and after the last of them.
    """
    step_s = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 0.04
    hold, bridge = (max(1, round(seconds / step_s)) for seconds in (_HOLD_S, _BRIDGE_S))
    found: list[list[np.ndarray]] = [[] for _ in times_s]
    for table in people:
        table = table.sort_values("frame", kind="stable", ignore_index=True)
        regions = _regions(table, size)
        frames = table["frame"].to_numpy(int)
        for rows in table.groupby("who").indices.values():
            for frame, region in _held(frames[rows], regions[rows], hold, bridge):
                if 0 <= frame < len(found):
                    found[frame].append(region)
    return [np.array(regions).reshape(-1, 4) for regions in found]


def link(detections: pd.DataFrame) -> pd.DataFrame:
    """Boxes without ids, ``frame`` and xyxy, with a column ``who``: the same while they overlap over time.

    One to one at the greatest total IoU, from 0.3 on, with the boxes of at most 15 frames before. Good
    enough to bridge a detector's gaps; whom a box shows does not matter here.
    """
    table = detections.sort_values("frame", kind="stable", ignore_index=True)
    who = np.zeros(len(table), np.int64)
    last: dict[int, tuple[int, np.ndarray]] = {}
    for frame, rows in table.groupby("frame"):
        last = {name: seen for name, seen in last.items() if frame - seen[0] <= _LINKED_FRAMES}
        names, boxes = list(last), rows[_BOX].to_numpy(float)
        before = np.array([last[name][1] for name in names]).reshape(-1, 4)
        overlap = box_iou(boxes, before)
        pairs = zip(*linear_sum_assignment(np.where(overlap >= 0.3, overlap, 0), maximize=True), strict=True)
        same = {int(i): names[j] for i, j in pairs if overlap[i, j] >= 0.3}
        for i, row in enumerate(rows.index):
            who[row] = same[i] if i in same else row + len(table)
            last[int(who[row])] = (int(frame), boxes[i])
    return table.assign(who=who)


def pixelate(image: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """A copy of ``image``, uint8 (H, W, 3), in which each region, xyxy in its pixels, is a few flat blocks.

    A region becomes at most 3 blocks high, each the mean of what was there; a face within it spans about two
    of them each way.
    """
    hidden = image.copy()
    height, width = image.shape[:2]
    for x1, y1, x2, y2 in regions:
        left, top = max(0, int(np.floor(x1))), max(0, int(np.floor(y1)))
        right, bottom = min(width, int(np.ceil(x2))), min(height, int(np.ceil(y2)))
        if right <= left or bottom <= top:
            continue
        part = image[top:bottom, left:right]
        block = max(2, -(-(bottom - top) // _BLOCKS))
        few = (max(1, round((right - left) / block)), max(1, round((bottom - top) / block)))
        coarse = cv2.resize(part, few, interpolation=cv2.INTER_AREA)
        hidden[top:bottom, left:right] = cv2.resize(
            coarse, (right - left, bottom - top), interpolation=cv2.INTER_NEAREST
        )
    return hidden


class FacelessVideo(Video):
    """A video as it is but for its heads: every frame that it gives has them pixelated.

    ``regions`` has, for each frame, float64 [n, 4] xyxy in pixels (:func:`head_regions`).
    """

    def __init__(self, path: str | Path, regions: list[np.ndarray]) -> None:
        super().__init__(path)
        self.regions = regions

    def __reduce__(self) -> tuple:
        return FacelessVideo, (self.path, self.regions)

    def _ahead(self, indices: Iterable[int]) -> Iterator[Frame]:
        # Every way to several frames goes through here.
        for frame in super()._ahead(indices):
            yield frame._replace(image=pixelate(frame.image, self.regions[frame.index]))

    def frame(self, index: int) -> np.ndarray:
        return pixelate(super().frame(index), self.regions[index])


def _regions(table: pd.DataFrame, size: tuple[int, int]) -> np.ndarray:
    """The head regions of the rows: of the box, and of the mask's own box where there is a mask."""
    boxes = table[_BOX].to_numpy(float).copy()
    if "mask_rle" in table:
        for row in np.flatnonzero(table["mask_rle"].notna()):
            around = mask_to_box(decode_rle(table["mask_rle"].iloc[row], size[1], size[0]))
            if around is not None:
                boxes[row] = around.to_xyxy()
    return heads_of(boxes)


def _held(
    frames: np.ndarray, regions: np.ndarray, hold: int, bridge: int
) -> Iterator[tuple[int, np.ndarray]]:
    """The regions of one person in every frame in which to hide them, (frame, xyxy)."""
    last = len(frames) - 1
    for i, (frame, region) in enumerate(zip(frames.tolist(), regions, strict=True)):
        yield frame, region
        gap = frames[i + 1] - frame if i < last else bridge + 1
        if gap <= bridge:
            for step in range(1, gap):
                yield frame + step, region + (regions[i + 1] - region) * step / gap
        else:
            for step in range(1, hold + 1):
                yield frame + step, region
        if i == 0 or frame - frames[i - 1] > bridge:
            for step in range(1, hold + 1):
                yield frame - step, region
