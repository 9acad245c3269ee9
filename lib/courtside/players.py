"""From tracks to players: whose number each track carries, and which tracks are one player."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import expit

from courtside.jersey.vote import ABSTAIN_BELOW, NUMBERS, Vote, posterior
from courtside.roster import Roster
from courtside.scoring.frames import box_iou
from courtside.teams import REFEREE, match_teams

__all__ = [
    "CROSSING",
    "SURE",
    "Alike",
    "Answer",
    "Merge",
    "Tracklet",
    "answer",
    "co_visible",
    "crossings",
    "in_turn",
    "joined",
    "name_teams",
    "own_ids",
    "owners",
    "propose_merges",
    "tracklets_of",
    "tracks_said",
]

SURE = 0.95
"""A merge is sure when both tracks carry their number, or are one person, with at least this probability."""

CROSSING = 0.3
"""Two whose boxes overlap by this IoU are crossing: what is seen there may be the other one."""

_CANDIDATES = 6
_LEAST = 0.01
_NEAR_TIE = 0.2
_KNOWN = 0.5  # nats for being somebody who was seen before rather than somebody new


@dataclass(frozen=True, slots=True)
class Answer:
    """The number of a track, or None with ``why`` not.

    ``confidence`` is the probability of the ``likeliest`` number, given or not, None where there is none;
    ``runner_up`` is the next one with its own. ``near_tie`` says that these two are close.
    """

    number: str | None
    likeliest: str | None
    confidence: float
    runner_up: str | None = None
    runner_up_confidence: float = 0.0
    near_tie: bool = False
    why: str | None = None


class Merge(NamedTuple):
    """Two tracks that look like one player.

    ``confidence`` is that both carry their number, or that they are one person by all that was seen.
    """

    first: int
    second: int
    confidence: float
    sure: bool


class Tracklet(NamedTuple):
    """The part of a track that is one player, from its first frame to its last, both included."""

    tracking_id: int
    first_frame: int
    last_frame: int


Alike = Callable[[tuple[int, ...], Sequence[tuple[int, ...]]], np.ndarray]
"""The natural logarithms, float64 [n], of how much likelier all that was seen of one group of tracks and of
each of n others is if they are one person's."""


class _Track(NamedTuple):
    """A track's likeliest numbers with the logarithm of each one's weight, and of none's weight."""

    numbers: list[str]
    gains: np.ndarray
    none: float


def co_visible(detections: pd.DataFrame, brief: int = 0) -> set[tuple[int, int]]:
    """Pairs of track ids, lower first, that are on screen together in more than ``brief`` frames.

    They are two players. For a moment two tracks may show one: where a new track takes over, what the old one
    still shows is on the same player, or on nobody.
    """
    together = detections.sort_values(["frame", "tracking_id"]).groupby("frame")["tracking_id"].agg(tuple)
    counts: Counter[tuple[int, int]] = Counter()
    for ids, frames in Counter(together).items():
        for pair in itertools.combinations(ids, 2):
            counts[pair] += frames
    return {pair for pair, frames in counts.items() if frames > brief}


def crossings(detections: pd.DataFrame) -> pd.Series:
    """The highest IoU of each detection's box with that of another track of its prompt, 0 where it is alone.

    Float64 by ``tracking_id`` and ``frame``, sorted by both. Tracks of different prompts may show one person,
    so they don't cross.
    """
    boxes = detections[["x1", "y1", "x2", "y2"]].to_numpy(float)
    highest = np.zeros(len(boxes))
    for rows in detections.groupby(["frame", "prompt"], dropna=False).indices.values():
        if len(rows) > 1:
            overlaps = box_iou(boxes[rows], boxes[rows])
            np.fill_diagonal(overlaps, 0)
            highest[rows] = overlaps.max(axis=1)
    index = pd.MultiIndex.from_frame(detections[["tracking_id", "frame"]])
    return pd.Series(highest, index=index).sort_index()


def tracklets_of(player: tuple) -> list[Tracklet]:
    """The tracklets of a row of ``PLAYERS``, as ``itertuples`` gives it."""
    parts = zip(player.tracking_ids, player.from_frames, player.to_frames, strict=True)
    return [Tracklet(*map(int, part)) for part in parts]


def owners(tracklets: Sequence[Tracklet], tracks: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """The place in ``tracklets`` of the one that each row is of, int64 [rows], -1 where it is of none.

    ``tracks`` and ``frames``, int64 [rows], say of which track each row is, and in which frame.
    """
    places = np.full(len(tracks), -1, np.int64)
    for place, (track, first, last) in enumerate(tracklets):
        places[(tracks == track) & (frames >= first) & (frames <= last)] = place
    return places


def in_turn(
    tracklets: Sequence[Tracklet], seen: Sequence[Sequence[Tracklet]] | None = None
) -> list[Tracklet]:
    """The parts of one player's ``tracklets`` of which no two share a frame, in order of time.

    Where several are there, the player is where the one is that began last. ``seen`` are the parts of each
    in which it is to be seen (by default all of it): where one is hidden, the player is where another is.

    >>> [tuple(one) for one in in_turn([Tracklet(1, 0, 20), Tracklet(2, 18, 50)])]
    [(1, 0, 17), (2, 18, 50)]
    >>> one, other = Tracklet(1, 0, 40), Tracklet(2, 18, 50)
    >>> [tuple(one) for one in in_turn([one, other], [[one], [Tracklet(2, 18, 20), Tracklet(2, 45, 50)]])]
    [(1, 0, 17), (2, 18, 20), (1, 21, 40), (2, 45, 50)]
    """
    seen = [[one] for one in tracklets] if seen is None else seen
    parts = [(place, part) for place, own in enumerate(seen) for part in own]
    starts = {part.first_frame for _, part in parts} | {part.last_frame + 1 for _, part in parts}
    turns: list[tuple[int, Tracklet]] = []
    for first, end in itertools.pairwise(sorted(starts)):
        there = [place for place, part in parts if part.first_frame <= first <= part.last_frame]
        if not there:
            continue
        latest = max(there, key=lambda place: (tracklets[place].first_frame, tracklets[place].tracking_id))
        if turns and turns[-1][0] == latest:
            turns[-1] = latest, turns[-1][1]._replace(last_frame=end - 1)
        else:
            turns.append((latest, Tracklet(tracklets[latest].tracking_id, first, end - 1)))
    return joined(turn for _, turn in turns)


def joined(parts: Iterable[Tracklet]) -> list[Tracklet]:
    """``parts`` in order of time, those in one that follow each other at once in one track.

    >>> [tuple(one) for one in joined([Tracklet(1, 5, 9), Tracklet(1, 0, 4), Tracklet(1, 11, 20)])]
    [(1, 0, 9), (1, 11, 20)]
    """
    found: list[Tracklet] = []
    for part in sorted(parts, key=lambda one: one.first_frame):
        if found and found[-1][::2] == (part.tracking_id, part.first_frame - 1):
            found[-1] = found[-1]._replace(last_frame=part.last_frame)
        else:
            found.append(part)
    return found


def own_ids(tracklets: Sequence[Tracklet]) -> list[int]:
    """An id for each of ``tracklets``: the first of a track goes by the track's, others by new ones.

    >>> own_ids([Tracklet(1, 0, 9), Tracklet(2, 30, 40), Tracklet(2, 0, 29)])
    [1, 3, 2]
    """
    free = itertools.count(max((one.tracking_id for one in tracklets), default=0) + 1)
    firsts = {one.tracking_id: one for one in sorted(tracklets, reverse=True)}
    return [one.tracking_id if firsts[one.tracking_id] == one else next(free) for one in tracklets]


def tracks_said(players: pd.DataFrame) -> list[str]:
    """The tracks of each row of ``players``, a table ``PLAYERS``, in words.

    Where a part of the track is another player's, its frames are said.
    """
    found = [tracklets_of(row) for row in players.itertuples(index=False)]
    parts = sorted((part, place) for place, own in enumerate(found) for part in own)
    said: list[list[tuple[int, str]]] = [[] for _ in found]
    for track, own in itertools.groupby(parts, lambda one: one[0].tracking_id):
        turns = [
            (place, [part for part, _ in turn]) for place, turn in itertools.groupby(own, lambda one: one[1])
        ]
        for place, turn in turns:
            first, last = turn[0].first_frame, turn[-1].last_frame
            frames = f"frame {first}" if first == last else f"frames {first} to {last}"
            said[place].append((first, f"{track} in {frames}" if len(turns) > 1 else str(track)))
    return [", ".join(text for _, text in sorted(each)) for each in said]


def name_teams(
    teams: Mapping[int, str | None],
    colors: Mapping[int, np.ndarray],
    votes: Mapping[int, Vote],
    roster: Roster | None,
) -> dict[int, str | None]:
    """``teams`` of tracks under the roster's names, by :func:`courtside.teams.match_teams`.

    A team that the roster does not have keeps its name; without a roster all do.
    """
    if roster is None:
        return dict(teams)
    found = sorted({team for team in teams.values() if team is not None})
    middles, scores = {}, {}
    for team in found:
        members = [track for track, other in teams.items() if other == team]
        seen = [colors[track] for track in members if len(colors.get(track, ()))]
        middles[team] = np.median(np.concatenate(seen), axis=0) if seen else np.full(3, 128.0)
        for wanted, numbers in roster.teams.items():
            none = [posterior(votes[track], numbers)[1] for track in members if track in votes]
            # Evidence that no number of the team explains stays with none.
            scores[team, wanted] = -float(np.sum(np.log(np.maximum(none, 1e-12))))
    names = match_teams(middles, roster.teams, scores)
    return {track: names.get(team, team) if team is not None else None for track, team in teams.items()}


def answer(
    votes: Mapping[int, Vote],
    teams: Mapping[int, str | None],
    together: set[tuple[int, int]],
    roster: Roster | None = None,
) -> dict[int, Answer]:
    """The number of each track of ``votes``, solved for all tracks of a team at once.

    Two tracks of one team that are on screen together (``together``, see :func:`co_visible`) can't carry
    the same number. Among all assignments that keep to this, the likeliest is found by integer
    programming; a track may always go without a number. A number's confidence is the weight of the best
    assignment with it, over that of the best ones with each other choice for the track; below
    ``ABSTAIN_BELOW`` it is not given. With a roster only the numbers of the track's team are allowed. Tracks
    of an unknown team conflict with nobody.
    """
    answers: dict[int, Answer] = {}
    by_team: dict[str | None, list[int]] = {}
    for track in votes:
        by_team.setdefault(teams.get(track), []).append(track)
    for team, members in by_team.items():
        allowed = None if roster is None else roster.numbers(team)
        if team == REFEREE:
            answers |= dict.fromkeys(members, Answer(None, None, 0.0, why="a referee carries no number"))
            continue
        tracks = {track: _candidates(votes[track], allowed) for track in members}
        for group in _conflicts(tracks, set() if team is None else together):
            answers |= _solve(group, tracks, together)
    return {track: answers[track] for track in votes}


def propose_merges(
    answers: Mapping[int, Answer],
    teams: Mapping[int, str | None],
    together: set[tuple[int, int]],
    alike: Alike | None = None,
    handed: Sequence[Merge] = (),
) -> list[Merge]:
    """Tracks of one team that look like one player and are not on screen together, each with an earlier one.

    Tracks that were given one number are one player. Where two that carry a number are on screen together, a
    third goes with the surer one. Sure tracks go with sure ones, whoever else there is. A track without a
    sure number is whoever of its team it is most ``alike``, if anybody: each is held somewhat likelier
    beforehand than somebody new, and others count against that one as far as they are two people. One of an
    unknown team may be of any. ``handed`` are merges that follow from where the tracks were; those that
    numbers, or others on screen at the same time, contradict are left out.
    """
    merges = _of_one_number(answers, teams, together)
    merges += _agreeing(handed, merges, answers, together)
    if alike is None:
        return merges
    return _from_the_first([*merges, *_of_one_look(merges, answers, teams, together, alike)])


def _of_one_number(
    answers: Mapping[int, Answer], teams: Mapping[int, str | None], together: set[tuple[int, int]]
) -> list[Merge]:
    players: dict[tuple[str, str], list[list[int]]] = {}
    for track in sorted(answers, key=lambda track: (-answers[track].confidence, track)):
        given, team = answers[track], teams.get(track)
        if given.number is None or team is None:
            continue
        known = players.setdefault((team, given.number), [])
        fitting = (group for group in known if not _meet(group, [track], together))
        group = next(fitting, None)
        if group is None:
            known.append([track])
        else:
            group.append(track)
    merges: list[Merge] = []
    for group in itertools.chain.from_iterable(players.values()):
        sure = {track for track in group if answers[track].confidence >= SURE}
        for track in sorted(group)[1:]:
            both_sure = track in sure and track != min(sure)
            first = min(sure) if both_sure else min(group)
            confidence = answers[first].confidence * answers[track].confidence
            merges.append(Merge(first, track, confidence, both_sure))
    return sorted(merges, key=lambda merge: merge.second)


def _agreeing(
    handed: Sequence[Merge],
    merges: Sequence[Merge],
    answers: Mapping[int, Answer],
    together: set[tuple[int, int]],
) -> list[Merge]:
    """Those of the ``handed`` that agree with the sure ``merges`` and each other."""
    found: list[Merge] = []
    for merge in handed:
        groups = _connected(answers, (each[:2] for each in (*merges, *found) if each.sure))
        one, other = (next(group for group in groups if track in group) for track in merge[:2])
        numbers = {answers[track].number for track in (*one, *other)} - {None}
        if one is not other and len(numbers) < 2 and not _meet(one, other, together):
            found.append(merge)
    return found


def _meet(some: Sequence[int], others: Sequence[int], together: set[tuple[int, int]]) -> bool:
    """Whether any of ``some`` is on screen together with any of the ``others``."""
    return any((min(pair), max(pair)) in together for pair in itertools.product(some, others))


def _of_one_look(
    merges: list[Merge],
    answers: Mapping[int, Answer],
    teams: Mapping[int, str | None],
    together: set[tuple[int, int]],
    alike: Alike,
) -> list[Merge]:
    """Tracks that no sure number names, each with whom it looks like: the surest first, since with each
    there is more to compare the others with."""
    playing = [track for track in answers if teams.get(track) != REFEREE]
    pairs = (merge[:2] for merge in merges if merge.sure and {*merge[:2]} <= {*playing})
    groups = {group[0]: tuple(group) for group in _connected(playing, pairs)}
    surest = {
        track: max((answers[one] for one in group), key=lambda one: (one.number is not None, one.confidence))
        for track, group in groups.items()
    }
    numbers = {track: best.number for track, best in surest.items()}
    meets: dict[int, set[int]] = {track: set() for track in answers}
    for pair in together:
        for one, other in itertools.permutations(pair):
            meets.setdefault(one, set()).add(other)

    def likeliest(track: int) -> tuple[float, int]:
        """The chance that the track is of whom it is most alike, and of whom."""
        apart = strangers(track)
        others = [
            other
            for other in groups
            if other != track and teams.get(track) in (None, teams.get(other)) and other not in apart
        ]
        if not others:
            return 0.0, track
        gains = alike(groups[track], [groups[other] for other in others]) + _KNOWN
        best = int(gains.argmax())
        doubts = np.exp(gains - gains[best]) * two_people(others[best], others)
        return float(1 / (1 + np.exp(-gains[best]) + doubts.sum())), others[best]

    def two_people(one: int, others: list[int]) -> np.ndarray:
        """The chance of each of the others that it is somebody else than this one."""
        gains = alike(groups[one], [groups[other] for other in others]) + _KNOWN
        apart = strangers(one)
        return np.array(
            [
                0.0 if other == one else 1.0 if other in apart else expit(-gain)
                for other, gain in zip(others, gains, strict=True)
            ]
        )

    def strangers(one: int) -> set[int]:
        """Those who wear another number, or are on screen together with this one."""
        met = set().union(*(meets[track] for track in groups[one]))
        return {
            other
            for other, group in groups.items()
            if len({numbers[one], numbers[other]} - {None}) > 1 or not met.isdisjoint(group)
        }

    left = [
        track
        for track, best in surest.items()
        if best.number is None or best.confidence < SURE or teams.get(track) is None
    ]
    found: list[Merge] = []
    for track in sorted(left, key=lambda track: (-likeliest(track)[0], track)):
        chance, other = likeliest(track)
        if chance >= ABSTAIN_BELOW:
            found.append(Merge(other, track, chance, chance >= SURE))
        if chance >= SURE:
            groups[other] += groups.pop(track)
            numbers[other] = numbers[other] or numbers[track]
    return found


def _from_the_first(merges: list[Merge]) -> list[Merge]:
    """The same joins, with the first track of those that are surely one in place of each."""
    sure = [merge for merge in merges if merge.sure]
    tracks = {track for merge in merges for track in merge[:2]}
    groups = _connected(tracks, (merge[:2] for merge in sure))
    root = {track: group[0] for group in groups for track in group}
    joined = {
        track: min(merge.confidence for merge in sure if track in merge[:2])
        for track in tracks
        if track != root[track]
    }
    done = {track: Merge(root[track], track, confidence, True) for track, confidence in joined.items()}
    for merge in sorted(merges, key=lambda merge: -merge.confidence):
        first, second = sorted(root[track] for track in merge[:2])
        if first != second:
            done.setdefault(second, Merge(first, second, merge.confidence, False))
    return sorted(done.values(), key=lambda merge: merge.second)


def _candidates(vote: Vote, allowed: Sequence[str] | None) -> _Track:
    chances, none = posterior(vote, allowed)
    best = [i for i in np.argsort(-chances, kind="stable")[:_CANDIDATES] if chances[i] > _LEAST]
    # What is too unlikely to be a candidate still counts against those that are.
    left = max(1 - float(chances[best].sum()), none, 1e-300)
    return _Track([NUMBERS[i] for i in best], np.log(chances[best]), float(np.log(left)))


def _conflicts(tracks: Mapping[int, _Track], together: set[tuple[int, int]]) -> list[list[int]]:
    """Groups of tracks whose numbers depend on each other's."""
    return _connected(
        tracks,
        (
            (one, other)
            for one, other in together
            if one in tracks and other in tracks and {*tracks[one].numbers} & {*tracks[other].numbers}
        ),
    )


def _connected(tracks: Iterable[int], pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """``tracks`` in groups that ``pairs`` hold together, each in order, by their first."""
    ids = sorted(tracks)
    place = {track: i for i, track in enumerate(ids)}
    edges = [(place[one], place[other]) for one, other in pairs]
    rows, columns = np.array(edges, int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(ids), len(ids)))
    _, labels = connected_components(graph, directed=False)
    groups: dict[int, list[int]] = {}
    for track, label in zip(ids, labels.tolist(), strict=True):
        groups.setdefault(label, []).append(track)
    return list(groups.values())


def _solve(
    group: list[int], tracks: Mapping[int, _Track], together: set[tuple[int, int]]
) -> dict[int, Answer]:
    if len(group) == 1:
        track = tracks[group[0]]
        return {group[0]: _say(track, np.append(track.gains, track.none))}
    problem = _Assignment(group, tracks, together)
    return {track: _say(tracks[track], problem.best_with_each(track)) for track in group}


def _say(track: _Track, weights: np.ndarray) -> Answer:
    """The answer from the logarithms of the weights of each candidate and, last, of none."""
    shares = np.exp(weights - weights.max())
    shares /= shares.sum()
    if not track.numbers:
        return Answer(None, None, 0.0, why="nothing on it reads as a number")
    order = np.argsort(-shares[:-1], kind="stable")
    first, second = float(shares[order[0]]), float(shares[order[1]]) if len(order) > 1 else 0.0
    runner_up = track.numbers[order[1]] if len(order) > 1 else None
    tie = second >= _NEAR_TIE * first and first > _NEAR_TIE
    best, why = track.numbers[order[0]], None
    if first < ABSTAIN_BELOW:
        why = f"{best} or {runner_up} are too close" if tie else f"{best} is not sure enough"
    return Answer(best if why is None else None, best, first, runner_up, second, tie, why)


class _Assignment:
    """Tracks of one team that see each other: which of its candidates, or none, each one takes."""

    def __init__(
        self, group: list[int], tracks: Mapping[int, _Track], together: set[tuple[int, int]]
    ) -> None:
        self._columns: dict[int, dict[str | None, int]] = {}
        gains: list[float] = []
        for track in group:
            names = [*tracks[track].numbers, None]
            self._columns[track] = {name: len(gains) + i for i, name in enumerate(names)}
            gains += [*tracks[track].gains, tracks[track].none]
        self._gains = np.array(gains)
        rows = [list(columns.values()) for columns in self._columns.values()]
        fewest, most = [1.0] * len(rows), [1.0] * len(rows)
        for one, other in itertools.combinations(group, 2):
            if (one, other) not in together:
                continue
            for name in self._columns[one].keys() & self._columns[other].keys() - {None}:
                rows.append([self._columns[one][name], self._columns[other][name]])
                fewest.append(0.0)
                most.append(1.0)
        where = [(i, column) for i, row in enumerate(rows) for column in row]
        row, column = np.array(where).T
        matrix = coo_array((np.ones(len(row)), (row, column)), shape=(len(rows), len(gains)))
        self._rules = LinearConstraint(matrix.tocsr(), fewest, most)

    def best_with_each(self, track: int) -> np.ndarray:
        """The logarithm of the weight of the best assignment with each choice for ``track``, none last."""
        return np.array([self._best(column) for column in self._columns[track].values()])

    def _best(self, taken: int) -> float:
        lowest = np.zeros(len(self._gains))
        lowest[taken] = 1
        # None is open to every track, so there is always an assignment.
        found = milp(
            -self._gains,
            constraints=self._rules,
            bounds=Bounds(lowest, np.ones(len(lowest))),
            integrality=np.ones(len(lowest)),
        )
        return -float(found.fun)
