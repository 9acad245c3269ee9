"""All that is known of one video's labels, brought together from a folder or a single file.

A labels folder holds ``gt/gt.txt`` and ``seqinfo.ini`` as :mod:`courtside.labels.motchallenge` describes
them, or instead of gt.txt one export of another tool (several of CVAT: its jobs): CVAT's video XML or
zip, Label Studio's JSON, COCO's JSON. With those, seqinfo.ini may be left out where the video is at hand.
An export alone, a file, is read as well, and so are bare gt.txt and MOTS files. Beside it may lie

``labelled_frames.txt``
    The frames somebody looked at, one number a line, **from 1 as in gt.txt**. The others are unlabelled
    (not scored) rather than empty. Without this file every frame is labelled, or those that the export names.
``prompts.json``
    The object ids that each prompt means: ``{"referee": [11], "dog": []}``. Without it every prompt means
    all objects or, where they are of several classes, each class is a prompt.
``masks.json``
    COCO run-length strings: ``{"height": 720, "width": 1280, "frames": {"1": {"4": "..."}}}``, frames
    from 1, then object ids; each belongs to a row of gt.txt.
``roster.csv``
    ``object_id`` (or ``id``), ``team``, ``jersey_number`` (or ``number``), empty where unknown.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from courtside import tables
from courtside.errors import LabelsError
from courtside.labels import coco, cvat, label_studio, sidecars
from courtside.labels.motchallenge import read_mot, read_mots, read_seqinfo, whole_length
from courtside.labels.rows import Findings, Sequence, Truth
from courtside.labels.source import Source, open_sources, read_json

if TYPE_CHECKING:
    from courtside.video import Video

__all__ = ["Labels", "gather_labels", "read_labels", "sequences"]

_EXPORTS = (".xml", ".zip", ".json")
_FORMATS = "gt/gt.txt, a CVAT .xml or .zip, or a Label Studio or COCO .json"


@dataclass(frozen=True, eq=False)
class Labels:
    """Ground truth of one video.

    ``folder`` is the folder, or the single file, that it was read from. ``ground_truth`` obeys
    ``tables.GROUND_TRUTH`` and ``roster`` ``tables.ROSTER`` (None where nobody said who is who). ``width``
    and ``height`` are pixels, ``fps`` frames a second (NaN where neither the labels nor a video say).
    ``labelled_frames``: int64, sorted, the labelled frames **from 0**. ``prompts`` is None where every
    prompt means all objects. ``sha256`` covers the bytes of every labels file, not the video.
    ``lost_frames`` labels at the end were left out because the video is cut short there. ``notes`` say how
    the labels were made where that matters, such as that boxes were interpolated.
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
    notes: tuple[str, ...] = ()

    def objects_of(self, prompt: str) -> set[int] | None:
        """Ids of the objects that ``prompt`` means, whatever its capitals and spacing.

        Without prompts every labelled object; None where the prompts do not list this one: then nobody
        knows, which is not the same as an empty set.
        """
        if self.prompts is None:
            return {int(object_id) for object_id in self.ground_truth["object_id"].unique()}
        known = {sidecars.plain(text): objects for text, objects in self.prompts.items()}
        objects = known.get(sidecars.plain(prompt))
        return None if objects is None else set(objects)


def read_labels(path: str | Path, video: Video | None = None) -> Labels:
    """The labels in the folder or file ``path``, checked against ``video`` where one is given.

    Boxes may reach over the frame's edge, as is usual for people cut off by it, but not lie outside.
    Raises :class:`LabelsError` naming file, place and fix: a file or column is missing or empty, a
    value is not what its column holds, a frame is outside the video, an id occurs twice in a frame, a
    box lies outside the frame, or size or length disagree with the video. Where the video is known
    to be cut short, labels of its lost frames are left out instead.
    """
    labels = gather_labels(Path(path), video, Findings())
    assert labels is not None  # Findings that do not gather have raised
    return labels


def sequences(root: Path) -> list[Path]:
    """The folders below ``root`` with a gt/gt.txt, as in the trees of SportsMOT and DanceTrack, sorted."""
    return sorted(path.parent.parent for path in root.glob("**/gt/gt.txt"))


def gather_labels(path: Path, video: Video | None, found: Findings) -> Labels | None:
    """As :func:`read_labels`, with what is wrong going to ``found``; None where too much of it is."""
    sources = _sources(path)
    beside = path if path.is_dir() else None
    sequence, truth, labelled, prompts, roster = None, None, None, None, None
    with found.step():
        sequence = _sequence(path, sources, video)
    length = None if sequence is None else sequence.frame_count
    if beside is not None:
        with found.step():
            labelled = sidecars.read_labelled_frames(beside / "labelled_frames.txt", length, found)
    with found.step():
        # Frames known to hold nobody are labels too, so only a list of them makes an empty file meaningful.
        may_be_empty = beside is not None and (beside / "labelled_frames.txt").is_file()
        truth = _read(sources, sequence, found, may_be_empty)
    if beside is not None:
        with found.step():
            prompts = sidecars.read_prompts(beside / "prompts.json", found)
        with found.step():
            roster = sidecars.read_roster(beside / "roster.csv", found)
    if truth is None:
        return None
    sequence = sequence or _sequence_of(truth, sources, found)
    if sequence is None:
        return None
    table = truth.table
    if beside is not None:
        with found.step():
            table = sidecars.with_masks(
                table, beside / "masks.json", (sequence.width, sequence.height), found
            )
    frame_count = sequence.frame_count if sequence.kept is None else sequence.kept
    if labelled is None:
        labelled = np.arange(sequence.frame_count) if truth.labelled is None else truth.labelled
    kept = table[table["frame"] < frame_count]
    if prompts is None:
        prompts = _classes(truth, found)
    return Labels(
        folder=path,
        name=sequence.name or (path if path.is_dir() else path.with_suffix("")).resolve().name,
        width=sequence.width,
        height=sequence.height,
        fps=sequence.fps,
        frame_count=frame_count,
        ground_truth=tables.check(kept, tables.GROUND_TRUTH, str(sources[0])),
        roster=sidecars.roster_of(truth.players) if roster is None else roster,
        prompts=prompts,
        labelled_frames=labelled[labelled < frame_count].astype(np.int64),
        sha256=_hash(path, sources),
        lost_frames=max(sequence.frame_count - frame_count, 0),
        notes=tuple(found.notes),
    )


def _sources(path: Path) -> list[Source]:
    """The files with boxes or masks; several only where they are the jobs of one CVAT task."""
    if not path.exists():
        raise LabelsError(f"there are no labels at {path}; check the path")
    if not path.is_dir():
        return _inside(path)
    if (path / "gt" / "gt.txt").is_file():
        return [Source(path / "gt" / "gt.txt")]
    exports = sorted(
        each
        for each in path.iterdir()
        if each.suffix.lower() in _EXPORTS and each.name not in sidecars.NAMES and each.is_file()
    )
    if not exports and not (path / "gt").exists() and not (path / "seqinfo.ini").exists():
        below = sequences(path)
        if below:
            raise LabelsError(
                f"{path} holds {len(below)} labelled videos; name one of them, such as {below[0]}"
            )
        raise LabelsError(f"{path} holds no labels; put {_FORMATS} there, or name the file")
    if not exports:
        return [Source(path / "gt" / "gt.txt")]
    found = [source for export in exports for source in _inside(export)]
    if len(found) > 1 and any(source.suffix != ".xml" for source in found):
        names = ", ".join(export.name for export in exports)
        raise LabelsError(
            f"{path} holds several exports ({names}); keep one, or only the jobs of one CVAT task"
        )
    return found


def _inside(path: Path) -> list[Source]:
    """The one file to read of a file: itself, or what it is a zip of."""
    sources = open_sources(path)
    if path.suffix.lower() != ".zip":
        return sources
    for name in ("annotations.xml", "gt.txt"):
        named = [source for source in sources if source.member.rsplit("/", 1)[-1] == name]
        if named:
            return named[:1]
    jsons = [source for source in sources if source.suffix == ".json"]
    if len(jsons) == 1:
        return jsons
    raise LabelsError(
        f"{path} holds no annotations.xml, gt/gt.txt or single .json; export as CVAT for video 1.1, MOT 1.1 "
        "or COCO 1.0"
    )


def _sequence(path: Path, sources: list[Source], video: Video | None) -> Sequence | None:
    """The video as seqinfo.ini or the video itself has it; None where neither is there but may be missing."""
    # MOT folders have always needed it: without it nothing says how long the video is.
    whole = path.is_dir() and sources[0].path.name == "gt.txt"
    if path.is_dir() and (whole or (path / "seqinfo.ini").is_file()):
        return read_seqinfo(path / "seqinfo.ini", video)
    if video is None:
        return None
    return Sequence(
        name=None,
        width=video.width,
        height=video.height,
        fps=video.fps,
        frame_count=whole_length(video),
        whose=video.name,
        times_s=video.times_s,
        kept=video.frame_count,
    )


def _sequence_of(truth: Truth, sources: list[Source], found: Findings) -> Sequence | None:
    """The video as far as the labels describe it."""
    if truth.size is None:
        found.refuse(
            f"{sources[0]} does not say how large the video is; name the video, or write a seqinfo.ini "
            "beside it"
        )
        return None
    last = int(truth.table["frame"].max()) + 1 if len(truth.table) else 1
    count = truth.frame_count or last
    fps = math.nan if truth.fps is None else truth.fps
    return Sequence(None, *truth.size, fps, count, str(sources[0]))


def _read(sources: list[Source], sequence: Sequence | None, found: Findings, may_be_empty: bool) -> Truth:
    first = sources[0]
    if first.suffix == ".xml":
        return cvat.read(sources, sequence, found)
    if first.suffix == ".json":
        content = read_json(first)
        reader: Callable = label_studio.read if isinstance(content, list) else coco.read
        return reader(content, first, sequence, found)
    if first.suffix != ".txt":
        raise LabelsError(f"{first} is of no format that is read; give {_FORMATS}")
    if first.member is None and not first.path.is_file():
        raise LabelsError(
            f"{first} is missing; write rows of frame,id,left,top,width,height,conf,class,visibility"
        )
    if _is_mots(first):
        return read_mots(first, sequence, found)
    return read_mot(first, sequence, found, may_be_empty=may_be_empty)


def _is_mots(source: Source) -> bool:
    """Whether the first row ends in a run-length string."""
    row = next((line.split() for line in source.text().splitlines() if line.strip()), [])
    return len(row) == 6 and not any("," in field for field in row[:5])


def _classes(truth: Truth, found: Findings) -> dict[str, tuple[int, ...]] | None:
    """A prompt for each class, where there are several; with one class every prompt means everyone."""
    names = sorted(set(truth.classes.values()))
    if len(names) < 2:
        return None
    found.notes.append(
        f"objects are of {len(names)} classes, so that only these prompts have labels: {', '.join(names)}; "
        "write prompts.json for others"
    )
    return {name: tuple(sorted(k for k, own in truth.classes.items() if own == name)) for name in names}


def _hash(path: Path, sources: list[Source]) -> str:
    digest = hashlib.sha256()
    files = {source.path for source in sources} | {source.path.with_name("labels.txt") for source in sources}
    if path.is_dir():
        files |= {path / name for name in sidecars.NAMES}
    order = ("gt/gt.txt", *sidecars.NAMES)
    named = {file.relative_to(path).as_posix() if path.is_dir() else file.name: file for file in files}
    for name in sorted(named, key=lambda name: (order.index(name) if name in order else -1, name)):
        if named[name].is_file():
            content = named[name].read_bytes()
            digest.update(f"{name} {len(content)}\n".encode())
            digest.update(content)
    return digest.hexdigest()
