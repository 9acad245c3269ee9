"""The table of a session, read frame by frame, and changed for some objects in some frames."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from courtside.files import DetectionsWriter, frame_rows, row_frame, whole
from courtside.journal import Journal
from courtside.types import FrameDetections
from courtside.video import Video

__all__ = ["Results"]

Row = tuple[Any, ...]
_TRACKING_ID = 3  # where it stands in a row of player_detections


class Results:
    """The table ``player_detections`` of ``video`` at ``path``, which need not be there yet.

    One row group is in memory at a time, however long the video is.
    """

    def __init__(self, path: Path, video: Video) -> None:
        self._path, self._video = path, video

    @property
    def frames_of(self) -> dict[int, int]:
        """The first frame of each object, by id."""
        return self._columns("tracking_id", "frame").groupby("tracking_id")["frame"].min().to_dict()

    def prompt_of(self, number: int) -> str | None:
        """The text that found an object; None where none did, or there is no such object."""
        table = self._columns("tracking_id", "prompt")
        said = table.loc[table["tracking_id"] == number, "prompt"].dropna()
        return None if said.empty else str(said.iloc[0])

    def _columns(self, *names: str) -> pd.DataFrame:
        if not self._path.exists():
            return pd.DataFrame({name: [] for name in names})
        return pd.read_parquet(self._path, columns=list(names))

    def frame(self, number: int) -> FrameDetections:
        """What is in one frame."""
        return next(self.frames(range(number, number + 1)))

    def frames(self, numbers: range) -> Iterator[FrameDetections]:
        """What is in each frame of ``numbers``, in their order."""
        within = range(min(numbers), max(numbers) + 1)
        return self.filled(self._rows(within, reverse=numbers.step < 0), numbers)

    def filled(self, stored: Iterator[tuple[int, list[Row]]], numbers: range) -> Iterator[FrameDetections]:
        """The frames ``numbers`` of what is ``stored`` in their order, empty where nothing is."""
        frame, rows = next(stored, (None, []))
        for number in numbers:
            if number == frame:
                yield row_frame(rows, self._video, number)
                frame, rows = next(stored, (None, []))
            else:
                yield row_frame([], self._video, number)

    def _rows(self, within: range, *, reverse: bool = False) -> Iterator[tuple[int, list[Row]]]:
        return frame_rows([self._path] if self._path.exists() else [], within, reverse=reverse)

    def merge(
        self, journals: Sequence[Journal], objects: set[int] | None, span: range, prompts: Sequence[str]
    ) -> None:
        """Put new rows in place of those of ``objects`` in the frames ``span``, or in place of all (None)."""

        def remaining() -> Iterator[tuple[int, list[Row]]]:
            for frame, rows in self._rows(range(self._video.frame_count)):
                gone = objects if frame in span else ()
                yield frame, [row for row in rows if row[_TRACKING_ID] not in gone]

        # The journal of a way back is read from its end.
        fresh = [journal.rows(ascending=True) for journal in journals]
        with whole(self._path) as part, DetectionsWriter(part, self._video.name, prompts) as writer:
            merged = heapq.merge(() if objects is None else remaining(), *fresh, key=lambda item: item[0])
            for frame, parts in groupby(merged, key=lambda item: item[0]):
                rows = sorted((row for _, some in parts for row in some), key=lambda row: row[_TRACKING_ID])
                if rows:
                    writer.add_rows(frame, rows)
