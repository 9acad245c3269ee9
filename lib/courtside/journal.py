"""The growing table of a run: finished segments, and a checkpoint that says which of them count."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from courtside import watch
from courtside.files import DetectionsWriter, frame_rows, whole

if TYPE_CHECKING:
    from courtside.types import FrameDetections

__all__ = ["Journal"]

_SECONDS = 5.0
_SHARE = 0.05


class Journal:
    """Keeps the detections of a video in ``folder`` while it is tracked, safe from a kill at any moment.

    Frames added since the last :meth:`commit` count for nothing until the next one, which writes, in this
    order: the frames as a segment, the tracker's state, and ``journal.json``, which names both. So what
    ``journal.json`` names always fits together. Arguments as of :class:`courtside.files.DetectionsWriter`.
    """

    def __init__(
        self, folder: Path, video: str, prompts: Collection[str] = (), *, backward: bool = False
    ) -> None:
        self.folder = folder
        self._video, self._prompts, self._backward = video, prompts, backward
        self._segments = 0
        self._writer: DetectionsWriter | None = None
        self._due = time.monotonic() + _SECONDS

    def take_up(self, key: str) -> Path | None:
        """The saved state to go on from; None, and an empty journal, where nothing of ``key`` lies here."""
        try:
            named = json.loads((self.folder / "journal.json").read_text())
        except (FileNotFoundError, NotADirectoryError):
            named = {}
        if named.get("key") != key:
            self.clear()
            return None
        self._segments = named["segments"]
        kept = {self._segment(number) for number in range(1, self._segments + 1)}
        kept |= {self._state(), self.folder / "journal.json"}
        for leftover in set(self.folder.iterdir()) - kept:
            leftover.unlink()
        return self._state()

    def add(self, frame: FrameDetections) -> None:
        if self._writer is None:
            self._writer = self._start_segment()
        self._writer.add(frame)

    def is_due(self) -> bool:
        """Whether it is time for a commit: after 5 s, or longer where commits take over 5 % of the time."""
        return time.monotonic() >= self._due

    def commit(self, key: str, save: Callable[[Path], Any]) -> None:
        """Make all frames so far count; ``save`` writes the state after them to the path it is given."""
        began = time.monotonic()
        self._finish_segment()
        former = self._state(self._segments - 1)
        save(self._state())
        watch.write_json(self.folder / "journal.json", {"key": key, "segments": self._segments})
        former.unlink(missing_ok=True)
        now = time.monotonic()
        self._due = now + max(_SECONDS, (now - began) / _SHARE)

    def finish(self, path: Path, note: dict[str, Any]) -> None:
        """Write the whole table to ``path``, with ``note`` kept in it, and clear the journal."""
        if self._writer is not None:
            self._finish_segment()
        with whole(path) as part, DetectionsWriter(part, self._video, self._prompts) as writer:
            for number in range(1, self._segments + 1):
                writer.extend(self._segment(number))
            writer.note(note)
        self.clear()

    def close(self) -> None:
        """Give up the frames that were not committed."""
        if self._writer is not None:
            self._writer.abandon()
            self._writer = None
            self._part(self._segments + 1).unlink(missing_ok=True)
            if self._segments == 0:
                self.folder.rmdir()

    def clear(self) -> None:
        self.close()
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self._segments = 0

    def _start_segment(self) -> DetectionsWriter:
        self.folder.mkdir(exist_ok=True)
        part = self._part(self._segments + 1)
        return DetectionsWriter(part, self._video, self._prompts, backward=self._backward)

    def rows(self, *, ascending: bool = False) -> Iterator[tuple[int, list[tuple]]]:
        """The rows of each frame that counts and has any, as they came or by ``ascending`` frame."""
        segments = [self._segment(number) for number in range(1, self._segments + 1)]
        return frame_rows(segments, backward=self._backward, reverse=ascending and self._backward)

    def _finish_segment(self) -> None:
        writer, self._writer = self._writer or self._start_segment(), None
        writer.close()
        self._segments += 1
        self._part(self._segments).replace(self._segment(self._segments))

    def _part(self, number: int) -> Path:
        return self._segment(number).with_suffix(".parquet.part")

    def _segment(self, number: int) -> Path:
        return self.folder / f"segment-{number:06d}.parquet"

    def _state(self, number: int | None = None) -> Path:
        return self.folder / f"state-{self._segments if number is None else number:06d}.safetensors"
