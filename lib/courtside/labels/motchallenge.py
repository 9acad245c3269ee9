"""Ground truth and public detections from the files of the MOTChallenge, checked line by line.

A labels folder holds

``gt/gt.txt``
    A row per object per frame, commas or spaces between 9 or 10 columns: frame (**from 1**), object id
    (0 or more), left, top, width, height in pixels of the upright frame, conf (0: ignored, that is
    neither required nor punished), class, visibility in [0, 1] (-1: unknown). With 10 columns the last
    three are world coordinates, as in MOT15, and are not read.
``seqinfo.ini``
    ``imWidth``, ``imHeight``, ``frameRate``, ``seqLength`` (frames in the video), optionally ``name``.
``labelled_frames.txt`` (optional)
    The frames somebody looked at, one number a line, **from 1 as in gt.txt**. The others are unlabelled
    (not scored) rather than empty. Without this file every frame is labelled.
``prompts.json`` (optional)
    The object ids that each prompt means: ``{"referee": [11], "dog": []}``.
``masks.json`` (optional)
    COCO run-length strings: ``{"height": 720, "width": 1280, "frames": {"1": {"4": "..."}}}``, frames
    from 1, then object ids; each belongs to a row of gt.txt.
``roster.csv`` (optional)
    ``object_id`` (or ``id``), ``team``, ``jersey_number`` (or ``number``), empty where unknown.

Coordinates are taken as they are written, without a shift by one pixel, as TrackEval does.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from courtside import tables
from courtside.errors import LabelsError

if TYPE_CHECKING:
    from courtside.video import Video

__all__ = ["Labels", "read_detections", "read_labels"]

_HASHED = ("gt/gt.txt", "seqinfo.ini", "labelled_frames.txt", "prompts.json", "masks.json", "roster.csv")


@dataclass(frozen=True, eq=False)
class Labels:
    """Ground truth of one video.

    ``ground_truth`` obeys ``tables.GROUND_TRUTH`` and ``roster`` ``tables.ROSTER`` (None without
    roster.csv). ``width`` and ``height`` are pixels, ``fps`` frames a second. ``labelled_frames``:
    int64, sorted, the labelled frames **from 0**. ``prompts`` is None without prompts.json. ``sha256``
    covers the bytes of every labels file, not the video. ``lost_frames`` labels at the end were left
    out because the video is cut short there.
    """

    folder: Path
    name: str
    width: int
    height: int
    fps: float
    frame_count: int
    ground_truth: pd.DataFrame
    roster: pd.DataFrame | None
    prompts: dict[str, tuple[int, ...]] | None
    labelled_frames: np.ndarray
    sha256: str
    lost_frames: int = 0

    def objects_of(self, prompt: str) -> set[int] | None:
        """Ids of the objects that ``prompt`` means, whatever its capitals and spacing.

        Without prompts.json every labelled object; None where prompts.json does not list the prompt:
        then nobody knows, which is not the same as an empty set.
        """
        if self.prompts is None:
            return {int(object_id) for object_id in self.ground_truth["object_id"].unique()}
        known = {_plain(text): objects for text, objects in self.prompts.items()}
        objects = known.get(_plain(prompt))
        return None if objects is None else set(objects)


def read_labels(folder: str | Path, video: Video | None = None) -> Labels:
    """The labels in ``folder``, checked against ``video`` where one is given.

    Boxes may reach over the frame's edge, as is usual for people cut off by it, but not lie outside.
    Raises :class:`LabelsError` naming file, line and fix: a file or column is missing or empty, a
    value is not what its column holds, a frame is outside the video, an id occurs twice in a frame, a
    box lies outside the frame, or size or length disagree with the video. Where the video is known
    to be cut short, labels of its lost frames are left out instead.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise LabelsError(f"{folder} is not a folder; give the folder that holds gt/gt.txt and seqinfo.ini")
    sequence = _read_seqinfo(folder / "seqinfo.ini", video)
    labelled_frames = _read_labelled_frames(folder / "labelled_frames.txt", sequence["frame_count"])
    # Frames known to hold nobody are labels too, so only a list of them makes an empty file meaningful.
    may_be_empty = (folder / "labelled_frames.txt").is_file()
    truth = _read_ground_truth(folder / "gt" / "gt.txt", sequence, may_be_empty)
    truth = _with_masks(truth, folder / "masks.json", sequence)
    frame_count = sequence["frame_count"] if video is None else video.frame_count
    truth = truth[truth["frame"] < frame_count]
    return Labels(
        folder=folder,
        name=sequence["name"] or folder.resolve().name,
        width=sequence["width"],
        height=sequence["height"],
        fps=sequence["fps"],
        frame_count=frame_count,
        ground_truth=tables.check(truth, tables.GROUND_TRUTH, str(folder / "gt" / "gt.txt")),
        roster=_read_roster(folder / "roster.csv"),
        prompts=_read_prompts(folder / "prompts.json"),
        labelled_frames=labelled_frames[labelled_frames < frame_count],
        sha256=_hash(folder),
        lost_frames=sequence["frame_count"] - frame_count,
    )


def read_detections(path: str | Path, video: Video | None = None) -> pd.DataFrame:
    """Boxes from a MOTChallenge ``det.txt``, as ``tables.DETECTIONS``, in order of frame.

    Rows are ``frame, id, left, top, width, height, confidence`` and up to three columns that are not
    read, as the id is not; frames count from 1, confidence is in [0, 1]. A file without rows is a
    detector that found nothing: an empty table. Raises :class:`LabelsError` naming file, line and fix
    for NaN, a size that is not positive, wrong columns, and with ``video`` also for a frame that it
    does not have or a box outside its frame. Where the video is known to be cut short, boxes of its
    lost frames are left out instead.
    """
    path = Path(path)
    if path.is_dir():
        raise LabelsError(f"{path} is a folder; give the detections file in it, such as det/det.txt")
    rows = _read_numbers(path, 7, 10, "frame,-1,left,top,width,height,confidence")
    if video is None:
        frames, boxes = rows.frames(None), rows.boxes(None)
    else:
        frames = rows.frames(_whole_length(video), video.name)
        boxes = rows.boxes((video.width, video.height))
    confidence = rows.values[:, 6]
    rows.refuse(
        (confidence < 0) | (confidence > 1),
        lambda i: f"confidence {confidence[i]:g} is not in [0, 1]; rescale this detector's confidences",
    )
    table = pd.DataFrame({"frame": frames, **boxes, "confidence": confidence})
    if video is not None:
        table = table[table["frame"] < video.frame_count]
    table = table.sort_values("frame", kind="stable", ignore_index=True)
    return tables.check(table, tables.DETECTIONS, str(path))


def _whole_length(video: Video) -> int:
    """How many frames the video has, or had before it was cut short; containers state that roughly."""
    if video.stated_frame_count == video.frame_count:
        return video.frame_count
    return math.ceil(video.stated_frame_count * 1.02) + 1


def _plain(prompt: str) -> str:
    return " ".join(prompt.split()).casefold()


def _text(path: Path, fix: str) -> str:
    """The text of a file; ``fix`` says what to do where it is missing."""
    if not path.is_file():
        raise LabelsError(f"{path} is missing; {fix}")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabelsError(
            f"{path} is not text in UTF-8 (byte {error.start}); save it as plain text"
        ) from error
    except OSError as error:
        raise LabelsError(f"{path} cannot be read ({error.strerror}); check its permissions") from error


class _Rows(NamedTuple):
    """The numbers of a file, float64 [rows, columns], and each row's line in it, counted from 1."""

    path: Path
    values: np.ndarray
    lines: np.ndarray

    def refuse(self, bad: np.ndarray, sentence: Callable[[int], str]) -> None:
        """Raise for the first row where ``bad`` holds; ``sentence`` takes the row's position."""
        if bad.any():
            first = int(np.argmax(bad))
            raise LabelsError(f"{self.path}, line {self.lines[first]}: {sentence(first)}")

    def frames(self, count: int | None, whose: str = "") -> np.ndarray:
        """Column 1, which counts from 1, as frames from 0, int64; ``count`` is ``whose`` length."""
        values = self.values[:, 0]
        self.refuse(
            values != np.floor(values),
            lambda i: f"frame {values[i]:g} is not a whole number; number the frames 1, 2, 3",
        )
        self.refuse(
            values < 1,
            lambda i: (
                f"frame {values[i]:.0f}, but frames count from 1; "
                f"add {1 - values.min():.0f} to each frame of this file"
            ),
        )
        last = 1e9 if count is None else count

        def beyond(i: int) -> str:
            shift = values.max() - last
            # Numbers that all fit once moved to start at 1 were counted from elsewhere.
            moved = f"subtract {shift:.0f} from each frame of this file" if shift == values.min() - 1 else ""
            fix = moved or "use the file that belongs to this video"
            return f"frame {values[i]:.0f}, but {whose or 'a video'} ends with frame {last:.0f}; {fix}"

        self.refuse(values > last, beyond)
        return values.astype(np.int64) - 1

    def boxes(self, size: tuple[int, int] | None) -> dict[str, np.ndarray]:
        """Columns 3 to 6 as x1, y1, x2, y2, float64; of positive size, touching the frame of ``size``."""
        x1, y1, wide, high = self.values[:, 2:6].T
        self.refuse(
            (wide <= 0) | (high <= 0),
            lambda i: (
                f"a box of {wide[i]:g} x {high[i]:g} pixels; width and height must be positive, "
                "so correct the row or remove it"
            ),
        )
        x2, y2 = x1 + wide, y1 + high
        if size is not None:
            width, height = size
            self.refuse(
                (x2 <= 0) | (y2 <= 0) | (x1 >= width) | (y1 >= height),
                lambda i: (
                    f"the box x {x1[i]:g} to {x2[i]:g}, y {y1[i]:g} to {y2[i]:g} lies outside the frame of "
                    f"{width} x {height} pixels; scale the boxes to the video's size or remove the row"
                ),
            )
        return {"x1": x1, "y1": y1, "x2": x2, "y2": y2}


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _read_numbers(path: Path, fewest: int, most: int, columns: str) -> _Rows:
    """The rows of ``fewest`` to ``most`` numbers, each as long as the first; blank lines are skipped."""
    values: list[list[float]] = []
    lines: list[int] = []
    for line, text in enumerate(_text(path, f"write rows of {columns}").splitlines(), start=1):
        text = text.strip()
        if not text:
            continue
        # Splitting at runs of commas would shift the columns after an empty one.
        fields = text.removesuffix(",").split(",") if "," in text else text.split()
        if not fewest <= len(fields) <= most or (values and len(fields) != len(values[0])):
            wanted = f"{len(values[0])} as above" if values else f"{fewest} to {most}".removeprefix("1 to ")
            raise LabelsError(
                f"{path}, line {line}: {len(fields)} columns instead of {wanted}; write {columns} in each"
            )
        for column, field in enumerate(fields, start=1):
            if not _is_number(field):
                raise LabelsError(
                    f"{path}, line {line}: column {column} is {field.strip()!r}, not a number; "
                    f"write {columns} without a header line"
                )
        values.append([float(field) for field in fields])
        lines.append(line)
    rows = _Rows(path, np.array(values).reshape(len(values), -1 if values else fewest), np.array(lines, int))
    finite = np.isfinite(rows.values)
    rows.refuse(
        ~finite.all(axis=1),
        lambda i: (
            f"column {np.argmin(finite[i]) + 1} is {rows.values[i][np.argmin(finite[i])]}; "
            "give a finite number or remove the row"
        ),
    )
    return rows


def _read_ground_truth(path: Path, sequence: dict[str, Any], may_be_empty: bool) -> pd.DataFrame:
    columns = "frame,id,left,top,width,height,conf,class,visibility"
    rows = _read_numbers(path, 9, 10, columns)
    count = len(rows.values)
    if count == 0 and not may_be_empty:
        raise LabelsError(
            f"{path} has no rows; write {columns} for each object, or, if there is truly nobody to see, "
            "list the frames you looked at in labelled_frames.txt"
        )
    frames = rows.frames(sequence["frame_count"], "seqLength of seqinfo.ini")
    ids = rows.values[:, 1]
    rows.refuse(
        (ids != np.floor(ids)) | (ids < 0) | (ids > 2**53),
        lambda i: (
            f"object id {ids[i]:g} is not a whole number of 0 or more; give each object its own id "
            "(detections without ids are no labels)"
        ),
    )
    keys = pd.DataFrame({"frame": frames, "object_id": ids.astype(np.int64)})

    def twice(i: int) -> str:
        first = int(np.argmax((frames == frames[i]) & (ids == ids[i])))
        return (
            f"object {ids[i]:.0f} is already in frame {frames[i] + 1} (line {rows.lines[first]}); "
            "give one of the two another id or remove it"
        )

    rows.refuse(keys.duplicated().to_numpy(), twice)
    boxes = rows.boxes((sequence["width"], sequence["height"]))
    visibility = np.full(count, np.nan)
    if rows.values.shape[1] == 9:
        visibility = np.where(rows.values[:, 8] == -1, np.nan, rows.values[:, 8])
        rows.refuse(
            (visibility < 0) | (visibility > 1),
            lambda i: f"visibility {visibility[i]:g} is not in [0, 1]; write -1 where it is unknown",
        )
    no_masks = pd.array([None] * count, dtype="string")
    table = keys.assign(**boxes, ignored=rows.values[:, 6] == 0, visibility=visibility, mask_rle=no_masks)
    return table.sort_values(["frame", "object_id"], ignore_index=True)


def _read_seqinfo(path: Path, video: Video | None) -> dict[str, Any]:
    """``name`` (or None), ``width``, ``height``, ``fps`` and ``frame_count``."""
    fix = "write a section [Sequence] with imWidth, imHeight, frameRate and seqLength"
    found: dict[str, tuple[int, str]] = {}
    for line, text in enumerate(_text(path, fix).splitlines(), start=1):
        key, separator, value = text.partition("=")
        if separator:
            found[key.strip().lower()] = (line, value.strip())
    info: dict[str, Any] = {"name": found.get("name", (0, ""))[1] or None}
    names = {"imWidth": "width", "imHeight": "height", "frameRate": "fps", "seqLength": "frame_count"}
    for key, name in names.items():
        if key.lower() not in found:
            raise LabelsError(f"{path} has no {key}; {fix}")
        line, text = found[key.lower()]
        number = float(text) if _is_number(text) else np.nan
        if not (0 < number < np.inf) or (name != "fps" and number != int(number)):
            kind = "positive number" if name == "fps" else "positive whole number"
            raise LabelsError(f"{path}, line {line}: {key} is {text!r}; give a {kind}")
        info[name] = number if name == "fps" else int(number)
    if video is None:
        return info
    labelled, actual = (info["width"], info["height"]), (video.width, video.height)
    if labelled != actual:
        turned = "label the upright picture" if labelled == actual[::-1] else "scale them to the video's size"
        raise LabelsError(
            f"{path}, line {found['imwidth'][0]}: labels for {labelled[0]} x {labelled[1]} pixels, but "
            f"{video.name} has {actual[0]} x {actual[1]}; use the labels made for this video or {turned}"
        )
    if not video.frame_count <= info["frame_count"] <= _whole_length(video):
        longer = info["frame_count"] > video.frame_count
        other = "find its whole file" if longer else "correct seqLength and write labelled_frames.txt"
        raise LabelsError(
            f"{path}, line {found['seqlength'][0]}: labels for {info['frame_count']} frames, but "
            f"{video.name} has {video.frame_count}; use the labels made for this video or {other}"
        )
    return info


def _read_labelled_frames(path: Path, frame_count: int) -> np.ndarray:
    """Labelled frames from 0, int64, sorted, each once; all of them without the file."""
    if not path.exists():
        return np.arange(frame_count, dtype=np.int64)
    rows = _read_numbers(path, 1, 1, "one frame number")
    if len(rows.values) == 0:
        raise LabelsError(f"{path} lists no frame; write one number a line, or remove the file")
    return np.unique(rows.frames(frame_count, "seqLength of seqinfo.ini"))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_text(path, "write a JSON object"))
    except json.JSONDecodeError as error:
        raise LabelsError(f"{path}, line {error.lineno}: {error.msg}; correct the JSON") from error
    if not isinstance(content, dict):
        raise LabelsError(f"{path}, line 1: not a JSON object; write {{...}}")
    return content


def _read_prompts(path: Path) -> dict[str, tuple[int, ...]] | None:
    if not path.exists():
        return None
    prompts = _read_json(path)
    seen: dict[str, str] = {}
    for prompt, objects in prompts.items():
        numbers = isinstance(objects, list) and all(type(one) is int and one >= 0 for one in objects)
        if not numbers:
            raise LabelsError(
                f"{path}: prompt {prompt!r} has {objects!r}; list its object ids, such as [1, 2]"
            )
        if _plain(prompt) in seen:
            raise LabelsError(
                f"{path}: prompts {prompt!r} and {seen[_plain(prompt)]!r} are the same; keep one"
            )
        seen[_plain(prompt)] = prompt
    return {prompt: tuple(objects) for prompt, objects in prompts.items()}


def _with_masks(truth: pd.DataFrame, path: Path, sequence: dict[str, Any]) -> pd.DataFrame:
    """``truth`` with its ``mask_rle`` from masks.json, if there is one."""
    if not path.exists():
        return truth
    content = _read_json(path)
    for key in ("height", "width"):
        if content.get(key) != sequence[key]:
            raise LabelsError(
                f"{path}: {key} is {content.get(key)}, but {sequence[key]} in seqinfo.ini; "
                "render or draw the masks at the video's size"
            )
    frames = content.get("frames")
    if not isinstance(frames, dict):
        raise LabelsError(f'{path}: "frames" is missing; write {{"frames": {{"1": {{"<id>": "<rle>"}}}}}}')
    row_of = {key: row for row, key in enumerate(zip(truth["frame"], truth["object_id"], strict=True))}
    masks: list[str | None] = [None] * len(truth)
    for frame, objects in frames.items():
        if not re.fullmatch(r"\d+", frame) or not isinstance(objects, dict):
            raise LabelsError(f'{path}: frame {frame!r} is not a number with {{"<id>": "<rle>"}}; correct it')
        for object_id, rle in objects.items():
            row = row_of.get((int(frame) - 1, int(object_id))) if re.fullmatch(r"\d+", object_id) else None
            if row is None:
                raise LabelsError(
                    f"{path}: frame {frame}, object {object_id!r} has no row in gt.txt; "
                    "add its box there or remove the mask"
                )
            if not isinstance(rle, str):
                raise LabelsError(
                    f"{path}: frame {frame}, object {object_id} is no string; write COCO's compressed counts"
                )
            masks[row] = rle
    return truth.assign(mask_rle=pd.array(masks, dtype="string"))


def _read_roster(path: Path) -> pd.DataFrame | None:
    if not path.exists():
        return None
    columns = "object_id,team,jersey_number"
    reader = csv.reader(_text(path, f"write a header {columns}").splitlines())
    header = [name.strip().lower() for name in next(reader, [])]
    places = []
    for names in (("object_id", "id"), ("team",), ("jersey_number", "number")):
        place = next((header.index(name) for name in names if name in header), None)
        if place is None:
            raise LabelsError(f"{path}, line 1: no column {names[0]}; write the header {columns}")
        places.append(place)
    rows: dict[int, tuple[str | None, str | None]] = {}
    for fields in reader:
        where = f"{path}, line {reader.line_num}"
        if not any(field.strip() for field in fields):
            continue
        if len(fields) != len(header):
            raise LabelsError(f"{where}: {len(fields)} columns instead of {len(header)}; write {columns}")
        object_id, team, number = (fields[place].strip() for place in places)
        if not re.fullmatch(r"\d+", object_id):
            raise LabelsError(f"{where}: object id {object_id!r} is no whole number; use the ids of gt.txt")
        if number and not re.fullmatch(r"\d{1,2}", number):
            raise LabelsError(f"{where}: jersey number {number!r}; write one or two digits, or nothing")
        if int(object_id) in rows:
            raise LabelsError(f"{where}: object {object_id} occurs twice; keep one of the rows")
        rows[int(object_id)] = (team or None, number or None)
    table = pd.DataFrame(
        {
            "object_id": np.array(list(rows), np.int64),
            "team": pd.array([team for team, _ in rows.values()], dtype="string"),
            "jersey_number": pd.array([number for _, number in rows.values()], dtype="string"),
        }
    )
    return tables.check(table, tables.ROSTER, str(path))


def _hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in _HASHED:
        path = folder / name
        if path.is_file():
            content = path.read_bytes()
            digest.update(f"{name} {len(content)}\n".encode())
            digest.update(content)
    return digest.hexdigest()
