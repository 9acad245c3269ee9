"""Who stood where in each frame: labels and tracks looked up by frame, with who followed whom."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import pandas as pd

from courtside.scoring.frames import box_iou

__all__ = ["People", "Scene"]

_BOX = ["x1", "y1", "x2", "y2"]


class People:
    """The boxes of a table, ``frame``, an id and xyxy, by frame and by id. Frames without rows are empty."""

    def __init__(self, table: pd.DataFrame, key: str) -> None:
        table = table.sort_values(["frame", key], kind="stable")
        self._frames = table["frame"].to_numpy(np.int64)
        self._ids = table[key].to_numpy(np.int64)
        self._boxes = table[_BOX].to_numpy(float)
        self._row = {
            pair: row for row, pair in enumerate(zip(self._ids.tolist(), self._frames.tolist(), strict=True))
        }
        order = np.argsort(self._ids, kind="stable")
        ids, starts = np.unique(self._ids[order], return_index=True)
        self._frames_of = dict(zip(ids.tolist(), np.split(self._frames[order], starts[1:]), strict=True))

    def frames_of(self, who: int, first: int, last: int) -> np.ndarray:
        """The frames from ``first`` to ``last`` in which ``who`` has a box, int64, ascending."""
        frames = self._frames_of.get(who, self._frames[:0])
        return frames[np.searchsorted(frames, first) : np.searchsorted(frames, last, side="right")]

    def all_frames_of(self, who: int) -> np.ndarray:
        return self._frames_of.get(who, self._frames[:0])

    def at(self, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids [n] and boxes [n, 4] of a frame."""
        first, stop = np.searchsorted(self._frames, [frame, frame + 1])
        return self._ids[first:stop], self._boxes[first:stop]

    def box(self, who: int, frame: int) -> np.ndarray:
        """The box of ``who`` in a frame, float64 [4]; KeyError where there is none."""
        return self._boxes[self._row[who, frame]]

    def has(self, who: int, frame: int) -> bool:
        return (who, frame) in self._row

    def heights(self, frame: int) -> np.ndarray:
        boxes = self.at(frame)[1]
        return boxes[:, 3] - boxes[:, 1]

    def overlaps(self, frame: int, box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ids [n] of a frame and the IoU [n] of each with ``box``."""
        ids, boxes = self.at(frame)
        return ids, box_iou(boxes, box[None])[:, 0]

    def touch(self, one: int, other: int, frame: int, reach: float = 0.0) -> bool:
        """Whether two are in a frame with boxes that meet when each grows by ``reach`` of its width."""
        if not (self.has(one, frame) and self.has(other, frame)):
            return False
        a, b = (self.box(who, frame) for who in (one, other))
        grow = reach * ((a[2] - a[0]) + (b[2] - b[0]))
        return bool(max(a[0], b[0]) - grow <= min(a[2], b[2]) and max(a[1], b[1]) <= min(a[3], b[3]))


class Scene:
    """Labels, tracks and who followed whom, of one video.

    ``truth`` is every label (:data:`courtside.tables.GROUND_TRUTH`), asked for or not; ``matches`` says who
    followed whom (:func:`~courtside.report.matches.followed_by`), a row a required label; ``name`` gives
    the words for an object's id. ``size`` is (width, height) in pixels, ``times_s`` float64 [frames].
    """

    def __init__(
        self,
        truth: pd.DataFrame,
        detections: pd.DataFrame,
        matches: pd.DataFrame,
        *,
        size: tuple[int, int],
        times_s: np.ndarray,
        labelled_frames: Collection[int],
        threshold: float = 0.5,
        name: Callable[[int], str] = "player {}".format,
    ) -> None:
        self.truth = People(truth, "object_id")
        self.tracks = People(detections, "tracking_id")
        self.size, self.times_s, self.threshold, self.name = size, times_s, threshold, name
        self.fps = (len(times_s) - 1) / times_s[-1] if len(times_s) > 1 and times_s[-1] > 0 else 25.0
        self._labelled = np.sort(np.asarray(labelled_frames, np.int64))
        columns = (matches["object_id"].tolist(), matches["frame"].tolist(), matches["tracking_id"].tolist())
        self._track_on = {
            (who, at): None if track is pd.NA else int(track) for who, at, track in zip(*columns, strict=True)
        }
        on = matches.dropna(subset="tracking_id").sort_values("frame", kind="stable")
        self._objects_of = {
            int(track): rows[["frame", "object_id"]].to_numpy(np.int64)
            for track, rows in on.groupby("tracking_id")
        }
        self._followed_frames = {
            int(who): rows["frame"].to_numpy(np.int64) for who, rows in on.groupby("object_id")
        }

    def is_required(self, object_id: int, frame: int) -> bool:
        return (int(object_id), int(frame)) in self._track_on

    def track_on(self, object_id: int, frame: int) -> int | None:
        """The track that follows an object in a frame; None for nobody."""
        return self._track_on.get((int(object_id), int(frame)))

    def followed(self, tracking_id: int, first: int, last: int) -> int | None:
        """The object that a track follows most from ``first`` to ``last``; None for nobody."""
        rows = self._objects_of.get(tracking_id)
        if rows is None:
            return None
        here = rows[(rows[:, 0] >= first) & (rows[:, 0] <= last), 1]
        return int(np.bincount(here).argmax()) if len(here) else None

    def last_followed(self, object_id: int, before: int) -> int:
        """The last frame before ``before`` in which anything followed the object; ``before`` if none did."""
        frames = self._followed_frames.get(object_id, np.zeros(0, np.int64))
        place = np.searchsorted(frames, before)
        return int(frames[place - 1]) if place else before

    def is_followed_after(self, object_id: int, frame: int) -> bool:
        frames = self._followed_frames.get(object_id, np.zeros(0, np.int64))
        return bool(len(frames) and frames[-1] > frame)

    def absence_s(self, object_id: int, first: int, last: int) -> float:
        """Seconds that an object had no label in labelled frames between two frames that have one."""
        labelled = self._labelled[(self._labelled > first) & (self._labelled < last)]
        absent = np.setdiff1d(labelled, self.truth.frames_of(object_id, first, last))
        return len(absent) / self.fps

    def cover(self, object_id: int, frame: int) -> tuple[str, float] | None:
        """Who is most in front of an object, in words, and the share of its box that they cover.

        In front are those whose box ends further down. Tracks on nobody labelled count too.
        """
        box = self.truth.box(object_id, frame)
        best: tuple[str, float] | None = None
        for people, kind in ((self.truth, "truth"), (self.tracks, "tracks")):
            ids, boxes = people.at(frame)
            if kind == "truth":
                others = ids != object_id
            else:
                labelled = self.truth.at(frame)[1]
                others = box_iou(boxes, labelled).max(axis=1, initial=0) < 0.3
                # A track that slips off the object does not hide it.
                near = frame - round(self.fps), frame + round(self.fps)
                others &= np.array([self.followed(int(i), *near) != object_id for i in ids], bool)
            others &= boxes[:, 3] >= box[3] - 0.02 * (box[3] - box[1])
            shares = _shares(box, boxes[others])
            if len(shares) and shares.max() > (best[1] if best else 0):
                who = int(ids[others][shares.argmax()])
                best = (
                    (self.name(who) if kind == "truth" else f"somebody not labelled (track {who})"),
                    float(shares.max()),
                )
        return best

    def edge(self, box: np.ndarray) -> str | None:
        """The edge of the picture that a box touches most, or None."""
        width, height = self.size
        gaps = {"left": box[0], "right": width - box[2], "upper": box[1], "lower": height - box[3]}
        side = min(gaps, key=gaps.get)
        return side if gaps[side] <= 0.003 * max(width, height) else None


def _shares(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The share of ``box`` [4] that each of ``others`` [n, 4] covers."""
    low, high = np.maximum(others[:, :2], box[:2]), np.minimum(others[:, 2:], box[2:])
    area = max((box[2] - box[0]) * (box[3] - box[1]), 1e-9)
    return np.clip(high - low, 0, None).prod(axis=1) / area
