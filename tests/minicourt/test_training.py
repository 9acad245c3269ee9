"""Training in parts: losses by hand, matching against brute force, gradients, learning, resuming."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import box_convert, generalized_box_iou
from transformers import Sam3VideoModel, Sam3VideoProcessor

from minicourt import follower
from minicourt.clips import random_clip
from minicourt.detector import (
    DetectorOutput,
    Helpers,
    crowd_mean,
    crowding,
    detect,
    detector_loss,
    dice_loss,
    encode_pictures,
    enlarge,
    extent_loss,
    mask_losses,
    match_queries,
    normalise,
    place_code,
    read_prompts,
    whose_loss,
)  # fmt: skip
from minicourt.follower import draw_clicks, follow_clip, mistake, owner_loss, presence_loss, spoil
from minicourt.samples import _detector_batch, view
from minicourt.scene import Scene
from minicourt.tiny import GRID, IMAGE, MASK_GRID, TARGET_GRID, build, quieten, save, start_tracker_neck
from minicourt.train import STAGES, Trainer, export, learning_rate


@pytest.fixture(scope="module")
def model():
    return build(0)


@pytest.fixture(scope="module")
def batch():
    return _detector_batch(np.random.default_rng(1), 2, 3)


def test_dice_loss_by_hand():
    target = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    perfect = torch.tensor([[50.0, 50.0, -50.0, -50.0]])
    assert dice_loss(perfect, target).item() == pytest.approx(0.0)
    assert dice_loss(-perfect, target).item() == pytest.approx(1 - 1 / 5)
    assert dice_loss(torch.zeros(1, 4), target).item() == pytest.approx(1 - 3 / 5)


def test_a_stray_cell_ruins_the_extent_and_hardly_the_mask():
    target = torch.zeros(1, 40, 40)
    target[0, 10:30, 10:18] = 1
    perfect = 100 * target - 50
    stray = perfect.clone()
    stray[0, 39, 39] = 50
    assert extent_loss(perfect, target).item() == pytest.approx(0.0)
    # 20 rows and 8 columns of 21 and 9 that are reached.
    by_hand = 1 - (41 / 42 + 17 / 18) / 2
    assert extent_loss(stray, target).item() == pytest.approx(by_hand, abs=1e-4)
    assert extent_loss(stray, target) > 10 * dice_loss(stray, target)


def test_a_row_is_reached_from_a_quarter_of_a_cell_on():
    target = torch.zeros(1, 8, 8)
    target[0, 2:5, 3:6], target[0, 5, 3:6] = 1, 0.25
    reaching = torch.full((1, 8, 8), -50.0)
    reaching[0, 2:6, 3:6] = 50.0
    assert extent_loss(reaching, target).item() == pytest.approx(0.0)


def test_mask_cross_entropy_is_per_object_and_what_is_left_out_costs_twice():
    target = torch.zeros(1, 4, 4)
    target[0, 0, 0] = 1
    cross, *_ = mask_losses(torch.zeros(1, 4, 4), target)
    assert cross.item() == pytest.approx((15 + 2) * math.log(2) / (1 + 32))


def test_people_with_others_in_their_box_count_more():
    masks = torch.zeros(3, 8, 8)
    masks[0, :4, :4], masks[1, 2:6, 3:7], masks[2, 7, 7] = 1, 1, 1
    masks[1, 2:4, 3] = 0  # the first one's, in front
    crowd = crowding(masks)
    assert crowd.tolist() == pytest.approx([0, 2 / 14, 0])
    losses = torch.tensor([1.0, 8.0, 3.0])
    weights = [1, 1 + 4 / 14, 1]
    assert crowd_mean(losses, crowd).item() == pytest.approx((1 + 8 * weights[1] + 3) / sum(weights))


def test_who_is_absent_counts_half_as_much_again():
    scores, seen = torch.tensor([2.0, -1.0, 0.5]), torch.tensor([True, True, False])
    costs = [math.log1p(math.exp(-2)), math.log1p(math.exp(1)), 1.5 * math.log1p(math.exp(0.5))]
    assert presence_loss(scores, seen).item() == pytest.approx(sum(costs) / 3.5)


def test_each_pixel_belongs_to_one_of_those_followed():
    shares = torch.tensor([[[0.9, 0.1, 0.0]], [[0.1, 0.4, 0.0]]])  # nobody has half of the second
    logits = torch.tensor([[[2.0, 7.0, -3.0]], [[1.0, 9.0, 4.0]]])
    assert owner_loss(logits, shares).item() == pytest.approx(math.log1p(math.exp(1 - 2)))
    assert owner_loss(logits[:1], shares[:1]).item() == 0
    assert owner_loss(logits, shares * 0.5).item() == 0


def test_a_mistaken_memory_is_of_somebody_who_touches(monkeypatch):
    shapes = torch.zeros(3, 12, 12)
    shapes[0, :8, :6], shapes[1, 2:10, 2:9], shapes[2, 10:, 10:] = 1, 1, 1
    monkeypatch.setattr(follower, "_MISTAKEN", 1.0)
    taken = mistake(shapes, np.random.default_rng(0))
    assert torch.equal(taken, shapes[[1, 0, 2]])
    monkeypatch.setattr(follower, "_MISTAKEN", 0.0)
    assert torch.equal(mistake(shapes, np.random.default_rng(0)), shapes)


def test_enlarging_keeps_a_flat_map_flat():
    assert torch.equal(enlarge(torch.full((2, 8, 8), 3.0)), torch.full((2, TARGET_GRID, TARGET_GRID), 3.0))


def _output(boxes: torch.Tensor, logits: torch.Tensor) -> DetectorOutput:
    return DetectorOutput(boxes, logits, *[torch.zeros(0)] * 9)


def test_matching_finds_the_cheapest_assignment():
    rng = torch.Generator().manual_seed(3)
    boxes = torch.rand(1, 1, 5, 4, generator=rng) * 0.4 + 0.3
    logits = torch.randn(1, 1, 5, generator=rng)
    target = box_convert(torch.rand(3, 4, generator=rng) * 0.4 + 0.3, "cxcywh", "xyxy")
    match = match_queries(_output(boxes, logits), [target])
    overlap = generalized_box_iou(box_convert(boxes[0, 0], "cxcywh", "xyxy"), target)
    away = torch.cdist(boxes[0, 0], box_convert(target, "xyxy", "cxcywh"), p=1)
    cost = 5 * away - 2 * overlap - 2 * logits[0, 0].sigmoid()[:, None]
    best = min(
        sum(cost[q, p].item() for p, q in enumerate(choice)) for choice in itertools.permutations(range(5), 3)
    )
    assert cost[match.query, match.person].sum().item() == pytest.approx(best, abs=1e-5)


def test_one_to_many_gives_each_person_several_queries():
    boxes, logits = torch.rand(2, 1, 40, 4) * 0.4 + 0.3, torch.zeros(2, 1, 40)
    target = torch.tensor([[0.1, 0.1, 0.3, 0.5], [0.5, 0.2, 0.7, 0.6]])
    match = match_queries(_output(boxes, logits), [target], copies=3)
    for layer in range(2):
        here = match.layer == layer
        assert np.bincount(match.person[here]).tolist() == [3, 3]
        assert len(set(match.query[here])) == 6


def test_the_detector_gives_what_transformers_gives(model, batch):
    detector = model.detector_model.eval()
    drawn = torch.tensor([0, 4])
    with torch.no_grad():
        ours = detect(detector, batch.images, batch.tokens, batch.token_mask, drawn)
        for i, row in enumerate(drawn.tolist()):
            picture = batch.images[row // 3 : row // 3 + 1].permute(0, 3, 1, 2).float() / 127.5 - 1
            theirs = detector(
                pixel_values=picture,
                input_ids=batch.tokens[row : row + 1],
                attention_mask=batch.token_mask[row : row + 1],
            )
            torch.testing.assert_close(ours.masks[i], theirs.pred_masks[0], atol=2e-3, rtol=1e-3)
            torch.testing.assert_close(ours.logits[-1, row], theirs.pred_logits[0], atol=1e-3, rtol=1e-3)
            boxes = box_convert(ours.boxes[-1, row], "cxcywh", "xyxy")
            torch.testing.assert_close(boxes, theirs.pred_boxes[0], atol=1e-4, rtol=1e-3)


def test_gradients_reach_everything_that_should_learn(model, batch):
    helpers = Helpers()
    model.zero_grad()
    with torch.no_grad():  # layers that start at zero pass no gradient back until their first step
        for parameter in [*model.detector_model.parameters(), *helpers.parameters()]:
            if not parameter.any():
                parameter.normal_(std=0.02)
    output = detect(model.detector_model, batch.images, batch.tokens, batch.token_mask, torch.tensor([0, 3]))
    loss, log = detector_loss(output, batch, helpers)
    loss.backward()
    assert math.isfinite(log["loss"])
    still = {
        name
        for part in (model.detector_model, helpers)
        for name, p in part.named_parameters()
        if (p.grad is None or not p.grad.abs().sum() > 0) and "geometry_encoder" not in name
    }
    # The coarsest neck level, the last stage of the pixel decoder and the pooled text feed nothing.
    allowed = ("fpn_layers.3", "conv_layers.2", "norms.2", "text_encoder.text_projection")
    assert {name for name in still if not any(part in name for part in allowed)} == set()


def test_shapes_under_tokens_are_those_of_the_masks(batch, monkeypatch):
    helpers = Helpers()
    fine, count = TARGET_GRID // GRID, len(batch.masks)
    anyone = torch.stack([masks.sum(0).clamp(max=1) for masks in batch.masks])
    said = torch.zeros(count, GRID * GRID, 2, fine * fine)
    for token in range(GRID * GRID):
        top, left = fine * (token // GRID), fine * (token % GRID)
        under = anyone[:, top : top + fine, left : left + fine].flatten(1)
        said[:, token, 0] = 40 * (under - 0.5)
        for place, masks in enumerate(batch.masks):
            here = masks[:, top : top + fine, left : left + fine].flatten(1)
            if len(here) and here.mean(1).max() > 0.02:
                said[place, token, 1] = 40 * (here[here.mean(1).argmax()] - 0.5)
    given = iter([said.flatten(2), torch.zeros_like(said).flatten(2)])
    monkeypatch.setattr(helpers.shape, "forward", lambda tokens: next(given))
    picture = torch.zeros(count, 3, GRID, GRID)
    (right, log), (blank, blank_log) = (helpers.shape_loss(picture, batch) for _ in range(2))
    assert log["shape_iou"] > 0.99
    # Half-covered cells are answered at a logit of 0 either way; whole ones are certain.
    assert right < 0.5 * blank
    assert blank == pytest.approx(2 * math.log(2), rel=1e-4)
    assert blank_log["shape_iou"] == 0


def test_cells_that_know_whose_they_are_cost_little():
    boxes = torch.tensor([[0.1, 0.2, 0.2, 0.7], [0.18, 0.25, 0.3, 0.7], [0.7, 0.1, 0.8, 0.5]])
    masks = torch.zeros(3, TARGET_GRID, TARGET_GRID)
    for mask, box in zip(masks, boxes, strict=True):
        left, top, right, bottom = (box * TARGET_GRID).int().tolist()
        mask[top:bottom, left:right] = 1
    masks[0, :, int(0.18 * TARGET_GRID) :] = 0  # the second stands in front
    codes = place_code(box_convert(boxes, "xyxy", "cxcywh"))
    share, owner = F.avg_pool2d(masks[:, None], TARGET_GRID // MASK_GRID)[:, 0].max(0)
    true = torch.where((share > 0.5)[..., None], codes[owner], 0.0)
    loss, right = whose_loss(true, masks, boxes)
    apart = codes @ codes.T
    ways = F.cross_entropy(apart[owner[share > 0.5]], owner[share > 0.5])
    assert right == 1
    assert loss.item() == pytest.approx(ways.item(), abs=1e-5)  # nothing but what the codes leave open
    others, wrong = whose_loss(
        torch.where((share > 0.5)[..., None], codes[(owner + 1) % 3], 0.0), masks, boxes
    )
    assert wrong == 0
    assert others > loss + 0.5
    assert whose_loss(torch.ones(4, 4, 28), torch.zeros(0, 8, 8), torch.zeros(0, 4)) == (1.0, None)


def test_following_reaches_everything_that_should_learn(model):
    start_tracker_neck(model)
    model.zero_grad()
    rng = np.random.default_rng(4)
    clip = random_clip(np.random.default_rng(8), moments=4, limit=2)
    loss, log, found = follow_clip(model, clip, rng, taught=0.5, start="mask")
    loss.backward()
    assert len(found) == 4
    assert found[1].shape == (clip.masks.shape[1], MASK_GRID, MASK_GRID)
    assert math.isfinite(log["loss"])
    assert all(p.grad is None for p in model.detector_model.vision_encoder.backbone.parameters())
    parts = ("memory_attention", "memory_encoder", "mask_decoder", "object_pointer_proj", "mask_downsample")
    still = {
        name
        for name, p in model.tracker_model.named_parameters()
        if name.startswith(parts) and (p.grad is None or not p.grad.abs().sum() > 0)
    }
    # Softmax ignores a bias of the keys.
    assert {name for name in still if not name.endswith("k_proj.bias")} == set()


def test_quietened_encoders_say_the_same_less_loudly():
    model = build(1).detector_model.eval()
    helpers = Helpers()
    with torch.no_grad():
        for layer in model.vision_encoder.backbone.layers:
            layer.mlp.fc2.weight.mul_(30)
            layer.mlp.fc2.bias.normal_()
        for layer in model.detr_encoder.layers:
            layer.cross_attn.o_proj.weight.mul_(30)
        helpers.dense[-1].weight.normal_()
        batch = _detector_batch(np.random.default_rng(4), 2, 1)

        def said():
            tokens, features, position = encode_pictures(model, batch.images)
            encoded = read_prompts(model, features, position, batch.tokens, batch.token_mask, 1)[2]
            return tokens, features, encoded.last_hidden_state

        before = said()
        quieten(model, normalise(batch.images))
        after = said()
        assert float(before[0].std()) > 10
        assert float(after[0].std()) == pytest.approx(2, rel=1e-3)
        assert float(after[1].std()) == pytest.approx(3, rel=1e-3)
        for loud, quiet in zip(before, after, strict=True):
            torch.testing.assert_close(quiet, loud * (quiet.std() / loud.std()), atol=1e-2, rtol=1e-3)
        torch.testing.assert_close(helpers.dense(after[2]), helpers.dense(before[2]), atol=1e-2, rtol=1e-3)


def test_each_stage_trains_its_own_part_of_the_model(tmp_path):
    """What a stage trains, it must also be able to move: the tracker is no part of the detector."""
    trainers = {"see": Trainer(STAGES["see"], tmp_path)}
    for before, name in (("see", "detect"), ("detect", "follow")):
        trainers[before].save()
        trainers[name] = Trainer(STAGES[name], tmp_path)
    own = {name: {id(p) for p in trainer.trained.values()} for name, trainer in trainers.items()}
    for name, trainer in trainers.items():
        tracker = {id(p) for p in trainer.model.tracker_model.parameters()}
        assert bool(own[name] & tracker) == (name == "follow")
        vision = {id(p) for p in trainer.model.detector_model.vision_encoder.parameters()}
        assert bool(own[name] & vision) == (name != "follow")


@pytest.mark.parametrize("how", ["points", "box"])
def test_clicks_teach_what_embeds_them(model, how):
    start_tracker_neck(model)
    model.zero_grad()
    clip = random_clip(np.random.default_rng(8), moments=2, limit=2)
    loss, log, _ = follow_clip(model, clip, np.random.default_rng(1), taught=1.0, start=how)
    loss.backward()
    tracker = model.tracker_model
    points = tracker.prompt_encoder.point_embed.weight.grad.abs().sum(1) > 0
    assert points[2:].all() if how == "box" else points[1]
    assert tracker.no_memory_embedding.grad.abs().sum() > 0
    assert 0 <= log[f"{how}_iou"] <= 1


@pytest.mark.parametrize(("kind", "labels"), [("points", {0, 1}), ("box", {2, 3})])
def test_clicks_are_on_their_people(kind, labels):
    share = torch.zeros(2, TARGET_GRID, TARGET_GRID)
    share[0, 20:60, 30:44] = 1
    share[1, 100:104, 80:82] = 1
    rng = np.random.default_rng(3)
    for _ in range(50):
        points, marks = draw_clicks(share, rng, kind)
        assert points.shape == (2, 1, marks.shape[-1], 2)
        assert set(marks.flatten().tolist()) <= labels
        if kind == "points":
            x, y = (points[:, 0, 0] * TARGET_GRID / IMAGE).long().T
            assert share[torch.arange(2), y, x].eq(1).all()
            for n, point in zip(*torch.nonzero(marks[:, 0] == 0, as_tuple=True), strict=True):
                x, y = (points[n, 0, point] * TARGET_GRID / IMAGE).long()
                assert share[n, y, x] == 0
        else:
            corners = points[0, 0] * TARGET_GRID / IMAGE
            torch.testing.assert_close(corners, torch.tensor([[30.0, 20.0], [44.0, 60.0]]), atol=8, rtol=0)


def test_training_and_video_loop_encode_the_same_memory(model):
    """The batched step gives each object what it gets alone."""
    from minicourt.follower import begin, look, propagate, remember

    clip = random_clip(np.random.default_rng(9), moments=2, limit=3)
    tracker = model.tracker_model
    with torch.no_grad():
        features = look(model, clip.images)
        masks = torch.nn.functional.avg_pool2d(clip.masks[0], TARGET_GRID // MASK_GRID) > 0.5
        present = torch.ones(len(masks), dtype=torch.bool)
        kept, pointer, *_ = begin(tracker, features[0], masks)
        memory = remember(tracker, features[0], kept, present)
        together = propagate(tracker, features[1], [(0, memory)], [(1, pointer)])
        for n in range(len(masks)):
            kept, pointer, *_ = begin(tracker, features[0], masks[n : n + 1])
            memory = remember(tracker, features[0], kept, present[:1])
            alone = propagate(tracker, features[1], [(0, memory)], [(1, pointer)])
            torch.testing.assert_close(together[0][n], alone[0][0], atol=2e-2, rtol=1e-2)


def test_spoiled_masks_are_never_empty():
    share = torch.zeros(2, MASK_GRID, MASK_GRID)
    share[0, 10:40, 20:26] = 1
    share[1, 5, 5] = 0.3
    rng = np.random.default_rng(0)
    for _ in range(50):
        assert spoil(share, rng).flatten(1).any(1).all()


def test_a_mirrored_view_mirrors_its_labels():
    rendered = Scene("game", 1).render(640, 360)
    plain, mirrored = view(rendered), view(rendered, flip=True)
    assert plain.ids == mirrored.ids
    np.testing.assert_allclose(mirrored.boxes[:, [0, 2]], 1 - plain.boxes[:, [2, 0]], atol=1e-6)
    np.testing.assert_allclose(mirrored.masks, plain.masks[:, :, ::-1], atol=0.02)


def test_rate_rises_then_falls():
    stage = STAGES["detect"]
    rates = [learning_rate(stage, step) for step in range(stage.steps)]
    assert np.argmax(rates) in (stage.warmup - 1, stage.warmup)
    assert rates[-1] == pytest.approx(stage.rate * stage.floor, rel=0.01)


SHORT = replace(STAGES["see"], steps=30, pictures=2, prompts=2, warmup=5)


@pytest.fixture
def one_scene(monkeypatch):
    """Thirty steps on the same two pictures: a loss that cannot fall there is broken."""
    batch = _detector_batch(np.random.default_rng(5), 2, 2)
    monkeypatch.setattr(Trainer, "batches", lambda trainer: itertools.repeat(batch))


@pytest.mark.usefixtures("one_scene")
def test_thirty_steps_lower_the_loss(tmp_path):
    Trainer(SHORT, tmp_path).run()
    lines = [json.loads(line) for line in (tmp_path / "see.jsonl").read_text().splitlines()]
    trainer = Trainer(SHORT, tmp_path / "fresh")
    batch = next(iter(trainer.batches()))
    before = trainer.loss(batch)[0].item()
    after = Trainer(SHORT, tmp_path).loss(batch)[0].item()
    assert lines[0]["step"] == 25
    assert after < 0.8 * before


@pytest.mark.usefixtures("one_scene")
def test_hidden_matrices_step_further_by_the_stride(tmp_path):
    moved = {}
    for stride in (1.0, 4.0):
        trainer = Trainer(replace(SHORT, stride=stride), tmp_path / str(stride))
        before = {name: p.detach().clone() for name, p in trainer.trained.items()}
        trainer.train_step(next(iter(trainer.batches())))
        moved[stride] = {
            name: float((p.detach() - before[name]).norm()) for name, p in trainer.trained.items()
        }
    matrix, bias = "vision_encoder.backbone.layers.0.mlp.fc1.weight", "helpers.color.1.bias"
    assert moved[4.0][matrix] == pytest.approx(4 * moved[1.0][matrix], rel=0.05)
    assert moved[4.0][bias] == pytest.approx(moved[1.0][bias], rel=0.05)


def test_a_resumed_run_takes_the_same_next_step(tmp_path, monkeypatch):
    monkeypatch.setattr("minicourt.train.LOG_EVERY", 1)
    whole = Trainer(SHORT, tmp_path / "whole")
    whole.run(until=4)
    part = Trainer(SHORT, tmp_path / "part")
    part.run(until=2)
    curves = tmp_path / "part" / "see.jsonl"
    with open(curves, "a") as file:  # a step that was killed before it was saved
        file.write('{"step": 3, "loss": 99.0}\n')
    again = Trainer(SHORT, tmp_path / "part")
    assert again.step == 2
    again.run(until=4)
    for name, parameter in whole.trained.items():
        torch.testing.assert_close(again.trained[name], parameter, atol=1e-6, rtol=1e-5, msg=name)
    told = [json.loads(line) for line in curves.read_text().splitlines()]
    assert [line["step"] for line in told] == [1, 2, 3, 4]
    assert all(line["loss"] < 99 for line in told)


def test_a_saved_model_loads_without_our_code(tmp_path, model):
    save(model, tmp_path)
    loaded = Sam3VideoModel.from_pretrained(tmp_path, dtype=torch.float32)
    processor = Sam3VideoProcessor.from_pretrained(tmp_path)
    ours = model.state_dict()
    for name, value in loaded.state_dict().items():
        torch.testing.assert_close(value, ours[name].float(), atol=1e-3, rtol=1e-3)
    assert len(processor.tokenizer("player").input_ids) == 3
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert size < 20_000_000


def test_the_card_tells_the_recipe_and_shows_the_curves(tmp_path, model):
    training, out = tmp_path / "training", tmp_path / "model"
    training.mkdir()
    weights = {"model": model.state_dict(), "helpers": {}, "step": 9}
    torch.save(weights, training / "see-weights.pt")
    about = {"name": "see", "steps": 50, "pictures": 4, "rate": 8e-4, "stride": 8.0}
    about |= {"seed": 3, "device": "cpu"}
    (training / "see.json").write_text(json.dumps(about | {"processes": 2, "torch": "9.9"}))
    rows = [{"step": step, "s": 144.0, "dense": 30 / step, "color": 2.0} for step in (25, 50)]
    (training / "see.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    export(training, out, "| all | is well |")
    card = (out / "README.md").read_text()
    assert "| see | 50 | 4 | 0.0008 | 8.0 | 2.0 h on 2 CPU process(es) |" in card
    assert "seed 3, with torch 9.9" in card
    assert "| all | is well |" in card
    drawn = cv2.imread(str(out / "curves.png"))
    assert drawn.shape[0] > 200
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 20
    assert Sam3VideoModel.from_pretrained(out).config.low_res_mask_size == model.config.low_res_mask_size
