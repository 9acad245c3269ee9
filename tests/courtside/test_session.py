"""Prompts that come and go: what each propagation does, what it leaves alone, and what survives a crash."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from courtside import journal as journal_module
from courtside.device import Device
from courtside.errors import RunError, SettingError
from courtside.run import execute
from courtside.sam3 import Sam3Session
from courtside.sam3.actions import Actions, Clicks
from courtside.sam3.association import Rules
from courtside.sam3.engine import Engine
from courtside.sam3.network import Network
from courtside.settings import Settings
from courtside.video import Video, VideoWriter

FRAMES, WIDTH, HEIGHT = 30, 96, 64
SETTINGS = {
    "score_threshold_detection": 0.3,
    "new_det_thresh": 0.35,
    "det_nms_thresh": 0.5,
    "assoc_iou_thresh": 0.05,
    "trk_assoc_iou_thresh": 0.3,
    "hotstart_delay": 4,
    "hotstart_unmatch_thresh": 4,
    "hotstart_dup_thresh": 3,
    "fill_hole_area": 0,
    "recondition_every_nth_frame": 4,
}


# What was done


def _log(path: Path, *actions: dict) -> Actions:
    log = Actions(path / "actions.jsonl")
    for action in actions:
        log.write(**action)
    return log


def _text(frame: int = 0, text: str = "a") -> dict:
    return {"action": "add_text", "frame": frame, "text": text}


def _click(obj_id: int, frame: int, prompt: int = -1, label: int = 1) -> dict:
    clicked = {"points": [[1.0, 2.0]], "labels": [label]}
    return {"action": "add_clicks", "obj_id": obj_id, "frame": frame, "prompt": prompt, **clicked}


def _followed(kind: str, first: int, last: int, objects: tuple[int, ...] = ()) -> dict:
    return {"action": "propagate", "kind": kind, "objects": list(objects), "frames": [[first, last]]}


FULL = _followed("full", 0, 99)
RESET, REMOVE = {"action": "reset"}, {"action": "remove_object", "obj_id": 3}


@pytest.mark.parametrize(
    ("actions", "asked", "kind", "objects", "frames"),
    [
        ([_text()], ("both", None, None), "full", (), [range(100)]),
        ([_text(40)], ("both", None, None), "full", (), [range(40, 100), range(39, -1, -1)]),
        ([_text(40)], ("forward", None, 10), "full", (), [range(40, 51)]),
        ([_text(40)], ("backward", None, 10), "full", (), [range(40, 29, -1)]),
        ([_text(), FULL], ("both", None, None), "fetch", (), [range(100)]),
        ([_text(), FULL, _click(3, 20, 0)], ("forward", None, None), "partial", (3,), [range(20, 100)]),
        (
            [_text(), FULL, _click(3, 20), _click(5, 7)],
            ("forward", 30, 5),
            "partial",
            (3, 5),
            [range(30, 36)],
        ),
        ([_text(), FULL, _click(3, 20), _text(5, "b")], ("forward", 0, None), "full", (3,), [range(100)]),
        ([_text(), FULL, _click(3, 9), REMOVE], ("both", 0, None), "fetch", (), [range(100)]),
        (
            [_text(), FULL, _click(3, 9), _followed("partial", 9, 99, (3,))],
            ("both", 0, None),
            "fetch",
            (),
            None,
        ),
        ([_text(), _followed("full", 0, 50)], ("forward", 0, None), "full", (), [range(100)]),
        ([_text(), _followed("full", 0, 50)], ("forward", 10, 20), "fetch", (), [range(10, 31)]),
        ([_click(1, 4)], ("forward", None, None), "partial", (1,), [range(4, 100)]),
        ([_click(1, 4), _followed("partial", 4, 99, (1,))], ("both", None, None), "partial", (1,), None),
        ([_text(), FULL, RESET, _text(3)], ("forward", None, None), "full", (), [range(3, 100)]),
    ],
)
def test_a_propagation_does_what_changed(actions, asked, kind, objects, frames, tmp_path):
    plan = _log(tmp_path, *actions).plan(100, *asked)
    assert (plan.kind, plan.objects) == (kind, objects)
    if frames is not None:
        assert [leg.numbers for leg in plan.legs] == frames


@pytest.mark.parametrize(
    ("actions", "asked", "says"),
    [
        ([], ("both", None, None), "nothing to follow yet"),
        ([_text(), RESET], ("both", None, None), "nothing to follow yet"),
        ([_text()], ("sideways", None, None), "forward, backward or both"),
        ([_text()], ("both", 100, None), "frames are 0 to 99"),
    ],
)
def test_a_propagation_that_can_not_be(actions, asked, says, tmp_path):
    with pytest.raises(SettingError, match=says):
        _log(tmp_path, *actions).plan(100, *asked)


def test_a_log_that_a_crash_cut_loses_its_last_line_alone(tmp_path):
    _log(tmp_path, _text(), _text(1, "b"))
    path = tmp_path / "actions.jsonl"
    path.write_text(path.read_text()[:-9])
    assert Actions(path).texts == ["a"]
    path.write_text("{\n" + path.read_text())
    with pytest.raises(RunError, match="line 1 of"):
        Actions(path)


def test_a_box_replaces_clicks_and_clicks_add_up():
    own = Clicks().add(4, [[1, 1]], [1]).add(4, [[2, 2]], [0]).add(5, [[3, 3]], [1])
    assert own.frames == {4: ([[1, 1], [2, 2]], [1, 0]), 5: ([[3, 3]], [1])}
    boxed = own.add(4, [[0, 0], [9, 9]], [2, 3])
    assert boxed.frames[4] == ([[0, 0], [9, 9]], [2, 3])


# A session


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Video:
    """Discs that wander over a dark floor."""
    path = tmp_path_factory.mktemp("video") / "discs.mp4"
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    rng = np.random.default_rng(5)
    phase, speed = rng.uniform(0, 6.28, (5, 2)), rng.uniform(0.05, 0.2, (5, 2))
    color, radius = rng.integers(60, 255, (5, 3)), rng.uniform(6, 13, 5)
    with VideoWriter(path, WIDTH, HEIGHT, 25) as writer:
        for time in range(FRAMES):
            image = np.full((HEIGHT, WIDTH, 3), 30, np.uint8)
            for disc in range(5):
                at = np.array([WIDTH, HEIGHT]) / 2 * (1 + 0.8 * np.sin(phase[disc] + speed[disc] * time))
                image[(x - at[0]) ** 2 + (y - at[1]) ** 2 < radius[disc] ** 2] = color[disc]
            writer.write(image)
    return Video(path)


@pytest.fixture(scope="module")
def loaded(lively_sam3, lettered_processor, tmp_path_factory):
    """A small model of random weights as :func:`courtside.sam3.load` gives it, and a folder by its name."""
    model = lively_sam3(168, gain=6.0, bias=-2.0, **SETTINGS)
    folder = tmp_path_factory.mktemp("lively")
    (folder / "config.json").write_text("{}")
    model.config._name_or_path = str(folder)
    return model, lettered_processor(32), Device(torch.device("cpu"), torch.float64, "chosen by the test")


@pytest.fixture
def session(video, loaded, tmp_path):
    with Sam3Session.start_session(video, tmp_path / "run", model=loaded) as opened:
        yield opened


@pytest.fixture(scope="module")
def done(video, loaded, tmp_path_factory) -> Path:
    """The folder of a session in which one text was followed to the end."""
    out = tmp_path_factory.mktemp("done") / "run"
    with Sam3Session.start_session(video, out, model=loaded) as session:
        session.add_prompt(0, text="a")
        assert len(list(session.propagate_in_video())) == FRAMES
    return out


@pytest.fixture
def again(done, video, loaded, tmp_path):
    """That session, in a copy of its folder, taken up again."""
    shutil.copytree(done, tmp_path / "again")
    with Sam3Session.start_session(video, tmp_path / "again", model=loaded) as opened:
        yield opened


def _table(session: Sam3Session) -> pd.DataFrame:
    return session.run.detections()


def _middle(table: pd.DataFrame, frame: int) -> tuple[int, list[float]]:
    """Some object in ``frame`` and the middle of its box."""
    row = table[table["frame"] == frame].iloc[0]
    return int(row["tracking_id"]), [(row["x1"] + row["x2"]) / 2, (row["y1"] + row["y2"]) / 2]


def test_a_text_gives_what_the_engine_gives(video, loaded, done):
    table = pd.read_parquet(done / "player_detections.parquet")
    session = Sam3Session.start_session(video, done, model=loaded)
    with session:
        engine = session._engine(["a"], Rules.of(loaded[0]))
        shown = list(engine.run(session._pixels(range(FRAMES))))
        kept = [row for frame in session.propagate_in_video() for row in frame]
        assert session.action_history[-1]["kind"] == "fetch"
    wanted = {(frame.frame, number) for frame in shown for number in frame.object_ids}
    found = set(zip(table["frame"], table["tracking_id"], strict=True))
    assert found <= wanted
    assert len(found) > FRAMES
    assert len(kept) == len(table)
    assert all(each.mask.any() for each in kept)


def test_what_is_fetched_costs_no_model(again, monkeypatch):
    monkeypatch.setattr(Network, "features", None)
    table = _table(again)
    frames = list(again.propagate_in_video("both", start_frame_idx=10))
    assert [frame.frame_number for frame in frames] == [*range(10, FRAMES), *range(9, -1, -1)]
    for frame in frames:
        rows = table[table["frame"] == frame.frame_number]
        assert [each.tracking_id for each in frame] == rows["tracking_id"].tolist()
        assert [each.bbox.to_xyxy() for each in frame] == [
            tuple(row) for row in rows[["x1", "y1", "x2", "y2"]].to_numpy()
        ]


def test_a_refined_object_alone_is_followed_again(again, monkeypatch):
    before = _table(again)
    number, middle = _middle(before, 12)
    shown = again.add_prompt(12, points=[middle], obj_id=number)
    assert [each.tracking_id for each in shown] == sorted(
        {number, *before.loc[before["frame"] == 12, "tracking_id"]}
    )
    corrected = next(each.mask for each in shown if each.tracking_id == number)
    monkeypatch.setattr(Network, "detect", None)
    frames = list(again.propagate_in_video("forward"))
    assert again.action_history[-1]["kind"] == "partial"
    assert again.action_history[-1]["objects"] == [number]
    assert [frame.frame_number for frame in frames] == list(range(12, FRAMES))
    after = _table(again)
    others = after["tracking_id"] != number
    pd.testing.assert_frame_equal(
        after[others].reset_index(drop=True),
        before[before["tracking_id"] != number].reset_index(drop=True),
    )
    own, former = after[~others], before[before["tracking_id"] == number]
    pd.testing.assert_frame_equal(
        own[own["frame"] < 12].reset_index(drop=True), former[former["frame"] < 12].reset_index(drop=True)
    )
    there = next(each.mask for each in frames[0] if each.tracking_id == number)
    assert np.array_equal(there, corrected)
    late = [table.loc[table["frame"] >= 12, "mask_rle"].tolist() for table in (own, former)]
    assert late[0] != late[1]


def test_partial_costs_what_one_object_costs(again, monkeypatch):
    sizes = []
    propagate = Network.propagate

    def count(network, features, recalls):
        sizes.append(len(recalls))
        return propagate(network, features, recalls)

    number, middle = _middle(_table(again), 12)
    again.add_prompt(12, box=[middle[0] - 9, middle[1] - 9, middle[0] + 9, middle[1] + 9], obj_id=number)
    monkeypatch.setattr(Network, "propagate", count)
    list(again.propagate_in_video("both"))
    assert set(sizes) == {1}
    assert len(sizes) == FRAMES


def test_a_new_object_keeps_its_id_when_all_is_done_anew(again):
    known = again.object_ids
    shown = again.add_prompt(5, box=[10, 10, 60, 50])
    [number] = {each.tracking_id for each in shown} - set(known)
    assert number == max(known) + 1
    assert next(each for each in shown if each.tracking_id == number).class_name == "clicked"
    list(again.propagate_in_video())
    table = _table(again)
    clicked = table[table["tracking_id"] == number]
    assert clicked["prompt"].isna().all()
    assert 5 in set(clicked["frame"])
    again.add_prompt(3, text="b")
    list(again.propagate_in_video())
    assert [action["kind"] for action in again.action_history if action["action"] == "propagate"] == [
        "full",
        "partial",
        "full",
    ]
    table = _table(again)
    assert set(table["prompt"].dropna()) == {"a", "b"}
    shown_there = table[(table["tracking_id"] == number) & (table["frame"] == 5)]
    assert shown_there["mask_rle"].tolist() == clicked[clicked["frame"] == 5]["mask_rle"].tolist()


def test_a_removed_object_is_gone_and_the_rest_stays(again):
    before = _table(again)
    number, _ = _middle(before, 12)
    again.remove_object(number)
    pd.testing.assert_frame_equal(
        _table(again), before[before["tracking_id"] != number].reset_index(drop=True)
    )
    assert number not in again.object_ids
    with pytest.raises(SettingError, match=f"no object {number}"):
        again.remove_object(number)


@pytest.fixture
def stepped(monkeypatch) -> list[int]:
    """The frames that engines go through, as they do."""
    seen: list[int] = []
    step = Engine.step

    def note(engine: Engine, number: int, pixels: torch.Tensor) -> None:
        seen.append(number)
        step(engine, number, pixels)

    monkeypatch.setattr(Engine, "step", note)
    return seen


def test_a_propagation_broken_off_goes_on_and_ends_the_same(video, loaded, tmp_path, monkeypatch, stepped):
    monkeypatch.setattr(journal_module, "_SECONDS", 0.0)
    monkeypatch.setattr(journal_module, "_SHARE", float("inf"))
    order = [*range(9, FRAMES), *range(8, -1, -1)]
    with Sam3Session.start_session(video, tmp_path / "whole", model=loaded) as session:
        session.add_prompt(9, text="a")
        assert [frame.frame_number for frame in session.propagate_in_video()] == order
        wanted = _table(session)
    for stop in (3, 21, 26, FRAMES):
        with Sam3Session.start_session(video, tmp_path / "broken", model=loaded) as session:
            if not session.prompts:
                session.add_prompt(9, text="a")
            stepped.clear()
            frames = session.propagate_in_video("both")
            assert [next(frames).frame_number for _ in range(stop)] == order[:stop]
            if stop < FRAMES:
                frames.close()
                assert session.run.status()["track"]["state"] == "failed"
                continue
            assert next(frames, None) is None
            assert len(stepped) < 10
            pd.testing.assert_frame_equal(_table(session), wanted)
    assert not (tmp_path / "broken" / "session" / "forward").exists()


def test_two_sessions_share_weights_and_nothing_else(video, loaded, tmp_path, done):
    with (
        Sam3Session.start_session(video, tmp_path / "one", model=loaded) as one,
        Sam3Session.start_session(video, tmp_path / "two", model=loaded) as two,
    ):
        one.add_prompt(0, text="a")
        two.add_prompt(0, text="b")
        for _ in zip(one.propagate_in_video(), two.propagate_in_video(), strict=True):
            pass
        wanted = pd.read_parquet(done / "player_detections.parquet")
        pd.testing.assert_frame_equal(_table(one), wanted, check_dtype=False)
        assert set(_table(two)["prompt"]) == {"b"}


def test_a_session_is_an_ordinary_run(again):
    run = execute(again.run.settings(), stages=("score", "overlay"), progress=False)
    assert run.overlay_path.is_file()
    assert run.status()["overlay"]["state"] == "done"
    again.remove_object(again.object_ids[0])
    assert run.status()["overlay"]["state"] == "pending"
    again.add_prompt(2, box=[10, 10, 60, 50])
    with pytest.raises(RunError, match="holds the tracks of a session"):
        execute(again.run.settings(), stages=("track",), progress=False)


def test_a_reset_session_knows_nothing(again):
    again.reset_session()
    assert (again.prompts, again.object_ids) == ([], [])
    assert not again.run.detections_path.exists()
    with pytest.raises(SettingError, match="nothing to follow"):
        again.propagate_in_video()
    assert again.action_history[-1]["action"] == "reset"


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ({"frame_idx": 99, "text": "b"}, "no frame 99"),
        ({"frame_idx": 0}, "either a text, or points or a box"),
        ({"frame_idx": 0, "text": "b", "box": [1, 1, 5, 5]}, "either a text, or points or a box"),
        ({"frame_idx": 0, "text": " "}, "empty"),
        ({"frame_idx": 0, "text": "A"}, "the same to this model"),
        ({"frame_idx": 0, "text": "b" * 40}, "too long"),
        ({"frame_idx": 0, "points": [[200, 5]]}, "outside the frame"),
        ({"frame_idx": 0, "points": [[2, 5]], "point_labels": [1, 1]}, "as many labels"),
        ({"frame_idx": 0, "points": [[2, 5]], "point_labels": [0]}, "needs a point on it"),
        ({"frame_idx": 0, "points": []}, "at least one"),
        ({"frame_idx": 0, "box": [9, 9, 3, 12]}, "is empty"),
        ({"frame_idx": 0, "points": [[2, 5]], "obj_id": 77}, "no object 77"),
    ],
)
def test_a_prompt_that_can_not_work_is_one_sentence_and_changes_nothing(prompt, says, again):
    before = again.action_history
    with pytest.raises(SettingError, match=says) as caught:
        again.add_prompt(**prompt)
    assert "\n" not in str(caught.value)
    assert again.action_history == before


def test_a_folder_that_can_not_hold_the_session(session, video, loaded, tmp_path):
    with pytest.raises(RunError, match="is open elsewhere"):
        Sam3Session.start_session(video, session.run.folder, model=loaded)
    settings = Settings(video=video.path, out=tmp_path / "tracked")
    settings.out.mkdir()
    config = {"settings": settings.parameters(), "inputs": {"video": {"sha256": video.sha256()}}}
    (settings.out / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match="holds a run of courtside track"):
        Sam3Session.start_session(video, settings.out, model=loaded)
