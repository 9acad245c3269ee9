"""The stage that reads numbers: from tracks and the video to readings and players."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from courtside import tables
from courtside.errors import ModelError
from courtside.files import whole
from courtside.jersey.crop import Torso, choose
from courtside.jersey.readers import Reader, Reading, read_each
from courtside.jersey.vote import Vote, likelihood_ratios, vote
from courtside.players import Answer, Merge, answer, co_visible, name_teams, propose_merges
from courtside.teams import REFEREE, find_teams

if TYPE_CHECKING:
    from courtside.roster import Roster
    from courtside.video import Video

__all__ = ["Reads", "fill_players", "read_players", "read_track"]

_AT_ONCE, _MOST_ROUNDS = 16, 3
_SURE = 10.0  # nats between the two likeliest numbers: more crops would not change the answer
_AGAIN_S = 0.6
_MOST_EVIDENCE = 8


class _TrackReads(NamedTuple):
    """What was looked at of one track, in order of time; ``colors`` float64 [n, 3] RGB of all its torsos."""

    torsos: list[Torso]
    readings: list[Reading]
    colors: np.ndarray


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
    ``accept_merges`` the sure proposals become one player each, and a warning says which.
    """
    warnings: list[str] = []
    prompts = detections.drop_duplicates("tracking_id").set_index("tracking_id")["prompt"]
    prompts = {int(track): None if pd.isna(text) else str(text) for track, text in prompts.items()}
    found: dict[int, _TrackReads] = {}
    works = reader is not None
    for track, torsos in choose(video, detections, progress=progress):
        colors = np.array([torso.rgb for torso in torsos]).reshape(-1, 3)
        referee = REFEREE in (prompts[track] or "").casefold()
        found[track] = _TrackReads([], [], colors)
        if works and not referee:
            try:
                found[track] = _TrackReads(*read_track(reader, torsos), colors)
            except ModelError as error:
                works = False
                warnings.append(f"no numbers were read: {error}")
    found = {track: found[track] for track in sorted(found)}
    failed = Counter(one.problem for each in found.values() for one in each.readings if one.problem)
    if failed:
        what, _ = failed.most_common(1)[0]
        total = sum(len(each.readings) for each in found.values())
        warnings.append(f"{failed.total()} of {total} crops could not be read by {reader.name} ({what})")
    noise = np.zeros((11, 11)) if reader is None else reader.noise
    spans = detections.groupby("tracking_id")["time_s"].agg(["min", "max"])
    votes = {
        track: vote(each.readings, noise, [torso.time_s for torso in each.torsos], tuple(spans.loc[track]))
        for track, each in found.items()
    }
    colors = {track: each.colors for track, each in found.items()}
    together = co_visible(detections)
    teams = name_teams(find_teams({track: prompts[track] for track in found}, colors), colors, votes, roster)
    answers = answer(votes, teams, together, roster)
    if roster is not None:
        warnings += _more_than_roster(detections, teams, roster)
    merges = propose_merges(answers, teams, together)
    if accept_merges:
        done = [merge for merge in merges if merge.sure]
        if done:
            pairs = ", ".join(f"{merge.first} and {merge.second}" for merge in done)
            warnings.append(f"tracks were merged into one player: {pairs}")
    else:
        done = []
    players = _players(detections, found, votes, teams, answers, merges, done)
    return Reads(_reads(found, votes, reader), players, warnings)


def read_track(reader: Reader, torsos: Sequence[Torso]) -> tuple[list[Torso], list[Reading]]:
    """Read 16 of a track's torsos, and up to twice 16 more as long as they leave its number open.

    The first are the best, spread over the track's time. Players turn, so a number is often legible in a
    few neighbouring frames only: of those to come, the ones near the clearest readings are read first.
    """
    quality = np.array([torso.quality for torso in torsos])
    times = np.array([torso.time_s for torso in torsos])
    readings: dict[int, Reading] = {}
    wanted = quality
    for _ in range(_MOST_ROUNDS):
        chosen = _spread(times, wanted, _AT_ONCE)
        readings |= zip(chosen, read_each(reader, [torsos[i].image for i in chosen]), strict=True)
        order = sorted(readings)
        evidence = np.sort(vote([readings[i] for i in order], reader.noise, times[order]).evidence)
        if len(order) == len(torsos) or evidence[-1] - evidence[-2] >= _SURE:
            break
        clear = np.array([likelihood_ratios(readings[i].digits, reader.noise).max() for i in order])
        near = np.abs(times[:, None] - times[order]) <= _AGAIN_S
        wanted = quality * np.where(near, clear, 0).max(axis=1).clip(min=1)
        wanted[order] = -1
    return [torsos[i] for i in order], [readings[i] for i in order]


def fill_players(path: Path, players: pd.DataFrame) -> None:
    """Write ``jersey_number`` and ``player_id`` of each track into the table of detections at ``path``.

    The file is rewritten a row group at a time, with the same metadata, and replaced when it is whole.
    """
    import pyarrow
    import pyarrow.compute
    import pyarrow.parquet

    owners = [(track, row) for row in players.itertuples(index=False) for track in row.tracking_ids]
    tracks = pyarrow.array([track for track, _ in owners], pyarrow.int64())
    numbers = [None if pd.isna(row.jersey_number) else row.jersey_number for _, row in owners]
    filled = {"jersey_number": numbers, "player_id": [row.player_id for _, row in owners]}
    source = pyarrow.parquet.ParquetFile(path)
    schema = source.schema_arrow
    with (
        whole(path) as part,
        source,
        pyarrow.parquet.ParquetWriter(part, schema, compression="zstd") as writer,
    ):
        for group in range(source.num_row_groups):
            table = source.read_row_group(group)
            places = pyarrow.compute.index_in(table["tracking_id"], tracks)
            for name, values in filled.items():
                column = pyarrow.array(values, pyarrow.string()).take(places.combine_chunks())
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


def _reads(found: dict[int, _TrackReads], votes: dict[int, Vote], reader: Reader | None) -> pd.DataFrame:
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
                    "tracking_id": track,
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
    detections: pd.DataFrame,
    found: dict[int, _TrackReads],
    votes: dict[int, Vote],
    teams: dict[int, str | None],
    answers: dict[int, Answer],
    merges: list[Merge],
    done: list[Merge],
) -> pd.DataFrame:
    spans = detections.groupby("tracking_id")["frame"].agg(["min", "max"])
    joined = {merge.second: merge.first for merge in done}
    owners = [track for track in spans.sort_values(["min", "max"]).index if track not in joined]
    names = {track: f"P{place}" for place, track in enumerate(owners, start=1)}
    proposed = {merge.second: merge for merge in merges if merge.second not in joined}
    rows = []
    for owner in owners:
        members = [owner, *(second for second, first in joined.items() if first == owner)]
        best = max((answers[track] for track in members), key=lambda one: one.confidence)
        merge = proposed.get(owner)
        rows.append(
            {
                "player_id": names[owner],
                "tracking_ids": [int(track) for track in members],
                "team": teams.get(owner),
                "jersey_number": best.number,
                "likeliest": best.likeliest,
                "confidence": best.confidence,
                "runner_up": best.runner_up,
                "runner_up_confidence": best.runner_up_confidence,
                "near_tie": best.near_tie,
                "why": best.why,
                "evidence_frames": _frames(found, votes, members),
                "first_frame": int(spans.loc[members, "min"].min()),
                "last_frame": int(spans.loc[members, "max"].max()),
                "same_as": None if merge is None else names[merge.first],
                "same_confidence": 0.0 if merge is None else merge.confidence,
            }
        )
    table = pd.DataFrame(rows, columns=list(tables.PLAYERS.columns))
    return tables.check(tables.typed(table, tables.PLAYERS), tables.PLAYERS, "the stage read")


def _frames(found: dict[int, _TrackReads], votes: dict[int, Vote], members: Iterable[int]) -> list[int]:
    """The frames that speak most for the number, the strongest first."""
    weights = [
        (float(weight), torso.frame)
        for track in members
        for torso, weight in zip(found[track].torsos, votes[track].weights, strict=True)
        if weight > 0.01
    ]
    return [frame for _, frame in sorted(weights, reverse=True)[:_MOST_EVIDENCE]]
