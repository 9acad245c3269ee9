"""CVAT's "CVAT for video 1.1": tracks in XML, of a whole task or of each of its jobs.

Frames count from 0 and are those of the video, whatever the task's first frame and step
(https://docs.cvat.ai/docs/manual/advanced/xml_format). Boxes, turned boxes (the upright box around them is
taken), ellipses (likewise), polygons and masks are read. Attributes named team and number (or
jersey_number, jersey) make a roster, and a ticked attribute named ignored an ignored object.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse
from pycocotools import mask as coco_mask

from courtside.errors import LabelsError
from courtside.labels.joining import Job, Part, join
from courtside.labels.rows import Findings, Rows, Sequence, Truth
from courtside.labels.source import Source
from courtside.masks import encode_rle

__all__ = ["read"]

_SHAPES = ("box", "ellipse", "polygon", "mask")
_NOT_READ = ("polyline", "points", "cuboid", "skeleton", "tag")
_TEAM = ("team",)
_NUMBER = ("number", "jersey_number", "jersey number", "jersey")


@dataclass
class _Track:
    """One track: ``frames`` from 0 and ``boxes`` left, top, width, height, of each shape that is in view."""

    source: Source
    name: str
    label: str
    job: int
    frames: list[int] = field(default_factory=list)
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    keys: list[bool] = field(default_factory=list)
    hidden: list[int] = field(default_factory=list)
    masks: list[str | None] = field(default_factory=list)
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass
class _File:
    """What the head of one file says; frames from 0."""

    start: int | None = None
    stop: int | None = None
    step: int = 1
    size: tuple[int, int] | None = None
    segments: list[tuple[int, int]] = field(default_factory=list)


def read(sources: Many[Source], sequence: Sequence | None, found: Findings) -> Truth:
    """The tracks of one task, from its one file or from a file for each of its jobs.

    Tracks that were cut where one job ends and the next begins are joined again, see ``joining.join``. Files
    that hold keyframes alone, as some other tools write them, are interpolated between these.
    """
    known = None if sequence is None else (sequence.width, sequence.height)
    files, tracks = [], []
    for number, source in enumerate(sources):
        head, own = _parse(source, number, known, found)
        files.append(head)
        tracks += own
    sizes = {head.size for head in files if head.size is not None}
    size = min(sizes, default=None)
    if len(sizes) > 1 or (known is not None and size not in (None, known)):
        other, whose = (sorted(sizes)[-1], "another job") if len(sizes) > 1 else (known, sequence.whose)
        found.refuse(
            f"{sources[0]}: labels for {size[0]} x {size[1]} pixels, but {whose} has "
            f"{other[0]} x {other[1]}; use the labels made for this video"
        )
    if not any(track.frames for track in tracks):
        raise LabelsError(
            f"{sources[0]} has no track with a box, polygon or mask; label in track mode and export as "
            "CVAT for video 1.1"
        )
    _fill_between_keyframes(tracks, files[0].step, found)
    parts = [Part(t.label, t.job, dict(zip(t.frames, t.boxes, strict=True))) for t in tracks]
    first, dropped = join(parts, _jobs(files), found)
    own = _own_ids(tracks) if len(files) == 1 else list(range(1, len(tracks) + 1))
    ids = [own[number] for number in first]
    values, places, masks = [], [], []
    for number, track in enumerate(tracks):
        ignored = track.attributes.get("ignored", "").lower() == "true"
        for frame, box, rle in zip(track.frames, track.boxes, track.masks, strict=True):
            if (number, frame) in dropped:
                continue
            values.append([frame, ids[number], *box, not ignored, 1, -1])
            file = f"{track.source.path.name}, " if len(files) > 1 else ""
            places.append(f"{file}{track.name}, frame {frame}")
            masks.append(rle)
    where = sources[0].path.parent if len(files) > 1 else sources[0]
    rows = Rows(where, np.array(values).reshape(-1, 9), places, found)
    length = None if sequence is None else sequence.frame_count
    whose = "" if sequence is None else sequence.whose
    return Truth(
        rows.truth(size or known, length, whose, first=0, masks=masks),
        classes={ids[number]: track.label for number, track in enumerate(tracks) if track.frames},
        players=_players(tracks, ids, found),
        labelled=_labelled(files, length),
        size=size,
        frame_count=max((head.stop + 1 for head in files if head.stop is not None), default=None),
    )


def _parse(
    source: Source, number: int, known: tuple[int, int] | None, found: Findings
) -> tuple[_File, list[_Track]]:
    """One file's head and tracks. DTDs, and with them all entities, are refused."""
    head, tracks = _File(), []
    track: _Track | None = None
    skipped: dict[str, int] = {}
    with source.open() as file:
        try:
            for event, element in iterparse(file, events=("start", "end"), forbid_dtd=True):
                tag = element.tag
                if event == "start":
                    if tag == "track":
                        name = f"track {element.get('id', len(tracks))}"
                        track = _Track(source, name, element.get("label", ""), number)
                        tracks.append(track)
                    elif tag == "image":
                        raise LabelsError(
                            f"{source} is CVAT for images, which has no tracks; export as CVAT for video 1.1"
                        )
                elif tag == "meta":
                    head = _head(element, source)
                elif track is not None and tag in _SHAPES:
                    _add(track, element, head.size or known, found)
                elif track is not None and tag in _NOT_READ:
                    skipped[tag] = skipped.get(tag, 0) + 1
                elif tag == "track":
                    track = None
                    element.clear()
        except ParseError as error:
            raise LabelsError(
                f"{source}, line {error.position[0]}: {error}; export the labels again"
            ) from error
        except DefusedXmlException as error:
            raise LabelsError(
                f"{source} defines a document type or entities, which labels never need; do not trust it"
            ) from error
    for tag, count in skipped.items():
        found.notes.append(f"{source}: {count} shapes of the kind {tag} were not read")
    return head, tracks


def _head(meta: Element, source: Source) -> _File:
    """The part of a file that describes its task or job."""

    def number(parent: Element, tag: str) -> int | None:
        text = (parent.findtext(tag) or "").strip()
        return int(text) if text.isdecimal() else None

    job = next((found for found in (meta.find("job"), meta.find("task")) if found is not None), None)
    head = _File()
    if job is None:
        if meta.find("project") is not None:
            raise LabelsError(f"{source} is of a whole project; export the one task of this video")
        return head
    head.start, head.stop = number(job, "start_frame"), number(job, "stop_frame")
    step = re.search(r"step=(\d+)", job.findtext("frame_filter") or "")
    head.step = max(1, int(step.group(1))) if step else 1
    width, height = (number(meta, f".//original_size/{tag}") for tag in ("width", "height"))
    head.size = (width, height) if width and height else None
    # A task counts the frames of its segments from its own start, in its own steps; a job names its frames.
    if job.tag == "task" and head.start is not None:
        for segment in job.iterfind("segments/segment"):
            start, stop = number(segment, "start"), number(segment, "stop")
            if start is not None and stop is not None:
                head.segments.append((head.start + start * head.step, head.start + stop * head.step))
    return head


def _add(track: _Track, element: Element, size: tuple[int, int] | None, found: Findings) -> None:
    """Take a shape into its track, if it is in view; ``size`` is that of the frame."""
    for attribute in element.iterfind("attribute"):
        text = (attribute.text or "").strip()
        if text:
            track.attributes.setdefault(attribute.get("name", "").strip().lower(), text)
    frame = element.get("frame", "")
    where = f"{track.source}, {track.name}, frame {frame}"
    if not frame.isdecimal():
        found.refuse(f"{track.source}, {track.name}: a shape without a frame number; export the labels again")
        return
    if element.get("outside") == "1":
        track.hidden.append(int(frame))
        return
    try:
        box, rle = _shape(element, size)
    except (KeyError, ValueError) as error:
        found.refuse(f"{where}: a {element.tag} that cannot be read ({error}); export the labels again")
        return
    track.frames.append(int(frame))
    track.boxes.append(box)
    track.masks.append(rle)
    track.keys.append(element.get("keyframe", "1") == "1")


def _shape(
    element: Element, size: tuple[int, int] | None
) -> tuple[tuple[float, float, float, float], str | None]:
    """A shape's upright box as left, top, width, height, and its mask where it has one."""
    at = element.attrib
    if element.tag == "box":
        x1, y1, x2, y2 = (float(at[name]) for name in ("xtl", "ytl", "xbr", "ybr"))
        return _turned((x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / 2, (y2 - y1) / 2, at), None
    if element.tag == "ellipse":
        x, y, rx, ry = (float(at[name]) for name in ("cx", "cy", "rx", "ry"))
        turn = math.radians(float(at.get("rotation", 0)))
        wide = math.hypot(rx * math.cos(turn), ry * math.sin(turn))
        high = math.hypot(rx * math.sin(turn), ry * math.cos(turn))
        return (x - wide, y - high, 2 * wide, 2 * high), None
    if element.tag == "polygon":
        points = np.array([[float(v) for v in pair.split(",")] for pair in at["points"].split(";")])
        low, high = points.min(axis=0), points.max(axis=0)
        rle = None
        if size is not None and len(points) > 2:
            codes = coco_mask.frPyObjects([points.ravel().tolist()], size[1], size[0])
            rle = codes[0]["counts"].decode("ascii")
        return (*low.tolist(), *(high - low).tolist()), rle
    left, top, width, height = (int(at[name]) for name in ("left", "top", "width", "height"))
    runs = np.array([int(run) for run in at["rle"].split(",")])
    if width < 1 or height < 1 or (runs < 0).any() or runs.sum() != width * height:
        raise ValueError(f"its run lengths do not fill {width} x {height} pixels")
    if size is None:
        return (left, top, width, height), None
    if left < 0 or top < 0 or left + width > size[0] or top + height > size[1]:
        raise ValueError(f"it reaches out of the frame of {size[0]} x {size[1]} pixels")
    part = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    whole = np.zeros((size[1], size[0]), bool)
    whole[top : top + height, left : left + width] = part
    return (left, top, width, height), encode_rle(whole)


def _turned(
    x: float, y: float, half_width: float, half_height: float, at: dict[str, str]
) -> tuple[float, float, float, float]:
    """The upright box around a box turned about its middle by the attribute ``rotation``, degrees."""
    turn = math.radians(float(at.get("rotation", 0)))
    if turn == 0:
        return x - half_width, y - half_height, 2 * half_width, 2 * half_height
    wide = abs(half_width * math.cos(turn)) + abs(half_height * math.sin(turn))
    high = abs(half_width * math.sin(turn)) + abs(half_height * math.cos(turn))
    return x - wide, y - high, 2 * wide, 2 * high


def _fill_between_keyframes(tracks: list[_Track], step: int, found: Findings) -> None:
    """Interpolate the boxes that CVAT would have written, where a file has keyframes alone."""
    if not all(key for track in tracks for key in track.keys):
        return
    filled = 0
    for track in tracks:
        order = np.argsort(track.frames)
        if len(order) < 2 or any(track.masks):
            continue
        frames = np.array(track.frames)[order]
        boxes = np.array(track.boxes)[order]
        hidden = np.array(sorted(track.hidden))
        every = np.arange(frames[0], frames[-1] + 1, step)
        # A shape out of view ends the stretch that the keyframe before it began.
        started = frames[np.searchsorted(frames, every, side="right") - 1]
        ended = np.searchsorted(hidden, started, side="right") < np.searchsorted(hidden, every, side="right")
        every = np.union1d(every[~ended], frames)
        boxes = np.column_stack([np.interp(every, frames, column) for column in boxes.T])
        filled += len(every) - len(frames)
        track.frames, track.boxes = every.tolist(), [tuple(box) for box in boxes.tolist()]
        track.masks, track.keys = [None] * len(every), [True] * len(every)
    if filled:
        found.notes.append(f"{filled} boxes were interpolated between keyframes, the only ones in the file")


def _own_ids(tracks: list[_Track]) -> list[int]:
    """The ids that the file gives its tracks, or their order where it gives none."""
    ids = [track.name.removeprefix("track ") for track in tracks]
    numbered = all(name.isdecimal() for name in ids) and len(set(ids)) == len(ids)
    return [int(name) for name in ids] if numbered else list(range(len(tracks)))


def _jobs(files: list[_File]) -> list[Job]:
    """The stretches of frames that were labelled apart from one another."""
    if len(files) == 1:
        return [Job(None, start, stop) for start, stop in sorted(files[0].segments)]
    bounds = [(head.start, head.stop, number) for number, head in enumerate(files)]
    if any(start is None or stop is None for start, stop, _ in bounds):
        return []
    return [Job(number, start, stop) for start, stop, number in sorted(bounds)]


def _players(
    tracks: list[_Track], ids: list[int], found: Findings
) -> dict[int, tuple[str | None, str | None]]:
    players: dict[int, tuple[str | None, str | None]] = {}
    for number, track in enumerate(tracks):
        team, jersey = (
            next((track.attributes[name] for name in names if name in track.attributes), None)
            for names in (_TEAM, _NUMBER)
        )
        if jersey is not None and not re.fullmatch(r"\d{1,2}", jersey):
            found.notes.append(f"{track.name}: {jersey!r} is no jersey number of one or two digits; left out")
            jersey = None
        before = players.get(ids[number], (None, None))
        players[ids[number]] = (before[0] or team, before[1] or jersey)
    return players


def _labelled(files: list[_File], length: int | None) -> np.ndarray | None:
    """The frames that were shown to whoever labelled; None where that is every frame, or unknown."""
    if any(head.start is None or head.stop is None for head in files):
        return None
    frames = np.unique(np.concatenate([np.arange(f.start, f.stop + 1, f.step) for f in files]))
    return frames if length is None else frames[frames < length]
