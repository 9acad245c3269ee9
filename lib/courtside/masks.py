"""Masks as NumPy arrays and as COCO run-length strings: the same result on every device."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from pycocotools import mask as coco

from courtside.errors import TableError
from courtside.types import BoundingBox

__all__ = [
    "connected_components",
    "decode_rle",
    "encode_rle",
    "fill_holes",
    "mask_iou",
    "mask_to_box",
    "nms",
    "remove_sprinkles",
    "rle_iou",
    "rle_to_box",
    "run_lengths",
]


def encode_rle(mask: np.ndarray) -> str:
    """COCO's compressed run-length string of a mask, bool (H, W), read column by column.

    >>> encode_rle(np.array([[False, True], [False, True]]))
    '22'
    """
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise ValueError(f"a mask needs the shape (H, W), got {mask.shape}")
    if mask.size == 0:
        raise ValueError(f"a mask needs at least one pixel, got the shape {mask.shape}")
    # OpenCV turns rows into columns block by block, 20 times as fast as NumPy's copy in another order.
    columns = cv2.transpose(np.ascontiguousarray(mask, bool).view(np.uint8)).T
    return coco.encode(columns)["counts"].decode("ascii")


def decode_rle(rle: str, height: int, width: int) -> np.ndarray:
    """The mask, bool (height, width), of COCO's compressed run-length string.

    Raises :class:`TableError` when the string is malformed or belongs to a mask of another size.

    >>> decode_rle("22", 2, 2).astype(int).tolist()
    [[0, 1], [0, 1]]
    """
    runs = run_lengths(rle, height, width)
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def run_lengths(rle: str, height: int, width: int) -> np.ndarray:
    """Lengths of a mask's alternating runs of background and foreground, int64, down column after column.

    Raises :class:`TableError` when the string is malformed or belongs to a mask of another size.

    >>> run_lengths("22", 2, 2)
    array([2, 2])
    """
    expected = height * width
    problem = f"the mask {str(rle)[:24]!r} is not COCO's run-length code of {height} x {width} pixels"
    code = np.frombuffer(rle.encode("ascii", "replace"), np.uint8).astype(np.int64) - 48
    if len(code) == 0 or code.min() < 0 or code.max() > 63 or code[-1] & 32:
        raise TableError(f"{problem}; it is damaged, so write it again with encode_rle")
    # A number is a little-endian group of 5-bit digits, the sixth bit says that another follows.
    last = np.flatnonzero(code & 32 == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    position = np.arange(len(code)) - np.repeat(first, last - first + 1)
    if position.max() > 6:
        raise TableError(f"{problem}; it is damaged, so write it again with encode_rle")
    numbers = np.add.reduceat((code & 31) << (5 * position), first)
    numbers -= np.where(code[last] & 16, 1 << (5 * (position[last] + 1)), 0)
    # From the fourth on, a number is the difference to the one two places before.
    runs = numbers.copy()
    runs[1::2] = np.cumsum(numbers[1::2])
    runs[2::2] = np.cumsum(numbers[2::2])
    if runs.min() < 0 or runs.sum() != expected:
        raise TableError(f"{problem}; use the height and width that it was encoded with")
    return runs


def rle_iou(first: Sequence[str], second: Sequence[str], height: int, width: int) -> np.ndarray:
    """IoU of each pair of run-length strings, float64 [len(first), len(second)], in [0, 1].

    Two empty masks have IoU 0. Raises :class:`TableError` as :func:`decode_rle` does.
    """
    if len(first) == 0 or len(second) == 0:
        return np.zeros((len(first), len(second)))
    for rle in {*first, *second}:
        run_lengths(rle, height, width)
    size = [height, width]
    pair = [[{"size": size, "counts": rle.encode("ascii")} for rle in side] for side in (first, second)]
    ious = np.asarray(coco.iou(*pair, [0] * len(second)), np.float64)
    return np.nan_to_num(ious.reshape(len(first), len(second)))


def mask_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU of each pair of masks, bool (N, H, W) and (M, H, W), as float64 [N, M] in [0, 1].

    Two empty masks have IoU 0.

    >>> mask_iou(np.ones((1, 2, 2), bool), np.eye(2, dtype=bool)[None])
    array([[0.5]])
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    if first.ndim != 3 or second.ndim != 3 or first.shape[1:] != second.shape[1:]:
        raise ValueError(f"masks need shapes (N, H, W) and (M, H, W), got {first.shape} and {second.shape}")
    # float32 counts pixels exactly up to 2**24, that is 4096 x 4096; beyond, float64 does.
    kind = np.float32 if first[0:1].size <= 1 << 24 else np.float64
    pixels = first.shape[1] * first.shape[2]
    rows, columns = (side.reshape(len(side), pixels).astype(kind) for side in (first, second))
    overlap = (rows @ columns.T).astype(np.float64)
    area = [side.sum(axis=(1, 2), dtype=np.float64) for side in (first, second)]
    union = area[0][:, None] + area[1][None, :] - overlap
    return overlap / np.maximum(union, 1.0)


def mask_to_box(mask: np.ndarray, corner: tuple[int, int] = (0, 0)) -> BoundingBox | None:
    """The tightest box around a mask, bool (H, W), in continuous pixels; None around an empty mask.

    ``corner`` is where, x and y, the mask's first pixel lies in the picture.

    >>> mask_to_box(np.eye(3, 5, dtype=bool), corner=(10, 0)).to_xyxy()
    (10.0, 0.0, 13.0, 3.0)
    """
    mask = np.asarray(mask, bool)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return None
    x, y = corner
    return BoundingBox(x + columns[0], y + rows[0], x + columns[-1] + 1, y + rows[-1] + 1)


def rle_to_box(rle: str, height: int, width: int) -> BoundingBox | None:
    """The tightest box around the mask of a run-length string, without decoding it; None around an empty one.

    Raises :class:`TableError` as :func:`decode_rle` does.

    >>> rle_to_box(encode_rle(np.eye(3, 5, dtype=bool)), 3, 5).to_xyxy()
    (0.0, 0.0, 3.0, 3.0)
    """
    run_lengths(rle, height, width)
    x, y, wide, high = coco.toBbox({"size": [height, width], "counts": rle.encode("ascii")})
    return BoundingBox.from_xywh(x, y, wide, high) if wide and high else None


def nms(ious: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Indices that greedy non-maximum suppression keeps, int64, highest score first.

    ``ious`` is float [N, N], ``scores`` float [N]. One is dropped when its IoU with a kept one of a
    higher score (of equal scores, of a lower index) is *above* ``threshold``.

    >>> nms(np.array([[1, 0.8, 0], [0.8, 1, 0], [0, 0, 1]]), np.array([0.5, 0.9, 0.1]), 0.7)
    array([1, 2])
    """
    ious, scores = np.asarray(ious), np.asarray(scores)
    if ious.shape != (len(scores), len(scores)):
        raise ValueError(f"ious needs the shape ({len(scores)}, {len(scores)}), got {ious.shape}")
    dropped = np.zeros(len(scores), bool)
    kept = []
    for index in np.argsort(-scores, kind="stable"):
        if not dropped[index]:
            kept.append(index)
            dropped |= ious[index] > threshold
    return np.array(kept, np.int64)


def connected_components(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Connected foreground parts of masks, bool (..., H, W); pixels touching at a corner connect.

    Returns ``labels`` and ``areas``, both int32 (..., H, W): each foreground pixel's part, counted
    from 1 in each mask, and that part's size in pixels; 0 in the background.

    >>> labels, areas = connected_components(np.array([[1, 0, 0, 1], [0, 1, 0, 1]], bool))
    >>> labels.tolist(), areas.tolist()
    ([[1, 0, 0, 2], [0, 1, 0, 2]], [[2, 0, 0, 2], [0, 2, 0, 2]])
    """
    mask = np.asarray(mask, bool)
    if mask.ndim < 2:
        raise ValueError(f"masks need the shape (..., H, W), got {mask.shape}")
    labels, areas = np.zeros(mask.shape, np.int32), np.zeros(mask.shape, np.int32)
    for index in np.ndindex(mask.shape[:-2]):
        if not mask[index].any():
            continue
        _, part, stats, _ = cv2.connectedComponentsWithStats(
            np.ascontiguousarray(mask[index], np.uint8), connectivity=8, ltype=cv2.CV_32S
        )
        size = stats[:, cv2.CC_STAT_AREA].copy()
        size[0] = 0
        labels[index], areas[index] = part, size[part]
    return labels, areas


def fill_holes(mask: np.ndarray, max_area: int) -> np.ndarray:
    """Masks, bool (..., H, W), with each background part of at most ``max_area`` pixels filled.

    Parts at the frame's edge count too, as in SAM 3.
    """
    background = ~np.asarray(mask, bool)
    _, areas = connected_components(background)
    return ~background | (background & (areas <= max_area))


def remove_sprinkles(mask: np.ndarray, max_area: int) -> np.ndarray:
    """Masks, bool (..., H, W), without their parts of at most ``max_area`` pixels.

    A part larger than half of its mask stays, however small, as in SAM 3.
    """
    mask = np.asarray(mask, bool)
    _, areas = connected_components(mask)
    limit = np.minimum(mask.sum(axis=(-2, -1), keepdims=True) // 2, max_area)
    return mask & (areas > limit)
