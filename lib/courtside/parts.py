"""Parts of tracks that show one player each: where tracks are cut, and what is known of whom they show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit

from courtside.appearance import PLACES, Likeness, look, moments
from courtside.jersey.vote import Vote, agreement, vote, wearing
from courtside.players import CROSSING, SURE, Tracklet, co_visible, name_teams, own_ids, owners
from courtside.scoring.frames import box_iou
from courtside.teams import cloth_of, find_teams, log_wears

if TYPE_CHECKING:
    from courtside.jersey.crop import Torso
    from courtside.jersey.readers import Reading
    from courtside.roster import Roster

__all__ = [
    "Part",
    "People",
    "aligned",
    "handed_over",
    "longest_unseen",
    "pieces",
    "placed",
    "rejoined",
    "was_lost",
]

_GONE_S = 0.3  # out of sight for longer, and it may be somebody else who is taken up again
_GONE_FRAMES = 4  # that were tracked, at the usual distance, and show others only
_KEEPS = 1.5  # nats for a track's being of one person: trackers are right more often than not
_NEAR_S = 0.4  # a cut may be as far off, by
_PULL_S = 15.0  # nats for each second by which it is moved
_ABOUT = 0.1  # IoU of where a track is with where another one was last, or is first


class _Sight(NamedTuple):
    """What a torso leaves behind: its ``rgb`` and ``body`` are those of :class:`courtside.jersey.crop.Torso`.

    ``clear`` says that it was seen outside crossings.
    """

    frame: int
    clear: bool
    rgb: tuple[float, float, float]
    body: np.ndarray


@dataclass(frozen=True, eq=False)
class Part:
    """What was looked at of a track or a part of it, in order of time.

    ``certain`` is the ``tracklet`` without the crossings in which its track may have changed the player.
    ``torsos`` were read, with these ``readings``; ``sights`` are of all that were seen.
    """

    tracklet: Tracklet
    certain: Tracklet
    torsos: list[Torso]
    readings: list[Reading]
    sights: list[_Sight]

    @classmethod
    def seen(
        cls, tracklet: Tracklet, certain: Tracklet, torsos: Sequence[Torso], overlaps: pd.Series
    ) -> Part:
        """A part of which nothing was read yet; ``overlaps`` are its track's crossings, by frame."""
        sights = [
            _Sight(one.frame, overlaps[one.frame] < CROSSING, one.rgb, one.body)
            for one in torsos
            if one.body is not None
        ]
        return cls(tracklet, certain, [], [], sights)

    @property
    def times_s(self) -> list[float]:
        """When the torsos that were read were seen."""
        return [torso.time_s for torso in self.torsos]

    @property
    def chances(self) -> list[float]:
        """How likely each of them shows a number."""
        return [torso.quality for torso in self.torsos]

    @property
    def colors(self) -> np.ndarray:
        """float64 [n, 3] RGB of its torsos: those outside crossings, if any."""
        clear = [one.rgb for one in self.sights if one.clear]
        return np.array(clear or [one.rgb for one in self.sights]).reshape(-1, 3)

    @cached_property
    def looks(self) -> np.ndarray:
        """Its :func:`courtside.appearance.moments`, outside crossings."""
        return moments(_bodies(one for one in self.sights if one.clear))

    def look_without(self, frames: np.ndarray) -> np.ndarray:
        """Its look, but for what was seen in these frames if there is anything else."""
        found = moments(_bodies(one for one in self.sights if one.clear and one.frame not in frames))
        return look(found if len(found) else self.looks)

    def between(self, first: int, last: int) -> Part:
        """What lies in the frames from ``first`` to ``last``, both included."""
        read = [place for place, torso in enumerate(self.torsos) if first <= torso.frame <= last]
        return Part(
            tracklet=_within(self.tracklet, first, last),
            certain=_within(self.certain, first, last),
            torsos=[self.torsos[place] for place in read],
            readings=[self.readings[place] for place in read],
            sights=[one for one in self.sights if first <= one.frame <= last],
        )


def _bodies(sights: Iterable[_Sight]) -> np.ndarray:
    return np.array([one.body for one in sights]).reshape(-1, PLACES, 3)


def _within(tracklet: Tracklet, first: int, last: int) -> Tracklet:
    return tracklet._replace(
        first_frame=max(first, tracklet.first_frame), last_frame=min(last, tracklet.last_frame)
    )


def _as_one(parts: Sequence[Part]) -> Part:
    """Parts of one track, in order of time, as one."""
    first, last = parts[0], parts[-1]
    return Part(
        tracklet=first.tracklet._replace(last_frame=last.tracklet.last_frame),
        certain=first.certain._replace(last_frame=last.certain.last_frame),
        torsos=[torso for part in parts for torso in part.torsos],
        readings=[reading for part in parts for reading in part.readings],
        sights=[one for part in parts for one in part.sights],
    )


@dataclass(frozen=True, eq=False)
class _Person:
    """What was read of somebody, as :func:`courtside.jersey.vote.wearing` says it, the
    :func:`courtside.appearance.look`, and the ``colors`` of torsos."""

    number: np.ndarray
    look: np.ndarray
    colors: np.ndarray

    @cached_property
    def cloth(self) -> np.ndarray:
        """What is worn, as :func:`courtside.teams.cloth_of` says it."""
        return cloth_of(self.colors)


@dataclass(frozen=True, slots=True, eq=False)
class People:
    """What is known of parts of tracks, each a track of its own in ``found`` and in ``detections``.

    ``together`` are the pairs that are on screen together, ``apart`` those that are so where it is certain
    whom they show. ``likeness`` is how looks of team mates differ. ``noise`` is the reader's.
    """

    found: dict[int, Part]
    detections: pd.DataFrame
    votes: dict[int, Vote]
    teams: dict[int, str | None]
    together: set[tuple[int, int]]
    apart: set[tuple[int, int]]
    likeness: Likeness | None
    noise: np.ndarray
    roster: Roster | None
    known: dict[tuple[int, ...], _Person] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        parts: Sequence[Part],
        detections: pd.DataFrame,
        prompts: Mapping[int, str | None],
        noise: np.ndarray,
        roster: Roster | None,
        brief: int,
    ) -> People:
        """From ``parts`` of the tracks of ``detections``, whose ``prompts`` are given.

        Who are on screen together for up to ``brief`` frames may still be one.
        """
        tracklets = [part.tracklet for part in parts]
        found = dict(zip(own_ids(tracklets), parts, strict=True))
        rows = detections["tracking_id"].to_numpy(), detections["frame"].to_numpy()
        certain = owners([part.certain for part in parts], *rows) >= 0
        detections = detections.assign(tracking_id=np.array([*found], np.int64)[owners(tracklets, *rows)])
        spans = detections.groupby("tracking_id")["time_s"].agg(["min", "max"])
        votes = {
            track: vote(each.readings, noise, each.times_s, tuple(spans.loc[track]), each.chances)
            for track, each in found.items()
        }
        colors = {track: each.colors for track, each in found.items()}
        looks = {track: each.looks for track, each in found.items()}
        prompted = {track: prompts[each.tracklet.tracking_id] for track, each in found.items()}
        teams = name_teams(find_teams(prompted, colors), colors, votes, roster)
        together = co_visible(detections, brief)
        mates = {(one, other) for one, other in together if teams[one] == teams[other] is not None}
        return cls(
            found=found,
            detections=detections,
            votes=votes,
            teams=teams,
            together=together,
            apart=co_visible(detections[certain], brief),
            likeness=Likeness.learn(looks, mates),
            noise=noise,
            roster=roster,
        )

    def alike(self, one: tuple[int, ...], others: Sequence[tuple[int, ...]]) -> np.ndarray:
        """See :data:`courtside.players.Alike`; looks count as those of team mates differ."""
        return self._log_ratios(one[0], self._person(one), [self._person(other) for other in others])

    def taken_from(self, track: int, taken: Part, left: Part, other: int) -> float:
        """The chance that the part ``taken`` of a ``track`` is of the ``other`` one rather than of the same
        person as what is ``left``."""
        one, rest = (self._person_in(track, part) for part in (taken, left))
        from_other, from_rest = self._log_ratios(track, one, [self._person((other,)), rest])
        return float(expit(from_other - from_rest - _KEEPS))

    def _log_ratios(self, track: int, one: _Person, others: Sequence[_Person]) -> np.ndarray:
        ratios = agreement(one.number, np.array([other.number for other in others]), self._allowed(track))
        if self.likeness is None:
            return ratios
        looks = np.array([other.look for other in others])
        ratios = ratios + self.likeness.log_ratios(one.look, looks)
        if self.teams[track] is None:
            # Among mates a jersey says nothing, but here it may say that somebody is of no team.
            worn = log_wears(one.colors, np.array([other.cloth for other in others]))
            ratios = ratios + np.minimum(worn, 0)
        return ratios

    def _person(self, group: tuple[int, ...]) -> _Person:
        if group not in self.known:
            votes = [self.votes[track] for track in group]
            looks = np.concatenate([self.found[track].looks for track in group])
            colors = np.concatenate([self.found[track].colors for track in group])
            self.known[group] = _Person(wearing(votes, self._allowed(group[0])), look(looks), colors)
        return self.known[group]

    def _person_in(self, track: int, part: Part) -> _Person:
        seen = vote(part.readings, self.noise, part.times_s, chances=part.chances)
        return _Person(wearing([seen], self._allowed(track)), look(part.looks), part.colors)

    def _allowed(self, track: int) -> Sequence[str] | None:
        return None if self.roster is None else self.roster.numbers(self.teams[track])


def longest_unseen(detections: pd.DataFrame, fps: float) -> float:
    """For how many frames a track may be hidden before it may be somebody else who is taken up again.

    Where only some frames were tracked, or labelled, several of these must lie in between.
    """
    tracked = np.unique(detections["frame"])
    every = float(np.median(np.diff(tracked))) if len(tracked) > 1 else 1.0
    return max(_GONE_S * fps, _GONE_FRAMES * every)


def pieces(detections: pd.DataFrame, unseen: float) -> dict[int, list[Tracklet]]:
    """The parts of each track between which it is not to be seen for more than ``unseen`` frames."""
    found = {}
    for track, frames in detections.groupby("tracking_id")["frame"]:
        numbers = np.sort(frames.to_numpy())
        ends = np.flatnonzero(np.diff(numbers) > unseen)
        starts = numbers[[0, *(ends + 1)]].tolist()
        found[int(track)] = [
            Tracklet(int(track), *span) for span in zip(starts, numbers[[*ends, -1]].tolist(), strict=True)
        ]
    return found


def was_lost(early: Tracklet, late: Tracklet) -> bool:
    """Whether both are of one track, which is not to be seen in between."""
    return early.tracking_id == late.tracking_id and late.first_frame > early.last_frame + 1


def rejoined(people: People) -> list[Part]:
    """The parts of ``people``, those in one that a track shows before and after nobody saw it.

    Mostly the tracker is right in whom it takes up again: it takes another number or other looks to hold
    otherwise.
    """
    joined: list[list[int]] = []
    for track, part in people.found.items():
        again = joined and was_lost(people.found[joined[-1][-1]].tracklet, part.tracklet)
        if again and people.alike(tuple(joined[-1]), [(track,)])[0] > -_KEEPS:
            joined[-1].append(track)
        else:
            joined.append([track])
    return [
        people.found[each[0]] if len(each) == 1 else _as_one([people.found[track] for track in each])
        for each in joined
    ]


def handed_over(people: People, unseen: float) -> tuple[list[Part], list[tuple[int, int, float]]]:
    """The parts of ``people``, cut where another track begins or ends and one goes on as the other.

    A track that comes to where another one ends may have gone on with that one's player, and one that was
    where another one begins may have shown that one's player until then. Numbers and looks of that half must
    surely fit the other track better than the half that is left; where this one was never seen clearly, it is
    the whole part. With the parts come the pairs, places among them, that are one person then, and the chance
    of it.
    """
    halves: dict[int, tuple[Part, ...]] = {}
    best: dict[int, tuple[float, Tracklet, int, int]] = {}
    for track, cut, other, seen in _takeovers(people, unseen):
        part = people.found[track]
        early = part.between(part.tracklet.first_frame, cut - 1)
        late = part.between(cut, part.tracklet.last_frame)
        taken, left = (late, early) if seen < cut else (early, late)
        chance = people.taken_from(track, taken, left, other)
        if chance >= (best[track][0] if track in best else SURE):
            whole = not len(left.looks)
            halves[track] = (part,) if whole else (early, late)
            best[track] = chance, (part if whole else taken).tracklet, other, seen
    parts = [half for track, part in people.found.items() for half in halves.get(track, (part,))]
    places = {part.tracklet: place for place, part in enumerate(parts)}
    pairs = []
    for chance, taken, other, seen in best.values():
        of_other = halves.get(other, (people.found[other],))
        there = next(one.tracklet for one in of_other if seen <= one.tracklet.last_frame)
        pairs.append((places[taken], places[there], chance))
    return parts, pairs


def _takeovers(people: People, unseen: float) -> Iterator[tuple[int, int, int, int]]:
    """The parts that may change the player where another one ends or begins.

    Each with the frame from which on it shows somebody else, the other part, and the frame in which that one
    was seen last, which is before, or first, which is not. Tracks of other prompts may show the same people.
    """
    table = people.detections.sort_values("frame", kind="stable")
    frames, tracks = table["frame"].to_numpy(), table["tracking_id"].to_numpy()
    boxes = table[["x1", "y1", "x2", "y2"]].to_numpy(float)
    prompts, _ = table["prompt"].factorize()
    seen_in = pieces(table, unseen)
    for other, stretches in seen_in.items():
        for _, first, last in stretches:
            for seen, low, high in ((last, last + 1, last + unseen), (first, first - unseen, first - 1)):
                [place] = np.flatnonzero((frames == seen) & (tracks == other))
                span = slice(np.searchsorted(frames, low), np.searchsorted(frames, high, side="right"))
                others = (tracks[span] != other) & (prompts[span] == prompts[place])
                about = box_iou(boxes[[place]], boxes[span])[0] * others
                for track in np.unique(tracks[span][about >= _ABOUT]).tolist():
                    overlaps = np.where(tracks[span] == track, about, 0)
                    there = frames[span][overlaps >= max(_ABOUT, overlaps.max() / 2)]
                    cut = int(there[0] if seen < low else there[-1] + 1)
                    begins, ends = seen_in[track][0].first_frame, seen_in[track][-1].last_frame
                    if begins < cut <= ends:
                        yield track, cut, other, seen


def _cut_after(parts: Sequence[Part]) -> list[int]:
    """The places of those of ``parts``, in order of track and time, after which their track goes on with
    somebody else at once."""
    pairs = ((early.tracklet, late.tracklet) for early, late in pairwise(parts))
    return [
        place
        for place, (early, late) in enumerate(pairs)
        if early.tracking_id == late.tracking_id and not was_lost(early, late)
    ]


def aligned(parts: Sequence[Part], overlaps: pd.Series) -> list[Part]:
    """``parts``, in order of track and time, with the cuts of one crossing in one frame.

    Two who changed their tracks did so at once. Of the frames that are uncertain for all tracks cut there, it
    is the one in which they cover each other most.
    """
    parts = list(parts)
    cuts = [
        (parts[place].certain.last_frame + 1, parts[place + 1].certain.first_frame - 1, place)
        for place in _cut_after(parts)
    ]
    groups: list[tuple[int, int, list[int]]] = []
    for low, high, place in sorted(cuts):
        if groups and low <= groups[-1][1]:
            groups[-1] = (low, min(high, groups[-1][1]), [*groups[-1][2], place])
        else:
            groups.append((low, high, [place]))
    for low, high, places in groups:
        tracks = [parts[place].tracklet.tracking_id for place in places]
        cut = int(overlaps.loc[tracks].groupby(level="frame").sum().loc[low:high].idxmax())
        for place in places:
            early, late = parts[place : place + 2]
            parts[place] = replace(early, tracklet=early.tracklet._replace(last_frame=cut - 1))
            parts[place + 1] = replace(late, tracklet=late.tracklet._replace(first_frame=cut))
    return parts


def placed(
    parts: Sequence[Part], detections: pd.DataFrame, likeness: Likeness | None, fps: float
) -> list[Part]:
    """``parts``, in order of track and time, with each cut where looks change most surely.

    ``likeness`` is how looks of team mates differ; cuts in one frame are moved together.
    """
    parts = list(parts)
    cuts: dict[int, list[int]] = {}
    for place in _cut_after(parts) if likeness is not None else ():
        cuts.setdefault(parts[place + 1].tracklet.first_frame, []).append(place)
    for cut, places in cuts.items():
        frames = np.arange(cut - round(_NEAR_S * fps), cut + round(_NEAR_S * fps) + 1)
        said = -_PULL_S / fps * np.abs(frames - cut)
        for place in places:
            early, late = parts[place : place + 2]
            rows = detections.loc[detections["tracking_id"] == early.tracklet.tracking_id, "frame"]
            first, last = early.tracklet.first_frame, late.tracklet.last_frame
            said[~np.isin(frames, rows[(rows > first) & (rows <= last)]) & (frames != cut)] = -np.inf
            near = _as_one([early, late]).between(frames[0], frames[-1]).sights
            was_early, was_late = (
                likeness.log_ratios(part.look_without(frames), _bodies(near)) for part in (early, late)
            )
            past = frames[:, None] > np.array([sight.frame for sight in near], int)
            said += np.where(past, was_early, was_late).sum(axis=1)
        best = int(frames[said.argmax()])
        for place in places if best != cut else ():
            parts[place : place + 2] = _cut_at(best, *parts[place : place + 2])
    return parts


def _cut_at(frame: int, early: Part, late: Part) -> list[Part]:
    both = _as_one([early, late])
    first, last = early.tracklet.first_frame, late.tracklet.last_frame
    return [
        replace(both.between(first, frame - 1), certain=_within(early.certain, first, frame - 1)),
        replace(both.between(frame, last), certain=_within(late.certain, frame, last)),
    ]
