"""Rows of labels with the place where each is written, and what is wrong with them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd

from courtside.errors import LabelsError, TableError

__all__ = ["COLUMNS", "Findings", "Rows", "Sequence", "Truth"]

COLUMNS = "frame,id,left,top,width,height,conf,class,visibility"
"""The columns of :class:`Rows`, as in the MOTChallenge's gt.txt. Visibility -1 is unknown."""


class Findings:
    """What is wrong with labels, and what was done to read them.

    The first fault raises :class:`LabelsError`. With ``gather`` faults are kept in ``errors``, and the
    reader goes on with what is left. ``notes`` say what isn't a fault but should be known.
    """

    def __init__(self, gather: bool = False) -> None:
        self.gather = gather
        self.errors: list[str] = []
        self.notes: list[str] = []

    def refuse(self, sentence: str) -> None:
        if not self.gather:
            raise LabelsError(sentence)
        self.errors.append(sentence)

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """One step of reading, whose failure doesn't keep the others from being tried while gathering."""
        try:
            yield
        except (LabelsError, TableError) as error:
            if not self.gather:
                raise
            self.errors.append(str(error))


@dataclass(frozen=True)
class Sequence:
    """What is known of the labelled video: ``name``, size in pixels, ``fps``, and how many frames it has.

    ``whose`` names the source of the length in messages. ``times_s``, float64 [frames], where the video
    itself is at hand. ``kept`` is how many frames of it are left, where it is cut short.
    """

    name: str | None
    width: int
    height: int
    fps: float
    frame_count: int
    whose: str
    times_s: np.ndarray | None = None
    kept: int | None = None

    @property
    def stem(self) -> str:
        """What the video is called where a file holds several."""
        return self.name or PurePath(self.whose).stem


@dataclass
class Truth:
    """What one labels file says, before it is brought together with the rest.

    ``table`` has the columns of ``tables.GROUND_TRUTH``. The others are None or empty where the file
    does not say: ``classes`` maps object ids to the name of their label, ``players`` to (team, number).
    ``labelled`` are the frames somebody looked at, from 0; ``size`` is (width, height).
    """

    table: pd.DataFrame
    classes: dict[int, str] = field(default_factory=dict)
    players: dict[int, tuple[str | None, str | None]] = field(default_factory=dict)
    labelled: np.ndarray | None = None
    size: tuple[int, int] | None = None
    frame_count: int | None = None
    fps: float | None = None


class Rows:
    """Numbers, float64 [rows, columns], and where each row is written.

    ``places`` are line numbers from 1, or texts such as "track 3, frame 12". ``index`` is each row's
    number among those first given: rows that are refused while gathering leave ``values``, ``places``
    and ``index``.
    """

    def __init__(self, source: object, values: np.ndarray, places: Any, found: Findings) -> None:
        self.source, self.values, self.found = source, values, found
        self.places = np.asarray(places)
        self.index = np.arange(len(values))

    def __len__(self) -> int:
        return len(self.values)

    def place(self, i: int) -> str:
        """Where row ``i`` is written."""
        place = self.places[i]
        return f"line {place}" if self.places.dtype.kind == "i" else str(place)

    def refuse(self, bad: np.ndarray, sentence: Callable[[int], str]) -> None:
        """Refuse the rows where ``bad`` holds; ``sentence`` takes the position of the first of them."""
        if not bad.any():
            return
        first = int(np.argmax(bad))
        others = self.places[bad][1:]
        too = f" (the same at {_listed(others)})" if len(others) and self.found.gather else ""
        self.found.refuse(f"{self.source}, {self.place(first)}: {sentence(first)}{too}")
        self.values, self.places, self.index = (a[~bad] for a in (self.values, self.places, self.index))

    def refuse_infinite(self) -> None:
        finite = np.isfinite(self.values)
        self.refuse(
            ~finite.all(axis=1),
            lambda i: (
                f"column {np.argmin(finite[i]) + 1} is {self.values[i][np.argmin(finite[i])]}; "
                "give a finite number or remove the row"
            ),
        )

    def refuse_frames(self, count: int | None, whose: str = "", first: int = 1) -> None:
        """Refuse rows whose frame, column 1, is none of ``first`` and the ``count - 1`` after it."""
        values = self.values[:, 0]
        self.refuse(
            values != np.floor(values),
            lambda i: f"frame {values[i]:g} is not a whole number; number the frames 1, 2, 3",
        )
        values = self.values[:, 0]
        self.refuse(
            values < first,
            lambda i: (
                f"frame {values[i]:.0f}, but frames count from {first}; "
                f"add {first - values.min():.0f} to each frame of this file"
            ),
        )
        values = self.values[:, 0]
        last = (1e9 if count is None else count) - 1 + first

        def beyond(i: int) -> str:
            shift = values.max() - last
            # Numbers that all fit once moved to the start were counted from elsewhere.
            moved = shift == values.min() - first
            fix = f"subtract {shift:.0f} from each frame of this file" if moved else ""
            fix = fix or "use the file that belongs to this video"
            return f"frame {values[i]:.0f}, but {whose or 'a video'} ends with frame {last:.0f}; {fix}"

        self.refuse(values > last, beyond)

    def refuse_ids(self) -> None:
        """Refuse rows whose object id, column 2, is none, or is in the row's frame already."""
        ids = self.values[:, 1]
        self.refuse(
            (ids != np.floor(ids)) | (ids < 0) | (ids > 2**53),
            lambda i: (
                f"object id {ids[i]:g} is not a whole number of 0 or more; give each object its own id "
                "(detections without ids are no labels)"
            ),
        )
        frames, ids = self.values[:, 0], self.values[:, 1]

        def twice(i: int) -> str:
            earlier = int(np.argmax((frames == frames[i]) & (ids == ids[i])))
            return (
                f"object {ids[i]:.0f} is already in frame {frames[i]:.0f} ({self.place(earlier)}); "
                "give one of the two another id or remove it"
            )

        self.refuse(pd.DataFrame({"frame": frames, "id": ids}).duplicated().to_numpy(), twice)

    def refuse_boxes(self, size: tuple[int, int] | None) -> None:
        """Refuse rows whose box, columns 3 to 6, has no area or does not touch the frame of ``size``."""
        _, _, wide, high = self.values[:, 2:6].T
        self.refuse(
            (wide <= 0) | (high <= 0),
            lambda i: (
                f"a box of {wide[i]:g} x {high[i]:g} pixels; width and height must be positive, "
                "so correct the row or remove it"
            ),
        )
        if size is None:
            return
        boxes = self.boxes()
        x1, y1, x2, y2 = boxes.values()
        width, height = size
        self.refuse(
            (x2 <= 0) | (y2 <= 0) | (x1 >= width) | (y1 >= height),
            lambda i: (
                f"the box x {x1[i]:g} to {x2[i]:g}, y {y1[i]:g} to {y2[i]:g} lies outside the frame of "
                f"{width} x {height} pixels; scale the boxes to the video's size or remove the row"
            ),
        )

    def boxes(self) -> dict[str, np.ndarray]:
        """Columns 3 to 6 as x1, y1, x2, y2, float64."""
        left, top, wide, high = self.values[:, 2:6].T
        return {"x1": left, "y1": top, "x2": left + wide, "y2": top + high}

    def truth(
        self,
        size: tuple[int, int] | None,
        count: int | None,
        whose: str = "",
        first: int = 1,
        masks: list[str | None] | None = None,
    ) -> pd.DataFrame:
        """The rows that hold, with the columns of ``tables.GROUND_TRUTH``, in order of frame and id.

        They have the columns COLUMNS, or ten of them as in MOT15, whose last three are not read. ``size``
        and ``count`` are those of the video, ``first`` is the number of its first frame, ``masks`` has a
        run-length string for each row first given.
        """
        self.refuse_infinite()
        self.refuse_frames(count, whose, first)
        self.refuse_ids()
        self.refuse_boxes(size)
        if self.values.shape[1] == 9:
            visibility = self.values[:, 8]
            self.refuse(
                ((visibility < 0) & (visibility != -1)) | (visibility > 1),
                lambda i: f"visibility {visibility[i]:g} is not in [0, 1]; write -1 where it is unknown",
            )
            visibility = np.where(self.values[:, 8] == -1, np.nan, self.values[:, 8])
        else:
            visibility = np.full(len(self), np.nan)
        chosen = [None] * len(self) if masks is None else [masks[i] for i in self.index]
        table = pd.DataFrame(
            {
                "frame": self.values[:, 0].astype(np.int64) - first,
                "object_id": self.values[:, 1].astype(np.int64),
                **self.boxes(),
                "ignored": self.values[:, 6] == 0,
                "visibility": visibility,
                "mask_rle": pd.array(chosen, dtype="string"),
            }
        )
        return table.sort_values(["frame", "object_id"], ignore_index=True)


def _listed(places: np.ndarray, most: int = 8) -> str:
    """Places in words: runs of lines, or the first few texts, and how many more there are.

    >>> _listed(np.array([2, 3, 4, 9]))
    'lines 2-4, 9'
    >>> _listed(np.array(["track 1, frame 0", "track 2, frame 5"]), most=1)
    'track 1, frame 0, and 1 more'
    """
    if places.dtype.kind != "i":
        texts = [str(place) for place in places]
        return "; ".join(texts[:most]) + (f", and {len(texts) - most} more" if len(texts) > most else "")
    runs = np.split(places, np.flatnonzero(np.diff(places) != 1) + 1)
    texts = [f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]
    rest = sum(len(run) for run in runs[most:])
    lines = "lines" if len(places) > 1 else "line"
    return f"{lines} {', '.join(texts[:most])}" + (f", and {rest} more" if rest else "")
