"""The edit log: every operation on labels, in order, on disk before it counts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from courtside import watch
from courtside.errors import DiskFullError, LabelsError, SettingError
from courtside.files import is_disk_full

__all__ = ["EditLog"]

_UNDO, _REDO = "undo", "redo"


class EditLog:
    """The log in the file ``path``: a JSON object a line, with ``when`` (UTC), ``op`` and what that takes.

    A line is written, and forced to the disk, before :meth:`append` returns; nothing is ever changed or
    taken out. Undo and redo are lines, too. A last line that a crash has cut is left out, and overwritten
    by the next one. Raises :class:`LabelsError` where the file is damaged anywhere else.

    >>> import tempfile
    >>> log = EditLog(Path(tempfile.mkdtemp()) / "edits.jsonl")
    >>> for op in ("split", "swap"):
    ...     _ = log.append(op, clicks=2)
    >>> _ = log.undo()
    >>> [entry["op"] for entry in log.standing()], len(log)
    (['split'], 3)
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._entries: list[dict[str, Any]] = []
        self._size = 0
        self.refresh()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._entries)

    def refresh(self) -> bool:
        """Read what was written by others since; whether there was anything."""
        if not self.path.exists() or self.path.stat().st_size <= self._size:
            return False
        with open(self.path, "rb") as file:
            file.seek(self._size)
            lines = file.read().splitlines(keepends=True)
        before = len(self._entries)
        for line in lines:
            if not line.endswith(b"\n"):
                break
            try:
                entry = json.loads(line)
                entry["op"], entry["when"]
            except (ValueError, KeyError, TypeError) as error:
                raise LabelsError(
                    f"line {len(self._entries) + 1} of {self.path} is damaged ({error}): mend or delete it"
                ) from error
            self._entries.append(entry)
            self._size += len(line)
        return len(self._entries) > before

    def append(self, op: str, **details: Any) -> dict[str, Any]:
        """Add an operation; raises :class:`DiskFullError`, and then the log is as it was before."""
        entry = {"when": watch.now(), "op": op, **details}
        line = json.dumps(entry, allow_nan=False).encode() + b"\n"
        with open(self.path, "r+b" if self.path.exists() else "w+b", buffering=0) as file:
            try:
                # Whatever lies behind the last whole line was cut by a crash.
                file.truncate(self._size)
                file.seek(self._size)
                if file.write(line) < len(line):
                    raise OSError(28, "No space left on device")
                os.fsync(file.fileno())
            except OSError as error:
                file.truncate(self._size)
                if is_disk_full(error):
                    raise DiskFullError(
                        f"the disk is full: the last edit was not kept in {self.path}; free some space and"
                        " do it again (all edits before it are safe)"
                    ) from error
                raise
        self._entries.append(entry)
        self._size += len(line)
        return entry

    def undo(self, **details: Any) -> dict[str, Any]:
        """Take back the last operation that stands, and return it."""
        done, _ = self._sorted()
        if not done:
            raise SettingError("there is nothing to undo: no edit stands")
        self.append(_UNDO, **details)
        return done[-1]

    def redo(self, **details: Any) -> dict[str, Any]:
        """Do again what was last undone, and return it; another operation since then ends that chance."""
        _, undone = self._sorted()
        if not undone:
            raise SettingError("there is nothing to redo: the last edit was not an undo")
        self.append(_REDO, **details)
        return undone[-1]

    def standing(self) -> list[dict[str, Any]]:
        """The operations that were not undone, in order."""
        return self._sorted()[0]

    @property
    def can_undo(self) -> bool:
        return bool(self._sorted()[0])

    @property
    def can_redo(self) -> bool:
        return bool(self._sorted()[1])

    def _sorted(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """What stands, and what could be done again, the next of it last."""
        done: list[dict[str, Any]] = []
        undone: list[dict[str, Any]] = []
        for entry in self._entries:
            if entry["op"] == _UNDO:
                undone.append(done.pop())
            elif entry["op"] == _REDO:
                done.append(undone.pop())
            else:
                done.append(entry)
                undone.clear()
        return done, undone
