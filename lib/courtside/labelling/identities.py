"""Operations on identities: each makes new tracks of old ones, and none looks at anything else."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from courtside.errors import SettingError

__all__ = ["COLUMNS", "OPERATIONS", "Draft", "Person", "empty_rows", "settled"]

COLUMNS = {
    "frame": "int64",
    "object_id": "int64",
    "x1": "float64",
    "y1": "float64",
    "x2": "float64",
    "y2": "float64",
    "confidence": "float64",
    "mask_rle": "object",
    "ignored": "bool",
    "visibility": "float64",
    "deleted": "bool",
}
"""The columns of a draft's rows. Boxes are xyxy pixels, visibility is in [0, 1] or NaN (not known), and a
row that is ``deleted`` waits to be restored."""


@dataclass(frozen=True, slots=True)
class Person:
    """What was said of an identity. ``prompts`` are the texts that mean it; a ``region`` is nobody."""

    name: str | None = None
    team: str | None = None
    jersey_number: str | None = None
    prompts: tuple[str, ...] = ()
    region: bool = False


@dataclass(frozen=True, eq=False)
class Draft:
    """Labels in the making: ``rows`` with :data:`COLUMNS`, ``people`` by object id, and bool ``labelled``
    [frames]: which frames somebody looked at. ``prompts`` are known, also where nobody fits them."""

    rows: pd.DataFrame
    labelled: np.ndarray
    people: Mapping[int, Person] = field(default_factory=dict)
    prompts: tuple[str, ...] = ()

    @property
    def present(self) -> pd.DataFrame:
        """The rows that are not deleted."""
        return self.rows[~self.rows["deleted"]]

    @property
    def object_ids(self) -> list[int]:
        """Who is there, ascending."""
        return np.unique(self.present["object_id"]).tolist()

    @property
    def deleted_ids(self) -> list[int]:
        """Who has rows that can be restored."""
        return np.unique(self.rows.loc[self.rows["deleted"], "object_id"]).tolist()

    @property
    def next_id(self) -> int:
        """An id that nobody has or had."""
        return max([0, *self.people, *self.rows["object_id"].tolist()]) + 1

    def person(self, object_id: int) -> Person:
        return self.people.get(object_id, Person())

    def frames_of(self, object_id: int) -> np.ndarray:
        """The frames in which an identity is, int64, ascending."""
        rows = self.present
        return np.sort(rows.loc[rows["object_id"] == object_id, "frame"].to_numpy())

    def require(self, object_id: int) -> None:
        """Raise :class:`SettingError` unless ``object_id`` is there."""
        if object_id not in self.object_ids:
            gone = " (it was deleted: restore it first)" if object_id in self.deleted_ids else ""
            raise SettingError(f"there is no player {object_id}{gone}")

    def require_frame(self, *frames: int) -> None:
        """Raise :class:`SettingError` unless the video has ``frames``, in order."""
        last = len(self.labelled) - 1
        for frame in frames:
            if not 0 <= frame <= last:
                raise SettingError(f"there is no frame {frame}: the video's are 0 to {last}")
        if list(frames) != sorted(frames):
            raise SettingError(
                f"frame {frames[0]} comes after frame {frames[-1]}: give the earlier one first"
            )

    def _with(self, chosen: np.ndarray | pd.Series, **values: Any) -> Draft:
        """The same draft with other values in the ``chosen`` rows."""
        rows = self.rows.copy()
        for name, value in values.items():
            rows.loc[chosen, name] = value
        return replace(self, rows=rows)

    def _saying(self, object_id: int, **values: Any) -> Draft:
        return replace(self, people={**self.people, object_id: replace(self.person(object_id), **values)})


def empty_rows() -> pd.DataFrame:
    """No rows, with :data:`COLUMNS`."""
    return pd.DataFrame({name: pd.Series([], dtype=kind) for name, kind in COLUMNS.items()})


def settled(rows: pd.DataFrame) -> pd.DataFrame:
    """``rows`` with :data:`COLUMNS` alone and of their types, a mask that is missing as None."""
    masks = rows["mask_rle"].astype(object)
    rows = rows.assign(mask_rle=masks.where(masks.notna(), None))
    return rows[list(COLUMNS)].astype(COLUMNS).reset_index(drop=True)


def _span(draft: Draft, object_id: int, first: int | None, last: int | None) -> pd.Series:
    """The rows of an identity from ``first`` to ``last``, by default all; there must be some."""
    draft.require(object_id)
    first = 0 if first is None else first
    last = len(draft.labelled) - 1 if last is None else last
    draft.require_frame(first, last)
    rows = draft.rows
    chosen = (rows["object_id"] == object_id) & rows["frame"].between(first, last) & ~rows["deleted"]
    if not chosen.any():
        raise SettingError(f"player {object_id} is in no frame from {first} to {last}")
    return chosen


def merge(draft: Draft, *, objects: list[int]) -> Draft:
    """All ``objects`` become the first of them, whose box stands where several have one in a frame."""
    kept, *others = objects
    if not others or len(set(objects)) < len(objects):
        raise SettingError("a merge needs two players or more, each named once")
    for one in objects:
        draft.require(one)
    rows, person = draft.present, draft.person(kept)
    taken = set(draft.frames_of(kept).tolist())
    for other in others:
        theirs = rows.index[rows["object_id"] == other]
        free = ~rows.loc[theirs, "frame"].isin(taken).to_numpy()
        taken.update(rows.loc[theirs, "frame"].tolist())
        draft = draft._with(theirs[free], object_id=kept)
        draft = draft._with(theirs[~free], deleted=True)
        said = draft.person(other)
        person = Person(
            person.name or said.name,
            person.team or said.team,
            person.jersey_number or said.jersey_number,
            tuple(dict.fromkeys([*person.prompts, *said.prompts])),
            person.region and said.region,
        )
    return replace(draft, people={**draft.people, kept: person})


def split(draft: Draft, *, object_id: int, frame: int, new_id: int) -> Draft:
    """From ``frame`` on the player is another one, ``new_id``, of the same team and without a number."""
    draft.require(object_id)
    draft.require_frame(frame)
    frames = draft.frames_of(object_id)
    if not frames[0] < frame <= frames[-1]:
        raise SettingError(
            f"player {object_id} is in frames {frames[0]} to {frames[-1]}: a split at frame {frame} leaves"
            " one part empty"
        )
    rows = draft.rows
    later = (rows["object_id"] == object_id) & (rows["frame"] >= frame)
    person = replace(draft.person(object_id), name=None, jersey_number=None)
    return draft._with(later, object_id=new_id)._saying(
        new_id, **{name: getattr(person, name) for name in Person.__slots__}
    )


def swap(draft: Draft, *, first_id: int, second_id: int, frame: int) -> Draft:
    """From ``frame`` on, two players change their ids."""
    draft.require_frame(frame)
    for one in (first_id, second_id):
        draft.require(one)
    if first_id == second_id:
        raise SettingError(f"player {first_id} can't be swapped with itself: choose two")
    rows = draft.rows
    later = rows["frame"] >= frame
    first, second = (later & (rows["object_id"] == one) for one in (first_id, second_id))
    if not (first.any() or second.any()):
        raise SettingError(
            f"neither player {first_id} nor {second_id} is there from frame {frame} on: nothing to swap"
        )
    return draft._with(first, object_id=second_id)._with(second, object_id=first_id)


def delete(draft: Draft, *, object_id: int, first: int | None = None, last: int | None = None) -> Draft:
    """The player goes, from ``first`` to ``last`` or altogether; :func:`restore` brings it back."""
    return draft._with(_span(draft, object_id, first, last), deleted=True)


def restore(draft: Draft, *, object_id: int) -> Draft:
    """What was deleted of a player comes back, but in frames in which it has another box by now."""
    rows = draft.rows
    own = rows["deleted"] & (rows["object_id"] == object_id)
    if not own.any():
        raise SettingError(f"nothing of player {object_id} was deleted")
    chosen = rows.index[own & ~rows["frame"].isin(draft.frames_of(object_id))]
    # Of several deleted boxes in one frame the last is the newest.
    newest = rows.loc[chosen].drop_duplicates("frame", keep="last").index
    return draft._with(newest, deleted=False)


def rename(draft: Draft, *, object_id: int, name: str | None) -> Draft:
    """The player has a name, for whoever labels; None takes it away."""
    draft.require(object_id)
    return draft._saying(object_id, name=_text(name))


def set_team(draft: Draft, *, object_id: int, team: str | None) -> Draft:
    """The player's team, as in the roster."""
    draft.require(object_id)
    return draft._saying(object_id, team=_text(team))


def set_number(draft: Draft, *, object_id: int, jersey_number: str | None) -> Draft:
    """The number on the player's jersey: one or two digits, where "0" is not "00"; None where unreadable."""
    draft.require(object_id)
    number = _text(jersey_number)
    if number is not None and not re.fullmatch(r"\d{1,2}", number):
        raise SettingError(f"the jersey number {number!r} is not one or two digits")
    return draft._saying(object_id, jersey_number=number)


def set_prompts(draft: Draft, *, object_id: int, prompts: list[str]) -> Draft:
    """The prompts that mean this player."""
    draft.require(object_id)
    texts = [" ".join(str(prompt).split()) for prompt in prompts]
    texts = tuple(dict.fromkeys(text for text in texts if text))
    known = tuple(dict.fromkeys([*draft.prompts, *texts]))
    return replace(draft, prompts=known)._saying(object_id, prompts=texts)


def mark_occluded(
    draft: Draft, *, object_id: int, first: int, last: int | None = None, occluded: bool = True
) -> Draft:
    """The player is hidden (visibility 0) from ``first`` to ``last``, or in view (1)."""
    chosen = _span(draft, object_id, first, first if last is None else last)
    return draft._with(chosen, visibility=0.0 if occluded else 1.0)


def ignore(
    draft: Draft,
    *,
    object_id: int,
    first: int | None = None,
    last: int | None = None,
    ignored: bool = True,
) -> Draft:
    """The player is neither required nor punished: a bystander, somebody on the bench."""
    return draft._with(_span(draft, object_id, first, last), ignored=ignored)


def ignore_region(
    draft: Draft, *, box_xyxy: list[float], first: int, last: int | None = None, new_id: int
) -> Draft:
    """Everyone whose middle is in a region, in pixels, is neither required nor punished.

    The region becomes an ignored object of its own, ``new_id``.
    """
    last = len(draft.labelled) - 1 if last is None else last
    draft.require_frame(first, last)
    x1, y1, x2, y2 = map(float, box_xyxy)
    if not (x1 < x2 and y1 < y2):
        raise SettingError(
            f"the region {tuple(box_xyxy)} is empty: give x1, y1, x2, y2 with x1 < x2, y1 < y2"
        )
    rows = draft.rows
    inside = rows["frame"].between(first, last)
    inside &= ((rows["x1"] + rows["x2"]) / 2).between(x1, x2)
    inside &= ((rows["y1"] + rows["y2"]) / 2).between(y1, y2)
    frames = np.arange(first, last + 1)
    box = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    region = pd.DataFrame({"frame": frames, **box}).assign(ignored=True)
    return _joined(draft._with(inside, ignored=True), region, new_id)._saying(new_id, region=True)


def mark_labelled(draft: Draft, *, first: int, last: int | None = None, labelled: bool = True) -> Draft:
    """Somebody looked at the frames from ``first`` to ``last``, so that they count as ground truth."""
    last = first if last is None else last
    draft.require_frame(first, last)
    marked = draft.labelled.copy()
    marked[first : last + 1] = labelled
    return replace(draft, labelled=marked)


def put(draft: Draft, *, object_id: int, first: int, last: int, rows: pd.DataFrame, **_: Any) -> Draft:
    """The player's rows from ``first`` to ``last`` are ``rows`` now: ``frame``, a box, and perhaps a mask."""
    draft.require_frame(first, last)
    old = draft.rows
    former = (old["object_id"] == object_id) & old["frame"].between(first, last) & ~old["deleted"]
    said = old.loc[former].set_index("frame")[["ignored", "visibility"]].reindex(rows["frame"])
    rows = rows.assign(
        ignored=said["ignored"].astype(object).where(said["ignored"].notna(), False).to_numpy(bool),
        visibility=said["visibility"].to_numpy(float),
    )
    return _joined(replace(draft, rows=old[~former]), rows, object_id)


def _joined(draft: Draft, more: pd.DataFrame, object_id: int) -> Draft:
    """``more`` rows of one identity; columns that they lack take what is usual."""
    usual = {
        "confidence": 1.0, "mask_rle": None, "ignored": False, "visibility": np.nan, "deleted": False,
    }  # fmt: skip
    more = more.assign(object_id=object_id, **{k: v for k, v in usual.items() if k not in more})
    more = settled(more)
    rows = pd.concat([draft.rows, more], ignore_index=True) if len(draft.rows) else more
    return replace(draft, rows=rows)


def _text(value: str | None) -> str | None:
    """Without spaces at its ends, None where nothing is left."""
    return (value or "").strip() or None


OPERATIONS: dict[str, Callable[..., Draft]] = {
    each.__name__: each
    for each in (
        merge, split, swap, delete, restore, rename, set_team, set_number, set_prompts, mark_occluded,
        ignore, ignore_region, mark_labelled, put,
    )
}  # fmt: skip
"""Every operation by the name that it has in the edit log."""
