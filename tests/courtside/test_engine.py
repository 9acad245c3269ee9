"""The engine against transformers' own loop: the same answers, bounded memory, and where that loop errs."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers.models.sam3_video import modeling_sam3_video as modeling

from courtside.errors import DeviceError, RunError
from courtside.masks import mask_to_box
from courtside.sam3 import engine as engine_module
from courtside.sam3.association import Rules, Track, associate, suppress
from courtside.sam3.checkpoint import read_state, write_state
from courtside.sam3.engine import Engine, FrameMasks, State, full_size
from courtside.sam3.memory import Limits, Memory, MemoryBank
from courtside.sam3.network import Propagated, Proposals
from courtside.sam3.speed import Speed
from courtside.sam3.tracker import encode_texts

HEIGHT, WIDTH = 90, 160
SETTINGS = {
    "score_threshold_detection": 0.3,
    "new_det_thresh": 0.35,
    "det_nms_thresh": 0.5,
    "assoc_iou_thresh": 0.05,
    "trk_assoc_iou_thresh": 0.3,
    "hotstart_delay": 6,
    "hotstart_unmatch_thresh": 4,
    "hotstart_dup_thresh": 3,
    "fill_hole_area": 4,
    "recondition_every_nth_frame": 2,
    "high_conf_thresh": 0.3,
    "high_iou_thresh": 0.05,
    "suppress_overlapping_based_on_recent_occlusion_threshold": 0.2,
    "suppress_unmatched_only_within_hotstart": False,
    "init_trk_keep_alive": 1,
    "max_trk_keep_alive": 2,
}


def moving_discs(count: int, seed: int, side: int = 32) -> list[torch.Tensor]:
    """Coloured discs that wander, come and go: float64 (3, side, side) each."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    phase, speed = rng.uniform(0, 6.28, (5, 2)), rng.uniform(0.05, 0.25, (5, 2))
    color, radius = rng.uniform(-2, 2, (5, 3)), rng.uniform(side * 0.08, side * 0.2, 5)
    start = rng.integers(0, 200, 5)
    frames = []
    for time in range(count):
        image = np.zeros((3, side, side), np.float32)
        for disc in range(5):
            if (time + start[disc]) % 60 <= 45:
                at = side / 2 * (1 + 0.8 * np.sin(phase[disc] + speed[disc] * time))
                image[:, (x - at[0]) ** 2 + (y - at[1]) ** 2 < radius[disc] ** 2] = color[disc][:, None]
        frames.append(torch.from_numpy(image).double())
    return frames


def prompts(count: int = 2) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Made-up texts as token ids and masks."""
    made = []
    for number in range(count):
        generator = torch.Generator().manual_seed(number + 1)
        ids = torch.randint(0, 500, (1, 32), generator=generator)
        ids[0, 0], ids[0, 8:] = 512, 513
        made.append((ids, (torch.arange(32) < 9).long()[None]))
    return made


@dataclass
class Followed:
    """What a loop showed, by frame: object ids from 0, scores, tracker scores, masks, boxes."""

    frames: dict[int, tuple[list[int], list[float], list[float], np.ndarray, np.ndarray]]

    def ids(self) -> list[list[int]]:
        return [shown[0] for shown in self.frames.values()]


def by_engine(engine: Engine, frames: list[torch.Tensor], order: range | None = None) -> Followed:
    order = order or range(len(frames))[:: -1 if engine.state.reverse else 1]
    found = {}
    for shown in engine.run((number, frames[number]) for number in order):
        kept, masks, boxes = full_size(shown, HEIGHT, WIDTH, engine.rules.whole_overlaps)
        found[shown.frame] = (
            [shown.object_ids[index] - 1 for index in kept],
            [shown.scores[index] for index in kept],
            [shown.tracker_scores[index] for index in kept],
            masks,
            np.array([box.to_xyxy() for box in boxes]),
        )
    return Followed(found)


def as_followed(all_shown) -> Followed:
    """What transformers' loop gave, frame by frame."""
    return Followed(
        {
            shown.frame: (shown.object_ids, shown.scores, shown.tracker_scores, shown.masks, shown.boxes)
            for shown in all_shown
        }
    )


def by_stock(
    stock_loop, model, frames: list[torch.Tensor], reverse: bool = False, texts=None
) -> tuple[Followed, object]:
    session = stock_loop.session_of(model, dict(enumerate(frames)), texts or prompts(), HEIGHT, WIDTH)
    return as_followed(stock_loop.follow(model, session, reverse=reverse)), session


def assert_same(ours: Followed, stock: Followed) -> int:
    """Both showed the same; returns how many masks were compared."""
    assert list(ours.frames) == list(stock.frames)
    assert ours.ids() == stock.ids()
    compared = 0
    for own, wanted in zip(ours.frames.values(), stock.frames.values(), strict=True):
        assert own[1] == pytest.approx(wanted[1], abs=1e-3)
        assert own[2] == pytest.approx(wanted[2], abs=1e-3)
        for mask, other in zip(own[3], wanted[3], strict=True):
            assert np.mean(mask != other) < 0.001
            compared += 1
        for box, other in zip(own[4], wanted[4], strict=True):
            assert box == pytest.approx(other, abs=1)
    return compared


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """Counts what the rules decide while the engine runs."""
    counted: Counter = Counter()
    judge, suppress, keep_apart = engine_module.judge, engine_module.suppress, engine_module.keep_apart

    def count_judge(tracks, match, number, reverse, rules):
        counted["birth"] += len(match.new)
        counted["unmatched"] += len(match.unmatched)
        counted["occluded"] += len(match.empty)
        counted["double"] += sum(len(found) > 1 for found in match.tracks_of)
        counted["confirmed"] += len(match.confirmed)
        removed, hidden = judge(tracks, match, number, reverse, rules)
        for track in tracks:
            if track.object_id in removed:
                doubled = any(count >= rules.hotstart_dup_thresh for count in track.doubles.values())
                counted["removed double" if doubled else "removed unmatched"] += 1
        counted["removal and birth"] += bool(removed) and bool(match.new)
        counted["hidden"] += len(hidden)
        return removed, hidden

    def changed(name, rule):
        def count(masks, *rest):
            settled = rule(masks, *rest)
            counted[name] += int((settled != masks).flatten(1).any(1).sum())
            return settled

        return count

    monkeypatch.setattr(engine_module, "judge", count_judge)
    monkeypatch.setattr(engine_module, "suppress", changed("suppressed", suppress))
    monkeypatch.setattr(engine_module, "keep_apart", changed("kept apart", keep_apart))
    return counted


@pytest.fixture(scope="module")
def model(lively_sam3):
    return lively_sam3(168, gain=6.0, bias=-2.0, **SETTINGS)


DECISIONS = {
    "birth",
    "unmatched",
    "occluded",
    "double",
    "confirmed",
    "removed double",
    "removed unmatched",
    "removal and birth",
    "suppressed",
    "kept apart",
    "hidden",
}


@pytest.fixture(scope="module")
def stock(model, stock_loop):
    """200 frames forward by transformers' loop: what it showed, its session, and masks it decoded."""
    decoded: list[int] = []
    hook = model.tracker_model.mask_decoder.register_forward_hook(
        lambda *all_: decoded.append(len(all_[2][0]))
    )
    followed, session = by_stock(stock_loop, model, moving_discs(200, 168))
    hook.remove()
    return followed, session, sum(decoded)


@pytest.mark.parametrize(("case", "count", "reverse"), [("forward", 200, False), ("backward", 45, True)])
def test_the_engine_equals_the_stock_loop(case, count, reverse, model, stock_loop, events, request):
    frames = moving_discs(count, 168)
    engine = Engine(model, prompts(), count, rules=Rules.of(model, stock=True), reverse=reverse)
    engine_decoded: list[int] = []
    hook = model.tracker_model.mask_decoder.register_forward_hook(
        lambda *all_: engine_decoded.append(len(all_[2][0]))
    )
    ours = by_engine(engine, frames)
    hook.remove()
    missing = {name for name in DECISIONS if not events[name]}
    assert not missing, f"the scenario no longer makes {missing}: {dict(events)}"
    if reverse:
        stock, session = by_stock(stock_loop, model, frames, reverse)
    else:
        stock, session, decoded = request.getfixturevalue("stock")
        # It computes all objects again in each frame in which one is born.
        assert sum(engine_decoded) < decoded
    assert assert_same(ours, stock) >= count
    assert session.max_obj_id + 2 == engine.state.next_id
    # Two prompts, and objects that read more conditioning frames than the four whose memory is read.
    assert {track.prompt for track in engine.state.tracks} == {0, 1}
    assert max(len(kept["cond_frame_outputs"]) for kept in session.output_dict_per_obj.values()) > 4


def test_the_way_back_after_the_way_forward_equals_the_stock_loop(model, stock_loop):
    """From the middle to the end and then, with all objects known, from before the middle to the start."""
    frames, middle = moving_discs(48, 168), 20
    session = stock_loop.session_of(model, dict(enumerate(frames)), prompts(), HEIGHT, WIDTH)
    rules = Rules.of(model, stock=True)
    forward = Engine(model, prompts(), 48, rules=rules, turn=middle)
    backward = Engine(model, prompts(), 48, rules=rules, reverse=True)
    for engine, order in ((forward, range(middle, 48)), (backward, range(middle - 1, -1, -1))):
        reverse = engine is backward
        if reverse:
            engine.state = State(True, forward.state.next_id, tracks=forward.state.tracks)
        stock = as_followed(stock_loop.follow(model, session, start=middle, reverse=reverse))
        assert assert_same(by_engine(engine, frames, order), stock) >= 20
    assert len({number for ids in stock.ids() for number in ids}) > 2


@pytest.mark.parametrize("reverse", [False, True])
def test_trained_weights_equal_the_stock_loop(reverse, stock_loop, tiny_sam3):
    """The tiny SAM 3 in float32, on rendered players who cross, with two prompts."""
    from transformers import Sam3VideoModel, Sam3VideoProcessor

    from minicourt.scene import Scene

    model = Sam3VideoModel.from_pretrained(tiny_sam3, dtype=torch.float32).eval()
    # What the stock loop does with this off is a mistake of its own.
    model.recondition_on_trk_masks = True
    processor = Sam3VideoProcessor.from_pretrained(tiny_sam3)
    scene, images = Scene("crowd", 961), []
    for _ in range(24):
        images.append(scene.render(640, 360).image)
        scene.step()
    frames = list(processor.video_processor(images, return_tensors="pt").pixel_values_videos[0])
    said = ["basketball player", "referee"]
    texts = encode_texts(processor.tokenizer, said, model.config.detector_config.text_config)
    stock, _ = by_stock(stock_loop, model, frames, reverse, texts)
    engine = Engine(model, texts, len(frames), rules=Rules.of(model, stock=True), reverse=reverse)
    assert assert_same(by_engine(engine, frames), stock) >= 3 * len(frames)


# Where transformers' loop is wrong


def test_stock_shows_the_mask_of_another_where_hotstart_removes_one(model, stock):
    """It pairs ids from after the removal with masks from before it: each later one shows its neighbour's."""
    as_stock = Rules.of(model, stock=True)
    rules = dataclasses.replace(as_stock, shifted_after_removal=False)
    engine, removals = Engine(model, prompts(), 200, rules=rules), []
    judge = engine_module.judge

    def note(tracks, match, number, *rest):
        decided = judge(tracks, match, number, *rest)
        removals.extend([number] * bool(decided[0]))
        return decided

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_module, "judge", note)
        ours = by_engine(engine, moving_discs(48, 168))
    differing = [
        number
        for number, (ids, _, _, masks, _) in list(ours.frames.items())[: 48 - rules.hotstart_delay]
        if ids != stock[0].frames[number][0] or not np.array_equal(masks, stock[0].frames[number][3])
    ]
    assert differing
    assert set(differing) <= set(removals)


def test_stock_reads_pointers_without_bound(model, stock):
    _, session, _ = stock
    tracker = model.tracker_model
    most = tracker.config.max_cond_frame_num + tracker.config.max_object_pointers_in_encoder - 1
    read = [
        len(tracker._get_object_pointers(session, index, 200, 200, model.device)[0])
        for index in range(len(session.obj_ids))
    ]
    assert max(read) > most
    engine = Engine(model, prompts(), 200)
    by_engine(engine, moving_discs(30, 168))
    recalls = [track.memory.recall(30, False, engine.limits) for track in engine.state.tracks]
    assert recalls
    assert all(len(recall.pointers) <= most for recall in recalls)


def test_stock_can_not_decode_two_objects_together(model):
    network = Engine(model, prompts(1), 9).network
    tracker = model.tracker_model
    torch.manual_seed(0)
    with torch.inference_mode():
        features = network.features(moving_discs(1, 0)[0])
        inside = torch.rand(3, 16, 16) > torch.tensor([0.2, 0.5, 0.8])[:, None, None]
        masks, pointers = network.begin(features, inside)
        for index in range(3):
            one, pointer = network.begin(features, inside[index : index + 1])
            torch.testing.assert_close(masks[index], one[0])
            torch.testing.assert_close(pointers[index], pointer[0])
        together = tracker._single_frame_forward(
            image_embeddings=[each.expand(2, -1, -1, -1) for each in (*features.fine, features.top)]
        )
    # One mask for each pair of objects instead of one for each object.
    assert together.pred_masks.shape[:2] == (2, 2)


def test_stock_keeps_duplicates_without_its_kernel(model, stock_loop, monkeypatch):
    frames = moving_discs(3, 168)
    monkeypatch.setattr(modeling, "cv_utils_kernel", False)
    monkeypatch.setattr(model, "det_nms_thresh", 0.05)
    session = stock_loop.session_of(model, dict(enumerate(frames)), prompts(), HEIGHT, WIDTH)
    for _ in model.propagate_in_video_iterator(session):
        pass
    engine = Engine(model, prompts(), 3)
    by_engine(engine, frames)
    assert session.max_obj_id + 1 > engine.state.next_id - 1 > 0


# Rules


def _tracks(*last_occluded: int) -> list[Track]:
    return [
        Track(number, 0, 0.9, 0, 0, last_occluded=last) for number, last in enumerate(last_occluded, start=1)
    ]


def _alike(count: int) -> torch.Tensor:
    """Masks, the same for all."""
    masks = torch.full((count, 8, 8), -5.0)
    masks[:, 2:6, 2:6] = 5.0
    return masks


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("last_occluded", "scores", "stock", "stay"),
    [
        # Who was occluded longer ago stays, however sure the tracker is of the one who comes back.
        ((12, 19), (0.5, 3.0), False, {1}),
        # Of two who come back the surer one.
        ((19, 19), (0.5, 3.0), False, {2}),
        ((19, 19, 19), (0.5, 3.0, 4.0), False, {3}),
        ((19, 19), (3.0, 3.0), False, {1, 2}),
        ((19, 19), (0.5, 3.0), True, {1, 2}),
        # Who never was occluded does not give way.
        ((-1, -1), (0.5, 3.0), False, {1, 2}),
    ],
)
def test_of_two_in_one_place_one_gives_way(last_occluded, scores, stock, stay, reverse, model):
    rules, now = Rules.of(model, stock), 20
    if reverse:
        last_occluded = [40 - last if last > 0 else last for last in last_occluded]
    tracks = _tracks(*last_occluded)
    masks = _alike(len(tracks))
    settled = suppress(masks, tracks, set(), set(), torch.tensor(scores), now, reverse, rules)
    there = {track.object_id for track, mask in zip(tracks, settled, strict=True) if (mask > 0).any()}
    assert there == stay
    assert {track.object_id for track in tracks if track.last_occluded == now} == {
        track.object_id for track in tracks
    } - stay


@pytest.mark.parametrize(("stock", "noted"), [(False, [20, -1]), (True, [-1, -1])])
def test_who_is_not_shown_counts_as_occluded(stock, noted, model):
    tracks = _tracks(-1, -1)
    masks = _alike(2)
    masks[1] = masks[1].roll(4, 0)
    settled = suppress(masks, tracks, set(), {1}, torch.tensor([1.0, 2.0]), 20, False, Rules.of(model, stock))
    assert torch.equal(settled, masks)
    assert [track.last_occluded for track in tracks] == noted


@pytest.mark.parametrize(
    ("said", "stock", "selection"),
    [
        ({}, False, None),
        ({"use_memory_selection": False, "mf_threshold": 0.2}, False, None),
        ({"use_memory_selection": True, "mf_threshold": 0.2}, False, 0.2),
        ({"use_memory_selection": True, "mf_threshold": 0.2}, True, None),
    ],
)
def test_a_model_says_which_frames_it_remembers(said, stock, selection, model, monkeypatch):
    for name, value in said.items():
        monkeypatch.setattr(model.tracker_model.config, name, value, raising=False)
    rules = Rules.of(model, stock)
    assert rules.memory_selection == selection
    assert Engine(model, prompts(1), 9, rules=rules).limits.least_quality == selection


@pytest.mark.parametrize(
    ("said", "stock", "name", "value"),
    [
        ({}, False, "whole_overlaps", True),
        ({"non_overlap_masks_for_output": False}, False, "whole_overlaps", True),
        ({"non_overlap_masks_for_output": True}, False, "whole_overlaps", False),
        ({"non_overlap_masks_for_output": True}, True, "whole_overlaps", True),
        ({}, False, "many_to_one", True),
        ({"o2o_matching_masklets_enable": False}, False, "many_to_one", True),
        ({"o2o_matching_masklets_enable": True}, False, "many_to_one", False),
        ({"o2o_matching_masklets_enable": True}, True, "many_to_one", True),
        ({}, False, "pred_iou_thresh", 0.0),
        ({"pred_iou_thresh": 0.3}, False, "pred_iou_thresh", 0.3),
        ({"pred_iou_thresh": 0.3}, True, "pred_iou_thresh", 0.0),
    ],
)
def test_a_model_says_what_transformers_does_not_know(said, stock, name, value, model, monkeypatch):
    for key, wanted in said.items():
        monkeypatch.setattr(model.tracker_model.config, key, wanted, raising=False)
    assert getattr(Rules.of(model, stock), name) == value


@pytest.mark.parametrize(
    ("ious", "shared", "apart"),
    [
        # Two who touch, each with a mask that lies a little on the other: no doubles.
        ([[0.9, 0.3], [0.2, 0.8]], ([[0, 1], [0, 1]], {0: 0, 1: 1}), ([[0], [1]], {0: 0, 1: 1})),
        # Two masks on one person, whom one detection fits: doubles.
        ([[0.9, 0.7]], ([[0, 1]], {0: 0}), ([[0, 1]], {0: 0})),
        # Two people under one mask: it is corrected by the one whom it shows, not by whoever comes last.
        ([[0.8], [0.6]], ([[0], [0]], {0: 1}), ([[0], []], {0: 0})),
        # A mask that lies rather on the other person, who has one: who is left over corrects it if it fits.
        ([[0.9, 0.8], [0.0, 0.5]], ([[0, 1], [1]], {0: 0, 1: 1}), ([[0], [1]], {0: 0, 1: 1})),
        # All together fit best so, although the first detection by itself fits the first track better.
        ([[0.9, 0.8], [0.8, 0.1]], ([[0, 1], [0, 1]], {0: 1}), ([[1], [0]], {0: 1, 1: 0})),
    ],
)
@pytest.mark.parametrize("many_to_one", [True, False])
def test_detections_are_shared_or_matched_one_to_one(ious, shared, apart, many_to_one, model):
    settings = {"many_to_one": many_to_one, "high_conf_thresh": 0.4, "high_iou_thresh": 0.4}
    rules = dataclasses.replace(Rules.of(model), assoc_iou_thresh=0.1, **settings)
    ious = np.array(ious)
    detections, tracks = ious.shape
    match = associate(ious, np.ones(ious.shape, bool), np.ones(detections), np.ones(tracks, bool), rules)
    assert (match.tracks_of, match.confirmed) == (shared if many_to_one else apart)
    assert match.new == []


def test_prompts_share_no_detection_one_to_one(model):
    """A track of another prompt neither is matched nor takes anybody's place."""
    rules = dataclasses.replace(Rules.of(model), many_to_one=False)
    same = np.array([[False, True], [True, False]])
    match = associate(np.full((2, 2), 0.9), same, np.ones(2), np.ones(2, bool), rules)
    assert match.tracks_of == [[1], [0]]
    alone = associate(np.full((1, 1), 0.9), np.zeros((1, 1), bool), np.ones(1), np.ones(1, bool), rules)
    assert (alone.tracks_of, alone.confirmed, alone.new) == ([[]], {}, [0])


def test_a_mask_that_the_tracker_thinks_little_of_is_not_shown(model, monkeypatch):
    """It is followed all the same: everything else stays as it was."""
    predicted: dict[tuple[int, int], float] = {}
    doubtful = Engine._doubtful

    def noted(self, number, ious, confirmed):
        for index, track in enumerate(self.state.tracks):
            predicted[number, track.object_id] = 1.0 if index in confirmed else float(ious[index])
        return doubtful(self, number, ious, confirmed)

    monkeypatch.setattr(Engine, "_doubtful", noted)
    frames = moving_discs(24, 168)

    def shown(least: float) -> dict[tuple[int, int], torch.Tensor]:
        rules = dataclasses.replace(Rules.of(model), pred_iou_thresh=least)
        engine = Engine(model, prompts(1), len(frames), rules=rules)
        return {
            (frame.frame, number): mask
            for frame in engine.run(enumerate(frames))
            for number, mask in zip(frame.object_ids, frame.masks, strict=True)
        }

    whole = shown(0.0)
    least = float(np.median([predicted[key] for key in whole if key in predicted]))
    some = shown(least)
    assert set(some) == {key for key in whole if predicted.get(key, 1.0) >= least}
    assert 0 < len(some) < len(whole)
    assert all(torch.equal(mask, whole[key]) for key, mask in some.items())


# Memory


@pytest.mark.parametrize("settings", [{}, {"every_pointer": True}, {"least_quality": 0.5}])
@pytest.mark.parametrize("reverse", [False, True])
def test_pruning_drops_only_what_no_later_frame_reads(reverse, settings):
    rng = np.random.default_rng(3)
    limits = Limits(conditioning=4, frames=7, pointers=16, **settings)
    for _ in range(20):
        pruned, whole = MemoryBank(), MemoryBank()
        order = range(80)[:: -1 if reverse else 1]
        corrected = set(rng.choice(80, 3, replace=False).tolist())
        for bank in (pruned, whole):
            bank.conditioning.update({at: _memory(at) for at in sorted(corrected)})
            bank.conditioning[order[0]] = _memory(order[0])
        often = rng.uniform(0, 0.9)
        for frame in order:
            read, wanted = (bank.recall(frame, reverse, limits) for bank in (pruned, whole))
            for own, other in ((read.features, wanted.features), (read.pointers, wanted.pointers)):
                assert sorted((ago, float(t[0])) for ago, t in own) == sorted(
                    (ago, float(t[0])) for ago, t in other
                )
            conditioning, quality = rng.random() < often, rng.random()
            for bank in (pruned, whole):
                if frame not in bank.conditioning:
                    memories = bank.conditioning if conditioning else bank.tracked
                    memories[frame] = _memory(frame, quality)
            pruned.prune(frame, reverse, limits)
        held = [memory for memory in pruned.conditioning.values() if memory.features is not None]
        assert len(held) <= 4 + 6
        # Selected frames may lie anywhere, beside the latest.
        assert len(pruned.tracked) <= (15 if limits.least_quality is None else 30)


def _memory(at: int, quality: float = 0.0) -> Memory:
    return Memory(torch.full((2,), float(at)), torch.full((3,), float(at)), quality)


@pytest.mark.parametrize("least_quality", [None, 0.5])
def test_pruning_keeps_what_the_way_back_reads(least_quality):
    limits = Limits(conditioning=3, frames=5, pointers=8, turn=30, least_quality=least_quality)
    pruned, whole = MemoryBank(), MemoryBank()
    rng = np.random.default_rng(0)
    for frame in range(30, 80):
        quality = rng.random()
        for bank in (pruned, whole):
            (bank.conditioning if frame % 3 == 0 else bank.tracked)[frame] = _memory(frame, quality)
        pruned.prune(frame, False, limits)
    assert len(pruned.tracked) + len(pruned.conditioning) < 30
    for frame in range(29, 10, -1):
        read, wanted = (bank.recall(frame, True, limits) for bank in (pruned, whole))
        for own, other in ((read.features, wanted.features), (read.pointers, wanted.pointers)):
            assert [(ago, float(t[0])) for ago, t in own] == [(ago, float(t[0])) for ago, t in other]


@pytest.mark.parametrize(
    ("qualities", "features", "pointers"),
    [
        # The latest frames that are good; the last counts even if it is not, and is then one more.
        ({1: 1, 2: 1, 3: 1, 4: 1, 5: 1}, [(3, 3), (2, 4), (1, 5)], [(1, 5), (2, 4), (3, 3)]),
        ({1: 1, 2: 1, 3: 1, 4: 0, 5: 0}, [(3, 2), (2, 3), (1, 5)], [(1, 5), (2, 3), (3, 2)]),
        ({1: 1, 2: 0, 3: 0, 4: 0, 5: 0}, [(2, 1), (1, 5)], [(1, 5)]),
        ({1: 0, 2: 0, 3: 0, 4: 0, 5: 0}, [(1, 5)], []),
    ],
)
def test_memory_selection_reads_the_latest_good_frames(qualities, features, pointers):
    bank = MemoryBank(tracked={at: _memory(at, quality) for at, quality in qualities.items()})
    read = bank.recall(6, False, Limits(conditioning=4, frames=4, pointers=5, least_quality=0.01))
    assert [(ago, int(t[0])) for ago, t in read.features] == features
    assert [(ago, int(t[0])) for ago, t in read.pointers] == pointers


def test_a_memory_holds_no_batch():
    batch = torch.zeros(10, 6, 4, dtype=torch.bfloat16)
    memory = Memory.of(batch.transpose(1, 2)[3], torch.zeros(10, 8)[3])
    assert memory.features.untyped_storage().nbytes() == 6 * 4 * 2
    assert memory.pointer.untyped_storage().nbytes() == 8 * 4
    assert memory.features.is_contiguous()


class Crowd:
    """In place of the layers: four blobs that stay, and four that flash, which hotstart removes each time."""

    def __init__(self, real) -> None:
        self.device, self.dtype, self.tracker, self.mask_side = real.device, torch.float32, real.tracker, 16
        self.pointers, self._rng = real.pointers, np.random.default_rng(0)
        self._left = [0] * 4 + [1, 3, 5, 7]
        self._seen = torch.zeros(8, 16, 16)

    def features(self, pixels: torch.Tensor) -> SimpleNamespace:
        # A blob is there while its count is 0 or 1, of which each flash has one frame of either.
        self._left[4:] = [left - 1 if left else int(self._rng.integers(8, 11)) for left in self._left[4:]]
        self._seen = torch.full((8, 16, 16), -5.0)
        for place, left in enumerate(self._left):
            if left < 2:
                self._seen[place, 2 * place : 2 * place + 2, : 4 + left % 4] = 5.0
        return SimpleNamespace(embeddings=None)

    def detect(self, embeddings: None, prompt: object) -> Proposals:
        there = torch.tensor([left < 2 for left in self._left])
        count = int(there.sum())
        return Proposals(self._seen[there], torch.full((count,), 0.9), torch.zeros(count, 4))

    def propagate(self, features: object, recalls: list) -> Propagated:
        # Each object stays in the row of its pointer, whether or not there is something.
        rows = [int(recall.pointers[0][1][0]) for recall in recalls]
        masks = self._seen[rows].clone()
        for index, row in enumerate(rows):
            masks[index, 2 * row : 2 * row + 2, :3] = 5.0
        return Propagated(masks, torch.full((len(rows),), 5.0), self._pointers(rows), torch.ones(len(rows)))

    def begin(self, features: None, inside: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rows = (inside.flatten(1).float().argmax(1) // 32).tolist()
        return inside[:, None].float(), self._pointers(rows)

    def encode(self, features: None, masks: torch.Tensor, there: torch.Tensor, sure: bool) -> torch.Tensor:
        return torch.zeros(len(masks), 16, 64, dtype=torch.bfloat16)

    def _pointers(self, rows: list[int]) -> torch.Tensor:
        pointers = torch.zeros(len(rows), self.tracker.hidden_dim)
        pointers[:, 0] = torch.tensor(rows, dtype=torch.float32)
        return pointers


def test_the_state_does_not_grow_over_1500_frames(model, events):
    rules = dataclasses.replace(
        Rules.of(model), det_nms_thresh=0.9, new_det_thresh=0.5, assoc_iou_thresh=0.3, high_iou_thresh=0.5
    )
    engine = Engine(model, prompts(1), 1500, rules=rules)
    engine.network = Crowd(engine.network)
    sizes, kept = [], []
    for _ in engine.run((number, torch.zeros(1)) for number in range(1500)):
        sizes.append(engine.state.nbytes)
        kept.append(_numbers(engine.state))
    assert engine.state.next_id > 300, "hundreds of ids must come and go"
    assert events["removed unmatched"] > 100
    assert max(sizes[300:]) <= 1.05 * max(sizes[:300])
    assert max(kept[300:]) <= 1.1 * max(kept[:300])


def _numbers(state: State) -> int:
    """How many numbers a state carries beside its tensors."""
    banks = [track.memory for track in state.tracks]
    return (
        sum(len(dataclasses.fields(track)) + len(track.doubles) for track in state.tracks)
        + sum(len(bank.conditioning) + len(bank.tracked) for bank in banks)
        + sum(1 + 4 * len(frame.object_ids) for frame in state.waiting)
    )


def test_a_saved_state_goes_on_as_if_never_stopped(model, tmp_path):
    frames = moving_discs(24, 168)
    whole, first, second = (Engine(model, prompts(), 24) for _ in range(3))
    wanted = by_engine(whole, frames)
    early = []
    for number in range(12):
        first.step(number, frames[number])
        if len(first.state.waiting) >= SETTINGS["hotstart_delay"]:
            early.append(first.state.waiting.pop(0))
    write_state(tmp_path / "state", first.state, found=True)
    second.state, more = read_state(tmp_path / "state")
    assert more == {"found": True}
    assert 0 < second.state.nbytes <= first.state.nbytes
    late = list(second.run((number, frames[number]) for number in range(12, 24)))
    shown = [full_size(frame, HEIGHT, WIDTH, True) for frame in early + late]
    assert [len(frame.object_ids) for frame in early + late] != [0] * 24
    for (_, masks, _), (_, _, _, other, _) in zip(shown, wanted.frames.values(), strict=True):
        assert np.array_equal(masks, other)


@pytest.mark.parametrize("damage", [b"", b"not a state", None])
def test_a_damaged_state_is_one_sentence(damage, tmp_path):
    path = tmp_path / "state"
    if damage is None:
        write_state(path, State())
        damage = path.read_bytes()[:-3] + b"???"
        damage = damage.replace(b"stepped", b"steppes")
    path.write_bytes(damage)
    with pytest.raises(RunError, match="can't be read"):
        read_state(path)


# Clicks


@pytest.mark.parametrize(
    ("points", "labels"),
    [
        ([[12.0, 9.0]], [1]),
        ([[12.0, 9.0], [20.0, 3.0], [5.0, 5.0]], [1, 0, 1]),
        ([[4.0, 6.0], [19.0, 28.0]], [2, 3]),
    ],
    ids=["a point", "three points", "a box"],
)
def test_a_click_finds_what_transformers_finds(points, labels, model):
    engine = Engine(model, [], 1)
    network, tracker = engine.network, model.tracker_model
    session = SimpleNamespace(num_frames=1)
    with torch.inference_mode():
        features = network.features(moving_discs(1, 168)[0])
        points, labels = torch.tensor([points]).double(), torch.tensor([labels])
        ours = network.click(features, points, labels)
        picture = features.top.flatten(2).permute(2, 0, 1)
        conditioned = tracker._prepare_memory_conditioned_features(session, 0, 0, True, picture, None, 1)
        click = {"point_coords": points[:, None], "point_labels": labels[:, None].int()}
        theirs = tracker._single_frame_forward(
            input_points=click["point_coords"],
            input_labels=click["point_labels"],
            image_embeddings=[*features.fine, conditioned],
            multimask_output=tracker._use_multimask(True, click),
        )
    assert ours.masks.equal(theirs.pred_masks[:, 0])
    assert ours.scores.equal(theirs.object_score_logits[:, 0, 0])
    assert ours.pointers.equal(theirs.object_pointer[:, 0])


# Speed


def test_who_is_long_unseen_is_looked_for_only_when_somebody_new_appears(model):
    frames = moving_discs(12, 168)
    engine = Engine(model, prompts(), 12, speed=Speed("", dormant=2))
    looked_for: list[int] = []
    hook = model.tracker_model.mask_decoder.register_forward_hook(
        lambda *all_: looked_for.append(len(all_[2][0]))
    )
    for number in range(6):
        engine.step(number, frames[number])
    assert len(engine.state.tracks) > 1
    for track in engine.state.tracks:
        track.unseen, track.kept = 2, True
    settled = engine.rules
    engine.rules = dataclasses.replace(settled, new_det_thresh=2.0)
    looked_for.clear()
    engine.step(6, frames[6])
    assert looked_for == []
    assert all(track.unseen == 3 and 6 not in track.memory.tracked for track in engine.state.tracks)
    assert not any((mask > 0).any() for mask in engine.state.waiting[-1].masks)
    known = len(engine.state.tracks)
    engine.rules = dataclasses.replace(settled, new_det_thresh=0.0, score_threshold_detection=0.0)
    engine.step(7, frames[7])
    hook.remove()
    assert sum(looked_for) >= known
    assert any(track.unseen == 0 for track in engine.state.tracks[:known])


# Devices


def test_less_memory_means_smaller_batches_and_the_same_answers(model, monkeypatch):
    frames = moving_discs(16, 168)
    wanted = by_engine(Engine(model, prompts(), 16), frames)
    engine = Engine(model, prompts(), 16, batch=8)
    for name in ("propagate", "encode"):
        real = getattr(engine.network, name)

        def small(features, some, *rest, real=real, **named):
            if len(some) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return real(features, some, *rest, **named)

        monkeypatch.setattr(engine.network, name, small)
    ours = by_engine(engine, frames)
    assert engine.batch == 1
    assert assert_same(ours, wanted) > 8


def test_memories_leave_a_full_device_for_good(model, monkeypatch):
    engine = Engine(model, prompts(), 16, batch=4)
    by_engine(engine, moving_discs(3, 168)[:3])
    gpu, moved, tried = torch.device("cuda"), [], []
    bank = type(engine.state.tracks[0].memory)
    monkeypatch.setattr(bank, "move_to", lambda self, device: moved.append((id(self), device.type)))
    monkeypatch.setattr(engine, "network", SimpleNamespace(device=gpu))
    monkeypatch.setattr(engine, "_home", gpu)

    def work(part: list[int]) -> None:
        tried.append(list(part))
        if not moved:
            raise torch.OutOfMemoryError("CUDA out of memory")

    engine._in_batches(work, [0, 1, 2, 3], 7)
    # Halved first; then, with one object at a time, the memories go, and all is done.
    assert tried == [[0, 1, 2, 3], [0, 1], [0], [0], [1], [2], [3]]
    assert moved == [(id(track.memory), "cpu") for track in engine.state.tracks]
    # What is remembered later is brought there too.
    engine._bring_home()
    assert moved == 2 * [(id(track.memory), "cpu") for track in engine.state.tracks]


def test_too_little_memory_for_one_object_is_one_sentence(model, monkeypatch):
    engine = Engine(model, prompts(), 16)

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(engine.network, "encode", full)
    with pytest.raises(DeviceError, match="cpu ran out of memory in frame 0 with one object at a time: use"):
        by_engine(engine, moving_discs(16, 168))


def test_of_two_masks_the_surer_keeps_the_pixels_they_share():
    left, right = torch.full((2, 2), -1.0), torch.full((2, 2), 1.0)
    shared = left.clone()
    shared[:, 0] = 1.0
    empty = torch.full((2, 2), -1.0)
    shown = FrameMasks(
        0, (1, 2, 3, 5), (0, 0, 1, 0), (0.5,) * 4, (0.9, 0.6, 0.1, 0.8), (shared, right, right, empty)
    )
    kept, masks, boxes = full_size(shown, 2, 2, True)
    assert kept == [0, 1, 2]
    assert masks.astype(int).tolist() == [[[1, 0], [1, 0]], [[0, 1], [0, 1]], [[1, 1], [1, 1]]]
    assert [box.to_xyxy() for box in boxes] == [(0, 0, 1, 2), (0, 0, 2, 2), (0, 0, 2, 2)]
    equal = FrameMasks(0, (1, 2), (0, 0), (0.5,) * 2, (0.9, 0.9), (right, shared))
    kept, masks, _ = full_size(equal, 2, 2, True)
    assert (kept, masks.astype(int).tolist()) == ([0], [[[1, 1], [1, 1]]])


def test_each_pixel_goes_to_the_mask_that_claims_it_more_surely():
    left, right = torch.tensor([[3.0, 1.0, -1.0]]), torch.tensor([[1.0, 2.0, 3.0]])
    shown = FrameMasks(0, (1, 2, 3), (0, 0, 1), (0.5,) * 3, (0.9, 0.6, 0.1), (left, right, right))
    kept, masks, boxes = full_size(shown, 1, 3, False)
    assert kept == [0, 1, 2]
    assert masks[:, 0].astype(int).tolist() == [[1, 0, 0], [0, 1, 1], [1, 1, 1]]
    assert [box.to_xyxy() for box in boxes] == [(0, 0, 1, 1), (1, 0, 3, 1), (0, 0, 3, 1)]
    equal = FrameMasks(0, (1, 2), (0, 0), (0.5,) * 2, (0.6, 0.9), (right, right))
    assert full_size(equal, 1, 3, False)[0] == [0]


def test_who_keeps_little_of_a_mask_is_covered():
    """With 30 % of it somebody is shown; with less, who covers them has all pixels."""
    behind, before = torch.full((1, 10), 1.0), torch.full((1, 10), 2.0)
    for own, shows in ((3, [0, 1]), (2, [1])):
        behind[:, :own] = 3.0
        behind[:, own:] = 1.0
        shown = FrameMasks(0, (1, 2, 3), (0, 0, 1), (0.5,) * 3, (0.9, 0.6, 0.6), (behind, before, behind))
        kept, masks, _ = full_size(shown, 1, 10, False)
        assert kept == [*shows, 2]
        assert masks[-2].sum() == (7 if own == 3 else 10)
        assert masks[-1].all()
        assert full_size(shown, 1, 10, True)[0] == [0, 2]


@pytest.mark.parametrize("size", [(5, 9), (90, 160), (63, 40)])
@pytest.mark.parametrize("whole_overlaps", [True, False])
def test_masks_are_those_of_all_logits_at_full_size(size, whole_overlaps):
    """Only a part of the picture is looked at for each mask; nothing of it lies outside."""
    random = np.random.default_rng(5)
    small = torch.from_numpy(random.normal(-1.5, 1.5, (4, 20, 20))).float()
    small[0, 3:], small[1, :, :15], small[2, :18] = -1, -1, -1
    scores = (0.5, 0.8, 0.6, 0.7)
    shown = FrameMasks(0, (1, 2, 3, 4), (0,) * 4, scores, scores, tuple(small))
    large = torch.nn.functional.interpolate(small[:, None], size=size, mode="bilinear")[:, 0].numpy()
    rank = np.array(scores)[:, None, None] if whole_overlaps else large
    winner = np.where(large > 0, rank, -np.inf).argmax(axis=0)
    wanted = (large > 0) & (winner == np.arange(4)[:, None, None])
    kept, masks, boxes = full_size(shown, *size, whole_overlaps)
    assert kept == np.flatnonzero(wanted.any(axis=(1, 2))).tolist() != []
    assert np.array_equal(masks, wanted[kept])
    around = large > 0 if whole_overlaps else wanted
    assert boxes == [mask_to_box(around[index]) for index in kept]
