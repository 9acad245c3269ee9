"""Tables: what each must hold, and the sentence when one does not."""

from __future__ import annotations

import pandas as pd
import pytest

from courtside import tables
from courtside.errors import TableError

ALL = [tables.DETECTIONS, tables.EVENTS, tables.GROUND_TRUTH, tables.PLAYER_DETECTIONS, tables.ROSTER]


@pytest.mark.parametrize("schema", ALL, ids=lambda schema: schema.name)
def test_an_empty_table_is_valid(schema):
    assert len(tables.check(tables.empty(schema), schema)) == 0


def _detections(**changes) -> pd.DataFrame:
    row = {"frame": 0, "x1": 0.0, "y1": 0.0, "x2": 2.0, "y2": 2.0, "confidence": 0.5}
    return pd.DataFrame([row | changes])


def test_a_good_row_passes():
    assert len(tables.check(_detections(), tables.DETECTIONS)) == 1


@pytest.mark.parametrize(
    "changes",
    [{"x2": -1.0}, {"y2": float("nan")}, {"frame": -1}, {"frame": 0.5}, {"confidence": -0.1}, {"x1": 1e9}],
    ids=str,
)
def test_a_bad_value_names_table_and_source(changes):
    with pytest.raises(TableError, match=r"^det\.txt: table detections breaks a rule: "):
        tables.check(_detections(**changes), tables.DETECTIONS, "det.txt")


@pytest.mark.parametrize("change", ["missing", "extra", "order"])
def test_columns_are_just_those_declared(change):
    table = _detections()
    table = {
        "missing": table.drop(columns="confidence"),
        "extra": table.assign(color="red"),
        "order": table[table.columns[::-1]],
    }[change]
    with pytest.raises(TableError, match="table detections breaks a rule"):
        tables.check(table, tables.DETECTIONS)


def test_one_id_is_once_in_a_frame():
    row = {"frame": 0, "object_id": 1, "x1": 0.0, "y1": 0.0, "x2": 1.0, "y2": 1.0, "ignored": False}
    table = pd.DataFrame([row, row]).assign(visibility=1.0, mask_rle=pd.array([None, None], "string"))
    with pytest.raises(TableError, match="ground_truth"):
        tables.check(table, tables.GROUND_TRUTH)


@pytest.mark.parametrize(
    ("number", "fine"), [("0", True), ("00", True), ("23", True), ("123", False), ("A", False)]
)
def test_jersey_numbers(number, fine):
    table = pd.DataFrame({"object_id": [1], "team": ["white"], "jersey_number": [number]})
    table = table.astype({"team": "string", "jersey_number": "string"})
    if fine:
        tables.check(table, tables.ROSTER)
    else:
        with pytest.raises(TableError, match="roster"):
            tables.check(table, tables.ROSTER)
