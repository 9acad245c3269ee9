"""What a person did in a session, in order, and what that means for the next propagation."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from courtside import watch
from courtside.errors import RunError, SettingError

__all__ = ["BOX", "CLICKED", "Actions", "Clicks", "Leg", "Plan"]

CLICKED = -1
"""The prompt of an object that no text found."""

BOX = (2, 3)
"""The labels of a box's corners among those of points."""


@dataclass(slots=True)
class Clicks:
    """What was clicked of one object: points (P, 2) in pixels of the video and their labels (P,), by frame.

    ``prompt`` is the text that found the object first, by number, or ``CLICKED``.
    """

    prompt: int = CLICKED
    frames: dict[int, tuple[list[list[float]], list[int]]] = field(default_factory=dict)

    def add(self, frame: int, points: list[list[float]], labels: list[int]) -> Clicks:
        """These clicks and more; a box replaces all that was clicked in the frame before."""
        former = ([], []) if set(labels) & set(BOX) else self.frames.get(frame, ([], []))
        now = ([*former[0], *points], [*former[1], *labels])
        return Clicks(self.prompt, self.frames | {frame: now})


@dataclass(frozen=True, slots=True)
class Leg:
    """One way through the video, ``forward`` or ``backward``: the frames ``numbers``, in order."""

    name: str
    numbers: range

    @property
    def reverse(self) -> bool:
        return self.numbers.step < 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a propagation has to do: ``kind`` is full, partial or fetch; ``objects`` were clicked."""

    kind: str
    objects: tuple[int, ...]
    legs: tuple[Leg, ...]

    @property
    def span(self) -> range:
        """From the first to the last frame of all legs."""
        ends = [end for leg in self.legs for end in (leg.numbers[0], leg.numbers[-1])]
        return range(min(ends), max(ends) + 1)


class Actions:
    """The log in the file ``path``, one JSON object a line, to which every action is added as it happens.

    Raises :class:`RunError` where the file is damaged anywhere but in its last line, which a crash may have
    cut.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._all: list[dict[str, Any]] = []
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        for number, line in enumerate(lines, start=1):
            try:
                self._all.append(json.loads(line))
            except ValueError as error:
                if number < len(lines) or line.endswith("\n"):
                    raise RunError(
                        f"line {number} of {path} is damaged ({error}): mend or delete it"
                    ) from error
                path.write_text("".join(lines[:-1]))

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self):
        return iter(self._all)

    def write(self, action: str, **details: Any) -> None:
        entry = {"when": watch.now(), "action": action, **details}
        with open(self._path, "a") as file:
            file.write(json.dumps(entry) + "\n")
        self._all.append(entry)

    def current(self) -> list[dict[str, Any]]:
        """The actions since the last reset."""
        resets = [index for index, entry in enumerate(self._all) if entry["action"] == "reset"]
        return self._all[resets[-1] + 1 :] if resets else self._all

    @property
    def texts(self) -> list[str]:
        return [entry["text"] for entry in self.current() if entry["action"] == "add_text"]

    @property
    def clicked(self) -> dict[int, Clicks]:
        """The objects that were clicked and not removed, by id."""
        objects: dict[int, Clicks] = {}
        for entry in self.current():
            if entry["action"] == "add_clicks":
                own = objects.get(entry["obj_id"], Clicks(entry["prompt"]))
                objects[entry["obj_id"]] = own.add(entry["frame"], entry["points"], entry["labels"])
            elif entry["action"] == "remove_object":
                objects.pop(entry["obj_id"], None)
        return objects

    def plan(self, frame_count: int, direction: str, start: int | None, most: int | None) -> Plan:
        """What a propagation in ``direction`` has to do.

        Everything (full) where a text is new since all was last followed, or where frames are asked for that
        were not followed yet; only the objects that were clicked since (partial); or nothing (fetch).
        ``start`` is by default the earliest frame with a new prompt; ``most`` frames are followed each way.
        """
        if direction not in ("forward", "backward", "both"):
            raise SettingError(f"direction is {direction!r}; it must be forward, backward or both")
        entries, clicked = self.current(), self.clicked
        asked = [entry["frame"] for entry in entries if entry["action"] == "add_text"]
        asked += [frame for own in clicked.values() for frame in own.frames]
        if not asked:
            raise SettingError("there is nothing to follow yet: add a prompt first")
        new_texts, new_clicks, covered = [], {}, set()
        for entry in entries:
            if entry["action"] == "add_text":
                new_texts.append(entry["frame"])
            elif entry["action"] == "add_clicks" and entry["obj_id"] in clicked:
                new_clicks.setdefault(entry["obj_id"], []).append(entry["frame"])
            elif entry["action"] == "propagate":
                covered.update(frame for first, last in entry["frames"] for frame in range(first, last + 1))
                if entry["kind"] == "full":
                    new_texts, new_clicks = [], {}
                new_clicks = {own: at for own, at in new_clicks.items() if own not in entry["objects"]}
        if start is None:
            start = min([*new_texts, *(at for frames in new_clicks.values() for at in frames)] or asked)
        if not 0 <= start < frame_count:
            raise SettingError(f"there is no frame {start} to start from: frames are 0 to {frame_count - 1}")
        legs = _legs(frame_count, direction, start, most)
        if new_texts:
            return Plan("full", tuple(sorted(clicked)), legs)
        if new_clicks:
            return Plan("partial", tuple(sorted(new_clicks)), legs)
        if all(covered.issuperset(leg.numbers) for leg in legs):
            return Plan("fetch", (), legs)
        return Plan("full" if self.texts else "partial", tuple(sorted(clicked)), legs)


def _legs(frame_count: int, direction: str, start: int, most: int | None) -> tuple[Leg, ...]:
    last = frame_count - 1
    most = last if most is None else most
    forward = Leg("forward", range(start, min(last, start + most) + 1))
    # Alone, the way back begins with the start itself, which otherwise the way forward has had.
    first = start if direction == "backward" else start - 1
    backward = Leg("backward", range(first, max(0, start - most) - 1, -1))
    return tuple(leg for leg in (forward, backward) if direction in (leg.name, "both") and len(leg.numbers))
