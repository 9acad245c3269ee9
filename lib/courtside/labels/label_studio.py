"""Label Studio's JSON export of video object tracking: keyframes, in percent of the frame.

A task's result holds a ``videorectangle`` per object, whose ``sequence`` has keyframes with ``frame`` (from
1), ``x``, ``y`` (top left), ``width`` and ``height`` in percent, ``rotation`` in degrees about the top left,
and ``enabled``. As in Label Studio itself, boxes between keyframes are interpolated linearly; after a
keyframe that is not enabled the object is out of view until the next one; after the last one it stays
where it is until the video ends (https://labelstud.io/tags/videorectangle, and its export with
interpolated keyframes).
"""

from __future__ import annotations

import math
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from courtside.errors import LabelsError
from courtside.labels.rows import Findings, Rows, Sequence, Truth
from courtside.labels.source import Source

__all__ = ["read"]

_KEYS = ("frame", "x", "y", "width", "height", "rotation")


def read(content: list[Any], source: Source, sequence: Sequence | None, found: Findings) -> Truth:
    """The one task of an export, or the one whose video has the name of ``sequence``.

    Sizes in pixels need the video. Label Studio counts frames at a rate of its own (24 a second unless
    its configuration says otherwise): where its count of frames is not the video's, boxes are taken at the
    video's own times instead.
    """
    if sequence is None:
        raise LabelsError(
            f"{source} gives boxes in percent; name the video, or write a seqinfo.ini beside it"
        )
    regions = _regions(_task(content, source, sequence), source)
    order: dict[str, int] = {}
    values, places, classes, keyframes = [], [], {}, 0
    for number, region in enumerate(regions):
        name = str(region.get("id", number))
        object_id = order.setdefault(name, len(order) + 1)
        value = region["value"]
        labels = value.get("labels") or [""]
        classes.setdefault(object_id, str(labels[0]))
        where = f"{source}, region {name}"
        if len(labels) > 1:
            found.notes.append(f"{where}: of its labels {', '.join(map(str, labels))} the first was taken")
        keys = _keyframes(value, where, found)
        if keys is None:
            continue
        keyframes += len(keys[0])
        for frame, box in _boxes(keys, value, sequence, where, found):
            values.append([frame, object_id, *box, 1, 1, -1])
            places.append(f"region {name}, frame {frame + 1}")
    if not values:
        raise LabelsError(
            f"{source} has no videorectangle with a keyframe; label with the VideoRectangle tag"
        )
    between = len(values) - keyframes
    if between > 0:
        found.notes.append(
            f"{between} of {len(values)} boxes were interpolated between {keyframes} keyframes"
        )
    rows = Rows(source, np.array(values, np.float64), places, found)
    size = (sequence.width, sequence.height)
    table = rows.truth(size, sequence.frame_count, sequence.whose, first=0)
    return Truth(table, classes={key: name for key, name in classes.items() if name})


def _task(content: list[Any], source: Source, sequence: Sequence) -> dict[str, Any]:
    tasks = [each for each in content if isinstance(each, dict) and isinstance(each.get("annotations"), list)]
    if not tasks:
        raise LabelsError(f"{source} has no task with annotations; export from Label Studio as JSON")
    if len(tasks) == 1:
        return tasks[0]
    stem = sequence.stem
    named = [
        each for each in tasks if any(_is_named(text, stem) for text in (each.get("data") or {}).values())
    ]
    if len(named) != 1:
        raise LabelsError(
            f"{source} has {len(tasks)} tasks, {len(named)} of them of a video named {stem}; export the one "
            "task of this video"
        )
    return named[0]


def _is_named(text: Any, stem: str) -> bool:
    """Whether a task's video is called ``stem``, or so after the ``1a2b3c4d-`` that uploads are given."""
    name = PurePosixPath(str(text)).stem
    return name == stem or name.endswith(f"-{stem}")


def _regions(task: dict[str, Any], source: Source) -> list[dict[str, Any]]:
    """The objects of the newest annotation that was not skipped."""
    given = [each for each in task["annotations"] if not each.get("was_cancelled")]
    if not given:
        raise LabelsError(f"{source}: the task has no annotation; submit it in Label Studio, then export")
    newest = max(given, key=lambda each: str(each.get("updated_at", "")))
    regions: dict[str, dict[str, Any]] = {}
    for number, each in enumerate(newest.get("result", [])):
        value = each.get("value") if isinstance(each, dict) else None
        if not isinstance(value, dict) or not isinstance(value.get("sequence"), list):
            continue
        name = str(each.get("id", number))
        # Tools that import labels write the label as a second entry of the same id.
        if name in regions:
            regions[name]["value"] = {**value, **regions[name]["value"]}
        elif each.get("type") in ("videorectangle", "labels"):
            regions[name] = {"id": name, "value": dict(value)}
    return list(regions.values())


def _keyframes(value: dict[str, Any], where: str, found: Findings) -> tuple[np.ndarray, np.ndarray] | None:
    """Keyframes in order, float64 [keys, 6] of _KEYS with frames from 1, and whether each is enabled."""
    rows, enabled = [], []
    for each in value["sequence"]:
        try:
            row = [float(each.get(name, 0) if name == "rotation" else each[name]) for name in _KEYS]
        except (KeyError, TypeError, ValueError, AttributeError):
            found.refuse(f"{where}: a keyframe without {', '.join(_KEYS[:5])}; export the labels again")
            return None
        if not all(map(math.isfinite, row)) or row[0] < 1 or row[0] != int(row[0]):
            found.refuse(f"{where}: keyframe {row[0]:g}, but frames are whole and count from 1; correct it")
            return None
        rows.append(row)
        enabled.append(bool(each.get("enabled", True)))
    if not rows:
        return None
    keys = np.array(rows)
    _, first = np.unique(keys[:, 0], return_index=True)
    return keys[first], np.array(enabled)[first]


def _boxes(
    keys: tuple[np.ndarray, np.ndarray],
    value: dict[str, Any],
    sequence: Sequence,
    where: str,
    found: Findings,
) -> list[tuple[int, tuple[float, float, float, float]]]:
    """The video's frames from 0 with the object in view, each with left, top, width, height in pixels."""
    rows, enabled = keys
    count, duration = int(value.get("framesCount") or 0), float(value.get("duration") or 0)
    total = sequence.frame_count
    positions = np.arange(1, max(total, int(rows[-1, 0])) + 1, dtype=float)
    if count and abs(count - total) > 1 and duration > 0 and sequence.times_s is not None:
        positions = sequence.times_s * (count / duration) + 1
        note = (
            f"Label Studio counted {count} frames where the video has {total}, so boxes were taken at the "
            "video's own times; set frameRate in its Video tag"
        )
        if note not in found.notes:
            found.notes.append(note)
        # A keyframe stands for the video's frame nearest to it.
        nearest = np.abs(positions[None, :] - rows[:, :1]).argmin(axis=1)
        positions[nearest] = rows[:, 0]
    last = np.searchsorted(rows[:, 0], positions, side="right") - 1
    exact = np.isin(positions, rows[:, 0])
    shown = (last >= 0) & (enabled[np.maximum(last, 0)] | exact)
    frames = np.flatnonzero(shown)
    columns = [np.interp(positions[frames], rows[:, 0], column) for column in rows[:, 1:].T]
    return [
        (int(frame), _pixels(*row, sequence))
        for frame, row in zip(frames, np.column_stack(columns), strict=True)
    ]


def _pixels(
    x: float, y: float, width: float, height: float, rotation: float, sequence: Sequence
) -> tuple[float, float, float, float]:
    """Percent into pixels; of a box turned about its top left corner, the upright box around it."""
    left, wide = (value * sequence.width / 100 for value in (x, width))
    top, high = (value * sequence.height / 100 for value in (y, height))
    if rotation % 360 == 0:
        return left, top, wide, high
    turn = math.radians(rotation)
    across, down = np.array([math.cos(turn), math.sin(turn)]), np.array([-math.sin(turn), math.cos(turn)])
    corners = np.array([np.zeros(2), across * wide, down * high, across * wide + down * high])
    low, size = corners.min(axis=0), np.ptp(corners, axis=0)
    return left + low[0], top + low[1], size[0], size[1]
