"""Pictures out of a tracked video: which frames show most, and the best crops of each track."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import pandas as pd

from courtside.report.overlay import rows_by_frame
from courtside.video import Video

__all__ = ["Crop", "best_crops", "busiest_frames", "cut_out", "longest_tracks"]


@dataclass(frozen=True, slots=True)
class Crop:
    """A picture of one track, uint8 (h, w, 3) RGB; ``quality`` in [0, 1] compares the crops of one track."""

    tracking_id: int
    frame: int
    time_s: float
    quality: float
    image: np.ndarray = field(repr=False, compare=False)


def busiest_frames(detections: pd.DataFrame, frame_count: int, count: int = 6) -> list[int]:
    """The frame with most tracks in the middle half of each of ``count`` equal spans of the video.

    Of equals, the middlemost: ``frame_count`` 1 or more.

    >>> busiest_frames(pd.DataFrame({"frame": [1, 8, 8]}), 10, 2)
    [1, 8]
    """
    tracks = np.bincount(detections["frame"].to_numpy(int), minlength=frame_count)[:frame_count]
    bounds = np.linspace(0, frame_count, min(count, frame_count) + 1).astype(int)
    chosen = []
    for first, stop in itertools.pairwise(bounds):
        edge = (stop - first) // 4
        first, stop = first + edge, stop - edge
        offset = np.abs(np.arange(first, stop) - (first + stop - 1) / 2)
        chosen.append(int(first + np.lexsort((offset, -tracks[first:stop]))[0]))
    return chosen


def longest_tracks(detections: pd.DataFrame, count: int | None = None) -> list[int]:
    """Track ids by their number of frames, longest first."""
    sizes = detections.groupby("tracking_id").size().sort_values(ascending=False, kind="stable")
    return [int(i) for i in sizes.index[:count]]


def best_crops(
    video: Video,
    detections: pd.DataFrame,
    tracking_ids: Sequence[int],
    *,
    per_track: int = 4,
    budget: int = 96,
    height: int = 144,
) -> dict[int, list[Crop]]:
    """Up to ``per_track`` crops of each track, in order of time: large, sharp, confident, not hidden.

    Each track's rows are cut into ``per_track`` equal parts, of which the best is taken. Quality is the
    product of relative height, confidence, relative sharpness (variance of the Laplacian), the share of the
    box that no other box covers, and one half for boxes cut off by the frame's edge. At most about ``budget``
    frames are decoded, spread over the video, plus the middle frame of tracks that none of them shows.
    Crops are ``height`` pixels high, with a margin of 8 %.
    """
    detections = detections[detections["tracking_id"].isin(tracking_ids)]
    grid = np.unique(
        np.linspace(0, video.frame_count - 1, min(budget, video.frame_count)).round().astype(int)
    )
    seen = set(detections.loc[detections["frame"].isin(grid), "tracking_id"])
    late = detections[~detections["tracking_id"].isin(seen)]
    middles = [int(frames.iloc[len(frames) // 2]) for _, frames in late.groupby("tracking_id")["frame"]]
    numbers = sorted({*grid.tolist(), *middles})
    shown = detections[detections["frame"].isin(numbers)]
    numbers = sorted(shown["frame"].unique().tolist())
    found: dict[int, list[Crop]] = {int(i): [] for i in tracking_ids}
    for frame, rows in zip(video.frames_at(numbers), rows_by_frame(shown, numbers), strict=False):
        boxes = rows[["x1", "y1", "x2", "y2"]].to_numpy(float)
        cover = _covered(boxes)
        for row, box in enumerate(boxes):
            image = cut_out(frame.image, box, height)
            if image is None:
                continue
            gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
            sharpness = float(cv2.Laplacian(gray, cv2.CV_32F).var())
            size = min(1.0, (box[3] - box[1]) / (0.4 * video.height))
            whole = 0.5 if _cut_off(box, video) else 1.0
            quality = size * float(rows["confidence"].iloc[row]) * (1 - cover[row]) * whole
            quality *= sharpness / (sharpness + 200.0)
            tracking_id = int(rows["tracking_id"].iloc[row])
            found[tracking_id].append(Crop(tracking_id, frame.index, frame.time_s, quality, image))
    return {tracking_id: _spread(crops, per_track) for tracking_id, crops in found.items()}


def _spread(crops: list[Crop], count: int) -> list[Crop]:
    parts = np.array_split(np.arange(len(crops)), min(count, len(crops)) or 1)
    return [max((crops[i] for i in part), key=lambda crop: crop.quality) for part in parts if len(part)]


def _covered(boxes: np.ndarray) -> np.ndarray:
    """Largest share of each box, (n, 4) xyxy, that one other box covers."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    overlap = np.clip(high - low, 0, None).prod(axis=-1)
    np.fill_diagonal(overlap, 0)
    area = np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=-1), 1e-9)
    return np.minimum(1.0, overlap.max(axis=1, initial=0) / area)


def _cut_off(box: np.ndarray, video: Video) -> bool:
    return bool(box[0] < 1 or box[1] < 1 or box[2] > video.width - 1 or box[3] > video.height - 1)


def cut_out(image: np.ndarray, box: np.ndarray, height: int) -> np.ndarray | None:
    """What is in a box, float [4] xyxy, with a margin of 8 %: ``height`` pixels high, at most twice as wide.

    None outside the frame.
    """
    margin = 0.08 * (box[3] - box[1])
    y1, y2 = (int(np.clip(y, 0, image.shape[0])) for y in (box[1] - margin, np.ceil(box[3] + margin)))
    x1, x2 = (int(np.clip(x, 0, image.shape[1])) for x in (box[0] - margin, np.ceil(box[2] + margin)))
    if x2 - x1 < 2 or y2 - y1 < 2:
        return None
    width = int(np.clip(round((x2 - x1) * height / (y2 - y1)), 8, 2 * height))
    smaller = height < y2 - y1
    return cv2.resize(
        image[y1:y2, x1:x2], (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    )
