"""The overlay video: boxes or masks with ids, each in its track's own colour."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from courtside.masks import decode_rle
from courtside.report.colors import ink_on, rgb_of
from courtside.report.proxy import PROXY_SIDE, fit_size, small
from courtside.video import Video, VideoWriter

if TYPE_CHECKING:
    from courtside.folder import Run

__all__ = ["clock", "draw_tracks", "render_overlay", "rows_by_frame", "write_overlay"]

_MASK_STRENGTH = 0.45


def clock(seconds: float, decimals: int = 0) -> str:
    """Seconds as ``m:ss`` or ``h:mm:ss``.

    >>> clock(7), clock(75.26, 2), clock(3723), clock(59.97, 1)
    ('0:07', '1:15.26', '1:02:03', '1:00.0')
    """
    ticks = round(max(0.0, float(seconds)) * 10**decimals)
    whole, fraction = divmod(ticks, 10**decimals)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    text = f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"
    return f"{text}.{fraction:0{decimals}d}" if decimals else text


def rows_by_frame(detections: pd.DataFrame, frames: Iterable[int]) -> Iterator[pd.DataFrame]:
    """The rows of each frame of ``frames`` in turn (possibly none), found by bisection."""
    ordered = detections.sort_values(["frame", "tracking_id"], kind="stable")
    numbers = ordered["frame"].to_numpy()
    for frame in frames:
        first, last = np.searchsorted(numbers, [frame, frame + 1])
        yield ordered.iloc[first:last]


def draw_tracks(
    image: np.ndarray, rows: pd.DataFrame, *, long_side: int = 1280, text_scale: float = 1.0
) -> np.ndarray:
    """A copy of one frame with its tracks drawn, scaled down to at most ``long_side`` pixels.

    ``image`` is uint8 (H, W, 3) RGB, upright; ``rows`` are that frame's rows of
    :data:`courtside.tables.PLAYER_DETECTIONS`. A row with a mask is drawn as a tinted shape with an outline,
    one without as a box; both carry the track's id, and the jersey number where it is known.
    """
    height, width = image.shape[:2]
    size = fit_size(width, height, long_side)
    canvas = small(image, size) if size != (width, height) else image.copy()
    scale = np.array([size[0] / width, size[1] / height] * 2)
    line = max(1, round(max(size) / 640))
    masks = rows["mask_rle"].notna().to_numpy()
    ids = rows["tracking_id"].to_numpy(int)
    boxes = rows[["x1", "y1", "x2", "y2"]].to_numpy(float) * scale
    for row in np.flatnonzero(masks):
        mask = decode_rle(rows["mask_rle"].iloc[row], height, width)
        _draw_mask(canvas, mask, rgb_of(ids[row]), line)
    # Big boxes first, so that the label of a player in front or far away is not painted over.
    order = np.argsort(-(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), kind="stable")
    for row in order:
        if not masks[row]:
            corners = np.round(boxes[row]).astype(int)
            first, last = tuple(map(int, corners[:2])), tuple(map(int, corners[2:]))
            cv2.rectangle(canvas, first, last, (16, 20, 26), line + 2)
            cv2.rectangle(canvas, first, last, rgb_of(ids[row]), line)
    numbers = rows["jersey_number"]
    for row in order:
        text = str(ids[row]) if pd.isna(numbers.iloc[row]) else f"{ids[row]} #{numbers.iloc[row]}"
        _draw_label(canvas, text, boxes[row], rgb_of(ids[row]), text_scale)
    return canvas


def write_overlay(run: Run, *, progress: bool = True) -> Path:
    """Make the run's ``overlay.mp4``, and ``proxy.mp4`` beside it, by :func:`render_overlay`."""
    video, paths = run.video(), (run.overlay_path, run.proxy_path)
    return render_overlay(video, run.detections(), *paths, progress=progress)


def render_overlay(
    video: Video,
    detections: pd.DataFrame,
    path: str | Path,
    proxy_path: str | Path | None = None,
    *,
    long_side: int = 1280,
    progress: bool = True,
) -> Path:
    """Write the video with its tracks drawn on it, one written frame for each source frame; returns ``path``.

    H.264 at the video's mean rate, neither side over ``long_side`` pixels, frame by frame: memory does not
    grow with the length. A tag in the corner gives time and frame number, as the event table does.
    ``proxy_path`` gets the same frames small and without tracks, since decoding them twice would cost more.
    Raises :class:`~courtside.errors.VideoError` and :class:`~courtside.errors.DiskFullError` as
    :class:`~courtside.video.VideoWriter` does.
    """
    path = Path(path)
    width, height = fit_size(video.width, video.height, long_side)
    size = fit_size(video.width, video.height, PROXY_SIDE)
    rows = rows_by_frame(detections, range(video.frame_count))
    frames = tqdm(video.frames(), total=video.frame_count, desc="overlay", unit="frame", disable=not progress)
    with contextlib.ExitStack() as files:
        writer = files.enter_context(VideoWriter(path, width, height, video.fps))
        proxy = files.enter_context(VideoWriter(proxy_path, *size, video.fps)) if proxy_path else None
        for frame, here in zip(frames, rows, strict=False):
            canvas = draw_tracks(frame.image, here, long_side=long_side)
            _draw_clock(canvas, f"{clock(frame.time_s, 2)}  frame {frame.index}")
            writer.write(canvas)
            if proxy is not None:
                proxy.write(small(frame.image, size))
    return path


def _draw_mask(canvas: np.ndarray, mask: np.ndarray, color: tuple[int, int, int], line: int) -> None:
    height, width = canvas.shape[:2]
    if mask.shape != (height, width):
        mask = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_AREA) > 0
    columns, lines = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        return
    part = (slice(lines[0], lines[-1] + 1), slice(columns[0], columns[-1] + 1))
    inside, view = mask[part], canvas[part]
    tint = np.array(color, np.float32) * _MASK_STRENGTH
    view[inside] = (view[inside] * (1 - _MASK_STRENGTH) + tint).astype(np.uint8)
    outlines, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outlines = [outline + np.array([columns[0], lines[0]], np.int32) for outline in outlines]
    cv2.drawContours(canvas, outlines, -1, color, line, cv2.LINE_AA)


def _draw_label(
    canvas: np.ndarray, text: str, box: np.ndarray, color: tuple[int, int, int], text_scale: float
) -> None:
    height, width = canvas.shape[:2]
    size = text_scale * max(0.38, max(width, height) / 1280 * 0.62)
    thick = max(1, round(size * 2))
    (w, h), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, thick)
    pad = max(2, round(size * 5))
    left = int(np.clip(round((box[0] + box[2] - w) / 2) - pad, 0, max(0, width - w - 2 * pad)))
    top = int(np.clip(round(box[1]) - h - 2 * pad, 0, max(0, height - h - 2 * pad)))
    ink = (0, 0, 0) if ink_on("#{:02x}{:02x}{:02x}".format(*color)) == "#000000" else (255, 255, 255)
    cv2.rectangle(canvas, (left, top), (left + w + 2 * pad, top + h + 2 * pad), color, -1)
    at = (left + pad, top + pad + h)
    cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, ink, thick, cv2.LINE_AA)


def _draw_clock(canvas: np.ndarray, text: str) -> None:
    height, width = canvas.shape[:2]
    size = max(0.38, max(width, height) / 1280 * 0.55)
    (w, h), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
    pad = round(size * 12)
    cv2.rectangle(canvas, (0, height - h - 2 * pad), (w + 2 * pad, height), (16, 20, 26), -1)
    at = (pad, height - pad)
    cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), 1, cv2.LINE_AA)
