"""Files that hold labels, plain or inside a zip, opened with care: nothing is unpacked to disk."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from courtside.errors import LabelsError

__all__ = ["MOST_BYTES", "Source", "open_sources", "read_json", "read_text"]

MOST_BYTES = 1 << 30
"""The largest labels file that is read, unpacked: 1 GB."""

_MOST_MEMBERS = 200_000
_PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


@dataclass(frozen=True)
class Source:
    """A file on disk or, with ``member``, one inside the zip at ``path``."""

    path: Path
    member: str | None = None

    def __str__(self) -> str:
        return str(self.path) if self.member is None else f"{self.path}: {self.member}"

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.member or self.path.name).suffix.lower()

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The file's bytes, at most MOST_BYTES of them."""
        try:
            if self.member is None:
                with open(self.path, "rb") as file:
                    yield _Limited(file, self)
            else:
                with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as file:
                    yield _Limited(file, self)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
            raise LabelsError(f"{self} cannot be unpacked ({error}); export the labels again") from error
        except OSError as error:
            raise LabelsError(
                f"{self} cannot be read ({error.strerror or error}); check its permissions"
            ) from error

    def text(self) -> str:
        """The file as text in UTF-8, without a byte order mark."""
        with self.open() as file:
            return _decode(file.read(), self)

    def beside(self, name: str) -> Source | None:
        """The file of that name next to this one, if there is one."""
        if self.member is None:
            path = self.path.with_name(name)
            return Source(path) if path.is_file() else None
        member = str(PurePosixPath(self.member).with_name(name))
        with zipfile.ZipFile(self.path) as archive:
            return Source(self.path, member) if member in archive.namelist() else None


class _Limited(io.RawIOBase):
    """Reads through to ``file`` and refuses more than MOST_BYTES, whatever its header promised."""

    def __init__(self, file: BinaryIO, source: Source) -> None:
        self._file, self._source, self._read = file, source, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        wanted = MOST_BYTES - self._read + 1
        data = self._file.read(wanted if size is None or size < 0 else min(size, wanted))
        self._read += len(data)
        if self._read > MOST_BYTES:
            raise LabelsError(
                f"{self._source} holds over {MOST_BYTES >> 20} MB; split it into smaller exports"
            )
        return data


def open_sources(path: Path) -> list[Source]:
    """``path`` itself, or the members of that zip that may hold labels; raises LabelsError for a bad zip.

    Members that would leave the folder they are unpacked to, links, and encrypted ones make the whole
    zip suspect, though nothing is ever unpacked: it is refused.
    """
    if path.suffix.lower() != ".zip":
        return [Source(path)]
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise LabelsError(f"{path} is no readable zip ({error}); export the labels again") from error
    if len(members) > _MOST_MEMBERS:
        raise LabelsError(f"{path} has {len(members)} files; export the labels without the pictures")
    for member in members:
        name = PurePosixPath(member.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
            raise LabelsError(
                f"{path} has a file named {member.filename!r}, outside the zip; do not trust it"
            )
        if member.external_attr >> 28 == 0xA:
            raise LabelsError(f"{path} has a link named {member.filename!r}; do not trust it")
        if member.flag_bits & 1:
            raise LabelsError(f"{path} is encrypted; export the labels without a password")
        if name.suffix.lower() not in _PICTURES and member.file_size > MOST_BYTES:
            raise LabelsError(
                f"{path}: {member.filename} unpacks to {member.file_size >> 20} MB, over the "
                f"{MOST_BYTES >> 20} MB that are read; split it into smaller exports"
            )
    return [
        Source(path, member.filename)
        for member in members
        if not member.is_dir() and Path(member.filename).suffix.lower() in (".xml", ".json", ".txt")
    ]


def read_text(path: Path, fix: str) -> str:
    """The text of a file; ``fix`` says what to do where it is missing."""
    if not path.is_file():
        raise LabelsError(f"{path} is missing; {fix}")
    return Source(path).text()


def read_json(source: Source) -> Any:
    """The content of a JSON file."""
    try:
        return json.loads(source.text())
    except json.JSONDecodeError as error:
        raise LabelsError(f"{source}, line {error.lineno}: {error.msg}; correct the JSON") from error
    except RecursionError:
        raise LabelsError(f"{source} is nested too deep to be labels; export them again") from None


def _decode(data: bytes, source: Source) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabelsError(
            f"{source} is not text in UTF-8 (byte {error.start}); save it as plain text"
        ) from error
