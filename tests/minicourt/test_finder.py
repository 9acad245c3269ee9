"""Rendered torsos, and the finder of numbers that is trained on them."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from courtside.jersey.crop import SIDE_PX
from courtside.jersey.finder import CELL_PX, INPUT_PX, USUAL_PX, WEIGHTS, NumberNet, framed
from minicourt import finder, torsos
from minicourt.finder import FinderTrainer, draw_targets, finder_loss, held_out
from minicourt.torsos import RenderedTorso, render_torsos

CELLS = INPUT_PX // CELL_PX

# Torsos


def test_torsos_are_drawn_by_their_seed():
    one, same, other = (render_torsos(np.random.default_rng(seed), 2) for seed in (3, 3, 4))
    assert [torso.number for torso in one] == [torso.number for torso in same]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(one, same, strict=True))
    assert not np.array_equal(one[0].image, other[0].image)


def test_torsos_carry_every_kind_of_number():
    rng = np.random.default_rng(1)
    drawn = [torso for _ in range(60) for torso in render_torsos(rng, 1)]
    lengths = [len(torso.number) for torso in drawn]
    assert {0, 1, 2} == set(lengths)
    assert 0.15 < np.mean([length == 0 for length in lengths]) < 0.6
    for torso in drawn:
        assert torso.image.shape == (SIDE_PX, SIDE_PX, 3)
        assert (torso.place is None) == (torso.number == "")


@pytest.mark.parametrize("number", ["0", "4", "17", "08", "88"])
@pytest.mark.parametrize("draw", [torsos._typeset, torsos._in_blocks])
def test_stamps_are_as_high_and_wide_as_they_say(draw, number):
    stamp, spans = draw(np.random.default_rng(2), number, 40.0)
    rows, columns = np.nonzero(stamp > 0.5)
    assert len(spans) == len(number)
    assert np.ptp(rows) + 1 == pytest.approx(40, abs=6)
    assert columns.min() == pytest.approx(spans[0][0], abs=4)
    assert columns.max() == pytest.approx(spans[-1][1], abs=4)


def test_places_turn_with_the_picture():
    box, middle = (70.0, 80.0, 110.0, 110.0), SIDE_PX / 2
    drawn = torsos._Drawn(np.zeros((1, 1, 3)), "28", box, (0.0, 1.0), (1.0, 0.0), 30.0)
    turn = torsos.cv2.getRotationMatrix2D((middle, middle), 10, 2.0)  # counter-clockwise
    x, y, wide, high, tilt = torsos._placed(drawn, turn, 2.0)
    assert (wide, high) == (80, 60)
    assert math.degrees(tilt) == pytest.approx(-10)
    # The box's middle lies 5 below that of the picture, and turns to the right.
    assert (x, y) == pytest.approx((middle + 10 * math.sin(math.radians(10)), middle + 9.848), abs=1e-3)


# Learning


def torso_at(number: str, place: tuple | None) -> RenderedTorso:
    return RenderedTorso(np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8), number, place)


def test_targets_mark_the_middle_and_nothing_else():
    torso = torso_at("28", (90.0, 90.0, 54.0, 36.0, 0.1))
    _, matrix = framed(torso.image)
    targets = draw_targets(torso, matrix)
    here = np.argwhere(targets[..., 0] == 1)
    assert here.mean(axis=0) == pytest.approx([CELLS / 2 - 0.5] * 2)
    high = 36 * 128 / 180
    expected = [1, math.log(high / USUAL_PX), math.log(1.5), 0.1, 2, 8]
    assert targets[tuple(here[0])] == pytest.approx(expected, rel=1e-5)
    assert (targets[..., 0] == -1).sum() > 0
    assert (targets[:5, ..., 0] == 0).all()
    assert (draw_targets(torso_at("", None), matrix) == 0).all()
    assert draw_targets(torso_at("7", (90.0, 90.0, 20.0, 36.0, 0.0)), matrix)[14, 14, 5] == 10


def test_the_loss_is_what_it_says():
    targets = torch.zeros(1, 2, 2, 6)
    targets[0, 0, 0] = torch.tensor([1, 0.5, -0.25, 0.1, 3, 10])
    targets[0, 1, 1, 0] = -1
    _, parts = finder_loss(torch.zeros(1, 2, 2, 25), targets)
    focal = math.log(2) * 0.25  # of a logit of 0, whatever is right
    assert parts["here"].item() == pytest.approx(focal * (0.6 + 2 * 0.4), rel=1e-5)
    assert [parts[name].item() for name in ("height", "width", "tilt")] == pytest.approx([0.5, 0.25, 0.1])
    assert parts["first"].item() == pytest.approx(math.log(10), rel=1e-5)
    assert parts["second"].item() == pytest.approx(math.log(11), rel=1e-5)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(finder, "_BATCH", 4)
    monkeypatch.setattr(finder, "LOG_EVERY", 1)
    monkeypatch.setattr(finder, "_WARMUP", 5)
    monkeypatch.setattr(finder.os, "cpu_count", lambda: 1)  # no other process renders


def test_gradients_reach_every_weight(tmp_path):
    trainer = FinderTrainer(tmp_path)
    torso = next(t for seed in range(9) for t in render_torsos(np.random.default_rng(seed)) if t.number)
    picture, matrix = framed(torso.image)
    pictures = finder.to_pictures([picture] * 2)
    loss, _ = finder_loss(
        trainer.network(pictures), torch.from_numpy(np.stack([draw_targets(torso, matrix)] * 2))
    )
    loss.backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in trainer.network.parameters())


@pytest.mark.usefixtures("small")
def test_thirty_steps_lower_the_loss(tmp_path):
    trainer = FinderTrainer(tmp_path, steps=30)
    batch = finder._Batches(0, 0, 1)[0]
    losses = [trainer.train_step(*batch)["loss"] for _ in range(30)]
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.usefixtures("small")
def test_a_resumed_run_takes_the_same_next_step(tmp_path):
    whole = FinderTrainer(tmp_path / "whole", steps=4)
    whole.run()
    FinderTrainer(tmp_path / "part", steps=4).run(until=2)
    curves = tmp_path / "part" / "finder.jsonl"
    with open(curves, "a") as file:  # a step that was killed before it was saved
        file.write('{"step": 3, "loss": 99.0}\n')
    again = FinderTrainer(tmp_path / "part", steps=4)
    assert again.step == 2
    again.run()
    for name, value in whole.averaged().state_dict().items():
        torch.testing.assert_close(again.averaged().state_dict()[name], value, atol=1e-5, rtol=1e-4, msg=name)
    told = [json.loads(line) for line in curves.read_text().splitlines()]
    assert [line["step"] for line in told] == [1, 2, 3, 4]
    assert all(line["loss"] < 99 for line in told)


@pytest.mark.usefixtures("small")
def test_exported_weights_load_and_answer_alike(tmp_path):
    trainer = FinderTrainer(tmp_path, steps=1)
    trainer.run()
    trainer.export(tmp_path / "finder.safetensors")
    network = NumberNet().eval()
    network.load_state_dict({n: v.float() for n, v in load_file(tmp_path / "finder.safetensors").items()})
    picture = finder.to_pictures([framed(render_torsos(np.random.default_rng(0))[0].image)[0]])
    with torch.inference_mode():
        torch.testing.assert_close(network(picture), trainer.averaged()(picture), atol=2e-2, rtol=2e-2)


def test_the_weights_find_numbers_on_unseen_torsos():
    network = NumberNet()
    network.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
    figures = held_out(network.eval(), 150)
    assert figures["found"] > 0.6
    assert figures["false"] < 0.1
    assert figures["tilt_degrees"] < 5
