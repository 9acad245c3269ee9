"""Clicks on one player at a time, made into boxes and masks by SAM 3."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from courtside.errors import ModelError
from courtside.masks import encode_rle
from courtside.types import FrameDetections
from courtside.video import Video

if TYPE_CHECKING:
    from courtside.device import Device

__all__ = ["Asked", "Clicker", "rows_of"]

Asked = dict[int, tuple[list[list[float]], list[int]]]
"""What was clicked of one player: points and labels by frame, a box as its corners labelled 2 and 3."""


class Clicker:
    """A session of SAM 3 in ``folder`` that knows one player at a time; what it finds is kept elsewhere.

    The model is loaded at the first click. Following that was stopped goes on where it stopped, in a new
    process too.
    """

    def __init__(
        self, video: Video, folder: Path, model: str | Path | tuple[Any, Any, Device] | None, device: str
    ) -> None:
        self._video, self._folder, self._device = video, folder, device
        self.model = model
        self._session: Any = None

    def close(self) -> None:
        if self._session is not None:
            self._session.close_session()
            self._session = None

    def click(
        self,
        asked: Asked,
        frame: int,
        points: Sequence[Sequence[float]],
        labels: Sequence[int] | None,
        box: Sequence[float] | None,
    ) -> tuple[dict[str, Any], pd.DataFrame]:
        """The player of ``asked``, clicked again: all ``points`` and ``labels`` of ``frame``, and its row."""
        session = self._opened()
        number = self._take_up(asked)
        known = {} if number is None else {"obj_id": number}
        found = session.add_prompt(frame, points=points or None, point_labels=labels, box=box, **known)
        [number] = session.clicked
        points, labels = session.clicked[number].frames[frame]
        return {"points": points, "labels": labels}, rows_of([found])

    def follow(
        self, asked: Asked, direction: str, frames: int | None, progress: bool
    ) -> Iterator[FrameDetections]:
        """The player of ``asked`` in each frame, from the one that was clicked last."""
        session = self._opened()
        self._take_up(asked)
        yield from session.propagate_in_video(
            direction,
            start_frame_idx=list(asked)[-1],
            max_frame_num_to_track=frames,
            progress=progress,
        )

    def _opened(self) -> Any:
        if self._session is None:
            if self.model is None:
                raise ModelError(
                    "clicks need a model: name one when the labels are opened, such as data/models/sam3-tiny"
                )
            # PyTorch is loaded by those who click.
            from courtside.sam3 import Sam3Session

            self._session = Sam3Session.start_session(
                self._video, self._folder, model=self.model, device=self._device
            )
        return self._session

    def _take_up(self, asked: Asked) -> int | None:
        """Let the session know ``asked`` and nothing else; returns the number of its object, if any.

        What it knows already stays, so that a propagation that was broken off can go on.
        """
        session = self._session
        known = session.clicked
        since = [entry["action"] for entry in session.action_history]
        if len(known) == 1 and "propagate" not in since[_last(since, "reset") :]:
            [(number, own)] = known.items()
            if own.frames == asked:
                return number
        if known or since[-1:] not in ([], ["reset"]):
            session.reset_session()
        number = None
        for frame, (points, labels) in asked.items():
            corners = [point for point, label in zip(points, labels, strict=True) if label > 1]
            plain = [(point, label) for point, label in zip(points, labels, strict=True) if label < 2]
            session.add_prompt(
                frame,
                points=[point for point, _ in plain] or None,
                point_labels=[label for _, label in plain] or None,
                box=[*corners[0], *corners[1]] if corners else None,
                **({} if number is None else {"obj_id": number}),
            )
            [number] = session.clicked
        return number


def rows_of(frames: Iterable[FrameDetections]) -> pd.DataFrame:
    """``frame``, a box, ``confidence`` and ``mask_rle`` of every detection, a row each."""
    rows = [
        (frame.frame_number, *each.bbox.to_xyxy(), each.confidence, encode_rle(each.mask))
        for frame in frames
        for each in frame
    ]
    names = ["frame", "x1", "y1", "x2", "y2", "confidence", "mask_rle"]
    return pd.DataFrame(rows, columns=names).sort_values("frame", ignore_index=True)


def _last(actions: list[str], wanted: str) -> int:
    """Where ``wanted`` occurs last; 0 where it doesn't."""
    return max((place for place, action in enumerate(actions) if action == wanted), default=0)
