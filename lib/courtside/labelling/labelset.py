"""A labels folder in the making: what an edit log makes of the tracks that it began with."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from courtside import watch
from courtside.errors import LabelsError, RunError, SettingError, VideoError
from courtside.files import naming_disk_full, whole
from courtside.labelling import clicking, origin
from courtside.labelling.edits import EditLog
from courtside.labelling.identities import OPERATIONS, Draft
from courtside.labelling.writing import as_detections, write_labels, write_run
from courtside.labels import Labels
from courtside.settings import absolute
from courtside.types import FrameDetections
from courtside.video import Video

if TYPE_CHECKING:
    from courtside.device import Device

__all__ = ["LabelSet", "Pace"]

_PAUSE_S = 120.0
"""A longer silence between two edits is no work."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast labelling goes: ``frames`` marked as labelled in ``minutes`` of work, and ``clicks`` made for
    ``identities``. Silences of over two minutes count as two."""

    frames: int
    minutes: float
    clicks: int
    identities: int

    @property
    def frames_per_minute(self) -> float | None:
        return self.frames / self.minutes if self.minutes else None

    @property
    def clicks_per_identity(self) -> float | None:
        return self.clicks / self.identities if self.identities else None


class LabelSet:
    """Labels of one video in the folder ``folder``, made by operations that go into an edit log.

    What the folder is to hold at first comes from ``start``, a run or labels of the same video, or from
    labels that lie in ``folder``, or is nothing. From then on ``folder/edits`` has all: the beginning, the
    log, and boxes and masks that clicks made. :meth:`save` derives from it ``gt/gt.txt``, ``masks.json``,
    ``roster.csv``, ``prompts.json`` and ``labelled_frames.txt``, of the frames that are marked as labelled;
    :meth:`correct` derives a run. A crash costs nothing that an operation returned from.

    Where another process has the folder open, this one is ``read_only``, which says why; operations then
    raise :class:`RunError`. ``model`` and ``device`` are for :meth:`click` and :meth:`follow`, and loaded
    when these are first called. Frames count from 0, coordinates are pixels of the upright frame.

    Raises :class:`VideoError` where the video can't be read, :class:`LabelsError` where the folder holds
    labels of another video, and what reading ``start`` raises.
    """

    def __init__(
        self,
        video: str | Path | Video,
        folder: str | Path,
        *,
        start: str | Path | None = None,
        model: str | Path | tuple[Any, Any, Device] | None = None,
        device: str = "auto",
    ) -> None:
        self.video = video if isinstance(video, Video) else Video(video)
        self.folder = absolute(folder)
        self.edits_path = self.folder / "edits"
        self._clicker = clicking.Clicker(self.video, self.edits_path / "session", model, device)
        self._lock = contextlib.ExitStack()
        self._stored: dict[str, pd.DataFrame] = {}
        try:
            self.edits_path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LabelsError(f"cannot label in {self.folder}: {error.strerror or error}") from error
        self.read_only: str | None = None
        self._held = False
        self._claim()
        sha256 = self.video.sha256()
        if not (self.edits_path / origin.FACTS).exists():
            if self.read_only:
                raise RunError(f"{self.folder} is being set up elsewhere ({self.read_only}): try again")
            with _naming_disk_full(self.edits_path):
                origin.begin(self.edits_path, self.video, sha256, start, self.folder)
        self._first, self._facts = origin.read(self.edits_path, self.video, sha256)
        self._log = EditLog(self.edits_path / "edits.jsonl")
        self.draft = self._replay(self._log.standing())
        self._saved_at = -1

    def close(self) -> None:
        """Let go of the folder and of the model; everything stays."""
        self._clicker.close()
        self._lock.close()
        self._held = False

    def __enter__(self) -> LabelSet:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Operations on identities

    def merge(self, *objects: int, clicks: int = 0) -> None:
        """Make one player of several: the first keeps its id, and its box where both have one."""
        self._edit("merge", clicks, objects=[int(one) for one in objects])

    def split(self, object_id: int, frame: int, *, clicks: int = 0) -> int:
        """Make another player of all that follows from ``frame`` on; returns the new id."""
        new_id = self._new_id()
        self._edit("split", clicks, object_id=object_id, frame=frame, new_id=new_id)
        return new_id

    def swap(self, first_id: int, second_id: int, frame: int, *, clicks: int = 0) -> None:
        """Change the ids of two players from ``frame`` on."""
        self._edit("swap", clicks, first_id=first_id, second_id=second_id, frame=frame)

    def delete(
        self, object_id: int, first: int | None = None, last: int | None = None, *, clicks: int = 0
    ) -> None:
        """Take a player out, altogether or from ``first`` to ``last``."""
        self._edit("delete", clicks, object_id=object_id, first=first, last=last)

    def restore(self, object_id: int, *, clicks: int = 0) -> None:
        """Bring back what was deleted of a player."""
        self._edit("restore", clicks, object_id=object_id)

    def rename(self, object_id: int, name: str | None, *, clicks: int = 0) -> None:
        self._edit("rename", clicks, object_id=object_id, name=name)

    def set_team(self, object_id: int, team: str | None, *, clicks: int = 0) -> None:
        self._edit("set_team", clicks, object_id=object_id, team=team)

    def set_number(self, object_id: int, jersey_number: str | None, *, clicks: int = 0) -> None:
        self._edit("set_number", clicks, object_id=object_id, jersey_number=jersey_number)

    def set_prompts(self, object_id: int, prompts: Sequence[str], *, clicks: int = 0) -> None:
        """Say which prompts mean a player, so that runs with them are scored on it."""
        self._edit("set_prompts", clicks, object_id=object_id, prompts=list(prompts))

    def mark_occluded(
        self, object_id: int, first: int, last: int | None = None, occluded: bool = True, *, clicks: int = 0
    ) -> None:
        """Say that a player is hidden from ``first`` to ``last`` (by default that frame alone), or is not."""
        self._edit("mark_occluded", clicks, object_id=object_id, first=first, last=last, occluded=occluded)

    def ignore(
        self,
        object_id: int,
        first: int | None = None,
        last: int | None = None,
        ignored: bool = True,
        *,
        clicks: int = 0,
    ) -> None:
        """Neither require nor punish a player, such as somebody on the bench."""
        self._edit("ignore", clicks, object_id=object_id, first=first, last=last, ignored=ignored)

    def ignore_region(
        self, box_xyxy: Sequence[float], first: int = 0, last: int | None = None, *, clicks: int = 0
    ) -> int:
        """Ignore a part of the picture, and everyone labelled whose middle is in it; returns its id."""
        box = [float(side) for side in box_xyxy]
        for x, y in (box[:2], box[2:]):
            self.require_inside(x, y)
        new_id = self._new_id()
        self._edit("ignore_region", clicks, box_xyxy=box, first=first, last=last, new_id=new_id)
        return new_id

    def mark_labelled(
        self, first: int, last: int | None = None, labelled: bool = True, *, clicks: int = 0
    ) -> None:
        """Say that somebody looked at the frames from ``first`` to ``last``: they become ground truth."""
        self._edit("mark_labelled", clicks, first=first, last=last, labelled=labelled)

    def draw(
        self, frame: int, box_xyxy: Sequence[float], object_id: int | None = None, *, clicks: int = 0
    ) -> int:
        """Give a player, by default a new one, a box in one frame by hand; returns its id."""
        self.draft.require_frame(frame)
        x1, y1, x2, y2 = map(float, box_xyxy)
        if not (x1 < x2 and y1 < y2):
            raise SettingError(
                f"the box {tuple(box_xyxy)} is empty: give x1, y1, x2, y2 with x1 < x2, y1 < y2"
            )
        for x, y in ((x1, y1), (x2, y2)):
            self.require_inside(x, y)
        number = self._number(object_id)
        rows = pd.DataFrame({"frame": [frame], "x1": [x1], "y1": [y1], "x2": [x2], "y2": [y2]})
        self._put("drawn", number, rows, frame, frame, clicks)
        return number

    def undo(self, *, clicks: int = 0) -> dict[str, Any]:
        """Take back the last operation, however long ago; returns its entry in the log."""
        self._may_edit()
        entry = self._log.undo(clicks=clicks)
        self.draft = self._replay(self._log.standing())
        return entry

    def redo(self, *, clicks: int = 0) -> dict[str, Any]:
        """Do again what was undone last; returns its entry in the log."""
        self._may_edit()
        entry = self._log.redo(clicks=clicks)
        self.draft = self._replay(self._log.standing())
        return entry

    # With the help of SAM 3

    def click(
        self,
        frame: int,
        points: Sequence[Sequence[float]] | None = None,
        labels: Sequence[int] | None = None,
        *,
        box: Sequence[float] | None = None,
        object_id: int | None = None,
        clicks: int = 0,
    ) -> int:
        """Add a player, or refine ``object_id``, in one frame by points or a box; returns its id.

        ``labels`` are 1 for on the player (the default) and 0 for beside it. Points add to those that were
        given in that frame before; a box replaces them. :meth:`follow` then does the other frames.
        """
        self._may_edit()
        self.draft.require_frame(frame)
        corners = [] if box is None else [box[:2], box[2:]]
        for x, y in [*(points or ()), *corners]:
            self.require_inside(x, y)
        number = self._number(object_id)
        asked = clicks_of(self._log.standing(), number)
        given, row = self._clicker.click(asked, frame, points or (), labels, box)
        self._put("clicked", number, row, frame, frame, clicks, **given)
        return number

    def follow(
        self,
        object_id: int,
        direction: Literal["forward", "backward", "both"] = "both",
        *,
        frames: int | None = None,
        progress: bool = True,
        clicks: int = 0,
    ) -> Iterator[FrameDetections]:
        """Follow a clicked player from the frame clicked last, at most ``frames`` each way, and keep that.

        Yields each frame with that player alone, as it goes. Nobody else changes. When it was stopped, all
        is as it was, and the next call goes on where it stopped.
        """
        self._may_edit()
        self.draft.require(object_id)
        asked = clicks_of(self._log.standing(), object_id)
        if not asked:
            raise SettingError(
                f"player {object_id} was not clicked: click on it in one frame, then follow it"
            )
        return self._follow(object_id, asked, direction, frames, progress, clicks)

    def _follow(
        self,
        object_id: int,
        asked: clicking.Asked,
        direction: str,
        frames: int | None,
        progress: bool,
        count: int,
    ) -> Iterator[FrameDetections]:
        found, seen = [], []
        following = self._clicker.follow(asked, direction, frames, progress)
        with contextlib.closing(following):
            for frame in following:
                found.append(frame)
                seen.append(frame.frame_number)
                yield frame
        rows = clicking.rows_of(found)
        self._put("followed", object_id, rows, min(seen), max(seen), count, direction=direction)

    @property
    def can_click(self) -> bool:
        """Whether a model was named, so that clicks can work."""
        return self._clicker.model is not None

    def clicked(self, object_id: int) -> clicking.Asked:
        """What was clicked of a player and not undone: points and labels by frame, the latest last."""
        return clicks_of(self._log.standing(), object_id)

    # What comes of it

    @property
    def log(self) -> EditLog:
        """The edit log, to be read."""
        return self._log

    @property
    def saved(self) -> bool:
        """Whether :meth:`save` was called since the last operation."""
        return self._saved_at == len(self._log)

    def save(self) -> Path:
        """Write the labels of all frames that are marked as labelled; returns the folder.

        ``courtside labels check`` accepts it, and runs can be scored against it. Raises :class:`LabelsError`
        while no frame is marked, :class:`DiskFullError`, and :class:`RunError` where this is read-only.
        """
        self._may_edit()
        with _naming_disk_full(self.folder):
            write_labels(self.draft, self.video, self.folder)
        self._saved_at = len(self._log)
        return self.folder

    def labels(self) -> Labels:
        """Save, and read the labels back as everybody else does."""
        from courtside.labels import read_labels

        return read_labels(self.save(), self.video)

    def correct(self, out: str | Path) -> Path:
        """Write everybody who is neither deleted nor ignored as a run into the folder ``out``.

        It is scored and shown as any other run. Raises :class:`RunError` where ``out`` holds something else.
        """
        with _naming_disk_full(Path(out)):
            return write_run(self.draft, self.video, self._facts, self._log, Path(out))

    def tracks(self) -> pd.DataFrame:
        """Everybody who is neither deleted nor ignored, as ``tables.PLAYER_DETECTIONS``."""
        return as_detections(self.draft, self.video)

    def pace(self) -> Pace:
        """How fast labelling went so far, by the log."""
        times = pd.to_datetime([entry["when"] for entry in self._log], utc=True)
        gaps = np.diff(times.as_unit("s").asi8) if len(times) > 1 else np.zeros(0)
        present = self.draft.present
        # A region has no identity, and one who is ignored throughout needs none.
        people = present.loc[~present["ignored"], "object_id"]
        return Pace(
            frames=int(self.draft.labelled.sum()),
            minutes=float(np.minimum(gaps, _PAUSE_S).sum()) / 60,
            clicks=sum(entry.get("clicks", 0) for entry in self._log),
            identities=people.nunique(),
        )

    def refresh(self) -> bool:
        """Take in what was edited elsewhere; whether there was anything."""
        if not self._log.refresh():
            return False
        self.draft = self._replay(self._log.standing())
        return True

    def require_inside(self, x: float, y: float) -> None:
        """Raise :class:`SettingError` for a point outside the frame."""
        if not (0 <= x <= self.video.width and 0 <= y <= self.video.height):
            raise SettingError(
                f"the point ({x:g}, {y:g}) lies outside the frame of {self.video.width} x {self.video.height}"
                " pixels"
            )

    # The log

    def _edit(self, op: str, clicks: int, **details: Any) -> None:
        self._may_edit()
        details = {name: _plain(value) for name, value in details.items()}
        # Tried first, so that nothing gets into the log that can't be done.
        draft = OPERATIONS[op](self.draft, **details)
        self._log.append(op, clicks=clicks, **details)
        self.draft = draft

    def _put(
        self, how: str, object_id: int, rows: pd.DataFrame, first: int, last: int, count: int, **more: Any
    ) -> None:
        """Store ``rows`` beside the log, and then say in it that they are the player's from now on."""
        name = f"rows-{len(self._log) + 1:06d}.parquet"
        with _naming_disk_full(self.edits_path), whole(self.edits_path / name) as part:
            rows.to_parquet(part, index=False)
            with open(part, "rb") as file:
                os.fsync(file.fileno())
        self._stored[name] = rows
        span = {"object_id": object_id, "first": first, "last": last}
        draft = OPERATIONS["put"](self.draft, **span, rows=rows)
        self._log.append("put", clicks=count, how=how, **span, file=name, **more)
        self.draft = draft

    def _replay(self, entries: Sequence[dict[str, Any]]) -> Draft:
        draft = self._first
        for entry in entries:
            details = {name: value for name, value in entry.items() if name not in ("when", "op", "clicks")}
            if entry["op"] not in OPERATIONS:
                raise LabelsError(
                    f"{self._log.path} has an edit {entry['op']!r} that this version does not know:"
                    " use a newer Courtside"
                )
            if entry["op"] == "put":
                details["rows"] = self._rows(details["file"])
            draft = OPERATIONS[entry["op"]](draft, **details)
        return draft

    def _rows(self, name: str) -> pd.DataFrame:
        if name not in self._stored:
            path = self.edits_path / name
            try:
                self._stored[name] = pd.read_parquet(path)
            except (OSError, ValueError) as error:
                raise LabelsError(
                    f"{path}, which the edit log names, can't be read ({error}): get it back from a copy"
                ) from error
        return self._stored[name]

    def _number(self, object_id: int | None) -> int:
        if object_id is None:
            return self._new_id()
        self.draft.require(object_id)
        return int(object_id)

    def _new_id(self) -> int:
        """An id that no entry of the log names, undone ones included, so that redo stays possible."""
        named = [entry.get("new_id", entry.get("object_id", 0)) for entry in self._log]
        return max([self.draft.next_id, *(one + 1 for one in named)])

    def _claim(self) -> None:
        """Get the folder for this process, or know why not."""
        if self._held:
            return
        self.read_only = None
        try:
            self._lock.enter_context(watch.locked(self.edits_path))
            self._held = True
        except watch.HeldError as error:
            # Another view in the same process is welcome: both go on from one log.
            if str(error) != f"process {os.getpid()}":
                self.read_only = f"{error} edits {self.folder}"

    def _may_edit(self) -> None:
        self._claim()
        if self.read_only is not None:
            raise RunError(
                f"these labels are read-only here, since {self.read_only}: close the other notebook and run"
                " this again"
            )
        self.refresh()
        if not self.video.path.exists():
            raise VideoError(f"the video {self.video.path} has vanished; put it back and go on")


def clicks_of(entries: Sequence[dict[str, Any]], object_id: int) -> clicking.Asked:
    """What was clicked of a player by entries that stand: points and labels by frame, the latest last."""
    asked: clicking.Asked = {}
    for entry in entries:
        op, whose = entry["op"], entry.get("object_id")
        if op == "put" and whose == object_id and entry["how"] == "clicked":
            # The latest comes last, also where it is not the first in its frame.
            asked.pop(entry["first"], None)
            asked[entry["first"]] = (entry["points"], entry["labels"])
        elif op == "swap" and object_id in (entry["first_id"], entry["second_id"]):
            # Whom they showed from there on is somebody else now.
            asked = {frame: value for frame, value in asked.items() if frame < entry["frame"]}
        elif op == "split" and whose == object_id:
            asked = {frame: value for frame, value in asked.items() if frame < entry["frame"]}
    return asked


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's, which JSON can hold."""
    return value.item() if isinstance(value, np.generic) else value


def _naming_disk_full(folder: Path) -> contextlib.AbstractContextManager[None]:
    return naming_disk_full(
        f"nothing could be written to {folder}; free some space and try again (all edits up to now are safe)"
    )
