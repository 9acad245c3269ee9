"""The prompt explorer: what it finds is what a run begins with, and nothing is computed twice."""

from __future__ import annotations

import numpy as np
import pytest

from courtside.device import choose_device
from courtside.errors import CourtsideError
from courtside.explore import LEAST_SCORE, Answer, PromptExplorer
from courtside.masks import decode_rle
from courtside.sam3 import weights
from courtside.sam3.engine import Engine
from courtside.sam3.network import Network
from courtside.sam3.tracker import encode_texts, prepared
from courtside.video import Video, VideoWriter

FRAMES, WIDTH, HEIGHT = 12, 160, 120


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Video:
    path = tmp_path_factory.mktemp("video") / "discs.mp4"
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    with VideoWriter(path, WIDTH, HEIGHT, 25) as writer:
        for time in range(FRAMES):
            image = np.full((HEIGHT, WIDTH, 3), 30, np.uint8)
            for disc in range(4):
                at = 30 + 32 * disc + time, 30 + 20 * disc
                image[(x - at[0]) ** 2 + (y - at[1]) ** 2 < 15**2] = (60 * disc + 60, 200 - 40 * disc, 90)
            writer.write(image)
    return Video(path)


@pytest.fixture(scope="module")
def loaded(random_sam3):
    return weights.load(random_sam3, choose_device("cpu"))


@pytest.fixture
def explorer(video, loaded) -> PromptExplorer:
    return PromptExplorer(video, model=loaded)


def test_what_is_found_is_what_a_run_begins_with(explorer, video, loaded):
    model, processor, device = loaded
    encoded = encode_texts(processor.tokenizer, ["a"], model.config.detector_config.text_config)
    engine = Engine(model, encoded, video.frame_count)
    [(_, pixels)] = prepared(video, processor.video_processor, device, range(1))
    engine.step(0, pixels)
    began = engine.state.waiting[0]
    answer = explorer.ask(0, "a").above(model.new_det_thresh)
    assert len(began.scores) > 1
    assert sorted(began.scores, reverse=True) == pytest.approx(answer.scores.tolist(), abs=1e-6)


def test_answers_are_ordered_and_fit_the_frame(explorer):
    answer = explorer.ask(3, "a")
    assert len(answer.scores) > 1
    assert (np.diff(answer.scores) <= 0).all()
    assert (answer.scores >= LEAST_SCORE).all()
    assert answer.size == (WIDTH, HEIGHT)
    for box, rle in zip(answer.boxes, answer.masks, strict=True):
        rows, columns = np.nonzero(decode_rle(rle, HEIGHT, WIDTH))
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_a_threshold_only_chooses():
    scores = np.array([0.9, 0.5, 0.2])
    answer = Answer(0, "a", scores, np.zeros((3, 4)), ("x", "y", "z"), (2, 2))
    assert [answer.count(at) for at in (0.95, 0.9, 0.4, 0.0)] == [0, 1, 2, 3]
    assert answer.above(0.4).masks == ("x", "y")


def test_nothing_is_computed_twice(explorer, monkeypatch):
    counts = {"embed": 0, "prompt": 0, "detect": 0}

    def counting(name: str):
        real = getattr(Network, name)

        def counted(*arguments):
            counts[name] += 1
            return real(*arguments)

        return counted

    for name in counts:
        monkeypatch.setattr(Network, name, counting(name))
    for frame in (0, 5):
        for prompt in ("a", "bb", "ccc"):
            explorer.ask(frame, prompt)
            explorer.ask(frame, f"  {prompt} ")
    assert counts == {"embed": 2, "prompt": 3, "detect": 6}
    explorer.ask(0, "a").above(0.9)
    assert explorer.known(5, "bb") is explorer.ask(5, "bb")
    assert counts == {"embed": 2, "prompt": 3, "detect": 6}


def test_the_strip_covers_the_video(explorer):
    assert explorer.sampled(4) == [1, 4, 7, 10]
    assert explorer.sampled(99) == list(range(FRAMES))
    table = explorer.table(["a", "bb"], count=3, threshold=0.3, progress=False)
    assert table["frame"].tolist() == [2, 2, 6, 6, 10, 10]
    assert table["found"].tolist() == [explorer.ask(f, p).count(0.3) for f in (2, 6, 10) for p in ("a", "bb")]
    nobody = explorer.table(["a"], count=3, threshold=1.0, progress=False)
    assert nobody["found"].tolist() == [0, 0, 0]
    assert nobody["mean_score"].isna().all()


@pytest.mark.parametrize(
    ("frame", "prompt", "says"),
    [
        (FRAMES, "a", r"discs\.mp4 has no frame 12: its last is 11"),
        (-1, "a", "has no frame -1"),
        (0, "  ", "a prompt is empty"),
        (0, "w" * 40, r"is too long: it makes 42 tokens and this model takes 32"),
    ],
)
def test_what_can_not_be_asked(frame, prompt, says, explorer):
    with pytest.raises(CourtsideError, match=says):
        explorer.ask(frame, prompt)


def test_a_prompt_starts_a_run(explorer, random_sam3, tmp_path, monkeypatch):
    monkeypatch.setattr(explorer, "_source", str(random_sam3))
    run = explorer.track(["a"], tmp_path / "run", progress=False)
    assert run.status()["track"]["state"] == "done"
    assert run.settings().prompts == ("a",)
    assert run.settings().model == str(random_sam3)
