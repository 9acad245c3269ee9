"""Tracks of a run in the formats that other tools read: MOT and MOTS text, COCO, CVAT for correction, CSV."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TextIO
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import pandas as pd

from courtside.errors import RunError, SettingError
from courtside.files import whole
from courtside.folder import Run
from courtside.masks import decode_rle, encode_rle

__all__ = ["FORMATS", "Clip", "default_path", "export_tracks", "keyframes"]

_BOX = ["x1", "y1", "x2", "y2"]
_MOTS_CLASS = 2
_LEAST_TOLERANCE = 1.0
_TOLERANCE_OF_HEIGHT = 0.02


class Clip(NamedTuple):
    """The tracked video: ``name`` of its file, size in pixels, frames, and frames a second."""

    name: str
    width: int
    height: int
    frame_count: int
    fps: float


def export_tracks(run: Run, name: str, path: str | Path) -> list[str]:
    """Write the tracks of ``run`` to ``path`` in the format ``name``, one of FORMATS.

    Returns a sentence for each thing that the format could not hold. Raises :class:`RunError` where the
    run has no tracks yet, or no masks for a format of masks, and :class:`SettingError` for another name.
    """
    if name not in FORMATS:
        raise SettingError(f"there is no format {name!r}: choose one of {', '.join(FORMATS)}")
    tracks = run.detections().sort_values(["frame", "tracking_id"], ignore_index=True)
    about = run.config()["inputs"]["video"]
    clip = Clip(*(about[key] for key in Clip._fields))
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as part, open(part, "w", encoding="utf-8", newline="") as file:
            return FORMATS[name].write(tracks, clip, file)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error


def default_path(run: Run, name: str) -> Path:
    """``tracks-<format>`` in the run folder."""
    return run.folder / f"tracks-{name}.{FORMATS[name].suffix}"


def _write_csv(tracks: pd.DataFrame, clip: Clip, file: TextIO) -> list[str]:
    tracks.to_csv(file, index=False)
    return []


def _write_mot(tracks: pd.DataFrame, clip: Clip, file: TextIO) -> list[str]:
    """``frame,id,left,top,width,height,conf,-1,-1,-1`` a row, frames from 1, as trackers submit them."""
    for row in tracks.itertuples():
        box = ",".join(_number(value) for value in (row.x1, row.y1, row.x2 - row.x1, row.y2 - row.y1))
        file.write(f"{row.frame + 1},{row.tracking_id},{box},{row.confidence:.6g},-1,-1,-1\n")
    return []


def _write_mots(tracks: pd.DataFrame, clip: Clip, file: TextIO) -> list[str]:
    """``frame id class height width rle`` a row, frames from 1; class 2 is a person, ids are 2000 and more.

    Masks of a frame may not overlap: pixels that several claim go to the more confident track.
    """
    _require_masks(tracks, "mots")
    lost = shared = 0
    for frame, own in tracks.groupby("frame"):
        taken = np.zeros((clip.height, clip.width), bool)
        rows = {}
        for row in own.sort_values("confidence", ascending=False, kind="stable").itertuples():
            mask = decode_rle(row.mask_rle, clip.height, clip.width)
            left = mask & ~taken
            shared += bool((mask & taken).any())
            lost += not left.any()
            if left.any():
                rows[row.tracking_id] = encode_rle(left)
            taken |= mask
        for tracking_id, rle in sorted(rows.items()):
            number = 1000 * _MOTS_CLASS + tracking_id
            file.write(f"{frame + 1} {number} {_MOTS_CLASS} {clip.height} {clip.width} {rle}\n")
    said = (
        [f"{shared} masks overlapped a more confident one and lost the pixels they shared"] if shared else []
    )
    return said + ([f"{lost} masks had no pixel of their own and were left out"] if lost else [])


def _write_coco(tracks: pd.DataFrame, clip: Clip, file: TextIO) -> list[str]:
    """COCO with ``videos``, images (``frame_index`` from 0), and ``track_id``; masks as run lengths."""
    name = Path(clip.name).stem
    size = {"width": clip.width, "height": clip.height}
    classes = tracks.drop_duplicates("class_id").sort_values("class_id")
    images = [
        {"id": frame + 1, "video_id": 1, "frame_index": frame, "file_name": f"{name}/{frame:06d}.jpg", **size}
        for frame in range(clip.frame_count)
    ]
    annotations = []
    for number, row in enumerate(tracks.itertuples(), start=1):
        box = [round(value, 3) for value in (row.x1, row.y1, row.x2 - row.x1, row.y2 - row.y1)]
        annotation = {
            "id": number, "image_id": row.frame + 1, "video_id": 1, "category_id": row.class_id + 1,
            "track_id": row.tracking_id, "bbox": box, "area": round(box[2] * box[3], 3), "iscrowd": 0,
            "score": row.confidence,
        }  # fmt: skip
        if pd.notna(row.mask_rle):
            mask = decode_rle(row.mask_rle, clip.height, clip.width)
            annotation["area"] = int(mask.sum())
            annotation["segmentation"] = {"size": [clip.height, clip.width], "counts": row.mask_rle}
        annotations.append(annotation)
    content = {
        "info": {"description": f"tracks of {clip.name}"},
        "videos": [{"id": 1, "name": name, "length": clip.frame_count, "fps": clip.fps, **size}],
        "images": images,
        "annotations": annotations,
        "categories": [
            {"id": row.class_id + 1, "name": row.class_name or "player"} for row in classes.itertuples()
        ],
    }
    json.dump(content, file)
    return []


def _write_cvat(tracks: pd.DataFrame, clip: Clip, file: TextIO) -> list[str]:
    """CVAT for video 1.1, to be uploaded to a task of the same video, corrected, and read as labels.

    Every box is there, but only those are keyframes that CVAT needs to interpolate the others to within 2 %
    of a person's height, or a pixel: so a few are to be corrected, and CVAT moves what lies between.
    """
    labels = sorted({_label(name) for name in tracks["class_name"]}) or ["player"]
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        "<annotations>",
        "  <version>1.1</version>",
        "  <meta><task>",
        f"    <name>{escape(clip.name)}</name><size>{clip.frame_count}</size><mode>interpolation</mode>",
        f"    <start_frame>0</start_frame><stop_frame>{clip.frame_count - 1}</stop_frame>",
        "    <frame_filter></frame_filter>",
        "    <labels>"
        + "".join(f"<label><name>{escape(label)}</name></label>" for label in labels)
        + "</labels>",
        f"    <original_size><width>{clip.width}</width><height>{clip.height}</height></original_size>",
        f"    <source>{escape(clip.name)}</source>",
        "  </task></meta>",
    ]
    file.write("\n".join(lines) + "\n")
    for tracking_id, own in tracks.groupby("tracking_id"):
        label = quoteattr(_label(own["class_name"].iloc[0]))
        file.write(f'  <track id="{tracking_id}" label={label} source="auto">\n')
        frames, boxes = own["frame"].to_numpy(), own[_BOX].to_numpy()
        cuts = np.flatnonzero(np.diff(frames) != 1) + 1
        for stretch, shapes in zip(np.split(frames, cuts), np.split(boxes, cuts), strict=True):
            height = float(np.mean(shapes[:, 3] - shapes[:, 1]))
            keys = keyframes(shapes, max(_LEAST_TOLERANCE, _TOLERANCE_OF_HEIGHT * height))
            for frame, shape, key in zip(stretch, shapes, keys, strict=True):
                file.write(_shape(frame, shape, key=key, outside=False))
            if stretch[-1] + 1 < clip.frame_count:
                file.write(_shape(stretch[-1] + 1, shapes[-1], key=True, outside=True))
        file.write("  </track>\n")
    file.write("</annotations>\n")
    said = [f"in CVAT, give the task the labels {', '.join(labels)} before uploading"]
    if tracks["mask_rle"].notna().any():
        said.append("boxes alone were written, since CVAT has no tracks of masks")
    return said


def keyframes(boxes: np.ndarray, tolerance: float) -> np.ndarray:
    """Which of consecutive boxes, float64 [frames, 4], to keep for linear interpolation to restore the rest.

    bool [frames]; every coordinate of every box is within ``tolerance`` of what its neighbours among the
    kept ones give. After Ramer 1972 and Douglas & Peucker 1973, with time as the axis.

    >>> keyframes(np.array([[0.0], [1], [2], [3], [9]]), 0.5).tolist()
    [True, False, False, True, True]
    """
    kept = np.zeros(len(boxes), bool)
    kept[[0, -1]] = True
    waiting = [(0, len(boxes) - 1)]
    while waiting:
        first, last = waiting.pop()
        if last - first < 2:
            continue
        share = (np.arange(first + 1, last) - first)[:, None] / (last - first)
        line = boxes[first] + share * (boxes[last] - boxes[first])
        off = np.abs(boxes[first + 1 : last] - line).max(axis=1)
        if off.max() > tolerance:
            middle = first + 1 + int(off.argmax())
            kept[middle] = True
            waiting += [(first, middle), (middle, last)]
    return kept


def _shape(frame: int, box: np.ndarray, *, key: bool, outside: bool) -> str:
    corners = " ".join(
        f'{name}="{_number(value)}"' for name, value in zip(("xtl", "ytl", "xbr", "ybr"), box, strict=True)
    )
    state = f'keyframe="{int(key)}" outside="{int(outside)}" occluded="0"'
    return f'    <box frame="{frame}" {state} {corners} z_order="0"></box>\n'


def _label(class_name: str) -> str:
    return class_name or "player"


def _number(value: float) -> str:
    """At most three decimals: a thousandth of a pixel.

    >>> _number(12.0), _number(0.12345), _number(-0.0001)
    ('12', '0.123', '0')
    """
    text = f"{value:.3f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _require_masks(tracks: pd.DataFrame, name: str) -> None:
    missing = tracks["mask_rle"].isna()
    if missing.any():
        row = tracks[missing].iloc[0]
        raise RunError(
            f"the format {name} is of masks, but track {row['tracking_id']} has none in frame "
            f"{row['frame']}; export as mot, or track with a tracker that gives masks"
        )


class _Format(NamedTuple):
    suffix: str
    about: str
    write: Callable[[pd.DataFrame, Clip, TextIO], list[str]]


FORMATS = {
    "mot": _Format("txt", "MOTChallenge text, as TrackEval reads it", _write_mot),
    "mots": _Format("txt", "MOTS text: masks without overlaps", _write_mots),
    "coco": _Format("json", "COCO with video and track ids, masks as run lengths", _write_coco),
    "cvat": _Format("xml", "CVAT for video 1.1, to correct the tracks there", _write_cvat),
    "csv": _Format("csv", "the table player_detections as it is", _write_csv),
}
"""What tracks can be written as: the file's suffix, what it is, and its writer."""
