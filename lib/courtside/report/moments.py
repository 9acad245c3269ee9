"""The rows of the error browser: each error of a labelled run, or each suspect of another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from courtside.report.causes import Cause, guess_causes
from courtside.report.looks import look_at
from courtside.report.scene import Scene
from courtside.report.suspects import find_suspects
from courtside.video import Video

__all__ = ["ERRORS", "SUSPECTS", "Kind", "Moment", "find_errors", "suspect_moments", "wrong_numbers"]

_AROUND_S = 0.4
_BLURRED = 0.4
_REFERENCES = 8


@dataclass(frozen=True, slots=True)
class Kind:
    """What a row is: its name, what that means, and its mark. ``marked``: the timeline shows the mark too."""

    label: str
    about: str
    mark: str
    color: str
    marked: bool = True


ERRORS = {
    "switch": Kind("id switch", "the id on a player changed to another", "diamond", "#c2410c"),
    "fragment": Kind("found again", "a player is followed again after misses", "triangle", "#7c3aed"),
    "miss": Kind("missed", "frames in which a player is not followed", "ring", "#1870c2", marked=False),
    "false_positive": Kind(
        "false track", "frames in which a track is on no player", "square", "#5d6b7a", marked=False
    ),
    "wrong_number": Kind("wrong number", "frames with a number that is not the player's", "cross", "#950f66"),
}
SUSPECTS = {
    "short_track": Kind("short track", "followed for less than a second", "triangle", "#7c3aed"),
    "jump": Kind("jump", "the box moves or grows more than a player can", "diamond", "#c2410c"),
    "team_swap": Kind("team swap", "two tracks wear each other's colours since they met", "cross", "#950f66"),
    "number_change": Kind("number change", "the track reads as another number since", "square", "#0f6b5c"),
}


@dataclass(frozen=True, slots=True)
class Moment:
    """A row: what went wrong from ``frame`` to ``last_frame``, with whom, and why as a guess.

    ``layer`` and ``who`` say whom the pictures show: an object id of ``truth`` or a track of ``tracks``.
    ``before`` and ``after`` are frames to compare ``frame`` with; they may lie outside the video.
    """

    kind: str
    frame: int
    last_frame: int
    before: int
    after: int
    time_s: float
    duration_s: float
    layer: str
    who: int
    tracks: tuple[int, ...]
    name: str
    cause: str
    guess: str


def find_errors(
    events: pd.DataFrame,
    scene: Scene,
    detections: pd.DataFrame,
    matches: pd.DataFrame,
    roster: pd.DataFrame | None,
    proxy: Video,
) -> list[Moment]:
    """A row for each event (:data:`courtside.tables.EVENTS`) and each wrong number, in order of frame."""
    blurred = _Blur(scene, proxy)
    rows = [
        _moment(
            scene.times_s,
            event.event,
            (int(event.frame), int(event.last_frame)),
            ("tracks", int(event.tracking_id))
            if pd.isna(event.object_id)
            else ("truth", int(event.object_id)),
            [int(track) for track in (event.previous_tracking_id, event.tracking_id) if pd.notna(track)],
            "" if pd.isna(event.object_id) else scene.name(int(event.object_id)),
            cause,
            float(event.duration_s),
        )
        for event, cause in zip(
            events.itertuples(index=False), guess_causes(events, scene, blurred), strict=True
        )
    ]
    rows += wrong_numbers(scene, detections, matches, roster)
    return sorted(rows, key=lambda row: row.frame)


def wrong_numbers(
    scene: Scene, detections: pd.DataFrame, matches: pd.DataFrame, roster: pd.DataFrame | None
) -> list[Moment]:
    """Runs of frames in which the track on a player carries a number that is not theirs on the roster."""
    if roster is None or detections["jersey_number"].isna().all():
        return []
    numbers = detections[["frame", "tracking_id", "jersey_number"]].dropna()
    right = roster[["object_id", "jersey_number"]].dropna().rename(columns={"jersey_number": "right"})
    seen = (
        matches.dropna(subset="tracking_id")
        .merge(numbers, on=["frame", "tracking_id"])
        .merge(right, on="object_id")
    )
    seen = seen.sort_values(["object_id", "tracking_id", "frame"], kind="stable", ignore_index=True)
    keys = ["object_id", "tracking_id", "jersey_number"]
    scored = {frame: place for place, frame in enumerate(np.unique(matches["frame"]).tolist())}
    place = seen["frame"].map(scored)
    run = ((seen[keys] != seen[keys].shift()).any(axis=1) | (place.diff() != 1)).cumsum()
    rows = []
    for _, here in seen[seen["jersey_number"] != seen["right"]].groupby(run):
        row = here.iloc[0]
        number, should = str(row["jersey_number"]), str(row["right"])
        object_id, track = int(row["object_id"]), int(row["tracking_id"])
        said = f"{number} instead of {should}"
        followed = matches.loc[matches["tracking_id"].eq(track).fillna(False), "object_id"]
        owners = right.loc[(right["right"] == number) & right["object_id"].isin(followed), "object_id"]
        if len(owners):
            who = scene.name(int(owners.iloc[0]))
            cause = Cause("mixed up", f"{said}, the number of {who}, whom the track followed too")
        elif _is_close(number, should):
            cause = Cause("misread", said)
        else:
            cause = Cause("unclear", said)
        frames = int(here["frame"].iloc[0]), int(here["frame"].iloc[-1])
        step = scene.times_s[min(frames[1] + 1, len(scene.times_s) - 1)]
        length = float(step - scene.times_s[frames[0]])
        subject = ("truth", object_id)
        rows.append(
            _moment(
                scene.times_s, "wrong_number", frames, subject, [track], scene.name(object_id), cause, length
            )
        )
    return rows


def _is_close(read: str, right: str) -> bool:
    """Whether one number is part of the other, or they differ in one digit."""
    same_length = len(read) == len(right) and sum(a != b for a, b in zip(read, right, strict=True)) == 1
    return read in right or right in read or (len(right) > 1 and same_length)


def suspect_moments(
    detections: pd.DataFrame, reads: pd.DataFrame, proxy: Video, times_s: np.ndarray, width: int
) -> list[Moment]:
    """A row for each suspect of a run without labels, in order of frame."""
    rows = []
    for suspect in find_suspects(detections, reads, proxy, times_s, width):
        frames = suspect.frame, suspect.last_frame
        cause = Cause(suspect.cause, suspect.guess)
        length = float(times_s[frames[1]] - times_s[frames[0]]) if frames[1] > frames[0] else 0.0
        subject = ("tracks", suspect.tracks[0])
        rows.append(_moment(times_s, suspect.kind, frames, subject, list(suspect.tracks), "", cause, length))
    return rows


def _moment(
    times_s: np.ndarray,
    kind: str,
    frames: tuple[int, int],
    subject: tuple[str, int],
    tracks: list[int],
    name: str,
    cause: Cause,
    duration_s: float,
) -> Moment:
    first, last = frames
    around = max(1, round(_AROUND_S * (len(times_s) - 1) / times_s[-1])) if times_s[-1] > 0 else 1
    after = last + 1 if duration_s and last - first >= around else first + around
    return Moment(
        kind=kind,
        frame=first,
        last_frame=last,
        before=first - around,
        after=after,
        time_s=float(times_s[first]),
        duration_s=duration_s,
        layer=subject[0],
        who=subject[1],
        tracks=tuple(tracks),
        name=name,
        cause=cause.cause,
        guess=cause.guess,
    )


class _Blur:
    """Whether people are blurred, against the same people in other frames."""

    def __init__(self, scene: Scene, proxy: Video) -> None:
        self.scene, self.proxy = scene, proxy

    def __call__(self, asked: list[tuple[str, int, int]]) -> list[bool]:
        people: Mapping[str, Any] = {"truth": self.scene.truth, "tracks": self.scene.tracks}
        wanted = list(dict.fromkeys(asked))
        for layer, who in dict.fromkeys((layer, who) for layer, who, _ in asked):
            frames = people[layer].all_frames_of(who)
            picks = np.linspace(0, len(frames) - 1, min(_REFERENCES, len(frames))).round().astype(int)
            wanted += [(layer, who, int(frame)) for frame in frames[picks]]
        wanted = [each for each in dict.fromkeys(wanted) if each[2] < self.proxy.frame_count]
        if not wanted:
            return [False] * len(asked)
        boxes = np.array([people[layer].box(who, frame) for layer, who, frame in wanted])
        frames = np.array([frame for _, _, frame in wanted])
        sharpness = look_at(self.proxy, frames, boxes, self.scene.size[0]).sharpness
        measured = dict(zip(wanted, sharpness, strict=True))
        usual: dict[tuple[str, int], list[float]] = {}
        for (layer, who, _), value in measured.items():
            usual.setdefault((layer, who), []).append(value)
        medians = {
            key: np.nanmedian(values) if np.isfinite(values).any() else np.nan
            for key, values in usual.items()
        }
        return [bool(measured.get(each, np.nan) < _BLURRED * medians.get(each[:2], np.nan)) for each in asked]
