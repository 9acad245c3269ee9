"""The stage that reads numbers: from tracks and the video to readings and players."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from courtside import tables
from courtside.appearance import BANDS, Likeness, Look, moments
from courtside.errors import ModelError
from courtside.files import whole
from courtside.jersey.crop import Torso, choose
from courtside.jersey.readers import Reader, Reading, read_each
from courtside.jersey.vote import Vote, agreement, change, likelihood_ratios, vote, wearing
from courtside.players import (
    CROSSING,
    Answer,
    Merge,
    Tracklet,
    answer,
    co_visible,
    crossings,
    in_turn,
    name_teams,
    own_ids,
    owners,
    propose_merges,
    tracklets_of,
)
from courtside.teams import REFEREE, find_teams

if TYPE_CHECKING:
    from courtside.roster import Roster
    from courtside.video import Video

__all__ = ["Reads", "fill_players", "read_players", "read_track"]

_AT_ONCE, _MOST_ROUNDS = 16, 3
_SURE = 10.0  # nats between the two likeliest numbers: more crops would not change the answer
_AGAIN_S = 0.6
_MOST_EVIDENCE = 8
_SURE_OF_CHANGE = 5.0  # nats for two people in a track against one
_GONE_S = 0.3  # out of sight for longer, and it may be somebody else who is taken up again
_GONE_FRAMES = 4  # that were tracked, at the usual distance, and show others only
_TAKEN_UP = 2.0  # nats for its being the same person: trackers are right more often than not
_BRIEF_S = 0.5  # tracks that are on screen together for no longer may be one player's


class _Part(NamedTuple):
    """What was looked at of a track or a part of it, in order of time.

    ``certain`` is the ``tracklet`` without the crossings in which its track may have changed the player.
    ``colors`` float64 [n, 3] RGB of all its torsos, ``looks`` its :func:`courtside.appearance.moments`.
    """

    tracklet: Tracklet
    certain: Tracklet
    torsos: list[Torso]
    readings: list[Reading]
    colors: np.ndarray
    looks: np.ndarray

    @property
    def times_s(self) -> list[float]:
        """When the torsos were seen."""
        return [torso.time_s for torso in self.torsos]


class _Person(NamedTuple):
    """What was read of somebody, as :func:`courtside.jersey.vote.wearing` says it, and the ``look``."""

    number: np.ndarray
    look: Look


@dataclass(frozen=True, slots=True, eq=False)
class _People:
    """What is known of parts of tracks, each a track of its own in ``found`` and in ``detections``.

    ``together`` are the pairs that are on screen together, ``apart`` those that are so where it is certain
    whom they show.
    """

    found: dict[int, _Part]
    detections: pd.DataFrame
    votes: dict[int, Vote]
    teams: dict[int, str | None]
    together: set[tuple[int, int]]
    apart: set[tuple[int, int]]
    likeness: Likeness | None
    roster: Roster | None
    known: dict[tuple[int, ...], _Person] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        parts: Sequence[_Part],
        detections: pd.DataFrame,
        prompts: Mapping[int, str | None],
        noise: np.ndarray,
        roster: Roster | None,
        brief: int,
    ) -> _People:
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
            track: vote(each.readings, noise, each.times_s, tuple(spans.loc[track]))
            for track, each in found.items()
        }
        colors = {track: each.colors for track, each in found.items()}
        looks = {track: each.looks for track, each in found.items()}
        prompted = {track: prompts[each.tracklet.tracking_id] for track, each in found.items()}
        teams = name_teams(find_teams(prompted, colors), colors, votes, roster)
        together = co_visible(detections, brief)
        mates = [(one, other) for one, other in together if teams[one] == teams[other] is not None]
        return cls(
            found=found,
            detections=detections,
            votes=votes,
            teams=teams,
            together=together,
            apart=co_visible(detections[certain], brief),
            likeness=Likeness.learn(looks, mates),
            roster=roster,
        )

    def alike(self, one: tuple[int, ...], others: Sequence[tuple[int, ...]]) -> np.ndarray:
        """See :data:`courtside.players.Alike`; looks count as those of team mates differ."""
        person, *candidates = map(self._person, (one, *others))
        numbers = np.array([other.number for other in candidates])
        ratios = agreement(person.number, numbers, self._allowed(one[0]))
        if self.likeness is None:
            return ratios
        return ratios + self.likeness.log_ratios(person.look, [other.look for other in candidates])

    def _person(self, group: tuple[int, ...]) -> _Person:
        if group not in self.known:
            votes = [self.votes[track] for track in group]
            looks = np.concatenate([self.found[track].looks for track in group])
            self.known[group] = _Person(wearing(votes, self._allowed(group[0])), Look.of(looks))
        return self.known[group]

    def _allowed(self, track: int) -> Sequence[str] | None:
        return None if self.roster is None else self.roster.numbers(self.teams[track])


@dataclass(frozen=True, slots=True, eq=False)
class Reads:
    """``reads`` obeys ``tables.JERSEY_READS``, ``players`` ``tables.PLAYERS``; ``warnings`` are sentences."""

    reads: pd.DataFrame
    players: pd.DataFrame
    warnings: list[str] = field(default_factory=list)


def read_players(
    video: Video,
    detections: pd.DataFrame,
    reader: Reader | None,
    *,
    roster: Roster | None = None,
    accept_merges: bool = False,
    progress: bool = True,
) -> Reads:
    """Read the numbers of all tracks in ``detections``, a table ``PLAYER_DETECTIONS``, and name the players.

    Crops that the reader fails on are counted in the warnings. Where it can't be had at all, the numbers
    stay unknown and a warning says how to get it; without a ``reader`` they stay unknown. With
    ``accept_merges`` the sure proposals become one player each, and a warning says which. A track whose
    readings show that it went on with somebody else where two people crossed is cut there, its parts are
    different players, and a warning says so. So is one that was not to be seen for a while, and then shows
    somebody of another number or other looks. A player is in one place at a time: of two tracks that were
    merged and share a few frames, those of the one that began first are no player's. How alike people of a
    team look is learnt from the tracks themselves, see :class:`courtside.appearance.Likeness`.
    """
    warnings: list[str] = []
    prompts = detections.drop_duplicates("tracking_id").set_index("tracking_id")["prompt"]
    prompts = {int(track): None if pd.isna(text) else str(text) for track, text in prompts.items()}
    overlaps = crossings(detections)
    brief = round(_BRIEF_S * video.fps)
    pieces = _pieces(detections, video.fps)
    parts: list[_Part] = []
    works = reader is not None
    for track, torsos in choose(video, detections, progress=progress):
        referee = REFEREE in (prompts[track] or "").casefold()
        for piece in pieces[track]:
            seen = [torso for torso in torsos if piece.first_frame <= torso.frame <= piece.last_frame]
            read: list[_Part] = []
            if works and not referee:
                try:
                    read = list(_read_apart(reader, piece, piece, seen, overlaps.loc[track]))
                except ModelError as error:
                    works = False
                    warnings.append(f"no numbers were read: {error}")
            parts += read or [_seen(piece, piece, seen, overlaps.loc[track])]
    parts = _aligned(sorted(parts, key=lambda part: part.tracklet), overlaps)
    failed = Counter(one.problem for part in parts for one in part.readings if one.problem)
    if failed:
        what, _ = failed.most_common(1)[0]
        total = sum(len(part.readings) for part in parts)
        warnings.append(f"{failed.total()} of {total} crops could not be read by {reader.name} ({what})")
    noise = np.zeros((11, 11)) if reader is None else reader.noise
    people = _People.of(parts, detections, prompts, noise, roster, brief)
    parts = _rejoined(people)
    if len(parts) < len(people.found):
        people = _People.of(parts, detections, prompts, noise, roster, brief)
    found, votes, teams, together = people.found, people.votes, people.teams, people.together
    warnings += _cuts(parts, video)
    answers = answer(votes, teams, people.apart, roster)
    if roster is not None:
        warnings += _more_than_roster(people.detections, teams, roster)
    merges = propose_merges(answers, teams, together, people.alike)
    if accept_merges:
        done = [merge for merge in merges if merge.sure]
        if done:
            pairs = ", ".join(
                " and ".join(str(found[one].tracklet.tracking_id) for one in merge[:2]) for merge in done
            )
            warnings.append(f"tracks were merged into one player: {pairs}")
    else:
        done = []
    players = _players(found, votes, teams, answers, merges, done)
    return Reads(_reads(found, votes, reader), players, warnings)


def read_track(
    reader: Reader, torsos: Sequence[Torso], known: Mapping[int, Reading] | None = None
) -> tuple[list[Torso], list[Reading]]:
    """Read 16 of a track's torsos, and up to twice 16 more as long as they leave its number open.

    Those in the frames of ``known`` are not read again.

    The first are the best, spread over the track's time. Players turn, so a number is often legible in a
    few neighbouring frames only: of those to come, the ones near the clearest readings are read first.
    """
    quality = np.array([torso.quality for torso in torsos])
    times = np.array([torso.time_s for torso in torsos])
    known = known or {}
    readings = {place: known[torso.frame] for place, torso in enumerate(torsos) if torso.frame in known}
    order = sorted(readings)
    for _ in range(_MOST_ROUNDS):
        wanted = quality
        if order:
            evidence = np.sort(vote([readings[i] for i in order], reader.noise, times[order]).evidence)
            if len(order) == len(torsos) or evidence[-1] - evidence[-2] >= _SURE:
                break
            clear = np.array([likelihood_ratios(readings[i].digits, reader.noise).max() for i in order])
            near = np.abs(times[:, None] - times[order]) <= _AGAIN_S
            wanted = quality * np.where(near, clear, 0).max(axis=1).clip(min=1)
            wanted[order] = -1
        chosen = _spread(times, wanted, _AT_ONCE)
        readings |= zip(chosen, read_each(reader, [torsos[i].image for i in chosen]), strict=True)
        order = sorted(readings)
    return [torsos[i] for i in order], [readings[i] for i in order]


def _read_apart(
    reader: Reader,
    tracklet: Tracklet,
    certain: Tracklet,
    torsos: Sequence[Torso],
    overlaps: pd.Series,
    known: Mapping[int, Reading] | None = None,
) -> Iterator[_Part]:
    """Read a track, and each part by itself where its numbers say that it went on with somebody else.

    ``overlaps`` are the track's :func:`crossings` by frame. What is read while two cross may be the other
    one's number, so only readings of the ``certain`` part and apart from crossings say that there are two
    people; the track is cut in the frame in which they cover each other most, and not at all where nobody
    crosses.
    """
    chosen, readings = read_track(reader, torsos, known)
    apart = [
        place
        for place, torso in enumerate(chosen)
        if certain.first_frame <= torso.frame <= certain.last_frame and overlaps[torso.frame] < CROSSING
    ]
    frames = np.array([chosen[place].frame for place in apart], int)
    times = [chosen[place].time_s for place in apart]
    crossed = overlaps[overlaps >= CROSSING]
    # How many crossings came before each reading: more before the next one, and it may be of another person.
    places = np.flatnonzero(np.diff(np.searchsorted(crossed.index, frames)))
    found = change([readings[place] for place in apart], reader.noise, times, places)
    if found is not None and found.log_odds >= _SURE_OF_CHANGE:
        before, after = frames[found.last : found.last + 2]
        crossing = crossed.loc[before:after]
        cut = int(crossing.idxmax())
        known = {torso.frame: reading for torso, reading in zip(chosen, readings, strict=True)}
        early = (
            tracklet._replace(last_frame=cut - 1),
            certain._replace(last_frame=int(crossing.index[0]) - 1),
            [torso for torso in torsos if torso.frame < cut],
        )
        late = (
            tracklet._replace(first_frame=cut),
            certain._replace(first_frame=int(crossing.index[-1]) + 1),
            [torso for torso in torsos if torso.frame >= cut],
        )
        for part in (early, late):
            yield from _read_apart(reader, *part, overlaps, known)
        return
    yield _seen(tracklet, certain, torsos, overlaps)._replace(torsos=chosen, readings=readings)


def _seen(tracklet: Tracklet, certain: Tracklet, torsos: Sequence[Torso], overlaps: pd.Series) -> _Part:
    """A part of which nothing was read yet."""
    clear = [torso for torso in torsos if overlaps[torso.frame] < CROSSING]
    colors = np.array([torso.rgb for torso in clear or torsos]).reshape(-1, 3)
    looks = moments(np.array([torso.body for torso in clear]).reshape(-1, len(BANDS) - 1, 3))
    return _Part(tracklet, certain, [], [], colors, looks)


def _pieces(detections: pd.DataFrame, fps: float) -> dict[int, list[Tracklet]]:
    """The parts of each track between which it is not to be seen for a while.

    Where only some frames were tracked, or labelled, several of these must lie in between.
    """
    tracked = np.unique(detections["frame"])
    every = float(np.median(np.diff(tracked))) if len(tracked) > 1 else 1.0
    gone = max(_GONE_S * fps, _GONE_FRAMES * every)
    found = {}
    for track, frames in detections.groupby("tracking_id")["frame"]:
        numbers = np.sort(frames.to_numpy())
        ends = np.flatnonzero(np.diff(numbers) > gone)
        starts = numbers[[0, *(ends + 1)]].tolist()
        found[int(track)] = [
            Tracklet(int(track), *span) for span in zip(starts, numbers[[*ends, -1]].tolist(), strict=True)
        ]
    return found


def _lost(early: Tracklet, late: Tracklet) -> bool:
    """Whether both are of one track, which is not to be seen in between."""
    return early.tracking_id == late.tracking_id and late.first_frame > early.last_frame + 1


def _rejoined(people: _People) -> list[_Part]:
    """The parts of ``people``, those in one that a track shows before and after nobody saw it.

    Mostly the tracker is right in whom it takes up again: it takes another number or other looks to hold
    otherwise.
    """
    joined: list[list[int]] = []
    for track, part in people.found.items():
        again = joined and _lost(people.found[joined[-1][-1]].tracklet, part.tracklet)
        if again and people.alike(tuple(joined[-1]), [(track,)])[0] > -_TAKEN_UP:
            joined[-1].append(track)
        else:
            joined.append([track])
    return [_as_one([people.found[track] for track in each]) for each in joined]


def _as_one(parts: Sequence[_Part]) -> _Part:
    """Parts of one track, in order of time, as one."""
    first, last = parts[0], parts[-1]
    return _Part(
        first.tracklet._replace(last_frame=last.tracklet.last_frame),
        first.certain._replace(last_frame=last.certain.last_frame),
        [torso for part in parts for torso in part.torsos],
        [reading for part in parts for reading in part.readings],
        np.concatenate([part.colors for part in parts]),
        np.concatenate([part.looks for part in parts]),
    )


def _aligned(parts: list[_Part], overlaps: pd.Series) -> list[_Part]:
    """``parts``, in order of track and time, with the cuts of one crossing in one frame.

    Two who changed their tracks did so at once. Of the frames that are uncertain for all tracks cut there, it
    is the one in which they cover each other most.
    """
    cuts = []
    for place, (early, late) in enumerate(pairwise(parts)):
        same = early.tracklet.tracking_id == late.tracklet.tracking_id
        if same and not _lost(early.tracklet, late.tracklet):
            cuts.append((early.certain.last_frame + 1, late.certain.first_frame - 1, place))
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
            parts[place] = early._replace(tracklet=early.tracklet._replace(last_frame=cut - 1))
            parts[place + 1] = late._replace(tracklet=late.tracklet._replace(first_frame=cut))
    return parts


def _cuts(parts: Sequence[_Part], video: Video) -> list[str]:
    """A sentence for each track that is more than one player, of ``parts`` in order of track and time."""
    said = []
    for track, own in groupby((part.tracklet for part in parts), key=lambda one: one.tracking_id):
        crossed, lost = [], []
        for early, late in pairwise(own):
            times = lost if _lost(early, late) else crossed
            times.append(f"{video.times_s[late.first_frame]:.1f} s")
        if crossed:
            said.append(f"track {track} went on with somebody else at {' and '.join(crossed)}")
        if lost:
            said.append(f"track {track} was lost and found on somebody else at {' and '.join(lost)}")
    return said


def fill_players(path: Path, players: pd.DataFrame) -> None:
    """Write ``jersey_number`` and ``player_id`` of each track into the table of detections at ``path``.

    The file is rewritten a row group at a time, with the same metadata, and replaced when it is whole.
    """
    import pyarrow
    import pyarrow.parquet

    whose = [(one, row) for row in players.itertuples(index=False) for one in tracklets_of(row)]
    tracklets = [one for one, _ in whose]
    numbers = [None if pd.isna(row.jersey_number) else row.jersey_number for _, row in whose]
    filled = {"jersey_number": numbers, "player_id": [row.player_id for _, row in whose]}
    source = pyarrow.parquet.ParquetFile(path)
    schema = source.schema_arrow
    with (
        whole(path) as part,
        source,
        pyarrow.parquet.ParquetWriter(part, schema, compression="zstd") as writer,
    ):
        for group in range(source.num_row_groups):
            table = source.read_row_group(group)
            places = owners(tracklets, table["tracking_id"].to_numpy(), table["frame"].to_numpy())
            places = pyarrow.array(places, mask=places < 0)
            for name, values in filled.items():
                column = pyarrow.array(values, pyarrow.string()).take(places)
                index = schema.get_field_index(name)
                kind = schema.field(index)
                table = table.set_column(index, kind, column.cast(kind.type))
            writer.write_table(table)
        for key, value in (source.metadata.metadata or {}).items():
            if key != b"ARROW:schema":
                writer.add_key_value_metadata({key: value})


def _spread(times_s: np.ndarray, wanted: np.ndarray, count: int) -> list[int]:
    """The places of up to ``count`` of the most ``wanted``: each one makes those near it in time less so.

    Below 0 it is not wanted at all.
    """
    reach = max(0.04, float(np.ptp(times_s)) / 40) if len(times_s) else 0
    wanted = wanted.copy()
    chosen: list[int] = []
    for _ in range(min(count, int((wanted >= 0).sum()))):
        best = int(np.argmax(wanted))
        chosen.append(best)
        away = np.abs(times_s - times_s[best])
        wanted = wanted * np.where(away <= reach, 0.4, np.where(away <= 3 * reach, 0.75, 1.0))
        wanted[best] = -1
    return sorted(chosen)


def _more_than_roster(detections: pd.DataFrame, teams: dict[int, str | None], roster: Roster) -> list[str]:
    """A sentence for each team of which more tracks are on screen at once than the roster has numbers."""
    said = []
    team_of = detections["tracking_id"].map(teams)
    for team, numbers in roster.teams.items():
        most = detections[team_of == team].groupby("frame").size().max() if (team_of == team).any() else 0
        if most > len(numbers) + roster.unnumbered:
            said.append(
                f"{most} tracks of {team} are on screen at once, but the roster gives it {len(numbers)}"
                " numbers; the others stay unknown"
            )
    return said


def _reads(found: dict[int, _Part], votes: dict[int, Vote], reader: Reader | None) -> pd.DataFrame:
    rows = []
    for track, each in found.items():
        for torso, reading, weight in zip(each.torsos, each.readings, votes[track].weights, strict=True):
            first, second = reading.positions
            used = bool(weight > 0.01)
            why = None
            if reading.problem:
                why = f"the reader failed: {reading.problem}"
            elif not used:
                why = "it reads as another number" if reading.text else "nothing legible"
            rows.append(
                {
                    "tracking_id": each.tracklet.tracking_id,
                    "frame": torso.frame,
                    "time_s": torso.time_s,
                    **dict(zip(("x1", "y1", "x2", "y2"), torso.box_xyxy, strict=True)),
                    "quality": torso.quality,
                    "reader": reader.name,
                    "text": reading.text or None,
                    "confidence": reading.confidence,
                    "abstention": reading.abstention,
                    "first": first.tolist(),
                    "second": second.tolist(),
                    "weight": float(weight),
                    "used": used,
                    "why": why,
                }
            )
    table = pd.DataFrame(rows, columns=list(tables.JERSEY_READS.columns))
    return tables.check(tables.typed(table, tables.JERSEY_READS), tables.JERSEY_READS, "the stage read")


def _players(
    found: dict[int, _Part],
    votes: dict[int, Vote],
    teams: dict[int, str | None],
    answers: dict[int, Answer],
    merges: list[Merge],
    done: list[Merge],
) -> pd.DataFrame:
    joined = {merge.second: merge.first for merge in done}
    spans = {track: part.tracklet[1:] for track, part in found.items()}
    owners = [track for track in sorted(found, key=spans.get) if track not in joined]
    names = {track: f"P{place}" for place, track in enumerate(owners, start=1)}
    proposed = {merge.second: merge for merge in merges if merge.second not in joined}
    rows = []
    for owner in owners:
        members = [owner, *(second for second, first in joined.items() if first == owner)]
        tracklets = in_turn([found[track].tracklet for track in members])
        best = max((answers[track] for track in members), key=lambda one: one.confidence)
        merge = proposed.get(owner)
        rows.append(
            {
                "player_id": names[owner],
                "tracking_ids": [one.tracking_id for one in tracklets],
                "from_frames": [one.first_frame for one in tracklets],
                "to_frames": [one.last_frame for one in tracklets],
                "team": teams.get(owner),
                "jersey_number": best.number,
                "likeliest": best.likeliest,
                "confidence": best.confidence,
                "runner_up": best.runner_up,
                "runner_up_confidence": best.runner_up_confidence,
                "near_tie": best.near_tie,
                "why": best.why,
                "evidence_frames": _frames(found, votes, members),
                "first_frame": min(one.first_frame for one in tracklets),
                "last_frame": max(one.last_frame for one in tracklets),
                "same_as": None if merge is None else names[merge.first],
                "same_confidence": 0.0 if merge is None else merge.confidence,
            }
        )
    table = pd.DataFrame(rows, columns=list(tables.PLAYERS.columns))
    return tables.check(tables.typed(table, tables.PLAYERS), tables.PLAYERS, "the stage read")


def _frames(found: dict[int, _Part], votes: dict[int, Vote], members: Iterable[int]) -> list[int]:
    """The frames that speak most for the number, the strongest first."""
    weights = [
        (float(weight), torso.frame)
        for track in members
        for torso, weight in zip(found[track].torsos, votes[track].weights, strict=True)
        if weight > 0.01
    ]
    return [frame for _, frame in sorted(weights, reverse=True)[:_MOST_EVIDENCE]]
