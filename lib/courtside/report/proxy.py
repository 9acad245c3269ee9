"""The proxy: a small copy of a video for the player, one picture for each frame at a constant rate."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from courtside.video import Video, VideoWriter

__all__ = ["PROXY_SIDE", "Proxy", "fit_proxy", "fit_size", "small", "write_proxy"]

PROXY_SIDE = 640
"""Pixels of a proxy's long side; a smaller video keeps its size."""

_SIDES = (PROXY_SIDE, 480, 360, 240)


@dataclass(frozen=True, slots=True)
class Proxy:
    """An H.264 file as bytes: frame ``i`` of the video, of the first ``frame_count``, is its frame ``i``.

    Frame ``i`` is shown from ``i / fps`` seconds to ``(i + 1) / fps``, whatever the video's own times are.
    """

    data: bytes = field(repr=False)
    width: int
    height: int
    fps: float
    frame_count: int


def fit_size(width: int, height: int, long_side: int) -> tuple[int, int]:
    """``(width, height)`` scaled down so that neither side is over ``long_side``; never scaled up.

    >>> fit_size(3840, 2160, 1280), fit_size(720, 1280, 1280), fit_size(640, 480, 1280)
    ((1280, 720), (720, 1280), (640, 480))
    """
    scale = min(1.0, long_side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def small(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """``image``, uint8 (H, W, 3), at ``size`` (width, height); as it is where that is its size."""
    if size == image.shape[1::-1]:
        return image
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def write_proxy(video: Video, path: str | Path, *, progress: bool = True) -> Path:
    """Write the small copy of ``video`` to ``path``, with a progress bar; returns ``path``."""
    size = fit_size(video.width, video.height, PROXY_SIDE)
    frames = tqdm(video.frames(), "small copy", video.frame_count, unit="frame", disable=not progress)
    with VideoWriter(path, *size, video.fps) as writer:
        for frame in frames:
            writer.write(small(frame.image, size))
    return Path(path)


def fit_proxy(path: str | Path, *, max_seconds: float = 300.0, max_bytes: int = 7_000_000) -> Proxy:
    """The proxy at ``path`` for a page: its first ``max_seconds``, within ``max_bytes``.

    The file is taken as it is where it fits. Else the picture shrinks (640, 480, 360, then 240 pixels on its
    long side) until the copy fits; at 240 pixels it is cut where the bytes run out, by the mean of a frame.
    """
    path = Path(path)
    video = Video(path)
    size = path.stat().st_size
    count = max(1, min(video.frame_count, round(max_seconds * video.fps)))
    if size <= max_bytes and count == video.frame_count:
        return Proxy(path.read_bytes(), video.width, video.height, video.fps, count)
    share = size * count / video.frame_count
    for long_side in _SIDES:
        width, height = fit_size(video.width, video.height, long_side)
        # Sizes that will be far too large are not tried: bytes grow a little slower than pixels.
        guess = share * (max(width, height) / max(video.width, video.height)) ** 1.7
        if guess > 1.5 * max_bytes and long_side != _SIDES[-1]:
            continue
        proxy = _encoded(video, (width, height), count)
        if len(proxy.data) <= max_bytes:
            return proxy
    return _encoded(video, (width, height), max(1, int(count * max_bytes / len(proxy.data) * 0.95)))


def _encoded(video: Video, size: tuple[int, int], count: int) -> Proxy:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "proxy.mp4"
        with VideoWriter(copy, *size, video.fps) as writer:
            for frame in video.frames(stop=count):
                writer.write(small(frame.image, size))
        made = Video(copy)
        return Proxy(copy.read_bytes(), made.width, made.height, made.fps, made.frame_count)
