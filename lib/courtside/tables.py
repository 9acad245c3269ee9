"""The columns of every table, declared once and checked wherever a table crosses a boundary."""

from __future__ import annotations

import pandas as pd
import pandera.pandas as pa

from courtside.errors import TableError

__all__ = [
    "DETECTIONS",
    "EVENTS",
    "GROUND_TRUTH",
    "JERSEY_READS",
    "PLAYERS",
    "PLAYER_DETECTIONS",
    "ROSTER",
    "check",
    "empty",
    "typed",
]


def _box_is_ordered(table: pd.DataFrame) -> pd.Series:
    return (table["x1"] <= table["x2"]) & (table["y1"] <= table["y2"])


_BOX = {name: pa.Column("float64", pa.Check(lambda x: x.abs() < 1e6)) for name in ("x1", "y1", "x2", "y2")}
_ORDERED = pa.Check(_box_is_ordered, error="x1 <= x2 and y1 <= y2")
_FRAME = pa.Column("int64", pa.Check.ge(0))
_PROBABILITY = pa.Column("float64", pa.Check.in_range(0, 1))

PLAYER_DETECTIONS = pa.DataFrameSchema(
    {
        "video": pa.Column("string"),
        "frame": _FRAME,
        "time_s": pa.Column("float64"),
        "tracking_id": pa.Column("int64", pa.Check.ge(1)),
        "prompt": pa.Column("string", nullable=True),
        "class_id": pa.Column("int64", pa.Check.ge(0)),
        "class_name": pa.Column("string"),
        "confidence": _PROBABILITY,
        **_BOX,
        "mask_rle": pa.Column("string", nullable=True),
        "jersey_number": pa.Column("string", nullable=True),
        "player_id": pa.Column("string", nullable=True),
    },
    checks=_ORDERED,
    unique=["frame", "tracking_id"],
    name="player_detections",
    strict=True,
    ordered=True,
)
"""A row per tracked player per frame.

``video`` is the file's name, ``frame`` counts from 0, ``time_s`` is the frame's presentation time
in seconds from the first frame, ``prompt`` the text that found the object (null when the tracker
takes no prompt), boxes are xyxy pixels of the upright frame, ``mask_rle`` is COCO's compressed
run-length string for a mask of the frame's size (null without masks). ``jersey_number`` and
``player_id`` stay null until numbers are read, and where what a track shows is no player's: a moment in which
another track of its player takes over, or in which its box leaves that player's course. For a few frames they
may be another's than the track's, whose mask lies on that player then.
"""

DETECTIONS = pa.DataFrameSchema(
    {"frame": _FRAME, **_BOX, "confidence": pa.Column("float64", pa.Check.ge(0))},
    checks=_ORDERED,
    name="detections",
    strict=True,
    ordered=True,
)
"""Untracked boxes from a detector: a row per box, frames from 0."""

GROUND_TRUTH = pa.DataFrameSchema(
    {
        "frame": _FRAME,
        "object_id": pa.Column("int64", pa.Check.ge(0)),
        **_BOX,
        "ignored": pa.Column("bool"),
        "visibility": pa.Column("float64", pa.Check.in_range(0, 1), nullable=True),
        "mask_rle": pa.Column("string", nullable=True),
    },
    checks=_ORDERED,
    unique=["frame", "object_id"],
    name="ground_truth",
    strict=True,
    ordered=True,
)
"""A row per labelled object per frame. ``ignored`` rows are neither required nor punished."""

JERSEY_READS = pa.DataFrameSchema(
    {
        "tracking_id": pa.Column("int64", pa.Check.ge(1)),
        "frame": _FRAME,
        "time_s": pa.Column("float64"),
        **_BOX,
        "quality": _PROBABILITY,
        "reader": pa.Column("string"),
        "text": pa.Column("string", nullable=True),
        "confidence": _PROBABILITY,
        "abstention": _PROBABILITY,
        "first": pa.Column("object"),
        "second": pa.Column("object"),
        "weight": pa.Column("float64", pa.Check.ge(0)),
        "used": pa.Column("bool"),
        "why": pa.Column("string", nullable=True),
    },
    checks=_ORDERED,
    unique=["tracking_id", "frame"],
    name="jersey_reads",
    strict=True,
    ordered=True,
)
"""A row per crop that a reader looked at, in order of track and frame.

The box is the player's in the frame. ``text`` is the likeliest number, null where none is likelier, and
``confidence`` its probability; ``abstention`` the probability of anything but a number. ``first`` and
``second`` are lists of 11 probabilities: of the digits 0 to 9 and of the end, at each position.
``weight`` is how much the crop speaks for the track's likeliest number, as a natural logarithm of
odds; ``used`` says whether it does at all, and ``why`` why not.
"""

PLAYERS = pa.DataFrameSchema(
    {
        "player_id": pa.Column("string", unique=True),
        "tracking_ids": pa.Column("object"),
        "from_frames": pa.Column("object"),
        "to_frames": pa.Column("object"),
        "team": pa.Column("string", nullable=True),
        "jersey_number": pa.Column("string", pa.Check.str_matches(r"^\d{1,2}$"), nullable=True),
        "likeliest": pa.Column("string", nullable=True),
        "confidence": _PROBABILITY,
        "runner_up": pa.Column("string", nullable=True),
        "runner_up_confidence": _PROBABILITY,
        "near_tie": pa.Column("bool"),
        "why": pa.Column("string", nullable=True),
        "evidence_frames": pa.Column("object"),
        "first_frame": _FRAME,
        "last_frame": _FRAME,
        "same_as": pa.Column("string", nullable=True),
        "same_confidence": _PROBABILITY,
    },
    name="players",
    strict=True,
    ordered=True,
)
"""A row per player, in order of appearance.

``tracking_ids`` lists the player's tracks: one, or several where merges were accepted, or where another's
lies on the player for a few frames. Each is the player's in ``from_frames`` to ``to_frames``, lists of the
same length, both frames included: a track that went on with somebody else is two players', and listed twice
where the first one came back. No two parts of a player share a frame. ``confidence`` is the probability of
the ``likeliest`` number, which is given as ``jersey_number`` only where it is high enough; else ``why`` says
why not. ``near_tie`` marks a ``runner_up`` that comes close. ``evidence_frames`` lists the frames whose
crops speak for the number, the strongest first. ``same_as`` proposes an earlier player as the same person,
with the probability that both numbers are right or, where one has none, that all that was seen is of one
person; 0 without a proposal.
"""

ROSTER = pa.DataFrameSchema(
    {
        "object_id": pa.Column("int64", pa.Check.ge(0), nullable=False, unique=True),
        "team": pa.Column("string", nullable=True),
        "jersey_number": pa.Column("string", pa.Check.str_matches(r"^\d{1,2}$"), nullable=True),
    },
    name="roster",
    strict=True,
    ordered=True,
)
"""Who each labelled object is; ``jersey_number`` is null where nobody could read it. "0" is not "00"."""

EVENTS = pa.DataFrameSchema(
    {
        "event": pa.Column("string", pa.Check.isin(["switch", "fragment", "miss", "false_positive"])),
        "frame": _FRAME,
        "last_frame": _FRAME,
        "time_s": pa.Column("float64"),
        "duration_s": pa.Column("float64", pa.Check.ge(0)),
        "prompt": pa.Column("string", nullable=True),
        "object_id": pa.Column("Int64", nullable=True),
        "tracking_id": pa.Column("Int64", nullable=True),
        "previous_tracking_id": pa.Column("Int64", nullable=True),
    },
    name="events",
    strict=True,
    ordered=True,
)
"""A row per tracking error, from ``frame`` to ``last_frame`` inclusive, in order of ``frame``.

``switch``: the object's id changed from ``previous_tracking_id`` to ``tracking_id``.
``fragment``: the object is followed again after frames without a match.
``miss``: a run of frames in which a labelled object has no match.
``false_positive``: a run of frames in which a track matches no labelled object.
"""


def check(table: pd.DataFrame, schema: pa.DataFrameSchema, source: str = "") -> pd.DataFrame:
    """``table`` if it obeys ``schema``, else a :class:`TableError` that names the first broken rule.

    ``source`` says where the table came from (a file, a stage) and starts the sentence.
    """
    try:
        return schema.validate(table)
    except (pa.errors.SchemaError, pa.errors.SchemaErrors) as error:
        # Wrong columns come as a list even when the first broken rule is all that was asked for.
        first = error.schema_errors[0] if isinstance(error, pa.errors.SchemaErrors) else error
        where = f"{source}: " if source else ""
        raise TableError(f"{where}table {schema.name} breaks a rule: {str(first).splitlines()[0]}") from error


def empty(schema: pa.DataFrameSchema) -> pd.DataFrame:
    """A table with the columns and types of ``schema`` and no rows."""
    columns = {name: pd.Series([], dtype=str(column.dtype)) for name, column in schema.columns.items()}
    return pd.DataFrame(columns)


def typed(table: pd.DataFrame, schema: pa.DataFrameSchema) -> pd.DataFrame:
    """``table`` with the declared type of each column, since a column of nulls alone has none of its own."""
    types = {name: str(column.dtype) for name, column in schema.columns.items() if name in table}
    return table.astype(types)
