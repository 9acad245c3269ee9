"""The stage that reads numbers: from tracks and the video to readings and players."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from courtside import tables
from courtside.course import lend, let_go
from courtside.errors import ModelError, some
from courtside.files import whole
from courtside.jersey.crop import Torso, choose
from courtside.jersey.readers import Reader, Reading, read_each
from courtside.jersey.vote import Vote, change, likelihood_ratios, vote
from courtside.parts import (
    Part,
    People,
    aligned,
    handed_over,
    longest_unseen,
    pieces,
    placed,
    rejoined,
    was_lost,
)
from courtside.players import (
    CROSSING,
    Answer,
    Merge,
    Tracklet,
    answer,
    crossings,
    in_turn,
    owners,
    propose_merges,
    tracklets_of,
)
from courtside.teams import REFEREE

if TYPE_CHECKING:
    from courtside.roster import Roster
    from courtside.video import Video

__all__ = ["Reads", "fill_players", "read_players", "read_track"]

_AT_ONCE, _MOST_ROUNDS = 16, 3
_WORTH = 0.5  # of quality: looks of less are read only where there are not enough others
_SURE = 10.0  # nats between the two likeliest numbers: more crops would not change the answer
_AGAIN_S = 0.6
_MOST_EVIDENCE = 8
_COUNTS = 0.01  # of weight: a reading of less says nothing for the number
_SURE_OF_CHANGE = 2.5  # nats for two people in a track against one
_BRIEF_S = 0.5  # tracks that are on screen together for no longer may be one player's


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
    somebody of another number or other looks, and one that goes on as another track's player where that one
    ends. A player is in one place at a time: of two tracks that were merged and are seen together for a few
    frames, those of the one that began first are no player's. What of one track lies on another player who is
    not seen for a moment is that one's, see :func:`courtside.course.lend`, and a warning says so. How alike
    people of a team look is learnt from the tracks themselves, see :class:`courtside.appearance.Likeness`.
    """
    warnings: list[str] = []
    prompts = detections.drop_duplicates("tracking_id").set_index("tracking_id")["prompt"]
    prompts = {int(track): None if pd.isna(text) else str(text) for track, text in prompts.items()}
    overlaps = crossings(detections)
    brief = round(_BRIEF_S * video.fps)
    unseen = longest_unseen(detections, video.fps)
    own = pieces(detections, unseen)
    parts: list[Part] = []
    works = reader is not None
    for track, torsos in choose(video, detections, progress=progress):
        referee = REFEREE in (prompts[track] or "").casefold()
        for piece in own[track]:
            seen = [torso for torso in torsos if piece.first_frame <= torso.frame <= piece.last_frame]
            read: list[Part] = []
            if works and not referee:
                try:
                    read = list(_read_apart(reader, piece, piece, seen, overlaps.loc[track]))
                except ModelError as error:
                    works = False
                    warnings.append(f"no numbers were read: {error}")
            parts += read or [Part.seen(piece, piece, seen, overlaps.loc[track])]
    parts = aligned(sorted(parts, key=lambda part: part.tracklet), overlaps)
    failed = Counter(one.problem for part in parts for one in part.readings if one.problem)
    if failed:
        what, _ = failed.most_common(1)[0]
        total = sum(len(part.readings) for part in parts)
        warnings.append(f"{failed.total()} of {total} crops could not be read by {reader.name} ({what})")
    noise = np.zeros((11, 11)) if reader is None else reader.noise
    known = partial(
        People.of, detections=detections, prompts=prompts, noise=noise, roster=roster, brief=brief
    )
    people = known(parts)
    parts = rejoined(people)
    if parts != [*people.found.values()]:
        people = known(parts)
    parts, same = handed_over(people, unseen)
    parts = placed(parts, detections, people.likeness, video.fps)
    if parts != [*people.found.values()]:
        people = known(parts)
    track_of = [*people.found]
    handed = [Merge(*sorted((track_of[one], track_of[other])), chance, True) for one, other, chance in same]
    found, votes, teams, together = people.found, people.votes, people.teams, people.together
    answers = answer(votes, teams, people.apart, roster)
    if roster is not None:
        warnings += _more_than_roster(people.detections, teams, roster)
    merges = propose_merges(answers, teams, together, people.alike, handed)
    warnings += _cuts(found, merges, video)
    done = [merge for merge in merges if merge.sure and accept_merges]
    if done:
        pairs = [" and ".join(str(found[one].tracklet.tracking_id) for one in merge[:2]) for merge in done]
        warnings.append(f"tracks were merged into one player: {some(dict.fromkeys(pairs))}")
    groups = _groups(found, done)
    seen = pieces(people.detections, unseen)
    turns = [
        in_turn([found[one].tracklet for one in group], [seen[one] for one in group]) for group in groups
    ]
    certain = {
        (part.tracklet.tracking_id, frame)
        for one, part in found.items()
        for _, frame in _counting(part, votes[one])
    }
    turns, loans = lend(detections, turns, certain)
    if loans:
        moments = [f"{one.tracking_id} at {video.times_s[one.first_frame]:.1f} s" for one, _ in loans]
        warnings.append(
            f"tracks lay on somebody else who was hidden for a moment, and are theirs then: {some(moments)}"
        )
    turns = let_go(detections, turns, certain)
    players = _players(groups, turns, found, votes, teams, answers, merges)
    return Reads(_reads(found, votes, reader), players, warnings)


def read_track(
    reader: Reader, torsos: Sequence[Torso], known: Mapping[int, Reading] | None = None
) -> tuple[list[Torso], list[Reading]]:
    """Read 16 of a track's torsos, and up to twice 16 more as long as they leave its number open.

    Those in the frames of ``known`` are not read again.

    The first are the best, spread over the track's time. Players turn, so a number is often legible in a
    few neighbouring frames only: of those to come, the ones near the clearest readings are read first. Those
    that hardly promise a number are left out if there are 16 others.
    """
    quality = np.array([torso.quality for torso in torsos])
    times = np.array([torso.time_s for torso in torsos])
    worth = quality >= min([_WORTH, *np.sort(quality)[-_AT_ONCE:]])
    known = known or {}
    readings = {place: known[torso.frame] for place, torso in enumerate(torsos) if torso.frame in known}
    order = sorted(readings)
    for _ in range(_MOST_ROUNDS):
        worth[order] = False
        wanted = np.where(worth, quality, -1.0)
        if order:
            read = vote([readings[i] for i in order], reader.noise, times[order], chances=quality[order])
            evidence = np.sort(read.evidence)
            if not worth.any() or evidence[-1] - evidence[-2] >= _SURE:
                break
            clear = np.array([likelihood_ratios(readings[i].digits, reader.noise).max() for i in order])
            near = np.abs(times[:, None] - times[order]) <= _AGAIN_S
            wanted = wanted * np.where(near, clear, 0).max(axis=1).clip(min=1)
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
) -> Iterator[Part]:
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
    chances = [chosen[place].quality for place in apart]
    found = change([readings[place] for place in apart], reader.noise, times, places, chances)
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
    yield replace(Part.seen(tracklet, certain, torsos, overlaps), torsos=chosen, readings=readings)


def _cuts(found: Mapping[int, Part], merges: Sequence[Merge], video: Video) -> list[str]:
    """What there is to say of tracks that are more than one player; parts that are surely one don't count."""
    first = {merge.second: merge.first for merge in merges if merge.sure}
    crossed: dict[int, list[str]] = {}
    lost: dict[int, list[str]] = {}
    for (one, early), (other, late) in pairwise((each, part.tracklet) for each, part in found.items()):
        if early.tracking_id == late.tracking_id and first.get(one, one) != first.get(other, other):
            times = lost if was_lost(early, late) else crossed
            times.setdefault(late.tracking_id, []).append(f"{video.times_s[late.first_frame]:.1f} s")
    said = []
    for times, what in ((crossed, "gone on with"), (lost, "been found again on")):
        if times:
            tracks = some(f"{track} at {' and '.join(cuts)}" for track, cuts in times.items())
            said.append(f"tracks seem to have {what} somebody else and were cut: {tracks}")
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


def _reads(found: dict[int, Part], votes: dict[int, Vote], reader: Reader | None) -> pd.DataFrame:
    rows = []
    for track, each in found.items():
        for torso, reading, weight in zip(each.torsos, each.readings, votes[track].weights, strict=True):
            first, second = reading.positions
            used = bool(weight > _COUNTS)
            why = None
            if reading.problem:
                why = f"the reader failed: {reading.problem}"
            elif torso.elsewhere:
                why = "it is on somebody else's jersey"
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


def _groups(found: Mapping[int, Part], done: Sequence[Merge]) -> list[list[int]]:
    """Who is one player by the merges that are ``done``: the one that began first, then others."""
    joined = {merge.second: merge.first for merge in done}
    firsts = sorted((one for one in found if one not in joined), key=lambda one: found[one].tracklet[1:])
    return [[first, *(second for second, owner in joined.items() if owner == first)] for first in firsts]


def _players(
    groups: list[list[int]],
    turns: list[list[Tracklet]],
    found: dict[int, Part],
    votes: dict[int, Vote],
    teams: dict[int, str | None],
    answers: dict[int, Answer],
    merges: list[Merge],
) -> pd.DataFrame:
    """A row a player: whom each of ``groups`` shows in its ``turns``."""
    names = {group[0]: f"P{place}" for place, group in enumerate(groups, start=1)}
    proposed = {merge.second: merge for merge in merges if merge.second in names}
    rows = []
    for group, tracklets in zip(groups, turns, strict=True):
        whole = [found[track].tracklet for track in group]
        best = max((answers[track] for track in group), key=lambda one: one.confidence)
        evidence = sorted((each for one in group for each in _counting(found[one], votes[one])), reverse=True)
        merge = proposed.get(group[0])
        rows.append(
            {
                "player_id": names[group[0]],
                "tracking_ids": [one.tracking_id for one in tracklets],
                "from_frames": [one.first_frame for one in tracklets],
                "to_frames": [one.last_frame for one in tracklets],
                "team": next((teams[track] for track in group if teams[track] is not None), None),
                "jersey_number": best.number,
                "likeliest": best.likeliest,
                "confidence": best.confidence,
                "runner_up": best.runner_up,
                "runner_up_confidence": best.runner_up_confidence,
                "near_tie": best.near_tie,
                "why": best.why,
                "evidence_frames": [frame for _, frame in evidence[:_MOST_EVIDENCE]],
                "first_frame": min(one.first_frame for one in whole),
                "last_frame": max(one.last_frame for one in whole),
                "same_as": None if merge is None else names[merge.first],
                "same_confidence": 0.0 if merge is None else merge.confidence,
            }
        )
    table = pd.DataFrame(rows, columns=list(tables.PLAYERS.columns))
    return tables.check(tables.typed(table, tables.PLAYERS), tables.PLAYERS, "the stage read")


def _counting(part: Part, said: Vote) -> list[tuple[float, int]]:
    """The weight and the frame of each reading of a part that speaks for its number."""
    weights = zip(part.torsos, said.weights, strict=True)
    return [(float(weight), torso.frame) for torso, weight in weights if weight > _COUNTS]
