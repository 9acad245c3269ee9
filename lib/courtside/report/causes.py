"""Why a track went wrong, as a guess from where people stood: hidden, out of view, crossed, blurred."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from courtside.report.scene import Scene

__all__ = ["CAUSES", "Cause", "guess_causes"]

CAUSES = {
    "occluded": "another person is in front",
    "left the frame": "cut off by the edge of the picture, or out of it",
    "crossed": "the id went over between two people who met",
    "bystander": "the track is on somebody nobody asked for",
    "double": "a second track on somebody who has one",
    "late start": "nothing had followed this player yet",
    "loose box": "box and label overlap too little to match",
    "left behind": "the track goes on where somebody was",
    "blur": "much less sharp than the same person usually is",
    "misread": "the number is part of the right one, or close to it",
    "mixed up": "the number belongs to somebody whom the same track followed",
    "unclear": "none of these can be seen",
}
"""Each cause in a sentence. They are guesses from boxes, labels and sharpness, in this order of trust."""

_COVERED = 0.35
_SHARES = 0.3
_TOUCHES = 0.1
_SAMPLES = 7
_AROUND_S = 1.0
_LATE_S = 1.0


class Cause(NamedTuple):
    """One of ``CAUSES`` and what speaks for it, in words."""

    cause: str
    guess: str = ""


def guess_causes(
    events: pd.DataFrame, scene: Scene, blurred: Callable[[list[tuple[str, int, int]]], list[bool]]
) -> list[Cause]:
    """A guess for each row of ``events`` (:data:`courtside.tables.EVENTS`), in their order.

    ``blurred`` tells for (``truth`` or ``tracks``, id, frame) whether that person is blurred there; it is
    asked once, for what nothing else explains.
    """
    guess = _Guess(scene)
    causes = [guess.of(event) for event in events.itertuples(index=False)]
    open_ = [i for i, cause in enumerate(causes) if cause is None]
    asked = [_subject(events.iloc[i]) for i in open_]
    for i, blur in zip(open_, blurred(asked) if asked else [], strict=True):
        causes[i] = Cause("blur", CAUSES["blur"]) if blur else Cause("unclear")
    return causes


def _subject(event: pd.Series) -> tuple[str, int, int]:
    if pd.notna(event["object_id"]):
        return "truth", int(event["object_id"]), int(event["frame"])
    return "tracks", int(event["tracking_id"]), int(event["frame"])


class _Guess:
    """The rules. Each returns None where it does not apply."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.around = max(1, round(_AROUND_S * scene.fps))
        self.misses: dict[int, list[tuple[int, Cause | None]]] = {}

    def of(self, event: NamedTuple) -> Cause | None:
        if event.event == "false_positive":
            return self.false_positive(int(event.tracking_id), int(event.frame), int(event.last_frame))
        object_id = int(event.object_id)
        if event.event == "miss":
            cause = self.miss(object_id, int(event.frame), int(event.last_frame))
            self.misses.setdefault(object_id, []).append((int(event.last_frame), cause))
            return cause
        if event.event == "fragment":
            return self.fragment(object_id, int(event.frame))
        tracks = int(event.previous_tracking_id), int(event.tracking_id)
        return self.switch(object_id, int(event.frame), *tracks)

    def miss(self, object_id: int, first: int, last: int) -> Cause | None:
        frames = _sample(self.scene.truth.frames_of(object_id, first, last))
        if self.scene.last_followed(object_id, first) == first:
            return self.occluded(object_id, frames) or self.late(object_id, first, last)
        return (
            self.occluded(object_id, frames)
            or self.at_edge(object_id, frames)
            or self.loose(object_id, frames)
        )

    def fragment(self, object_id: int, frame: int) -> Cause | None:
        # Events come in order of their first frame, so the misses before a return are known.
        before = [cause for last, cause in self.misses.get(object_id, []) if last < frame]
        return before[-1] if before else None

    def switch(self, object_id: int, frame: int, old: int, new: int) -> Cause | None:
        followed = self.scene.last_followed(object_id, frame)
        frames = self.scene.truth.frames_of(object_id, followed, frame)
        gap_s = self.scene.absence_s(object_id, followed, frame)
        if gap_s:
            ends = [frame, *frames[:-1][-1:]]
            edge = self.at_edge(object_id, ends)
            said = f"out of view for {gap_s:.1f} s"
            return Cause("left the frame", f"{said}, {edge.guess}") if edge else Cause("occluded", said)
        near = _sample(
            self.scene.truth.frames_of(object_id, followed - self.around // 2, frame + self.around // 2)
        )
        return (
            self.crossed(object_id, frame, old, new, near)
            or self.occluded(object_id, frames)
            or self.at_edge(object_id, frames)
            or self.occluded(object_id, near)
            or self.drifted(object_id, frame, old)
        )

    def false_positive(self, tracking_id: int, first: int, last: int) -> Cause | None:
        frames = _sample(self.scene.tracks.frames_of(tracking_id, first, last))
        best: dict[str, tuple[float, str]] = {}
        for frame in frames:
            box = self.scene.tracks.box(tracking_id, frame)
            ids, overlaps = self.scene.truth.overlaps(frame, box)
            for object_id, overlap in zip(ids, overlaps, strict=True):
                who = self.scene.name(object_id)
                if not self.scene.is_required(object_id, frame):
                    kind, least, said = "bystander", _SHARES, f"on {who}, whom nobody asked for"
                elif (other := self.scene.track_on(object_id, frame)) not in (None, tracking_id):
                    kind, least, said = "double", _SHARES, f"on {who}, who has track {other}"
                else:
                    kind, least, said = "loose box", _TOUCHES, f"overlaps {who} by only {overlap:.2f}"
                if overlap >= least and overlap > best.get(kind, (0.0, ""))[0]:
                    best[kind] = overlap, said
        if best:
            kind = max(best, key=lambda kind: best[kind][0])
            return Cause(kind, best[kind][1])
        return self.left_behind(tracking_id, first) or self.stranger(tracking_id, frames)

    def occluded(self, object_id: int, frames: np.ndarray) -> Cause | None:
        """In half of the frames or more somebody's box covers a good part of this one, from further down."""
        found: dict[str, list[float]] = {}
        for frame in frames:
            cover = self.scene.cover(object_id, int(frame))
            if cover is not None and cover[1] >= _COVERED:
                found.setdefault(cover[0], []).append(cover[1])
        if sum(map(len, found.values())) * 2 < max(1, len(frames)):
            return None
        who = max(found, key=lambda who: len(found[who]))
        return Cause("occluded", f"{max(found[who]):.0%} behind {who}")

    def at_edge(self, object_id: int, frames: np.ndarray | list[int]) -> Cause | None:
        sides = [self.scene.edge(self.scene.truth.box(object_id, int(frame))) for frame in frames]
        sides = [side for side in sides if side]
        if not sides or len(sides) * 2 < len(frames):
            return None
        return Cause("left the frame", f"at the {max(set(sides), key=sides.count)} edge")

    def late(self, object_id: int, first: int, last: int) -> Cause:
        if self.scene.is_followed_after(object_id, last):
            seconds = (last + 1 - first) / self.scene.fps
            return Cause("late start", f"no track for the first {seconds:.2f} s")
        return Cause("late start", "no track was ever on this player")

    def loose(self, object_id: int, frames: np.ndarray) -> Cause | None:
        best = (0.0, -1)
        for frame in frames:
            ids, overlaps = self.scene.tracks.overlaps(
                int(frame), self.scene.truth.box(object_id, int(frame))
            )
            if len(ids):
                best = max(best, (float(overlaps.max()), int(ids[overlaps.argmax()])))
        if best[0] < _TOUCHES:
            return None
        if best[0] >= self.scene.threshold:
            return Cause("double", f"shares track {best[1]} with somebody else")
        return Cause("loose box", f"track {best[1]} overlaps by only {best[0]:.2f}")

    def crossed(self, object_id: int, frame: int, old: int, new: int, near: np.ndarray) -> Cause | None:
        """The old id is on somebody else soon after, or the new one was shortly before, and they met."""
        after = self.scene.followed(old, frame, frame + self.around)
        before = self.scene.followed(new, frame - self.around, frame - 1)
        for other, said in ((after, f"who has track {old} now"), (before, f"who had track {new} before")):
            if other is None or other == object_id:
                continue
            met = any(self.scene.truth.touch(object_id, other, int(at), reach=0.25) for at in near)
            if met:
                return Cause("crossed", f"with {self.scene.name(other)}, {said}")
        return None

    def drifted(self, object_id: int, frame: int, old: int) -> Cause | None:
        box = self.scene.truth.box(object_id, frame)
        ids, overlaps = self.scene.tracks.overlaps(frame, box)
        there = dict(zip(ids.tolist(), overlaps.tolist(), strict=True))
        overlap = there.get(old, 0.0)
        return (
            Cause("loose box", f"track {old} drifted off to an overlap of {overlap:.2f}")
            if overlap > 0.02
            else None
        )

    def left_behind(self, tracking_id: int, first: int) -> Cause | None:
        """The track was on somebody just before, who is elsewhere or gone now."""
        late = max(1, round(_LATE_S * self.scene.fps))
        object_id = self.scene.followed(tracking_id, first - late, first - 1)
        if object_id is None:
            return None
        return Cause("left behind", f"{self.scene.name(object_id)} was followed here before")

    def stranger(self, tracking_id: int, frames: np.ndarray) -> Cause | None:
        """Of a person's size, by the labels of those frames, and on none of them."""
        heights = [self.scene.truth.heights(int(frame)) for frame in frames]
        heights = np.concatenate(heights) if heights else np.zeros(0)
        if not len(heights):
            return None
        boxes = [self.scene.tracks.box(tracking_id, int(frame)) for frame in frames]
        height = float(np.median([box[3] - box[1] for box in boxes]))
        low, high = np.quantile(heights, [0.1, 0.9])
        if 0.6 * low <= height <= 1.6 * high:
            return Cause("bystander", "of a player's size, but on nobody labelled")
        return Cause("unclear", "on nobody labelled, and not of a player's size")


def _sample(frames: np.ndarray) -> np.ndarray:
    """At most ``_SAMPLES`` of ``frames``, evenly."""
    if len(frames) <= _SAMPLES:
        return frames
    return frames[np.linspace(0, len(frames) - 1, _SAMPLES).round().astype(int)]
