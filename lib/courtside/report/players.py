"""The report's section on players: which number was read where, how sure that is, who may be one person."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from courtside.jersey.crop import SIDE_PX, cut
from courtside.players import owners, tracklets_of, tracks_said
from courtside.report import blocks, figures, overlay, words
from courtside.report.blocks import Block
from courtside.report.colors import color_of
from courtside.report.crops import cut_out

if TYPE_CHECKING:
    from courtside.run import Run
    from courtside.video import Video

__all__ = ["players_section"]

Pictures = dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]

_CROPS = 5
_OPEN = 24


def players_section(run: Run, video: Video) -> Block:
    """Each player with the crops that were read, the vote, when the number was seen, and merge proposals.

    A run whose numbers were not read says so.
    """
    status = run.status()
    if status["read"]["state"] != "done":
        return blocks.note("Jersey numbers were not read in this run.", "info")
    players, reads = run.players(), run.reads()
    if not len(players):
        return blocks.note("There are no tracks, so there is nobody to name.", "info")
    whose = pd.read_parquet(run.detections_path, columns=["player_id"])["player_id"]
    pictures = _pictures(video, _shown(players, reads))
    draw = partial(_timeline, players, reads, video)
    cards = [_card(row, reads, pictures) for row in players.itertuples(index=False)]
    parts = [
        blocks.paragraph(_summary(players, reads, whose), "lead"),
        _coverage(run, players),
        blocks.picture(draw, "When each player's number was read"),
        blocks.table(
            ("Player", "Tracks", "Team", "Number", "Sure", "Next best", "Why not"),
            [_row(*each) for each in zip(players.itertuples(index=False), tracks_said(players), strict=True)],
            "A number is given only where it is likely enough; unknown is better than wrong.",
        ),
        Block(f'<div class="tracks">{"".join(cards[:_OPEN])}</div>', words.count(len(cards), "player")),
        _proposals(players, reads, pictures),
        _rejected(reads),
        _against_roster(run.scores()) if status["score"]["state"] == "done" else None,
    ]
    return blocks.stack(*parts)


def _summary(players: pd.DataFrame, reads: pd.DataFrame, whose: pd.Series) -> str:
    known = int(players["jersey_number"].notna().sum())
    ties = int(players["near_tie"].sum())
    said = f"{words.count(known, 'player')} of {len(players)} got a number, from {len(reads):,} crops."
    said += f" {words.count(ties, 'near tie')} to look at." if ties else ""
    nobodys = int(whose.isna().sum())
    return said + (f" Nobody's: {nobodys:,} of {words.count(len(whose), 'box', 'boxes')}." if nobodys else "")


def _coverage(run: Run, players: pd.DataFrame) -> Block | None:
    """How many of each team's numbers on the roster were found."""
    path = run.settings().roster
    if path is None or not path.is_file():
        return None
    from courtside.roster import read_roster

    said = []
    for team, numbers in read_roster(path).teams.items():
        found = {*players.loc[players["team"] == team, "jersey_number"].dropna()} & {*numbers}
        missing = ", ".join(number for number in numbers if number not in found)
        said.append(f"{team}: {len(found)} of {len(numbers)}" + (f" (not {missing})" if missing else ""))
    return blocks.paragraph(f"Numbers of the roster that were found: {'; '.join(said)}.")


def _own(player: tuple, reads: pd.DataFrame) -> pd.DataFrame:
    """The reads of a row of players: those of its tracks, as long as they are its own."""
    places = owners(tracklets_of(player), reads["tracking_id"].to_numpy(), reads["frame"].to_numpy())
    return reads[places >= 0]


def _row(row: tuple, tracks: str) -> tuple:
    runner = None if pd.isna(row.runner_up) else f"{row.runner_up} ({row.runner_up_confidence:.0%})"
    return (
        row.player_id,
        tracks,
        None if pd.isna(row.team) else row.team,
        "unknown" if pd.isna(row.jersey_number) else str(row.jersey_number),
        words.percent(row.confidence),
        runner,
        None if pd.isna(row.why) else row.why,
    )


def _shown(players: pd.DataFrame, reads: pd.DataFrame) -> pd.DataFrame:
    """The reads whose crops are shown: of each player those that speak most, else the best crops."""
    chosen = []
    for row in players.itertuples(index=False):
        own = _own(row, reads)
        chosen.append(own.sort_values(["weight", "quality"], ascending=False, kind="stable").head(_CROPS))
    return pd.concat(chosen).sort_values(["frame", "tracking_id"]) if chosen else reads


def _pictures(video: Video, shown: pd.DataFrame) -> Pictures:
    """The torso and the whole body of each row of ``shown``, by track and frame."""
    numbers = sorted(shown["frame"].unique().tolist())
    found = {}
    for frame in video.frames_at(numbers):
        for row in shown[shown["frame"] == frame.index].itertuples(index=False):
            box = np.array([row.x1, row.y1, row.x2, row.y2])
            torso = cut(frame.image, tuple(box))
            whole = cut_out(frame.image, box, SIDE_PX)
            found[row.tracking_id, row.frame] = torso, torso if whole is None else whole
    return found


def _strip(own: pd.DataFrame, pictures: Pictures, whole: bool = False) -> Block:
    """Torsos with what was read on them or, with ``whole``, people from head to foot."""
    images = []
    for row in own.itertuples(index=False):
        if (row.tracking_id, row.frame) in pictures:
            torso, body = pictures[row.tracking_id, row.frame]
            at = overlay.clock(row.time_s, 1)
            read = "nothing" if pd.isna(row.text) else f"{row.text} {row.confidence:.0%}"
            told = f"{at}: {read}" + ("" if row.used else ", not used")
            images.append((body, at) if whole else (torso, told))
    return blocks.frame_strip(images, "crops")


def _card(row: tuple, reads: pd.DataFrame, pictures: Pictures) -> str:
    own = _own(row, reads)
    own = own.sort_values(["weight", "quality"], ascending=False, kind="stable").head(_CROPS)
    number = "number unknown" if pd.isna(row.jersey_number) else f"number {row.jersey_number}"
    team = "" if pd.isna(row.team) else f"{row.team}, "
    chips = " ".join(blocks.chip(track) for track in dict.fromkeys(row.tracking_ids))
    said = f"{row.player_id}: {team}{number}, {words.percent(row.confidence)} sure"
    bars = _bars(row)
    return (
        f'<div class="track" style="--track:{color_of(row.tracking_ids[0])}">'
        f'<div class="track-head">{chips} {blocks.text(said)}</div>{bars}{_strip(own, pictures).html}</div>'
    )


def _bars(row: tuple) -> str:
    """The vote as bars: the likeliest number, the next, and all else together."""
    shares = [(row.likeliest, row.confidence), (row.runner_up, row.runner_up_confidence)]
    shares.append(("other or none", max(0.0, 1 - row.confidence - row.runner_up_confidence)))
    color = color_of(row.tracking_ids[0])
    lines = "".join(
        f'<div style="display:flex;gap:6px;font-size:.75rem;align-items:center">'
        f'<span style="width:6.5em">{blocks.text(name)}</span>'
        f'<span style="background:{color};height:9px;width:{max(share, 0.004) * 55:.1f}%"></span>'
        f"<span>{share:.0%}</span></div>"
        for name, share in shares
        if not pd.isna(name)
    )
    return f'<div style="margin:0 0 8px">{lines}</div>'


def _timeline(players: pd.DataFrame, reads: pd.DataFrame, video: Video, *, narrow: bool = False) -> Figure:
    """One row a player: when it was there, which crops were read, and which of them gave the number."""
    figure = Figure(
        figsize=(3.9 if narrow else 11.0, 1.1 + 0.24 * max(4, len(players))), layout="constrained"
    )
    axis = figure.subplots()
    for place, row in enumerate(players.itertuples(index=False)):
        color = color_of(row.tracking_ids[0])
        for _, *span in tracklets_of(row):
            times = video.times_s[span]
            axis.plot(times, [place, place], color=color, linewidth=6, alpha=0.25, solid_capstyle="butt")
        own = _own(row, reads)
        axis.scatter(own["time_s"], np.full(len(own), place), s=7, color="#9aa6b2", zorder=3)
        used = own[own["used"]]
        axis.scatter(used["time_s"], np.full(len(used), place), s=34, color=color, zorder=4, marker="D")
    names = [
        f"{row.player_id} {'?' if pd.isna(row.jersey_number) else row.jersey_number}"
        for row in players.itertuples(index=False)
    ]
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set_ylim(max(4, len(names)) - 0.4, -0.6)
    axis.set_xlim(0, float(video.duration_s))
    axis.set_xlabel("time (s)", fontsize=9)
    title = "Crops read (dots) and those that speak for the number (diamonds)"
    axis.set_title(title if not narrow else "Crops read, and those that count", loc="left", fontsize=10)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(length=0)
    return figure


def _proposals(players: pd.DataFrame, reads: pd.DataFrame, pictures: Pictures) -> Block | None:
    """Players that look like an earlier one, both with their numbers or, where they have none, whole."""
    parts = []
    by_id = {row.player_id: row for row in players.itertuples(index=False)}
    for row in players[players["same_as"].notna()].itertuples(index=False):
        other = by_id[row.same_as]
        unread = pd.isna(other.jersey_number) or pd.isna(row.jersey_number)
        alike = "they look alike" if unread else f"both carry {row.jersey_number}"
        said = (
            f"{row.player_id} may be {other.player_id}: {alike} and are never on screen together,"
            f" {words.percent(row.same_confidence)} sure."
        )
        strips = []
        for one in (other, row):
            own = _own(one, reads)
            own = own.sort_values(["weight", "quality"], ascending=False, kind="stable")
            own = own.head(_CROPS if unread else 3)
            strips.append(_strip(own, pictures, whole=unread))
        parts.append(blocks.stack(blocks.paragraph(said), *strips))
    if not parts:
        return None
    told = blocks.paragraph("courtside read RUN --merge accept joins those that are sure.", "quiet")
    return blocks.fold(words.count(len(parts), "merge proposal"), blocks.stack(*parts, told))


def _rejected(reads: pd.DataFrame) -> Block | None:
    """How many crops were looked at in vain, and why."""
    why = reads.loc[~reads["used"], "why"].value_counts()
    if not len(why):
        return None
    rows = [(reason, int(count)) for reason, count in why.items()]
    return blocks.fold(
        f"{words.count(int(why.sum()), 'crop')} not used, and why", blocks.table(("Why", "Crops"), rows)
    )


def _against_roster(scores: dict | None) -> Block | None:
    """What the roster of the labels says: how sure numbers are and how right, and which are mixed up."""
    told = None if scores is None else scores["protocol"]["jerseys"]
    if not told or not told["reliability"]:
        return None
    draw = partial(figures.reliability, pd.DataFrame(told["reliability"]))
    heads = ("True number", "Read as", "Tracks", "Given", "Surest")
    rows = [
        (
            "none" if row["true"] is None else row["true"],
            *(row[name] for name in ("likeliest", "tracks", "given")),
            words.percent(row["confidence"]),
        )
        for row in told["confusion"]
    ]
    mixed = blocks.table(heads, rows, "Only what was given can mislead.") if rows else None
    return blocks.fold(
        "Against the roster of the labels: how sure and how right",
        blocks.stack(blocks.picture(draw, "How often numbers are right against how sure they are"), mixed),
    )
