"""Every error a user can cause, said in one sentence: what happened, where, and how to fix it."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "CourtsideError",
    "DeviceError",
    "DiskFullError",
    "LabelsError",
    "ModelError",
    "RosterError",
    "RunError",
    "SettingError",
    "TableError",
    "VideoError",
    "some",
]


class CourtsideError(Exception):
    """Base of all errors raised on purpose. ``str(error)`` is the sentence shown to the user.

    The command line prints that sentence without a traceback and exits with code 2.
    """


class VideoError(CourtsideError):
    """A video cannot be found, read, decoded or written."""


class LabelsError(CourtsideError):
    """A labels or detections file is malformed or does not belong to the video."""


class TableError(CourtsideError):
    """A table breaks the rules declared in ``courtside.tables``."""


class DeviceError(CourtsideError):
    """A device was asked for that does not work here, or it ran out of memory."""


class ModelError(CourtsideError):
    """Model weights cannot be loaded."""


class RosterError(CourtsideError):
    """A roster is malformed: a number twice in a team, letters for a number, a row without a team."""


class SettingError(CourtsideError):
    """An option has a value that cannot work: an unknown tracker, an empty prompt."""


class RunError(CourtsideError):
    """A run folder cannot be used: it holds another video's run, or a stage it needs is missing."""


class DiskFullError(CourtsideError):
    """The disk filled up while a file was being written; the partial file was removed."""


def some(items: Iterable[object], most: int = 6) -> str:
    """The first few, and how many more there are.

    >>> some([1, 2, 3], most=2)
    '1, 2 and 1 more'
    """
    texts = [str(item) for item in items]
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")
