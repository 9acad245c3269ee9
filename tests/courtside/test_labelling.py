"""Labels by hand: the log, each operation, what is derived, what survives a crash, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from courtside.device import Device
from courtside.errors import CourtsideError, DiskFullError, LabelsError, ModelError, RunError, SettingError
from courtside.labelling import EditLog, LabelSet
from courtside.labelling.identities import OPERATIONS, Draft, Person, empty_rows
from courtside.labelling.labelset import clicks_of
from courtside.labels import check_labels, read_labels
from courtside.masks import encode_rle
from courtside.run import Settings, execute
from courtside.scoring import score
from courtside.video import VideoWriter
from minicourt.clip import render_clip

FRAMES = 40


# The log


def test_the_log_is_on_disk_before_it_counts(tmp_path):
    log = EditLog(tmp_path / "edits.jsonl")
    for number in range(3):
        log.append("delete", object_id=number, clicks=2)
    log.undo()
    log.undo()
    log.redo()
    again = EditLog(tmp_path / "edits.jsonl")
    assert [entry["object_id"] for entry in again.standing()] == [0, 1]
    assert len(again) == 6
    assert (again.can_undo, again.can_redo) == (True, True)
    assert {"when", "op", "object_id", "clicks"} == set(again.standing()[0])
    again.append("delete", object_id=9)
    assert not again.can_redo
    assert log.refresh()
    assert [entry["object_id"] for entry in log.standing()] == [0, 1, 9]


def test_undo_and_redo_have_no_end(tmp_path):
    log = EditLog(tmp_path / "edits.jsonl")
    for number in range(60):
        log.append("delete", object_id=number)
    for _ in range(60):
        log.undo()
    assert log.standing() == []
    for _ in range(60):
        log.redo()
    assert [entry["object_id"] for entry in log.standing()] == list(range(60))


@pytest.mark.parametrize("cut", [1, 9, 30])
def test_a_line_that_a_crash_cut_is_left_out_and_written_over(cut, tmp_path):
    path = tmp_path / "edits.jsonl"
    log = EditLog(path)
    log.append("delete", object_id=1)
    log.append("delete", object_id=2)
    path.write_bytes(path.read_bytes()[:-cut])
    log = EditLog(path)
    assert [entry["object_id"] for entry in log] == [1]
    log.append("delete", object_id=3)
    assert [entry["object_id"] for entry in EditLog(path)] == [1, 3]


def test_damage_anywhere_else_is_named(tmp_path):
    path = tmp_path / "edits.jsonl"
    path.write_text('{"op": \n{"op": "delete", "when": "now"}\n')
    with pytest.raises(LabelsError, match=r"line 1 of .* is damaged"):
        EditLog(path)


def test_a_full_disk_leaves_the_log_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "edits.jsonl"
    log = EditLog(path)
    log.append("delete", object_id=1)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("courtside.labelling.edits.os.fsync", full)
        with pytest.raises(DiskFullError, match="the last edit was not kept"):
            log.append("delete", object_id=2)
    assert len(log) == len(EditLog(path)) == 1
    log.append("delete", object_id=3)
    assert [entry["object_id"] for entry in EditLog(path)] == [1, 3]


# Operations


def _draft() -> Draft:
    """Players 1 (frames 0 to 9), 2 (0 to 9), 3 (5 to 9); 1 stands at x 0, 2 at 100, 3 at 200."""
    spans = {1: range(10), 2: range(10), 3: range(5, 10)}
    rows = [
        (frame, one, 100.0 * (one - 1), 0.0, 100.0 * (one - 1) + 20, 50.0)
        for one, frames in spans.items()
        for frame in frames
    ]
    table = pd.DataFrame(rows, columns=["frame", "object_id", "x1", "y1", "x2", "y2"])
    table = table.assign(confidence=1.0, mask_rle=None, ignored=False, visibility=np.nan, deleted=False)
    people = {1: Person(team="white", jersey_number="7", prompts=("player",)), 2: Person(team="black")}
    return Draft(table, np.zeros(10, bool), people)


def _where(draft: Draft) -> dict[int, list[tuple[int, float]]]:
    rows = draft.present.sort_values("frame")
    return {
        one: list(zip(own["frame"].tolist(), own["x1"].tolist(), strict=True))
        for one, own in rows.groupby("object_id")
    }


def _at(x: float, frames: range) -> list[tuple[int, float]]:
    return [(frame, x) for frame in frames]


ALL, LATE = range(10), range(5, 10)


@pytest.mark.parametrize(
    ("op", "details", "wanted"),
    [
        (
            "swap",
            {"first_id": 1, "second_id": 2, "frame": 6},
            {
                1: _at(0, range(6)) + _at(100, range(6, 10)),
                2: _at(100, range(6)) + _at(0, range(6, 10)),
                3: _at(200, LATE),
            },
        ),
        (
            "split",
            {"object_id": 1, "frame": 4, "new_id": 8},
            {1: _at(0, range(4)), 8: _at(0, range(4, 10)), 2: _at(100, ALL), 3: _at(200, LATE)},
        ),
        ("merge", {"objects": [3, 1]}, {3: _at(0, range(5)) + _at(200, LATE), 2: _at(100, ALL)}),
        ("merge", {"objects": [1, 3]}, {1: _at(0, ALL), 2: _at(100, ALL)}),
        ("delete", {"object_id": 2}, {1: _at(0, ALL), 3: _at(200, LATE)}),
        (
            "delete",
            {"object_id": 2, "first": 3, "last": 7},
            {1: _at(0, ALL), 2: _at(100, range(3)) + _at(100, range(8, 10)), 3: _at(200, LATE)},
        ),
    ],
)
def test_an_operation_moves_what_it_says(op, details, wanted):
    before = _draft()
    held = before.rows.copy()
    assert _where(OPERATIONS[op](before, **details)) == wanted
    pd.testing.assert_frame_equal(before.rows, held)


def test_what_was_deleted_comes_back_where_nothing_took_its_place():
    draft = OPERATIONS["delete"](_draft(), object_id=3)
    assert (draft.object_ids, draft.deleted_ids) == ([1, 2], [3])
    assert _where(OPERATIONS["restore"](draft, object_id=3)) == _where(_draft())
    draft = OPERATIONS["delete"](_draft(), object_id=1, first=0, last=6)
    # Whatever became of player 1 meanwhile stays.
    draft = OPERATIONS["swap"](draft, first_id=2, second_id=1, frame=6)
    restored = OPERATIONS["restore"](draft, object_id=1)
    assert _where(restored)[1] == _at(0, range(6)) + _at(100, range(6, 10))
    assert not restored.rows[~restored.rows["deleted"]].duplicated(["frame", "object_id"]).any()


def test_what_is_said_of_players_goes_with_them():
    draft = OPERATIONS["merge"](_draft(), objects=[2, 1])
    assert draft.person(2) == Person(team="black", jersey_number="7", prompts=("player",))
    draft = OPERATIONS["split"](_draft(), object_id=1, frame=4, new_id=8)
    assert draft.person(8) == Person(team="white", prompts=("player",))
    for op, value, name in (
        ("rename", " Ana ", "name"),
        ("set_team", "red", "team"),
        ("set_number", "00", "jersey_number"),
    ):
        said = OPERATIONS[op](_draft(), object_id=3, **{name: value})
        assert getattr(said.person(3), name) == value.strip()
    assert OPERATIONS["set_prompts"](_draft(), object_id=1, prompts=["a  b", "", "a b"]).person(
        1
    ).prompts == ("a b",)


def test_frames_and_regions_are_marked():
    draft = OPERATIONS["mark_labelled"](_draft(), first=2, last=5)
    draft = OPERATIONS["mark_labelled"](draft, first=4, labelled=False)
    assert np.flatnonzero(draft.labelled).tolist() == [2, 3, 5]
    draft = OPERATIONS["mark_occluded"](_draft(), object_id=1, first=2, last=3)
    assert draft.rows.loc[draft.rows["visibility"] == 0, ["frame", "object_id"]].to_numpy().tolist() == [
        [2, 1],
        [3, 1],
    ]
    draft = OPERATIONS["ignore_region"](_draft(), box_xyxy=[90, 0, 130, 60], first=2, last=4, new_id=9)
    ignored = draft.rows[draft.rows["ignored"]]
    assert sorted(zip(ignored["object_id"], ignored["frame"], strict=True)) == [
        (one, frame) for one in (2, 9) for frame in (2, 3, 4)
    ]
    assert draft.person(9).region
    draft = OPERATIONS["ignore"](_draft(), object_id=3)
    assert draft.rows.loc[draft.rows["ignored"], "object_id"].unique().tolist() == [3]


@pytest.mark.parametrize(
    ("op", "details", "says"),
    [
        ("swap", {"first_id": 1, "second_id": 4, "frame": 2}, "there is no player 4"),
        ("swap", {"first_id": 1, "second_id": 1, "frame": 2}, "with itself"),
        ("swap", {"first_id": 1, "second_id": 2, "frame": 10}, "no frame 10: the video's are 0 to 9"),
        ("split", {"object_id": 3, "frame": 5, "new_id": 7}, "frames 5 to 9: a split at frame 5 leaves one"),
        ("merge", {"objects": [1]}, "two players or more"),
        ("merge", {"objects": [1, 1]}, "each named once"),
        ("delete", {"object_id": 3, "first": 0, "last": 4}, "in no frame from 0 to 4"),
        ("delete", {"object_id": 3, "first": 7, "last": 6}, "frame 7 comes after frame 6"),
        ("restore", {"object_id": 1}, "nothing of player 1 was deleted"),
        ("set_number", {"object_id": 1, "jersey_number": "7a"}, "not one or two digits"),
        ("mark_labelled", {"first": -1}, "no frame -1"),
        ("ignore_region", {"box_xyxy": [5, 5, 5, 9], "first": 0, "new_id": 9}, "is empty"),
    ],
)
def test_an_operation_that_can_not_be(op, details, says):
    with pytest.raises(SettingError, match=says):
        OPERATIONS[op](_draft(), **details)


# A label set


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return render_clip(
        tmp_path_factory.mktemp("clip") / "game", seed=7, frames=FRAMES, width=320, height=180, progress=False
    )


@pytest.fixture
def labelled(clip, tmp_path):
    """A label set that began with the rendered labels."""
    with LabelSet(clip / "video.mp4", tmp_path / "labels", start=clip) as opened:
        yield opened


def test_what_is_derived_is_what_others_read(labelled, clip):
    before = read_labels(clip, labelled.video)
    everyone = labelled.draft.object_ids
    one, other = everyone[:2]
    labelled.set_team(one, "red", clicks=1)
    labelled.set_number(one, "00")
    labelled.rename(one, "Ana")
    labelled.mark_occluded(other, int(labelled.draft.frames_of(other)[0]))
    labelled.mark_labelled(30, FRAMES - 1, labelled=False)
    folder = labelled.save()
    found = check_labels(folder, labelled.video)
    assert found.errors == ()
    truth, was = found.labels.ground_truth, before.ground_truth
    was = was[was["frame"] < 30].reset_index(drop=True)
    assert found.labels.labelled_frames.tolist() == list(range(30))
    np.testing.assert_allclose(truth[["x1", "y1", "x2", "y2"]], was[["x1", "y1", "x2", "y2"]], atol=0.02)
    for name in ("frame", "object_id", "ignored", "mask_rle"):
        assert truth[name].equals(was[name]), name
    assert (truth["visibility"] == 0).sum() == (was["visibility"] == 0).sum() + 1
    row = found.labels.roster.set_index("object_id").loc[one]
    assert (row["team"], row["jersey_number"]) == ("red", "00")
    assert (folder / "roster.csv").read_text().splitlines()[0] == "object_id,team,jersey_number,name"
    assert found.labels.prompts == before.prompts
    assert labelled.saved


def test_labels_score_one_against_themselves(labelled):
    for match in ("box", "mask"):
        scores = score(
            labelled.tracks().assign(prompt=None),
            labelled.labels(),
            times_s=labelled.video.times_s,
            match=match,
        )
        assert [scores.metrics[name] for name in ("mota", "idf1", "hota")] == pytest.approx([1, 1, 1])


@pytest.fixture(scope="module")
def bad(clip, tmp_path_factory) -> tuple[Path, dict[str, list[int]]]:
    """A bad run, and whom it concerns: two pairs exchanged, one in three pieces, one on nobody."""
    folder = tmp_path_factory.mktemp("bad")
    with LabelSet(clip / "video.mp4", folder / "labels", start=clip) as spoilt:
        present = spoilt.draft.present
        present = present[~present["ignored"]]
        sizes = present.groupby("object_id").size().sort_values(ascending=False)
        first, second, third, fourth, fifth = sizes.index[:5].tolist()
        spoilt.swap(first, second, 11)
        spoilt.swap(third, fourth, 25)
        middle = spoilt.split(fifth, 15)
        end = spoilt.split(middle, 27)
        ghost = None
        for frame in range(4, 20):
            ghost = spoilt.draw(frame, (5, 5, 25, 60), ghost)
        out = spoilt.correct(folder / "run")
    whom = {"first": [first, second], "second": [third, fourth], "pieces": [fifth, middle, end]}
    return out, whom | {"ghost": [ghost]}


def _scores(labels: LabelSet, clip: Path) -> dict:
    truth = read_labels(clip, labels.video)
    return score(labels.tracks().assign(prompt=None), truth, times_s=labels.video.times_s).metrics


def test_a_bad_run_is_repaired_in_three_clicks_an_identity(bad, clip, tmp_path):
    out, whom = bad
    with LabelSet(clip / "video.mp4", tmp_path / "mended", start=out) as mended:
        was = _scores(mended, clip)
        assert was["idf1"] < 0.9
        mended.swap(*whom["first"], 11, clicks=3)
        mended.swap(*whom["second"], 25, clicks=3)
        mended.merge(*whom["pieces"], clicks=4)
        mended.delete(*whom["ghost"], clicks=2)
        corrected = mended.correct(tmp_path / "run")
        assert mended.pace().clicks == 12
        assert mended.pace().clicks <= 3 * sum(map(len, whom.values()))
        now = _scores(mended, clip)
    assert now["mota"] > was["mota"]
    assert now["idf1"] >= 0.99
    # Corrected by hand, so never tracked anew.
    settings = Settings(video=clip / "video.mp4", out=corrected)
    assert execute(settings, stages=("track",)).detections()["tracking_id"].nunique() == 9
    with pytest.raises(RunError, match="would replace"):
        execute(settings, stages=("track",), again=["track"])


def test_all_is_there_again_after_a_crash(bad, clip, tmp_path):
    folder = tmp_path / "labels"
    assert _elsewhere(_EDIT_AND_DIE, clip / "video.mp4", folder, bad[0]).returncode == 9
    assert not (folder / "gt").exists()
    with LabelSet(clip / "video.mp4", folder) as again:
        assert again.read_only is None
        assert [entry["op"] for entry in again.log.standing()] == ["delete", "mark_labelled", "put"]
        assert check_labels(again.save(), again.video).errors == ()
        assert again.undo()["how"] == "drawn"


_EDIT_AND_DIE = """
labels = LabelSet(*paths[:2], start=paths[2])
labels.delete(labels.draft.object_ids[0])
labels.mark_labelled(0, 9)
labels.draw(3, (1, 1, 20, 40))
os._exit(9)
"""

_TRY_TO_EDIT = """
labels = LabelSet(*paths)
try:
    labels.mark_labelled(0)
except RunError as error:
    print(json.dumps([labels.read_only, labels.draft.object_ids, str(error)]))
"""


def _elsewhere(code: str, *paths: Path) -> subprocess.CompletedProcess:
    """Run ``code`` in a process of its own, with ``paths``."""
    begin = "import json, os, sys; from courtside.errors import RunError\n"
    begin += "from courtside.labelling import LabelSet\npaths = sys.argv[1:]\n"
    return subprocess.run([sys.executable, "-c", begin + code, *paths], capture_output=True, text=True)


def test_the_second_process_reads_only(clip, tmp_path):
    folder = tmp_path / "labels"
    with LabelSet(clip / "video.mp4", folder, start=clip) as first:
        read_only, players, refused = json.loads(_elsewhere(_TRY_TO_EDIT, clip / "video.mp4", folder).stdout)
        assert read_only.startswith("process ")
        assert players == first.draft.object_ids
        assert refused.startswith("these labels are read-only here, since process ")
        # Two views in one process work on one log.
        with LabelSet(clip / "video.mp4", folder) as second:
            gone, other = first.draft.object_ids[:2]
            first.delete(gone)
            with pytest.raises(SettingError, match="it was deleted"):
                second.delete(gone)
            second.delete(other)
        assert first.refresh()
        assert first.draft.deleted_ids == [gone, other]


def test_ids_of_undone_players_are_not_given_again(labelled):
    new = labelled.draw(0, (1, 1, 20, 40))
    labelled.undo()
    assert new not in labelled.draft.object_ids
    other = labelled.draw(0, (1, 1, 20, 40))
    assert other == new + 1


def test_pace_counts_work_and_not_pauses(labelled, monkeypatch):
    times = iter(["10:00:00", "10:00:30", "10:01:00", "12:00:00"])
    monkeypatch.setattr("courtside.watch.now", lambda: f"2026-01-01T{next(times)}Z")
    for frame in range(3):
        labelled.mark_labelled(frame, clicks=2)
    labelled.undo(clicks=1)
    pace = labelled.pace()
    assert pace.minutes == pytest.approx(3)
    assert pace.clicks == 7
    assert pace.frames_per_minute == pytest.approx(FRAMES / 3)
    assert pace.clicks_per_identity == pytest.approx(7 / pace.identities)


# Bad input


def test_a_video_that_vanished(clip, tmp_path):
    shutil.copy(clip / "video.mp4", tmp_path / "game.mp4")
    with LabelSet(tmp_path / "game.mp4", tmp_path / "labels", start=clip) as labels:
        (tmp_path / "game.mp4").unlink()
        with pytest.raises(CourtsideError, match=r"game\.mp4 has vanished; put it back"):
            labels.mark_labelled(0)
    with pytest.raises(CourtsideError, match=r"no video at .*game\.mp4"):
        LabelSet(tmp_path / "game.mp4", tmp_path / "labels")


def test_labels_and_runs_of_another_video(clip, bad, labelled, tmp_path):
    labelled.mark_labelled(0)
    with VideoWriter(tmp_path / "other.mp4", 320, 180, 25) as writer:
        for _ in range(FRAMES):
            writer.write(np.zeros((180, 320, 3), np.uint8))
    with pytest.raises(LabelsError, match="holds labels of another video"):
        LabelSet(tmp_path / "other.mp4", labelled.folder)
    with pytest.raises(LabelsError, match="holds the run of another video"):
        LabelSet(tmp_path / "other.mp4", tmp_path / "new", start=bad[0])
    with VideoWriter(tmp_path / "short.mp4", 320, 180, 25) as writer:
        writer.write(np.zeros((180, 320, 3), np.uint8))
    with pytest.raises(LabelsError, match="labels for 40 frames"):
        LabelSet(tmp_path / "short.mp4", tmp_path / "newer", start=clip)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (lambda labels: labels.draw(0, (-1, 0, 20, 20)), r"\(-1, 0\) lies outside the frame of 320 x 180"),
        (lambda labels: labels.click(0, [(321, 5)]), r"\(321, 5\) lies outside the frame of 320 x 180"),
        (lambda labels: labels.click(FRAMES, [(5, 5)]), "there is no frame 40"),
        (lambda labels: labels.click(0, [(5, 5)], object_id=99), "there is no player 99"),
        (lambda labels: labels.click(0, [(5, 5)]), "clicks need a model"),
        (lambda labels: labels.follow(labels.draft.object_ids[0]), "was not clicked"),
        (lambda labels: labels.redo(), "nothing to redo"),
        (lambda labels: labels.undo(), "nothing to undo"),
    ],
)
def test_what_can_not_be_leaves_no_trace(asked, says, labelled):
    with pytest.raises(CourtsideError, match=says):
        asked(labelled)
    assert len(labelled.log) == 0


def test_nothing_is_written_while_no_frame_is_labelled(clip, tmp_path):
    with LabelSet(clip / "video.mp4", tmp_path / "labels") as labels:
        labels.draw(0, (1, 1, 20, 40))
        with pytest.raises(LabelsError, match=r"no frame of video\.mp4 is marked as labelled yet"):
            labels.save()
        labels.mark_labelled(0)
        assert len(labels.labels().ground_truth) == 1


def test_a_full_disk_keeps_what_there_was(labelled, monkeypatch):
    labelled.save()
    was = (labelled.folder / "gt" / "gt.txt").read_text()
    labelled.delete(labelled.draft.object_ids[0])

    def full(*_, **__) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(DiskFullError, match="nothing could be written"):
            labelled.save()
    assert (labelled.folder / "gt" / "gt.txt").read_text() == was
    assert not list(labelled.folder.rglob("*.part"))
    assert not labelled.saved
    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_parquet", full)
        with pytest.raises(DiskFullError, match="all edits up to now are safe"):
            labelled.draw(0, (1, 1, 20, 40))
    assert len(labelled.log) == 1


# Clicks


@pytest.fixture(scope="module")
def loaded(lively_sam3, lettered_processor, tmp_path_factory):
    """A small model of random weights, loud enough that what is clicked stands out."""
    settings = {"hotstart_delay": 4, "fill_hole_area": 0, "recondition_every_nth_frame": 4}
    model = lively_sam3(168, gain=6.0, bias=-2.0, **settings)
    folder = tmp_path_factory.mktemp("lively")
    (folder / "config.json").write_text("{}")
    model.config._name_or_path = str(folder)
    return model, lettered_processor(32), Device(torch.device("cpu"), torch.float64, "chosen by the test")


@pytest.fixture
def clicked(clip, loaded, tmp_path):
    with LabelSet(clip / "video.mp4", tmp_path / "labels", start=clip, model=loaded) as opened:
        yield opened


def test_a_click_adds_a_player_who_is_followed_alone(clicked):
    before = clicked.draft.rows
    new = clicked.click(10, [(160, 90)], clicks=1)
    assert new not in before["object_id"].tolist()
    row = clicked.draft.rows[clicked.draft.rows["object_id"] == new]
    assert row["frame"].tolist() == [10]
    assert row["mask_rle"].notna().all()
    refined = clicked.click(10, [(150, 100)], [0], object_id=new, clicks=1)
    assert refined == new
    assert clicks_of(clicked.log.standing(), new)[10] == ([[160, 90], [150, 100]], [1, 0])
    frames = list(clicked.follow(new, frames=6, progress=False, clicks=1))
    assert sorted(frame.frame_number for frame in frames) == list(range(4, 17))
    own = clicked.draft.rows[clicked.draft.rows["object_id"] == new]
    assert 1 < len(own) <= 13
    others = clicked.draft.rows[clicked.draft.rows["object_id"] != new].reset_index(drop=True)
    pd.testing.assert_frame_equal(others, before.reset_index(drop=True))
    assert clicked.pace().clicks == 3
    rows = clicked.draft.rows
    clicked.undo()
    clicked.redo()
    pd.testing.assert_frame_equal(clicked.draft.rows, rows)


def test_an_undone_click_is_forgotten_by_the_model_too(clicked):
    new = clicked.click(10, [(160, 90)])
    alone = clicked.draft.rows.iloc[-1]["mask_rle"]
    clicked.click(10, [(20, 20)], object_id=new)
    clicked.undo()
    clicked.click(10, [(150, 100)], [0], object_id=new)
    assert clicks_of(clicked.log.standing(), new)[10] == ([[160, 90], [150, 100]], [1, 0])
    clicked.undo()
    assert clicked.draft.rows.iloc[-1]["mask_rle"] == alone


def test_following_that_was_stopped_goes_on(clicked, monkeypatch):
    monkeypatch.setattr("courtside.journal._SECONDS", 0.0)
    new = clicked.click(10, [(160, 90)])
    following = clicked.follow(new, "forward", progress=False)
    first = [next(following).frame_number for _ in range(8)]
    following.close()
    assert first == list(range(10, 18))
    assert (clicked.draft.rows["object_id"] == new).sum() == 1
    assert len(clicked.log) == 1
    done = list(clicked.follow(new, "forward", progress=False))
    assert [frame.frame_number for frame in done] == list(range(10, FRAMES))
    assert clicked.log.standing()[-1]["how"] == "followed"


def test_a_box_is_a_click_too(clicked):
    new = clicked.click(10, box=(140, 60, 180, 120))
    points, labels = clicks_of(clicked.log.standing(), new)[10]
    assert (points, labels) == ([[140, 60], [180, 120]], [2, 3])
    list(clicked.follow(new, frames=2, progress=False))
    # Another player in between, and all that was clicked of the first is still known.
    clicked.click(12, [(60, 90)])
    clicked.click(11, [(160, 95)], object_id=new)
    assert list(clicks_of(clicked.log.standing(), new)) == [10, 11]


def test_encoded_masks_fit_the_video(clicked):
    clicked.click(10, [(160, 90)])
    rle = clicked.draft.rows.iloc[-1]["mask_rle"]
    assert len(rle) > 4
    assert rle != encode_rle(np.zeros((180, 320), bool))


def test_a_model_that_is_not_there(clip, tmp_path):
    with (
        LabelSet(clip / "video.mp4", tmp_path / "labels", model=tmp_path / "none") as labels,
        pytest.raises(ModelError, match="there is no model folder"),
    ):
        labels.click(0, [(5, 5)])


def test_the_log_says_nothing_of_who(labelled):
    labelled.mark_labelled(0, clicks=1)
    entry = json.loads((labelled.edits_path / "edits.jsonl").read_text())
    assert set(entry) == {"when", "op", "clicks", "first", "last", "labelled"}
    assert entry["when"].endswith("Z")
    assert empty_rows().empty
