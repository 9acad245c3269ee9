"""All runs as one database: views, SQL at the command line, and copies in SQLite and a real PostgreSQL."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa

from courtside import cli, tables, watch
from courtside.errors import RunError, SettingError
from courtside.query import VIEWS, connect, copy_to, find_runs, query
from courtside.run import Run

DETECTIONS = pd.DataFrame(
    {
        "video": "game.mp4", "frame": [0, 0, 1], "time_s": [0.0, 0.0, 0.04], "tracking_id": [1, 2, 1],
        "prompt": ["player", None, "player"], "class_id": 0, "class_name": "player",
        "confidence": [0.9, 0.8, 0.7],
        "x1": [1.0, 5, 2], "y1": 1.0, "x2": [3.0, 9, 4], "y2": 5.5, "mask_rle": None,
        "jersey_number": None, "player_id": None,
    }
).astype({name: str(column.dtype) for name, column in tables.PLAYER_DETECTIONS.columns.items()})  # fmt: skip
EVENTS = pd.DataFrame(
    {
        "event": ["switch", "miss"], "frame": [1, 2], "last_frame": [1, 4], "time_s": [0.04, 0.08],
        "duration_s": [0.0, 0.12], "prompt": ["player", None], "object_id": [7, 8], "tracking_id": [2, None],
        "previous_tracking_id": [1, None],
    }
).astype({name: str(column.dtype) for name, column in tables.EVENTS.columns.items()})  # fmt: skip
PLAYERS = pd.DataFrame(
    {
        "player_id": ["P1", "P2"], "tracking_ids": [[1, 4], [2]],
        "from_frames": [[0, 5], [0]], "to_frames": [[3, 9], [9]], "team": ["white", None],
        "jersey_number": ["07", None], "likeliest": ["07", "3"], "confidence": [0.9, 0.4],
        "runner_up": [None, "8"], "runner_up_confidence": [0.0, 0.3], "near_tie": [False, True],
        "why": [None, "too few reads"],
        "evidence_frames": [[3, 1], []], "first_frame": 0, "last_frame": 4, "same_as": None,
        "same_confidence": 0.0,
    }
).astype({name: str(column.dtype) for name, column in tables.PLAYERS.columns.items()})  # fmt: skip
READS = pd.DataFrame(
    {
        "tracking_id": [1], "frame": [3], "time_s": [0.12],
        "x1": [1.0], "y1": [1.0], "x2": [3.0], "y2": [5.5],
        "quality": [0.5], "reader": ["rapidocr"], "text": ["07"], "confidence": [0.9], "abstention": [0.05],
        "first": [[0.95] + [0.005] * 10], "second": [[0.5, 0.5] + [0.0] * 9], "weight": [2.5], "used": [True],
        "why": [None],
    }
).astype({name: str(column.dtype) for name, column in tables.JERSEY_READS.columns.items()})  # fmt: skip
METRICS = {"mota": 0.5, "idf1": 0.75, "hota": None, "num_switches": 3}
GAPS = {"0-1 s": {"recovered": 1, "total": 2}, ">5 s": {"recovered": 0, "total": 1}}


def make_run(folder: Path, *, scored: bool = True, idf1: float = 0.75, tracked: str = "done") -> Path:
    """A run folder as a finished run leaves it."""
    folder.mkdir(parents=True)
    protocol = {"match": "box", "iou_threshold": 0.5, "frames_scored": 5, "labels_sha256": "ab" * 32}
    scores = {
        "metrics": METRICS | {"idf1": idf1, "reentry_recovery": GAPS},
        "per_prompt": {"player": METRICS | {"reentry_recovery": None}},
        "protocol": protocol,
    }
    watch.write_json(folder / "config.json", {"inputs": {"video": {"name": "game.mp4"}}})
    DETECTIONS.to_parquet(folder / "player_detections.parquet", index=False)
    PLAYERS.to_parquet(folder / "players.parquet", index=False)
    READS.to_parquet(folder / "jersey_reads.parquet", index=False)
    read = ["players.parquet", "jersey_reads.parquet"]
    stages = {
        "track": {"state": tracked, "outputs": ["player_detections.parquet"]},
        "read": {"state": tracked, "outputs": read},
    }
    if scored:
        EVENTS.to_parquet(folder / "events.parquet", index=False)
        watch.write_json(folder / "scores.json", scores)
        stages["score"] = {"state": "done", "outputs": ["scores.json", "events.parquet"]}
    watch.write_json(folder / watch.STATUS, {"stages": stages})
    return folder


@pytest.fixture
def runs(tmp_path) -> Path:
    root = tmp_path / "runs"
    make_run(root / "a")
    make_run(root / "eval" / "b's", scored=False)
    return root


def test_runs_go_by_their_path(runs):
    assert list(find_runs(runs)) == ["a", "eval/b's"]
    assert list(find_runs(runs / "a")) == ["a"]
    with pytest.raises(RunError, match=r"there are no runs below .*nowhere: name the folder"):
        find_runs(runs / "nowhere")


def test_views_have_the_declared_columns_even_without_rows(runs):
    with connect(runs) as connection:
        for view, schema in VIEWS.items():
            names = [each[0] for each in connection.execute(f"select * from {view}").description]
            assert names == ["run", *schema.columns]
    assert set(VIEWS) == {"player_detections", "players", "jersey_reads", "events", "scores"}
    names, rows = query(runs / "eval", "select * from events")
    assert (names[:2], rows) == (["run", "event"], [])


def test_tables_of_all_runs_together(runs):
    _, rows = query(
        runs, "select run, count(*), sum(frame), max(prompt) from player_detections group by all order by run"
    )
    assert rows == [("a", 3, 1, "player"), ("eval/b's", 3, 1, "player")]
    _, rows = query(runs, "select event, object_id, tracking_id, run from events order by frame")
    assert rows == [("switch", 7, 2, "a"), ("miss", 8, None, "a")]


def test_lists_of_ids_can_be_taken_apart(runs):
    assert query(runs, "select distinct typeof(tracking_ids) from players")[1] == [("BIGINT[]",)]
    text = "select player_id, unnest(tracking_ids) as id from players where run = 'a' order by id"
    assert query(runs, text)[1] == [("P1", 1), ("P2", 2), ("P1", 4)]
    assert query(runs / "a", 'select "first"[1], len("second") from jersey_reads')[1] == [(0.95, 11)]


def test_scores_have_a_row_for_the_whole_and_for_each_prompt(runs):
    columns = "run, prompt, video, idf1, hota, num_switches, motp_iou, reentries, reentries_recovered, match"
    _, rows = query(runs, f"select {columns} from scores order by prompt nulls first")
    assert rows == [
        ("a", None, "game.mp4", 0.75, None, 3, None, 3, 1, "box"),
        ("a", "player", "game.mp4", 0.75, None, 3, None, None, None, "box"),
    ]


def test_tables_of_unfinished_stages_do_not_count(tmp_path):
    make_run(tmp_path / "whole")
    make_run(tmp_path / "running", tracked="running")
    assert query(tmp_path, "select distinct run from player_detections")[1] == [("whole",)]


def test_tables_that_cannot_be_read_name_their_file(runs):
    (runs / "a" / "events.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(
        RunError, match=r"cannot read .*events\.parquet .* delete it and run courtside track again"
    ):
        connect(runs)
    (runs / "a" / "scores.json").write_text("{}")
    (runs / "a" / "events.parquet").unlink()
    with pytest.raises(RunError, match=r"a/(events\.parquet|scores\.json)"):
        connect(runs)


def test_a_query_that_fails_is_one_sentence(runs, capsys):
    with pytest.raises(
        SettingError, match=r"the query failed \(Binder Error.*idf2.*the views are player_det"
    ):
        query(runs, "select idf2 from scores")
    assert cli.main(["sql", "selec", "--runs", str(runs)]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert shown.startswith("courtside: the query failed (Parser Error")


def test_the_command_prints_a_table_or_csv(runs, capsys):
    text = (
        "select run, mota, null as nothing, event from scores join events using (run) "
        "where scores.prompt is null order by event"
    )
    assert cli.main(["sql", text, "--runs", str(runs)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "run  mota  nothing  event", "---  ----  -------  ------",
        "a     0.5           miss", "a     0.5           switch",
    ]  # fmt: skip
    assert cli.main(["sql", text, "--runs", str(runs), "--csv"]) == 0
    assert capsys.readouterr().out.splitlines() == ["run,mota,nothing,event", "a,0.5,,miss", "a,0.5,,switch"]


def _server_user() -> str | None:
    """Who runs the server: PostgreSQL refuses root."""
    if os.getuid():
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        return "nobody"


@pytest.fixture(scope="module")
def postgres():
    """The URL of a PostgreSQL server of its own, listening on a socket in a temporary folder alone."""
    found = [shutil.which("initdb"), *sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)]
    initdb = next((Path(path).resolve() for path in found if path), None)
    if initdb is None:
        pytest.skip("no PostgreSQL server is installed (Debian: apt install postgresql)")
    # Not pytest's folder: that is closed to the server's user, and too long a path for a socket.
    folder = Path(tempfile.mkdtemp(prefix="courtside-pg-"))
    user = _server_user()
    if user is not None:
        shutil.chown(folder, user)

    def call(tool: str, *arguments: str) -> None:
        command = [str(initdb.with_name(tool)), *arguments]
        subprocess.run(command, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL, timeout=120)

    data = str(folder / "data")
    try:
        call("initdb", "--pgdata", data, "--username", "courtside", "--auth", "trust", "--no-sync")
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
        call(
            "pg_ctl", "--pgdata", data, "--log", str(folder / "log"), "--options", options, "--wait", "start"
        )
        yield f"postgresql://courtside@/postgres?host={folder}"
        call("pg_ctl", "--pgdata", data, "--mode", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'runs.db'}"
    url = request.getfixturevalue("postgres")
    engine = _open(url)
    with engine.begin() as connection:
        for view in VIEWS:
            connection.execute(sa.text(f"drop table if exists {view}"))
    engine.dispose()
    return url


def _open(url: str) -> sa.Engine:
    return sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))


def _rows(url: str, text: str) -> list[tuple]:
    engine = _open(url)
    with engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(sa.text(text))]
    engine.dispose()
    return rows


def test_a_copy_holds_the_same_and_can_be_made_again(runs, url):
    expected = {"player_detections": 6, "players": 4, "jersey_reads": 2, "events": 2, "scores": 2}
    for _ in range(2):
        assert {name: count for name, count in copy_to(runs, url).items() if count} == expected
        assert {view: _rows(url, f"select count(*) from {view}")[0][0] for view in expected} == expected
    assert {name for name in VIEWS if not _rows(url, f"select * from {name}")} == set(VIEWS) - set(expected)
    rows = _rows(
        url,
        "select prompt, tracking_id, x1, mask_rle from player_detections order by run, frame, tracking_id",
    )
    assert rows[:2] == [("player", 1, 1.0, None), (None, 2, 5.0, None)]
    assert _rows(url, "select object_id, tracking_id from events where event = 'miss'") == [(8, None)]
    assert _rows(url, "select idf1, hota, num_switches from scores where prompt is null") == [(0.75, None, 3)]
    lists = _rows(url, "select tracking_ids, near_tie from players where run = 'a' order by player_id")
    assert [(json.loads(ids) if isinstance(ids, str) else ids, bool(tie)) for ids, tie in lists] == [
        ([1, 4], False), ([2], True),
    ]  # fmt: skip


def test_a_copy_follows_its_runs_and_leaves_others(runs, url, tmp_path):
    copy_to(runs, url)
    shutil.rmtree(runs / "a")
    make_run(runs / "a", idf1=0.25)
    make_run(tmp_path / "elsewhere" / "c", scored=False)
    copy_to(runs, url)
    copy_to(tmp_path / "elsewhere", url)
    assert _rows(url, "select idf1 from scores where prompt is null") == [(0.25,)]
    assert _rows(url, "select run, count(*) from player_detections group by run order by run") == [
        ("a", 3), ("c", 3), ("eval/b's", 3),
    ]  # fmt: skip


def test_a_copy_that_fails_changes_nothing(runs, url):
    engine = _open(url)
    with engine.begin() as connection:
        connection.execute(sa.text("create table scores (run varchar(255), idf1 double precision)"))
        connection.execute(sa.text("insert into scores values ('mine', 1)"))
    with pytest.raises(
        RunError, match=r"the table scores in .* has no column prompt, video, .*: rename or drop"
    ):
        copy_to(runs, url)
    names = sa.inspect(engine).get_table_names()
    engine.dispose()
    # Tables come before scores in the order of copying, but none of them is there.
    assert names == ["scores"]
    assert _rows(url, "select run, idf1 from scores") == [("mine", 1.0)]


def test_a_refusal_in_the_middle_changes_nothing(runs, url):
    copy_to(runs, url)
    engine = _open(url)
    with engine.begin() as connection:
        connection.execute(sa.text("delete from events"))
        connection.execute(sa.text("create unique index only_one on events (run)"))
    engine.dispose()
    shutil.rmtree(runs / "eval")
    with pytest.raises(RunError, match=r"refused the tables \((.*only_one|UNIQUE).*nothing was changed"):
        copy_to(runs, url)
    assert _rows(url, "select count(*) from player_detections") == [(6,)]
    assert _rows(url, "select count(*) from events") == [(0,)]


def test_urls_that_lead_nowhere(runs, capsys):
    for url, sentence in (
        ("runs.db", "--to is no database URL"),
        ("nosuchbase://x/y", "--to is no database URL (Can't load plugin"),
        ("oracle://x/y", "the driver oracledb is not installed: pip install oracledb"),
        ("sqlite:////no/such/folder/runs.db", "refused the tables (unable to open database file)"),
        (
            "postgresql://me:secret@127.0.0.1:1/x",
            "postgresql+psycopg://me:***@127.0.0.1:1/x refused the tables",
        ),
    ):
        assert cli.main(["export", str(runs), "--to", url, "--quiet"]) == 2
        shown = capsys.readouterr().err
        assert sentence in shown
        assert "secret" not in shown
        assert shown.count("\n") == 1


def test_the_command_says_what_was_copied(runs, tmp_path, capsys):
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    assert cli.main(["export", str(runs), "--to", url, "--quiet"]) == 0
    assert "player_detections: 6 rows" in capsys.readouterr().out


def test_a_run_of_its_own_is_read_as_the_run_reads_itself(runs):
    names, rows = query(runs / "a", "select * from player_detections order by frame, tracking_id")
    table = pd.DataFrame(rows, columns=names).drop(columns="run")
    assert table.astype(DETECTIONS.dtypes).equals(Run(runs / "a").detections())
