"""Widgets without a browser: what they answer, what they show, and what they say of bad input."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from courtside.device import choose_device
from courtside.errors import SettingError
from courtside.explore import PromptExplorer
from courtside.folder import Run
from courtside.labelling import LabelSet
from courtside.masks import encode_rle
from courtside.report.packing import pack_masks
from courtside.report.proxy import Proxy
from courtside.sam3 import weights
from courtside.video import Video
from courtside.widgets import ExplorerWidget, LabelWidget, PlayerWidget
from courtside.widgets.labeller import _Masks
from courtside.widgets.panel import module
from minicourt.clip import render_clip

FRAMES = 16


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return render_clip(
        tmp_path_factory.mktemp("clip") / "game", seed=7, frames=FRAMES, width=320, height=180, progress=False
    )


@pytest.fixture
def widget(clip, tmp_path):
    with LabelSet(clip / "video.mp4", tmp_path / "labels", start=clip) as labels:
        yield LabelWidget(labels, truth=clip, progress=False)


def _arrays(tree, block: bytes):
    """What the view makes of an answer: typed arrays in place of where they lie."""
    if isinstance(tree, list):
        return [_arrays(each, block) for each in tree]
    if not isinstance(tree, dict):
        return tree
    if isinstance(tree.get("array"), str):
        return np.frombuffer(block, tree["array"], tree["count"], tree["at"])
    return {name: _arrays(each, block) for name, each in tree.items()}


def _clip(widget: LabelWidget) -> dict:
    tree, [block] = widget.handle({"do": "clip"})
    return _arrays(json.loads(json.dumps(tree)), block)["clip"]


# JavaScript


@pytest.mark.parametrize(
    "names",
    [("link", "live"), ("link", "explorer"), ("link", "live", "labeller")],
    ids=lambda names: names[-1],
)
def test_a_widget_is_one_module_with_the_player_of_the_reports(names, tmp_path):
    text = module(*names)
    assert "import {" not in text
    assert text.count("class Player extends EventTarget") == 1
    assert text.count("\nfunction render(") == 1
    assert text.rstrip().endswith("export default { render };")
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node to parse JavaScript (the browser's tests do it too)")
    path = tmp_path / "module.mjs"
    path.write_text(text)
    done = subprocess.run([node, "--check", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# The labeller


def test_the_view_gets_the_clip_and_the_video(widget, clip):
    video, [data] = widget.handle({"do": "video"})
    assert video == {}
    path = widget.labels.edits_path / "proxy.mp4"
    assert data == path.read_bytes()
    assert Video(path).frame_count == FRAMES
    shown = _clip(widget)
    draft = widget.labels.draft
    assert shown["layers"]["tracks"]["ids"] == draft.object_ids
    assert shown["layers"]["truth"]["ids"] == draft.object_ids
    assert shown["layers"]["tracks"]["starts"][-1] == len(draft.present)
    assert shown["shown"] == FRAMES


def test_operations_of_the_view_reach_the_log(widget):
    first, second = widget.labels.draft.object_ids[:2]
    details = {"first_id": first, "second_id": second, "frame": 5}
    said, _ = widget.handle({"do": "edit", "op": "swap", "details": details, "clicks": 3})
    assert said == {"said": "Done: swap."}
    assert widget.state["can_undo"]
    assert widget.state["scores"]["num_switches"] == 2
    assert widget.state["scores"]["mota"] < 1
    assert widget.labels.pace().clicks == 3
    assert widget.handle({"do": "undo", "clicks": 1})[0] == {"said": "Took back: swap."}
    assert widget.state["scores"]["mota"] == 1
    assert widget.handle({"do": "redo"})[0] == {"said": "Did again: swap."}
    widget.handle({"do": "undo"})
    widget.handle({"do": "edit", "op": "merge", "details": {"objects": [first, second]}})
    assert second not in _clip(widget)["layers"]["tracks"]["ids"]


def test_a_player_is_described_by_what_differs(widget):
    one = widget.labels.draft.object_ids[0]
    person = widget.labels.draft.person(one)
    asked = {"do": "person", "object_id": one, "name": "Ana", "team": person.team, "jersey_number": "00"}
    widget.handle({**asked, "prompts": list(person.prompts), "clicks": 2})
    assert [entry["op"] for entry in widget.labels.log] == ["rename", "set_number"]
    assert widget.labels.pace().clicks == 2
    [said] = [each["said"] for each in widget.state["people"] if each["id"] == one]
    assert said == f" Ana {person.team} #00"
    name = _clip(widget)["layers"]["tracks"]["names"][0]
    assert name == f"{one}{said}"


def test_a_box_without_a_model_is_drawn_by_hand(widget):
    widget.handle({"do": "box", "frame": 3, "box": [5, 5, 30, 60], "object_id": None, "clicks": 1})
    entry = list(widget.labels.log)[-1]
    assert (entry["how"], entry["clicks"]) == ("drawn", 1)


def test_what_can_not_be_is_said_and_costs_nothing(widget):
    heard = []
    widget.send = lambda content, buffers=(): heard.append(content)
    for asked in (
        {"do": "edit", "op": "swap", "details": {"first_id": 1, "second_id": 99, "frame": 0}},
        {"do": "click", "frame": 0, "points": [[999, 5]], "labels": [1], "object_id": None},
        {"do": "edit", "op": "close", "details": {}},
        {"do": "dance"},
    ):
        widget._receive(widget, {**asked, "re": "x"}, [])
    assert [each["re"] for each in heard] == ["x"] * 4
    errors = [each["error"] for each in heard]
    assert errors[0] == "there is no player 99"
    assert errors[1].startswith("the point (999, 5) lies outside the frame of 320 x 180")
    assert errors[2:] == ["there is no operation 'close'", "the labeller does not know how to 'dance'"]
    assert len(widget.labels.log) == 0


def test_labels_are_written_on_demand(widget):
    said, _ = widget.handle({"do": "save"})
    assert said["said"].startswith("Wrote the labels to ")
    assert (widget.labels.folder / "gt" / "gt.txt").exists()
    assert "up to date" in widget.state["facts"]


def test_the_last_state_stays_without_a_kernel(widget):
    html = widget._last_html()
    assert f'class="courtside-last courtside-last-{widget.view}"' in html
    assert "No kernel runs behind this widget" in html
    assert "data:image/jpeg;base64," in html
    assert f"{FRAMES} of {FRAMES} frames labelled" in html
    assert "<script" not in html


def test_masks_are_packed_once_and_as_reports_have_them():
    masks = []
    for place in range(3):
        mask = np.zeros((90, 160), bool)
        mask[10 : 40 + place, 20 * place : 20 * place + 15] = True
        masks.append(encode_rle(mask))
    rles = [masks[0], None, masks[1], masks[0], masks[2]]
    packed, wanted = _Masks(160, 90).packed(rles), pack_masks(rles, 90, 160, (160, 90))
    for name in ("boxes", "starts", "runs"):
        np.testing.assert_array_equal(packed[name], wanted[name])
    assert _Masks(160, 90).packed([None]) is None


def test_tracks_with_and_without_masks_are_shown_again(widget, clip):
    widget.labels.draw(3, (5, 5, 30, 60))
    run = widget.labels.correct(widget.labels.folder.parent / "run")
    with LabelSet(clip / "video.mp4", widget.labels.folder.parent / "again", start=run) as labels:
        again = LabelWidget(labels, progress=False)
        assert _clip(again)["layers"]["tracks"]["masks"]["starts"][-1] > 0
        assert again.state["scores"] is None
        labels.draw(4, (5, 5, 30, 60))
        again.refresh()
        assert labels.draft.rows["mask_rle"].iloc[-1] is None


# The explorer, and the player


@pytest.fixture(scope="module")
def explorer(clip, random_sam3) -> PromptExplorer:
    return PromptExplorer(clip / "video.mp4", model=weights.load(random_sam3, choose_device("cpu")))


def test_the_explorer_answers_with_masks_and_scores(explorer):
    widget = ExplorerWidget(explorer, ["a"], sampled=3)
    assert widget.facts["sampled"] == explorer.sampled(3)
    assert widget.threshold == pytest.approx(0.2)
    tree, [block] = widget.handle({"do": "ask", "frame": 2, "prompt": "a"})
    answer = _arrays(json.loads(json.dumps(tree)), block)["answer"]
    known = explorer.ask(2, "a")
    np.testing.assert_allclose(answer["scores"], known.scores, atol=1e-6)
    assert answer["masks"]["starts"][-1] == len(answer["masks"]["runs"])
    assert len(answer["masks"]["boxes"]) == 4 * len(known.scores)
    _, [picture] = widget.handle({"do": "picture", "frame": 2})
    assert picture[:2] == b"\xff\xd8"
    widget.frame = 2
    assert f"'a': {known.count(widget.threshold)} found" in widget._last_html().replace("&#x27;", "'")


def test_a_run_that_can_not_be_is_refused_before_it_starts(explorer):
    heard = []
    widget = ExplorerWidget(explorer, [])
    widget.send = lambda content, buffers=(): heard.append(content)
    widget._receive(widget, {"do": "track", "re": 1}, [])
    widget._receive(widget, {"do": "ask", "frame": 0, "prompt": "w" * 40, "re": 2}, [])
    assert "needs to know what to follow" in heard[0]["error"]
    assert "is too long: it makes 42 tokens" in heard[1]["error"]


def test_a_run_is_started_followed_and_stopped(explorer, random_sam3, tmp_path, monkeypatch, wait_for):
    monkeypatch.setattr(explorer, "_source", str(random_sam3))
    widget = ExplorerWidget(explorer, ["a"], out=tmp_path / "run")
    assert widget.handle({"do": "track"})[0]["said"].endswith("run")
    with pytest.raises(SettingError, match="a run is under way"):
        widget.track()
    wait_for((tmp_path / "run" / "config.json").exists, seconds=300)
    assert Run(tmp_path / "run").settings().prompts == ("a",)
    widget.stop()
    wait_for(lambda: "done" in widget.run, seconds=300)
    assert widget.run["said"].startswith(("The run stopped: ", "Done: "))


def test_the_player_gives_its_clip(widget):
    data = widget._clip()
    live = PlayerWidget(data, Proxy(b"video", 320, 180, 25.0, FRAMES))
    assert live.handle({"do": "video"}) == ({}, [b"video"])
    tree, [block] = live.handle({"do": "clip"})
    assert _arrays(tree, block)["clip"]["layers"]["tracks"]["ids"] == widget.labels.draft.object_ids
