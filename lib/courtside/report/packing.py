"""Tables of numbers and masks as one compressed block that a page carries, and its player unpacks."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from courtside.masks import run_lengths

__all__ = ["gather", "pack", "pack_masks"]

_KINDS = ("uint8", "uint16", "uint32", "int16", "int32", "float32")


def pack(tree: dict[str, Any]) -> dict[str, Any]:
    """``tree`` JSON-safe as :func:`gather` makes it, with the bytes under ``block``: zlib, then base64."""
    packed, block = gather(tree)
    return packed | {"block": base64.b64encode(zlib.compress(block, 6)).decode()}


def gather(tree: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """``tree`` with each NumPy array as ``{"array": kind, "at": byte, "count": n}``, and the arrays' bytes.

    These are little-endian, each array from a multiple of 4 on. Raises ValueError for a kind that the player
    has no array for.

    >>> gather({"a": {"b": np.zeros(3, np.uint16)}})
    ({'a': {'b': {'array': 'uint16', 'at': 0, 'count': 3}}}, b'\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00')
    """
    parts: list[bytes] = []
    length = 0

    def replaced(value: Any) -> Any:
        nonlocal length
        if isinstance(value, dict):
            return {name: replaced(each) for name, each in value.items()}
        if not isinstance(value, np.ndarray):
            return value
        if value.dtype.name not in _KINDS:
            raise ValueError(f"an array of {value.dtype} cannot be packed: use one of {', '.join(_KINDS)}")
        content = value.astype(value.dtype.newbyteorder("<")).tobytes()
        entry = {"array": value.dtype.name, "at": length, "count": value.size}
        parts.append(content + bytes(-len(content) % 4))
        length += len(parts[-1])
        return entry

    return replaced(tree), b"".join(parts)


def pack_masks(
    rles: Sequence[str | None], height: int, width: int, size: tuple[int, int]
) -> dict[str, np.ndarray | list[int]]:
    """Masks made small and short: COCO's strings of ``height`` x ``width`` pixels, sampled at ``size``.

    ``boxes``, int16 [4 * n], is the x, y, width and height of each mask in pixels of ``size``, (width,
    height); ``starts``, uint32 [n + 1], says where its run lengths begin in ``runs``, uint8: alternating
    lengths of background and foreground down the columns of that box, each in groups of 7 bits, lowest
    first, the high bit saying that another follows. An entry without a mask, or with one too small to
    sample, has no runs.
    """
    # A pixel takes the value at its centre, as nearest-neighbour scaling does.
    place = np.full(width, -1)
    place[((np.arange(size[0]) + 0.5) * width / size[0]).astype(int)] = np.arange(size[0])
    boxes = np.zeros((len(rles), 4), np.int16)
    lengths: list[np.ndarray] = []
    counts = np.zeros(len(rles), np.int64)
    for row, rle in enumerate(rles):
        if rle is None:
            continue
        columns, tops, bottoms = _strokes(run_lengths(rle, height, width), height)
        columns = place[columns]
        tops, bottoms = (np.ceil(y * size[1] / height - 0.5).astype(int) for y in (tops, bottoms))
        seen = (columns >= 0) & (bottoms > tops)
        if not seen.any():
            continue
        columns, tops, bottoms = columns[seen], tops[seen], bottoms[seen]
        x, y = columns.min(), tops.min()
        high = bottoms.max() - y
        boxes[row] = x, y, columns.max() + 1 - x, high
        edges = np.stack([tops, bottoms], axis=1) - y + ((columns - x) * high)[:, None]
        lengths.append(np.diff(edges.ravel(), prepend=0))
        counts[row] = lengths[-1].size
    values = np.concatenate(lengths) if lengths else np.zeros(0, int)
    digits, runs = _in_groups(values)
    ends = np.concatenate([[0], np.cumsum(digits)])[np.cumsum(counts)]
    starts = np.concatenate([[0], ends]).astype(np.uint32)
    return {"size": list(size), "boxes": boxes.ravel(), "starts": starts, "runs": runs}


def _strokes(runs: np.ndarray, height: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Column, first row and row after the last of each vertical stroke of a mask's foreground."""
    ends = np.cumsum(runs)
    first, stop = ends[0::2][: len(ends[1::2])], ends[1::2]
    first, stop = first[stop > first], stop[stop > first]
    column, last = first // height, (stop - 1) // height
    pieces = last - column + 1
    inside = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    columns = np.repeat(column, pieces) + inside
    tops = np.maximum(np.repeat(first, pieces) - columns * height, 0)
    bottoms = np.minimum(np.repeat(stop, pieces) - columns * height, height)
    return columns, tops, bottoms


def _in_groups(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many bytes each number takes in groups of 7 bits, and those bytes one after another, uint8."""
    place = np.arange(4)
    digits = 1 + sum((values >= 1 << 7 * group).astype(int) for group in (1, 2, 3))
    groups = (values[:, None] >> 7 * place) & 127
    groups |= (place < digits[:, None] - 1) * 128
    return digits, groups[place < digits[:, None]].astype(np.uint8)
