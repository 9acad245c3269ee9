"""Files of a run folder: whole or not at all, streamed where they are large, and hashed."""

from __future__ import annotations

import ast
import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from courtside.errors import DiskFullError, RunError

if TYPE_CHECKING:
    import pandas as pd
    import pandera.pandas as pa

    from courtside.types import FrameDetections
    from courtside.video import Video

__all__ = [
    "DetectionsWriter",
    "detection_rows",
    "frame_rows",
    "hash_code",
    "hash_files",
    "identify_model",
    "is_disk_full",
    "naming_disk_full",
    "read_note",
    "read_table",
    "row_frame",
    "whole",
]

_ROWS_PER_GROUP = 10_000
_CHARACTERS_PER_GROUP = 16_000_000
_NOTE = "courtside"
_FRAME, _MASK = 1, -3  # where these stand in a row


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yields ``<path>.part`` to write to; it becomes ``path`` when the block ends well, else it goes."""
    part = path.with_name(path.name + ".part")
    try:
        yield part
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def hash_files(paths: Iterable[Path]) -> str:
    """SHA-256 over the names and contents of ``paths``, whatever their order."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        with open(path, "rb") as file:
            digest.update(f"{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\0".encode())
    return digest.hexdigest()


def hash_code(paths: Iterable[Path]) -> str:
    """SHA-256 over what the files do: comments, layout and stored notebook outputs don't count."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        content = path.read_bytes()
        if path.suffix == ".py":
            content = ast.dump(ast.parse(content)).encode()
        elif path.suffix == ".ipynb":
            cells = [(cell["cell_type"], cell["source"]) for cell in json.loads(content)["cells"]]
            content = json.dumps(cells).encode()
        digest.update(path.name.encode() + b"\0" + content + b"\0")
    return digest.hexdigest()


def identify_model(model: str) -> str | None:
    """SHA-256 of a model folder, or the fetched revision of one on the hub; None before it was fetched."""
    if Path(model).is_dir():
        return hash_files(path for path in Path(model).iterdir() if path.is_file())
    import huggingface_hub

    try:
        cached = huggingface_hub.try_to_load_from_cache(model, "config.json")
    except huggingface_hub.errors.HFValidationError:
        # Neither a folder nor a name on the hub: loading it says so, and how to fix it.
        return None
    return Path(cached).parent.name if isinstance(cached, str) else None


def is_disk_full(error: BaseException | None) -> bool:
    """Whether ``error``, or what caused it, is a full disk or a used-up quota."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextlib.contextmanager
def naming_disk_full(sentence: str) -> Iterator[None]:
    """Where the block fails for a full disk, says "the disk is full: " and ``sentence`` instead."""
    try:
        yield
    except Exception as error:
        if isinstance(error, DiskFullError) or not is_disk_full(error):
            raise
        raise DiskFullError(f"the disk is full: {sentence}") from error


def read_table(path: Path, schema: pa.DataFrameSchema) -> pd.DataFrame:
    """The parquet file at ``path``, checked against ``schema``; raises TableError or RunError."""
    import pandas as pd
    import pyarrow

    from courtside import tables

    try:
        table = pd.read_parquet(path)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise RunError(f"cannot read {path} ({error}): delete it and run courtside track again") from error
    return tables.check(tables.typed(table, schema), schema, str(path))


def read_note(path: Path) -> dict[str, Any]:
    """What :meth:`DetectionsWriter.note` kept in the parquet file at ``path``; empty where it is not ours."""
    import pyarrow
    import pyarrow.parquet

    try:
        metadata = pyarrow.parquet.read_metadata(path).metadata or {}
    except (OSError, pyarrow.ArrowInvalid):
        return {}
    return json.loads(metadata.get(_NOTE.encode(), b"{}"))


def detection_rows(frame: FrameDetections, video: str, prompts: Collection[str] = ()) -> list[tuple]:
    """A row for each detection with the columns of ``PLAYER_DETECTIONS`` in order.

    ``video`` is the file's name; ``prompt`` is a detection's class name where that is one of ``prompts``.
    """
    from courtside.masks import encode_rle

    rows = []
    for each in frame:
        rle = None if each.mask is None else encode_rle(each.mask)
        prompt = each.class_name if each.class_name in prompts else None
        identity = (video, frame.frame_number, frame.time_s, each.tracking_id, prompt)
        found = (each.class_id, each.class_name, each.confidence, *each.bbox.to_xyxy())
        rows.append((*identity, *found, rle, each.jersey_number, None))
    return rows


def row_frame(rows: Iterable[tuple], video: Video, number: int) -> FrameDetections:
    """The detections of one frame again, from its rows."""
    from courtside.masks import decode_rle
    from courtside.types import BoundingBox, Detection, FrameDetections

    detections = []
    for row in rows:
        tracking_id, _, class_id, class_name, confidence, x1, y1, x2, y2, rle, jersey_number, _ = row[3:]
        mask = None if rle is None else decode_rle(rle, video.height, video.width)
        box = BoundingBox(x1, y1, x2, y2)
        detections.append(Detection(box, confidence, class_id, class_name, tracking_id, mask, jersey_number))
    return FrameDetections(number, float(video.times_s[number]), tuple(detections))


def frame_rows(
    paths: Sequence[Path],
    within: range | None = None,
    *,
    backward: bool = False,
    reverse: bool = False,
) -> Iterator[tuple[int, list[tuple]]]:
    """The rows of each frame that has any, of files by :class:`DetectionsWriter` that hold a video in order.

    Frames outside of ``within`` are left out. ``backward`` says that the files hold the video from its last
    frame; ``reverse`` gives frames in the other order. One row group is in memory at a time.
    """
    import pyarrow.parquet

    for path in reversed(paths) if reverse else paths:
        with pyarrow.parquet.ParquetFile(path) as file:
            groups = range(file.num_row_groups)
            for group in reversed(groups) if reverse else groups:
                held = file.metadata.row_group(group).column(_FRAME).statistics
                if within is not None and (held.max < within.start or held.min >= within.stop):
                    continue
                columns = file.read_row_group(group).to_pydict()
                frames: dict[int, list[tuple]] = {}
                for row in zip(*columns.values(), strict=True):
                    if within is None or row[_FRAME] in within:
                        frames.setdefault(row[_FRAME], []).append(row)
                yield from sorted(frames.items(), reverse=backward != reverse)


class DetectionsWriter:
    """Streams :class:`FrameDetections` into a parquet file of ``PLAYER_DETECTIONS``, a row group at a time.

    Memory stays flat: at most 10,000 rows or 16 MB of mask text wait. ``video`` is the file's name;
    ``prompt`` is a detection's class name where that is one of ``prompts``, else null.
    Frames must come in order, from the last where ``backward``, each id at most once in a frame, else
    TableError or RunError is raised.
    """

    def __init__(
        self, path: Path, video: str, prompts: Collection[str] = (), *, backward: bool = False
    ) -> None:
        import pyarrow
        import pyarrow.parquet

        from courtside import tables

        self._video, self._prompts = video, frozenset(prompts)
        self._schema = pyarrow.Schema.from_pandas(
            tables.empty(tables.PLAYER_DETECTIONS), preserve_index=False
        )
        self._writer = pyarrow.parquet.ParquetWriter(path, self._schema, compression="zstd")
        self._waiting: list[tuple] = []
        self._characters = 0
        self._backward = backward
        self._last_frame: int | None = None
        self.rows = 0

    def __enter__(self) -> DetectionsWriter:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def close(self) -> None:
        """Write what waits and end the file."""
        self._flush()
        self._writer.close()

    def abandon(self) -> None:
        """End the file without what waits."""
        self._writer.close()

    def extend(self, path: Path) -> None:
        """Add all rows of the parquet file at ``path``, made by another of these writers."""
        import pyarrow.parquet

        self._flush()
        with pyarrow.parquet.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                self._writer.write_table(
                    file.read_row_group(group).replace_schema_metadata(self._schema.metadata)
                )
            self.rows += file.metadata.num_rows

    def note(self, content: dict[str, Any]) -> None:
        """Keep ``content`` in the file, so that the file itself says what it was made from."""
        self._writer.add_key_value_metadata({_NOTE: json.dumps(content)})

    def add(self, frame: FrameDetections) -> None:
        self.add_rows(frame.frame_number, detection_rows(frame, self._video, self._prompts))

    def add_rows(self, frame: int, rows: list[tuple]) -> None:
        """Add the rows of one frame, each with the columns of ``PLAYER_DETECTIONS`` in order."""
        if self._last_frame is not None and (frame <= self._last_frame) != self._backward:
            raise RunError(f"the tracker gave frame {frame} after frame {self._last_frame}")
        self._last_frame = frame
        self._waiting += rows
        self._characters += sum(len(row[_MASK] or "") for row in rows)
        self.rows += len(rows)
        if len(self._waiting) >= _ROWS_PER_GROUP or self._characters >= _CHARACTERS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        import pandas as pd
        import pyarrow

        from courtside import tables

        if not self._waiting:
            return
        schema = tables.PLAYER_DETECTIONS
        table = tables.typed(pd.DataFrame(self._waiting, columns=list(schema.columns)), schema)
        tables.check(table, schema, "the stage track")
        self._writer.write_table(pyarrow.Table.from_pandas(table, schema=self._schema, preserve_index=False))
        self._waiting, self._characters = [], 0
