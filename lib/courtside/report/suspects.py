"""Where tracks may have gone wrong, told without labels: short, jumping, in other colours or numbers."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from courtside.course import camera
from courtside.report.looks import look_at
from courtside.scoring.frames import box_iou
from courtside.video import Video

__all__ = ["Suspect", "find_suspects", "jumps", "number_changes", "short_tracks", "team_swaps"]

_SHORT_S = 1.0
_NEAR_S = 1.0
# A sprint is about 9 m/s, five times a player's height a second; boxes wobble by a part of their height.
_HEIGHTS_PER_S = 6.0
_WOBBLE = 0.35
_GROWTH = 1.6
_GAP_S = 0.3
_WINDOW_S = 2.0
_SAMPLES_PER_S = 5
# CIELAB: teams must differ this much, and the swap explain most of the change.
_TEAMS_APART = 15.0
_EXPLAINED = 0.5
# Readings at least this sure, so many before a change of number and after it, nearly all of one number.
_CLEAR, _READ, _AGREED = 0.5, 2, 0.8
_BOX = ["x1", "y1", "x2", "y2"]


class Suspect(NamedTuple):
    """A moment to look at, of one of these kinds: short_track, jump, team_swap or number_change.

    ``tracks`` are those it is about.
    """

    kind: str
    frame: int
    last_frame: int
    tracks: tuple[int, ...]
    cause: str
    guess: str


def find_suspects(
    detections: pd.DataFrame, reads: pd.DataFrame, proxy: Video, times_s: np.ndarray, width: int
) -> list[Suspect]:
    """All suspects of a run, in order of frame. ``width`` is that of the picture the boxes are pixels of.

    ``reads`` is a table ``JERSEY_READS``.
    """
    if not len(detections):
        return []
    found = [*short_tracks(detections, times_s), *jumps(detections, times_s), *number_changes(reads)]
    found += team_swaps(detections, proxy, times_s, width)
    return sorted(found, key=lambda suspect: (suspect.frame, suspect.kind, suspect.tracks))


def short_tracks(detections: pd.DataFrame, times_s: np.ndarray) -> Iterator[Suspect]:
    """Tracks of less than a second that neither the start nor the end of the video cut short."""
    step_s = _step(times_s)
    spans = detections.groupby("tracking_id")["frame"].agg(["min", "max", "size"])
    ends = detections.sort_values("frame", kind="stable").groupby("tracking_id")[_BOX]
    first_boxes, last_boxes = ends.first(), ends.last()
    for track, first, last, size in spans.itertuples(name=None):
        seconds = times_s[last] - times_s[first] + step_s
        if seconds >= _SHORT_S or first == 0 or last == len(times_s) - 1:
            continue
        said = f"{seconds:.2f} s, {size} frame{'s' * (size != 1)}"
        after = spans[(spans["min"] > last) & (times_s[spans["min"]] - times_s[last] <= _NEAR_S)].index
        before = spans[(spans["max"] < first) & (times_s[first] - times_s[spans["max"]] <= _NEAR_S)].index
        on = _nearest(last_boxes.loc[track], first_boxes.loc[after])
        back = _nearest(first_boxes.loc[track], last_boxes.loc[before])
        parts = [f"track {other}" for other in (back, on) if other is not None]
        if parts:
            yield Suspect(
                "short_track",
                int(first),
                int(last),
                (int(track),),
                "fragment",
                f"{said}, perhaps of {' and '.join(parts)}",
            )
        else:
            yield Suspect("short_track", int(first), int(last), (int(track),), "flicker", said)


def jumps(detections: pd.DataFrame, times_s: np.ndarray) -> Iterator[Suspect]:
    """Boxes that move further than a sprint, or change in size by half, between two frames of a track.

    The camera's own motion, the median over the tracks that both frames share, is taken off first.
    """
    rows = detections.sort_values(["tracking_id", "frame"], kind="stable")
    track, frame = rows["tracking_id"].to_numpy(), rows["frame"].to_numpy()
    boxes = rows[_BOX].to_numpy(float)
    height = np.maximum(boxes[:, 3] - boxes[:, 1], 1.0)
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    seconds = np.diff(times_s[frame])
    pairs = np.flatnonzero((np.diff(track) == 0) & (seconds <= _GAP_S))
    moved, seconds = np.diff(center, axis=0)[pairs], seconds[pairs]
    shaken = camera(moved, [frame[pairs], frame[pairs + 1]])
    size = np.minimum(height[pairs], height[pairs + 1])
    far = np.linalg.norm(moved - shaken, axis=1) / size
    growth = np.maximum(height[pairs], height[pairs + 1]) / size
    for pair, how_far, how_much, limit in zip(
        pairs, far, growth, _WOBBLE + _HEIGHTS_PER_S * seconds, strict=True
    ):
        at = int(frame[pair + 1])
        if how_far > limit:
            said = f"by {how_far:.1f} times its height at once"
            yield Suspect("jump", at, at, (int(track[pair]),), "moved", said)
        elif how_much > _GROWTH:
            said = (
                f"{how_much:.1f} times as {'large' if height[pair + 1] > height[pair] else 'small'} at once"
            )
            yield Suspect("jump", at, at, (int(track[pair]),), "resized", said)


def team_swaps(detections: pd.DataFrame, proxy: Video, times_s: np.ndarray, width: int) -> Iterator[Suspect]:
    """Pairs of tracks that met and wear each other's colours since."""
    meetings = list(_meetings(detections, times_s))
    if not meetings:
        return
    samples = _samples(detections, times_s)
    looks = look_at(proxy, samples["frame"].to_numpy(), samples[_BOX].to_numpy(), width)
    colors = {
        int(track): (rows["frame"].to_numpy(), looks.colors[rows.index])
        for track, rows in samples.groupby("tracking_id")
    }

    def worn(track: int, start_s: float, stop_s: float) -> np.ndarray | None:
        frames, seen = colors.get(track, (np.zeros(0, int), np.zeros((0, 3))))
        here = seen[(times_s[frames] >= start_s) & (times_s[frames] <= stop_s)]
        here = here[np.isfinite(here).all(axis=1)]
        return np.median(here, axis=0) if len(here) >= 2 else None

    for one, other, first, last in meetings:
        before, after = times_s[first], times_s[last]
        spans = ((before - _WINDOW_S, before), (after, after + _WINDOW_S))
        seen = [worn(track, *span) for span in spans for track in (one, other)]
        if any(each is None for each in seen):
            continue
        a, b, a_after, b_after = seen
        apart = min(np.linalg.norm(a - b), np.linalg.norm(a_after - b_after))
        stayed = np.linalg.norm(a - a_after) + np.linalg.norm(b - b_after)
        swapped = np.linalg.norm(a - b_after) + np.linalg.norm(b - a_after)
        if apart >= _TEAMS_APART and swapped < _EXPLAINED * stayed:
            said = f"tracks {one} and {other} wear each other's colours since they met"
            yield Suspect("team_swap", last, last, (one, other), "crossed", said)


def number_changes(reads: pd.DataFrame) -> Iterator[Suspect]:
    """Tracks that read as one number up to a moment and as another one since: they changed the player.

    A number that is part of the other, as "2" is of "25", is none: the rest of it was hidden.
    """
    clear = reads[reads["text"].notna() & (reads["confidence"] >= _CLEAR)].sort_values("frame", kind="stable")
    for track, rows in clear.groupby("tracking_id"):
        texts = rows["text"].tolist()
        changes = []
        for place in range(_READ, len(texts) - _READ + 1):
            sides = [Counter(part).most_common(1)[0] for part in (texts[:place], texts[place:])]
            (one, before), (other, after) = sides
            agreed = before >= _AGREED * place and after >= _AGREED * (len(texts) - place)
            if agreed and one not in other and other not in one:
                changes.append((before + after, place, one, other))
        if changes:
            _, place, one, other = max(changes, key=lambda change: change[0])
            last, first = rows.iloc[place - 1], rows.iloc[place]
            said = f"reads {one} until {last['time_s']:.1f} s, and {other} from {first['time_s']:.1f} s on"
            frame = int(first["frame"])
            yield Suspect("number_change", frame, frame, (int(track),), "another player", said)


def _meetings(detections: pd.DataFrame, times_s: np.ndarray) -> Iterator[tuple[int, int, int, int]]:
    """Pairs of tracks whose boxes overlap, with first and last frame; half a second apart is one meeting."""
    together: dict[tuple[int, int], list[int]] = {}
    for frame, rows in detections.groupby("frame"):
        boxes, ids = rows[_BOX].to_numpy(float), rows["tracking_id"].to_numpy()
        for i, j in zip(*np.nonzero(np.triu(box_iou(boxes, boxes) > 0.1, 1)), strict=True):
            together.setdefault(tuple(sorted((int(ids[i]), int(ids[j])))), []).append(int(frame))
    for (one, other), frames in together.items():
        breaks = [
            i + 1 for i, (a, b) in enumerate(itertools.pairwise(frames)) if times_s[b] - times_s[a] > 0.5
        ]
        for start, stop in itertools.pairwise([0, *breaks, len(frames)]):
            yield one, other, frames[start], frames[stop - 1]


def _samples(detections: pd.DataFrame, times_s: np.ndarray) -> pd.DataFrame:
    """Boxes to take colours from: some frames a second, those that no other box covers much."""
    every = max(1, round(1 / (_step(times_s) * _SAMPLES_PER_S)))
    rows = detections[detections["frame"] % every == 0].reset_index(drop=True)
    free = np.zeros(len(rows), bool)
    for _, here in rows.groupby("frame"):
        boxes = here[_BOX].to_numpy(float)
        overlap = box_iou(boxes, boxes) - np.eye(len(boxes))
        free[here.index] = overlap.max(axis=1, initial=0) < 0.15
    return rows[free].reset_index(drop=True)


def _nearest(box: pd.Series, others: pd.DataFrame) -> int | None:
    """The id of the box of ``others`` nearest to ``box`` in place, at most its height away, and in size."""
    if not len(others):
        return None
    height = max(box["y2"] - box["y1"], 1.0)
    heights = (others["y2"] - others["y1"]).to_numpy()
    x = ((others["x1"] + others["x2"]) / 2).to_numpy() - (box["x1"] + box["x2"]) / 2
    y = others["y2"].to_numpy() - box["y2"]
    away = np.hypot(x, y) / height
    away[(heights > _GROWTH * height) | (heights * _GROWTH < height)] = np.inf
    return int(others.index[away.argmin()]) if away.min() <= 1.0 else None


def _step(times_s: np.ndarray) -> float:
    return float(np.median(np.diff(times_s))) if len(times_s) > 1 else 0.04
