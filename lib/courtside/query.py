"""The tables of all runs below a folder as one database: asked in SQL, or copied into another one."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pandas as pd
import pandera.pandas as pa

from courtside import tables, watch
from courtside.errors import RunError, SettingError
from courtside.folder import Run
from courtside.scoring import METRICS

if TYPE_CHECKING:
    import sqlalchemy

__all__ = ["VIEWS", "connect", "copy_to", "find_runs", "query"]

_SCORES = pa.DataFrameSchema(
    {
        "prompt": pa.Column("string", nullable=True),
        "video": pa.Column("string"),
        "match": pa.Column("string"),
        "iou_threshold": pa.Column("float64"),
        "frames_scored": pa.Column("int64"),
        "labels_sha256": pa.Column("string"),
        **{name: pa.Column("float64", nullable=True) for name in METRICS if name != "reentry_recovery"},
        "reentries": pa.Column("float64", nullable=True),
        "reentries_recovered": pa.Column("float64", nullable=True),
    },
    name="scores",
)

VIEWS = {
    "player_detections": tables.PLAYER_DETECTIONS,
    "players": tables.PLAYERS,
    "jersey_reads": tables.JERSEY_READS,
    "events": tables.EVENTS,
    "scores": _SCORES,
}
"""The views and their columns, before which comes ``run``: the run folder's path below the one asked for.

``scores`` has a row for each run and prompt, and one for the whole run, whose ``prompt`` is null; its
``reentries`` are those of all gap lengths together.
"""

_ROWS = 10_000
_WHOLE_NUMBERS = ("tracking_ids", "from_frames", "to_frames", "evidence_frames")


def find_runs(root: str | Path) -> dict[str, Run]:
    """The runs in ``root`` and below by their path from there; raises RunError where there is none."""
    root = Path(root)
    folders = sorted(
        path.parent for path in root.rglob(watch.STATUS) if (path.parent / "config.json").is_file()
    )
    if not folders:
        raise RunError(
            f"there are no runs below {root}: name the folder they are in, or make one by courtside track"
        )
    names = {folder: folder.relative_to(root).as_posix() for folder in folders}
    return {root.resolve().name if name == "." else name: Run(folder) for folder, name in names.items()}


def connect(root: str | Path) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection with VIEWS over the runs in ``root`` and below.

    Only tables of finished stages count, as for :class:`Run`. A table that no run has is an empty view.
    Raises :class:`RunError` for a folder without runs, and for a table that can't be read.
    """
    runs = find_runs(root)
    outputs = {
        name: {
            file for stage in run.status().values() if stage["state"] == "done" for file in stage["outputs"]
        }
        for name, run in runs.items()
    }
    # Nothing may be fetched from the net because a query has a typing error in a function's name.
    connection = duckdb.connect(":memory:", config={"autoinstall_known_extensions": "false"})
    connection.execute("create table _files (run varchar, filename varchar)")
    for view, schema in VIEWS.items():
        if view == "scores":
            own = {name: run for name, run in runs.items() if run.scores_path.name in outputs[name]}
            connection.register("_scores", _scores(own))
            source = "select * from _scores"
        else:
            source = _source(connection, view, runs, outputs)
        types = {"run": "varchar"} | {name: _type(column) for name, column in schema.columns.items()}
        typed = ", ".join(f'null::{kind} as "{name}"' for name, kind in types.items())
        names = ", ".join(f'"{name}"' for name in types)
        body = f"select {typed} where false" + (f" union all by name ({source})" if source else "")
        connection.execute(f"create view {view} as select {names} from ({body})")
    return connection


def query(root: str | Path, text: str) -> tuple[list[str], list[tuple]]:
    """The columns and rows of an SQL query over VIEWS; raises SettingError for a query that fails."""
    with connect(root) as connection:
        try:
            result = connection.execute(text)
            return [each[0] for each in result.description or ()], result.fetchall()
        except duckdb.Error as error:
            raise SettingError(
                f"the query failed ({_said(error)}): the views are {', '.join(VIEWS)}"
            ) from error


def copy_to(root: str | Path, url: str, *, progress: bool = False) -> dict[str, int]:
    """Copy VIEWS as tables into the database at the SQLAlchemy URL; returns how many rows went into each.

    Tables are made where there are none. All rows of the runs in ``root`` and below are replaced, those of
    other runs stay, so that doing it again changes nothing; all in one transaction, so that it is done as a
    whole or not at all. Raises :class:`SettingError` for a URL that is none or lacks a driver, and
    :class:`RunError` where the database refuses.
    """
    import sqlalchemy as sa
    from tqdm import tqdm

    engine = _engine(url)
    shown = engine.url.render_as_string(hide_password=True)
    targets = {view: _table(view, sa.MetaData()) for view in VIEWS}
    rows = dict.fromkeys(VIEWS, 0)
    with connect(root) as source:
        runs = list(find_runs(root))
        total = sum(source.execute(f"select count(*) from {view}").fetchone()[0] for view in VIEWS)
        try:
            with engine.begin() as target, tqdm(total=total, unit=" rows", disable=not progress) as bar:
                for view, table in targets.items():
                    table.create(target, checkfirst=True)
                    _require_columns(target, table, shown)
                    target.execute(table.delete().where(table.c.run.in_(runs)))
                    for batch in _batches(source, view):
                        target.execute(table.insert(), batch)
                        bar.update(len(batch))
                        rows[view] += len(batch)
        except sa.exc.SQLAlchemyError as error:
            said = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
            raise RunError(f"{shown} refused the tables ({said}): nothing was changed there") from error
        finally:
            engine.dispose()
    return rows


def _source(
    connection: duckdb.DuckDBPyConnection, view: str, runs: dict[str, Run], outputs: dict[str, set[str]]
) -> str:
    """The query for all parquet files of a table, with the run of each; empty where there are none."""
    name = f"{view}.parquet"
    files = [(run, str(runs[run].folder / name)) for run in runs if name in outputs[run]]
    for run, file in files:
        try:
            connection.execute("select count(*) from read_parquet(?)", [file])
        except duckdb.Error as error:
            raise RunError(
                f"cannot read {file} ({_said(error)}): delete it and run courtside track again"
            ) from error
        connection.execute("insert into _files values (?, ?)", [run, file])
    if not files:
        return ""
    paths = ", ".join("'" + file.replace("'", "''") + "'" for _, file in files)
    return (
        f"select _files.run, parquet.* exclude (filename) from read_parquet([{paths}], union_by_name = true, "
        "filename = true) as parquet join _files using (filename)"
    )


def _scores(runs: dict[str, Run]) -> pd.DataFrame:
    """scores.json of each run, flattened: a row for the whole and one for each prompt."""
    rows = []
    for name, run in runs.items():
        try:
            content = json.loads(run.scores_path.read_text())
            protocol = content["protocol"]
            shared = {
                key: protocol[key] for key in ("match", "iou_threshold", "frames_scored", "labels_sha256")
            }
            shared |= {"run": name, "video": run.config()["inputs"]["video"]["name"]}
            for prompt, metrics in [(None, content["metrics"]), *content["per_prompt"].items()]:
                gaps = (metrics.get("reentry_recovery") or {}).values()
                reentries = {
                    "reentries": sum(gap["total"] for gap in gaps) if gaps else None,
                    "reentries_recovered": sum(gap["recovered"] for gap in gaps) if gaps else None,
                }
                rows.append({"prompt": prompt, **shared, **metrics, **reentries})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(f"cannot read {run.scores_path} ({error!r}): score that run again") from error
    types = {"run": "string"} | {key: str(column.dtype) for key, column in _SCORES.columns.items()}
    return pd.DataFrame(rows, columns=list(types)).astype(types)


def _type(column: pa.Column) -> str:
    """DuckDB's type of a declared column; objects are lists."""
    kind = str(column.dtype).lower()
    known = {"int64": "bigint", "float64": "double", "bool": "boolean", "object": "double[]"}
    return "bigint[]" if column.name in _WHOLE_NUMBERS else known.get(kind, "varchar")


def _said(error: duckdb.Error) -> str:
    """DuckDB's message on one line, without its drawing of where in the query it is."""
    return " ".join(str(error).split("\n\nLINE ")[0].split())


def _batches(connection: duckdb.DuckDBPyConnection, view: str) -> Iterator[list[dict[str, Any]]]:
    """The rows of a view, some at a time, with null for NaN, which not every database knows."""
    result = connection.execute(f"select * from {view}")
    names = [each[0] for each in result.description]
    while batch := result.fetchmany(_ROWS):
        yield [
            {
                name: None if isinstance(v, float) and math.isnan(v) else v
                for name, v in zip(names, row, strict=True)
            }
            for row in batch
        ]


def _engine(url: str) -> sqlalchemy.Engine:
    import sqlalchemy as sa

    try:
        parsed = sa.make_url(url)
        if parsed.drivername in ("postgres", "postgresql"):
            # What SQLAlchemy takes by default differs between its versions; the extra postgres has psycopg.
            parsed = parsed.set(drivername="postgresql+psycopg")
        engine = sa.create_engine(parsed)
    except (sa.exc.ArgumentError, ValueError) as error:
        raise SettingError(
            f"--to is no database URL ({error}): write such as sqlite:///runs.db or postgresql://host/name"
        ) from error
    except ModuleNotFoundError as error:
        raise SettingError(
            f"the driver {error.name} is not installed: pip install {error.name}, or for PostgreSQL "
            "pip install 'psycopg[binary]'"
        ) from error
    if engine.dialect.name == "sqlite":
        # Left to itself, Python's driver commits before it changes tables (docs.sqlalchemy.org, pysqlite).
        sa.event.listen(engine, "connect", lambda raw, _: setattr(raw, "isolation_level", None))
        sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("begin immediate"))
    return engine


def _table(view: str, metadata: sqlalchemy.MetaData) -> sqlalchemy.Table:
    """The database's table for a view, with the view's unique columns, if any, as its key."""
    import sqlalchemy as sa

    schema = VIEWS[view]
    types = {
        "bigint": sa.BigInteger,
        "double": sa.Double,
        "boolean": sa.Boolean,
        "varchar": sa.Text,
        "bigint[]": sa.JSON,
        "double[]": sa.JSON,
    }
    columns = [
        sa.Column(name, types[_type(column)], nullable=column.nullable, autoincrement=False)
        for name, column in schema.columns.items()
    ]
    keys = [sa.PrimaryKeyConstraint("run", *schema.unique)] if schema.unique else []
    run = sa.Column("run", sa.String(255), nullable=False, index=True)
    return sa.Table(view, metadata, run, *columns, *keys)


def _require_columns(connection: sqlalchemy.Connection, table: sqlalchemy.Table, shown: str) -> None:
    """Refuse a table of that name with other columns."""
    import sqlalchemy as sa

    there = {column["name"] for column in sa.inspect(connection).get_columns(table.name)}
    missing = [column.name for column in table.columns if column.name not in there]
    if missing:
        raise RunError(
            f"the table {table.name} in {shown} has no column {', '.join(missing)}: rename or drop that "
            "table, or name another database"
        )
