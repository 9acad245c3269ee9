"""Where players must be while they are not seen for a moment, whose box lies there, and which is nobody's."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import chain, combinations_with_replacement, pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd

from courtside.players import Tracklet, joined, owners
from courtside.scoring.frames import box_iou

__all__ = ["Loan", "camera", "lend", "let_go"]

_MOMENT_S = 1.0  # out of sight for longer, and there is no saying where somebody is
_THERE = 0.5  # IoU with where the player must be, on average
_DRAG = 0.1  # IoU by which a box must lie better there than on its own course, in each frame
_STRAIGHT_S = 0.13  # before and after a frame, in which people hardly turn: three frames of 25 a second
_MANY = 4  # of whom what most do is what the camera does
_ASTRAY = 0.4  # IoU with its own course there under which a box is nobody's
_BETWEEN = 0.6  # the same where it lies about as well where somebody hidden must be


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
    courses = _Courses(detections, players, certain)
    tracks, frames = courses.tracks, courses.frames
    loans: list[Loan] = []
    lent = np.zeros(len(tracks), bool)
    filled: set[tuple[int, int]] = set()
    for slip in sorted(_slips(courses), key=lambda one: -one.gain):
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


def let_go(
    detections: pd.DataFrame, players: Sequence[Sequence[Tracklet]], certain: Collection[tuple[int, int]] = ()
) -> list[list[Tracklet]]:
    """The tracklets of each of ``players`` without the moments that are nobody's.

    Where two cross, a mask may lie on a part of both: its box leaves the player's course, which goes straight
    from just before to just after, farther than anybody turns. Less is enough where it lies about as well
    where somebody hidden of the same prompt must be. A single box is nobody's as well where others are seen
    just before or after, but that player is not. Nobody is let go whole, or for a jolt of the camera.
    ``certain`` are tracks with frames in which a number says that they show whom they should.
    """
    courses = _Courses(detections, players, certain)
    fits, gone = courses.passing()
    gone |= fits < _ASTRAY
    for _, before, after, rows in courses.unseen():
        there = courses.fits(rows, before, after)
        gone[rows] |= (fits[rows] < _BETWEEN) & (there >= fits[rows] - _DRAG)
    gone &= courses.free
    for own in courses.players.values():
        gone[own] &= not gone[own].all()
    return [[piece for part in own for piece in _left(part, courses, gone)] for own in players]


def _left(part: Tracklet, courses: _Courses, gone: np.ndarray) -> list[Tracklet]:
    """What is left of ``part`` without the rows that are ``gone``, where there are others between."""
    within = owners([part], courses.tracks, courses.frames) == 0
    lost, kept = (courses.frames[within & which] for which in (gone, ~gone))
    if not len(lost):
        return [part]
    track, first, last = part
    spans = ((start + 1, end - 1) for start, end in pairwise([first - 1, *lost.tolist(), last + 1]))
    return [Tracklet(track, *span) for span in spans if ((kept >= span[0]) & (kept <= span[1])).any()]


def camera(moved: np.ndarray, together: np.ndarray | list[np.ndarray]) -> np.ndarray:
    """The camera's part in how all ``moved``, float64 [N, K], for each: what most do of those ``together``.

    That is the median of those whose key (or keys) are the same, but for NaN, and 0 where they are too few.
    """
    shared = pd.DataFrame(moved).groupby(together)
    return shared.transform("median").where(shared.transform("count") >= _MANY, 0.0).to_numpy()


class _Courses:
    """The ways of all, from rows in order of time: ``whose`` says of whom each is, ``of`` which are whose.

    What is no player's is somebody else on each track, below 0, and not among ``players``. Only ``free`` rows
    may change whose they are.
    """

    def __init__(
        self,
        detections: pd.DataFrame,
        players: Sequence[Sequence[Tracklet]],
        certain: Collection[tuple[int, int]],
    ) -> None:
        table = detections.sort_values(["frame", "tracking_id"])
        self.tracks, self.frames = table["tracking_id"].to_numpy(), table["frame"].to_numpy()
        self.times_s, self.boxes = table["time_s"].to_numpy(), table[["x1", "y1", "x2", "y2"]].to_numpy(float)
        self.prompts, _ = table["prompt"].factorize()
        pairs = zip(self.tracks.tolist(), self.frames.tolist(), strict=True)
        self.free = np.array([pair not in certain for pair in pairs], bool)
        places = np.repeat(np.arange(len(players)), [len(one) for one in players])
        whose = np.append(places, -1)[owners([*chain.from_iterable(players)], self.tracks, self.frames)]
        self.whose = np.where(whose < 0, -1 - self.tracks, whose)
        self.of = pd.Series(self.whose).groupby(self.whose).indices
        self.players = {int(place): own for place, own in self.of.items() if place >= 0}

    def at(self, rows: np.ndarray, before: int | np.ndarray, after: int | np.ndarray) -> np.ndarray:
        """The course from the row ``before`` to the one ``after`` at the time of each of ``rows``."""
        passed, whole = (self.times_s[to] - self.times_s[before] for to in (rows, after))
        share = (passed / np.maximum(whole, 1e-9))[:, None]
        return self.boxes[before] + share * (self.boxes[after] - self.boxes[before])

    def fits(self, rows: np.ndarray, before: int, after: int) -> np.ndarray:
        """IoU of each of ``rows`` with the course from the row ``before`` to the one ``after``."""
        return _overlap(self.boxes[rows], self.at(rows, before, after))

    def passing(self) -> tuple[np.ndarray, np.ndarray]:
        """IoU of each row with its player's course past it, and which are that player's only one around then.

        What most players do in a frame, the camera does, and is taken out. Where a course begins or ends, and
        where it is no player's, there is none to lie on: infinity.
        """
        course, alone = np.full_like(self.boxes, np.nan), np.zeros(len(self.whose), bool)
        earliest, latest = (self.frames[ends] for ends in _around(self.times_s, self.times_s))
        for own in self.players.values():
            first, last = _around(self.times_s[own], self.times_s[own])
            alone[own] = (first == last) & (earliest[own] < latest[own])
            past = (own[first] < own) & (own < own[last])
            course[own[past]] = self.at(own[past], own[first[past]], own[last[past]])
        still = self.boxes - camera(self.boxes - course, self.frames)
        return np.where(np.isnan(course[:, 0]), np.inf, _overlap(still, course)), alone

    def unseen(self) -> Iterator[tuple[int, int, int, np.ndarray]]:
        """Each moment in which a player is not seen: place, rows before and after, free rows meanwhile."""
        for place, own in self.players.items():
            starts, stops = (
                np.searchsorted(self.frames, self.frames[own[:-1]] + 1),
                np.searchsorted(self.frames, self.frames[own[1:]]),
            )
            gaps = (starts < stops) & (np.diff(self.times_s[own]) <= _MOMENT_S)
            for gap in np.flatnonzero(gaps).tolist():
                before, after = own[gap : gap + 2].tolist()
                rows = np.arange(starts[gap], stops[gap])
                rows = rows[self.free[rows] & (self.prompts[rows] == self.prompts[before])]
                yield place, before, after, rows

    def slip(self, place: int, rows: np.ndarray, there: np.ndarray) -> _Slip | None:
        """The best run of ``rows``, all of one, that lie by ``there`` where the one at ``place`` must be."""
        own = self.of[self.whose[rows[0]]]
        at = np.searchsorted(own, rows)
        best = None
        for i, j in combinations_with_replacement(range(len(rows)), 2):
            run = slice(i, j + 1)
            if at[j] - at[i] != j - i or there[run].mean() < _THERE:
                continue
            ends = [*own[: at[i]][-1:], *own[at[j] + 1 :][:1]]
            # What is no player's has no course of its own.
            follows = self.whose[rows[0]] >= 0 and ends
            stays = self.fits(rows[run], ends[0], ends[-1]) if follows else 0.0
            gain = float((there[run] - stays - _DRAG).sum())
            if gain > (best.gain if best else 0):
                best = _Slip(gain, place, rows[run])
        return best


def _around(times_s: np.ndarray, wanted_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last place in ``times_s``, which are in order, that are on a course past each wanted time."""
    first = np.searchsorted(times_s, wanted_s - _STRAIGHT_S)
    return first, np.searchsorted(times_s, wanted_s + _STRAIGHT_S, "right") - 1


def _overlap(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU of each box, [N, 4], with the other one at its place."""
    return box_iou(boxes[:, None], others[:, None])[:, 0, 0]


def _slips(courses: _Courses) -> Iterator[_Slip]:
    """The best run of each one's free rows in each moment in which a player is not seen."""
    for place, before, after, rows in courses.unseen():
        there = courses.fits(rows, before, after)
        for other in np.unique(courses.whose[rows[there >= _THERE]]).tolist():
            theirs = courses.whose[rows] == other
            slip = courses.slip(place, rows[theirs], there[theirs])
            if slip is not None:
                yield slip
