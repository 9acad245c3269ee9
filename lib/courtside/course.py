"""Where players must be while they are not seen for a moment, and whose box lies there."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import chain, combinations_with_replacement
from typing import NamedTuple

import numpy as np
import pandas as pd

from courtside.players import Tracklet, joined, owners
from courtside.scoring.frames import box_iou

__all__ = ["Loan", "lend"]

_MOMENT_S = 1.0  # out of sight for longer, and there is no saying where somebody is
_THERE = 0.5  # IoU with where the player must be, on average
_DRAG = 0.1  # IoU by which a box must lie better there than on its own course, in each frame


class Loan(NamedTuple):
    """A few frames of a track in which it shows another player, the one at ``place``."""

    tracklet: Tracklet
    place: int


class _Slip(NamedTuple):
    """Rows, in order of time, that lie where the player at ``place`` must be, and how much better so."""

    gain: float
    place: int
    rows: np.ndarray


def lend(
    detections: pd.DataFrame, players: Sequence[Sequence[Tracklet]], certain: Collection[tuple[int, int]] = ()
) -> tuple[list[list[Tracklet]], list[Loan]]:
    """The tracklets of each of ``players`` with what lies on it while it is not seen, and what was lent so.

    Where two cross, the mask of one may slip onto the other, whose own is gone then: for a few frames its
    box leaves its own course and lies where the other one must be. A course goes straight from where
    somebody is before to where after. No frame of a track is of two players; nobody lends all that there is;
    tracks of different prompts lend each other nothing. ``certain`` are tracks with frames in which a number
    says that they show whom they should.
    """
    table = detections.sort_values(["frame", "tracking_id"])
    tracks, frames = table["tracking_id"].to_numpy(), table["frame"].to_numpy()
    places = np.repeat(np.arange(len(players)), [len(one) for one in players])
    whose = np.append(places, -1)[owners([*chain.from_iterable(players)], tracks, frames)]
    prompts, _ = table["prompt"].factorize()
    free = [pair not in certain for pair in zip(tracks.tolist(), frames.tolist(), strict=True)]
    boxes = table[["x1", "y1", "x2", "y2"]].to_numpy(float)
    # What is no player's is somebody else on each track.
    courses = _Courses(table["time_s"].to_numpy(), boxes, np.where(whose < 0, -1 - tracks, whose))
    loans: list[Loan] = []
    lent = np.zeros(len(table), bool)
    filled: set[tuple[int, int]] = set()
    for slip in sorted(_slips(courses, frames, prompts, np.array(free, bool)), key=lambda one: -one.gain):
        there = {(slip.place, frame) for frame in frames[slip.rows].tolist()}
        owner = int(courses.whose[slip.rows[0]])
        gone = owner >= 0 and len(slip.rows) == (~lent[courses.of[owner]]).sum()
        if gone or lent[slip.rows].any() or not filled.isdisjoint(there):
            continue
        lent[slip.rows] = True
        filled |= there
        for run in np.split(slip.rows, np.flatnonzero(np.diff(tracks[slip.rows])) + 1):
            loans.append(Loan(Tracklet(*map(int, (tracks[run[0]], *frames[run[[0, -1]]]))), slip.place))
    parts = [list(own) for own in players]
    for taken, place in loans:
        parts = [
            [piece for part in own for piece in _without(part, taken, own is parts[place])] for own in parts
        ]
        parts[place].append(taken)
    return [joined(own) for own in parts], sorted(loans)


def _without(part: Tracklet, taken: Tracklet, whoever: bool) -> list[Tracklet]:
    """What is left of ``part`` without what was ``taken`` of its track, or ``whoever`` is there then."""
    if part.tracking_id != taken.tracking_id and not whoever:
        return [part]
    early = part._replace(last_frame=min(part.last_frame, taken.first_frame - 1))
    late = part._replace(first_frame=max(part.first_frame, taken.last_frame + 1))
    return [one for one in (early, late) if one.first_frame <= one.last_frame]


class _Courses:
    """The ways of all, from rows in order of time: ``whose`` says of whom each is, ``of`` which are whose."""

    def __init__(self, times_s: np.ndarray, boxes: np.ndarray, whose: np.ndarray) -> None:
        self.times_s, self.boxes, self.whose = times_s, boxes, whose
        self.of = pd.Series(whose).groupby(whose).indices

    def fits(self, rows: np.ndarray, before: int | None, after: int | None) -> np.ndarray:
        """IoU of these ``rows`` with the course from the row ``before`` to the one ``after``; where there is
        one of them only, with that one, and 0 without any."""
        ends = [end for end in (before, after) if end is not None]
        if not ends:
            return np.zeros(len(rows))
        first, last = ends[0], ends[-1]
        passed = self.times_s[rows] - self.times_s[first]
        share = (passed / max(self.times_s[last] - self.times_s[first], 1e-9))[:, None]
        course = self.boxes[first] + share * (self.boxes[last] - self.boxes[first])
        return box_iou(self.boxes[rows], course).diagonal()

    def slip(self, place: int, rows: np.ndarray, there: np.ndarray) -> _Slip | None:
        """The best run of ``rows``, all of one, that lie by ``there`` where the one at ``place`` must be."""
        own = self.of[self.whose[rows[0]]]
        at = np.searchsorted(own, rows)
        best = None
        for i, j in combinations_with_replacement(range(len(rows)), 2):
            run = slice(i, j + 1)
            if at[j] - at[i] != j - i or there[run].mean() < _THERE:
                continue
            before = int(own[at[i] - 1]) if at[i] else None
            after = int(own[at[j] + 1]) if at[j] + 1 < len(own) else None
            # What is no player's has no course of its own.
            stays = 0.0 if self.whose[rows[0]] < 0 else self.fits(rows[run], before, after)
            gain = float((there[run] - stays - _DRAG).sum())
            if gain > (best.gain if best else 0):
                best = _Slip(gain, place, rows[run])
        return best


def _slips(courses: _Courses, frames: np.ndarray, prompts: np.ndarray, free: np.ndarray) -> Iterator[_Slip]:
    """The best run of each one's ``free`` rows in each moment in which a player is not seen."""
    for place, own in courses.of.items():
        if place < 0:
            continue
        starts, stops = (
            np.searchsorted(frames, frames[own[:-1]] + 1),
            np.searchsorted(frames, frames[own[1:]]),
        )
        unseen = (starts < stops) & (np.diff(courses.times_s[own]) <= _MOMENT_S)
        for gap in np.flatnonzero(unseen).tolist():
            before, after = own[gap : gap + 2].tolist()
            rows = np.arange(starts[gap], stops[gap])
            rows = rows[free[rows] & (prompts[rows] == prompts[before])]
            there = courses.fits(rows, before, after)
            for other in np.unique(courses.whose[rows[there >= _THERE]]).tolist():
                theirs = courses.whose[rows] == other
                slip = courses.slip(int(place), rows[theirs], there[theirs])
                if slip is not None:
                    yield slip
