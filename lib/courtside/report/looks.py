"""What people look like in a small copy of the video: how sharp they are, and the colour they wear."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from courtside.video import Video

__all__ = ["Looks", "look_at"]

_HEIGHT = 64


class Looks(NamedTuple):
    """``sharpness`` float64 [n], the variance of the Laplacian (0: flat); ``colors`` float64 [n, 3], CIELAB.

    NaN where a box has fewer than 4 x 4 pixels in the picture.
    """

    sharpness: np.ndarray
    colors: np.ndarray


def look_at(video: Video, frames: np.ndarray, boxes: np.ndarray, width: int) -> Looks:
    """The looks of ``boxes``, float64 [n, 4] xyxy in pixels of a picture ``width`` wide, in ``frames`` [n].

    ``video`` may be smaller, such as a proxy. The colour is the median over the middle of the upper body.
    Crops are brought to one height first, so that far and near people can be compared.
    """
    sharpness, colors = np.full(len(frames), np.nan), np.full((len(frames), 3), np.nan)
    boxes = np.asarray(boxes, float).reshape(-1, 4) * video.width / width
    order = np.argsort(frames, kind="stable")
    ordered = np.asarray(frames)[order]
    for frame in video.frames_at(np.unique(ordered).tolist()):
        first, stop = np.searchsorted(ordered, [frame.index, frame.index + 1])
        for row in order[first:stop]:
            sharpness[row], colors[row] = _look(frame.image, boxes[row])
    return Looks(sharpness, colors)


def _look(image: np.ndarray, box: np.ndarray) -> tuple[float, np.ndarray]:
    x1, x2 = np.clip(box[[0, 2]], 0, image.shape[1]).round().astype(int)
    y1, y2 = np.clip(box[[1, 3]], 0, image.shape[0]).round().astype(int)
    if x2 - x1 < 4 or y2 - y1 < 4:
        return np.nan, np.full(3, np.nan)
    crop = image[y1:y2, x1:x2]
    wide = max(4, round((x2 - x1) * _HEIGHT / (y2 - y1)))
    gray = cv2.cvtColor(cv2.resize(crop, (wide, _HEIGHT), interpolation=cv2.INTER_LINEAR), cv2.COLOR_RGB2GRAY)
    height, width = crop.shape[:2]
    torso = crop[round(0.2 * height) : round(0.5 * height) + 1, round(0.3 * width) : round(0.7 * width) + 1]
    lab = cv2.cvtColor(torso.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return float(cv2.Laplacian(gray, cv2.CV_32F).var()), np.median(lab.reshape(-1, 3), axis=0)
