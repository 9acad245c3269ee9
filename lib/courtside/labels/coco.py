"""COCO's JSON for videos: that of YouTube-VIS, and images with a ``video_id``, as TAO and CVAT have them.

YouTube-VIS (https://youtube-vos.org/dataset/vis): ``videos`` with ``width``, ``height``, ``length`` and
``file_names``; an annotation an object, with ``segmentations`` and ``bboxes`` [x, y, width, height] of each
frame, null where it is not in view. The other: ``images`` with ``video_id`` and ``frame_index`` or
``frame_id``, or else in order of ``file_name``; an annotation a box, with ``image_id`` and ``track_id`` or
``instance_id``. Segmentations are run lengths, compressed or not, or polygons; ``iscrowd`` 1 is an ignored
object.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from courtside.errors import LabelsError, TableError
from courtside.labels.rows import Findings, Rows, Sequence, Truth
from courtside.labels.source import Source
from courtside.masks import rle_to_box

__all__ = ["read"]

_TRACK_KEYS = ("track_id", "instance_id")
_FRAME_KEYS = ("frame_index", "frame_id")


def read(content: dict[str, Any], source: Source, sequence: Sequence | None, found: Findings) -> Truth:
    """The one video of a file, or the one that has the name of ``sequence``."""
    if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
        raise LabelsError(f"{source} has no annotations; give a COCO .json, or Label Studio's JSON export")
    names = {each.get("id"): str(each.get("name", "")) for each in content.get("categories") or []}
    video = _video(content, source, sequence)
    try:
        if "images" in content:
            entries, size, labelled = _of_images(content, video, source)
        else:
            entries, size, labelled = _of_videos(content, video)
            count = len(labelled) if sequence is None else sequence.frame_count
            if len(labelled) != count:
                raise LabelsError(
                    f"{source}: labels for {len(labelled)} frames, but {sequence.whose} has {count}; "
                    "use the labels made for all of this video's frames"
                )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LabelsError(f"{source} is not as COCO has it ({error!r}); export the labels again") from error
    known = None if sequence is None else (sequence.width, sequence.height)
    if known is not None and size is not None and size != known:
        found.refuse(
            f"{source}: labels for {size[0]} x {size[1]} pixels, but {sequence.whose} has "
            f"{known[0]} x {known[1]}; use the labels made for this video"
        )
    size = size or known
    all_crowds = bool(entries) and all(crowd for *_, crowd, _ in entries)
    if all_crowds:
        found.notes.append(
            f"{source} calls every object a crowd, as some tools do for run lengths; none is ignored"
        )
    values, places, masks, classes = [], [], [], {}
    for object_id, frame, box, segmentation, category, crowd, place in entries:
        try:
            rle = _rle(segmentation, size)
            around = None if rle is None else rle_to_box(rle, size[1], size[0])
            left, top, wide, high = box or (around.to_xywh() if around else ())
        except (TableError, TypeError, ValueError, KeyError, IndexError) as error:
            found.refuse(
                f"{source}, {place}: no box and no mask that can be read ({error}); correct or remove it"
            )
            continue
        values.append([frame, object_id, left, top, wide, high, all_crowds or not crowd, 1, -1])
        places.append(place)
        masks.append(rle if around else None)
        classes.setdefault(object_id, names.get(category, ""))
    if not values and not found.errors:
        raise LabelsError(f"{source} has no annotation of this video; give the file that has")
    rows = Rows(source, np.array(values, np.float64).reshape(-1, 9), places, found)
    count = int(labelled[-1]) + 1 if len(labelled) else 0
    length = count if sequence is None else sequence.frame_count
    whose = str(source) if sequence is None else sequence.whose
    return Truth(
        rows.truth(size, length, whose, first=0, masks=masks),
        classes={key: name for key, name in classes.items() if name},
        labelled=labelled,
        size=size,
        frame_count=count,
    )


def _video(content: dict[str, Any], source: Source, sequence: Sequence | None) -> dict[str, Any] | None:
    """The entry of the video that is meant; None where the file knows of no videos."""
    videos = content.get("videos") or []
    if len(videos) <= 1:
        return videos[0] if videos else None
    stem = "" if sequence is None else sequence.stem
    named = [each for each in videos if stem in _names(each)]
    if len(named) != 1:
        some = ", ".join(sorted({name for each in videos for name in _names(each)})[:5])
        raise LabelsError(
            f"{source} has {len(videos)} videos ({some}), {len(named)} of them named {stem or '?'}; "
            "name the video, or give a file of this one alone"
        )
    return named[0]


def _names(video: dict[str, Any]) -> set[str]:
    names = {PurePosixPath(str(video[key])).stem for key in ("name", "file_name") if key in video}
    return names | {PurePosixPath(str(file)).parent.name for file in (video.get("file_names") or [])[:1]}


def _of_videos(
    content: dict[str, Any], video: dict[str, Any] | None
) -> tuple[list, tuple[int, int], np.ndarray]:
    """Objects as YouTube-VIS has them: one entry per object and frame; all frames are labelled."""
    if video is None:
        raise KeyError("videos")
    entries = []
    for number, each in enumerate(content["annotations"]):
        if each["video_id"] != video["id"]:
            continue
        segmentations, boxes = each.get("segmentations") or [], each.get("bboxes") or []
        for frame in range(max(len(segmentations), len(boxes))):
            box = boxes[frame] if frame < len(boxes) else None
            segmentation = segmentations[frame] if frame < len(segmentations) else None
            if box is None and segmentation is None:
                continue
            place = f"annotation {each.get('id', number)}, frame {frame}"
            own = (each.get("category_id"), bool(each.get("iscrowd")), place)
            entries.append((each.get("id", number), frame, box, segmentation, *own))
    count = int(video.get("length") or len(video["file_names"]))
    return entries, (int(video["width"]), int(video["height"])), np.arange(count)


def _of_images(
    content: dict[str, Any], video: dict[str, Any] | None, source: Source
) -> tuple[list, tuple[int, int] | None, np.ndarray]:
    """Objects as COCO has them, whose images are a video's frames; these are the labelled ones."""
    images = content["images"]
    if video is not None:
        images = [each for each in images if each.get("video_id", video["id"]) == video["id"]]
    frame_of = _frames(images)
    sizes = {(int(each["width"]), int(each["height"])) for each in images if "width" in each}
    if len(sizes) > 1:
        raise LabelsError(
            f"{source} has images of several sizes, so they are no video; give one video's file"
        )
    entries = []
    for number, each in enumerate(content["annotations"]):
        if each["image_id"] not in frame_of:
            continue
        attributes = each.get("attributes") or {}
        keys = [each.get(key, attributes.get(key)) for key in _TRACK_KEYS]
        object_id = next((key for key in keys if key is not None), None)
        if object_id is None:
            raise LabelsError(
                f"{source}: annotation {each.get('id', number)} has no track_id; boxes without identity are "
                "no labels, so export with tracks"
            )
        frame = frame_of[each["image_id"]]
        place = f"annotation {each.get('id', number)}, frame {frame}"
        shapes = (each.get("bbox") or None, each.get("segmentation") or None)
        own = (each.get("category_id"), bool(each.get("iscrowd")), place)
        entries.append((int(object_id), frame, *shapes, *own))
    return entries, next(iter(sizes), None), np.array(sorted(frame_of.values()), np.int64)


def _frames(images: list[dict[str, Any]]) -> dict[Any, int]:
    """Each image's frame from 0: as stated, else by the number in its name, else in order of names."""
    for key in _FRAME_KEYS:
        if images and all(isinstance(each.get(key), int) for each in images):
            # TAO counts frame_index from 0; frame_id is counted from 1 by some and from 0 by others.
            first = int(key == "frame_id" and min(each[key] for each in images) > 0)
            return {each["id"]: each[key] - first for each in images}
    order = sorted(images, key=lambda each: _natural(str(each.get("file_name", each["id"]))))
    return {each["id"]: frame for frame, each in enumerate(order)}


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts frame_2 before frame_10."""
    return [(int(part) if part.isdecimal() else -1, part) for part in re.split(r"(\d+)", name)]


def _rle(segmentation: Any, size: tuple[int, int] | None) -> str | None:
    """COCO's compressed run-length string of a segmentation; None without one."""
    if not segmentation or size is None:
        return None
    width, height = size
    if isinstance(segmentation, list):
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))["counts"].decode("ascii")
    if list(segmentation.get("size", [height, width])) != [height, width]:
        raise ValueError(f"a mask of {segmentation['size']}, height and width, not {[height, width]}")
    counts = segmentation["counts"]
    if isinstance(counts, list):
        if sum(counts) != height * width:
            raise ValueError("run lengths that do not fill the frame")
        return coco_mask.frPyObjects(segmentation, height, width)["counts"].decode("ascii")
    return counts
