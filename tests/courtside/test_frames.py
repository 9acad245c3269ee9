"""SAM 3's detector on single frames, what links its boxes, and association by masks alone."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from courtside import tables
from courtside.errors import ModelError, SettingError
from courtside.masks import mask_iou
from courtside.sam3 import FrameDetector, Sam3Associate
from courtside.sam3.frames import FrameFinds
from courtside.sam3.network import Proposals
from courtside.trackers import make_tracker
from courtside.video import Video, VideoWriter

PROMPTS = ["player in white", "referee"]


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Video:
    """12 frames of blurred noise that moves 3 pixels a frame to the right."""
    noise = np.random.default_rng(3).integers(0, 256, (9, 16, 3), np.uint8)
    picture = cv2.resize(noise, (160, 90), interpolation=cv2.INTER_CUBIC)
    path = tmp_path_factory.mktemp("video") / "moving.mp4"
    with VideoWriter(path, 160, 90, 25) as writer:
        for step in range(12):
            writer.write(np.roll(picture, 3 * step, axis=1))
    return Video(path)


@pytest.fixture(scope="module")
def finds(random_sam3, video) -> list[FrameFinds]:
    return list(FrameDetector(random_sam3, "cpu", least_score=0.1).find(video, PROMPTS))


def test_what_is_found_is_what_the_model_itself_says(finds, random_sam3, video):
    from transformers import Sam3VideoModel, Sam3VideoProcessor

    model = Sam3VideoModel.from_pretrained(random_sam3).eval()
    processor = Sam3VideoProcessor.from_pretrained(random_sam3)
    for frame, seen in zip(video.frames(), finds, strict=True):
        assert seen.frame == frame.index
        clip = torch.from_numpy(np.ascontiguousarray(frame.image)).permute(2, 0, 1)[None]
        pixels = processor.video_processor(videos=[clip], return_tensors="pt").pixel_values_videos[0]
        for number, prompt in enumerate(PROMPTS):
            text = processor.tokenizer(prompt, padding="max_length", max_length=32, return_tensors="pt")
            with torch.inference_mode():
                said = model.detector_model(pixel_values=pixels, **text)
            scores = (said.pred_logits.sigmoid() * said.presence_logits.sigmoid())[0]
            own = seen.prompts == number
            ours = seen.scores[own]
            likely = (scores > 0.1).nonzero()[:, 0]
            # Ours are some of theirs, in their order, and whoever is missing overlaps a better one.
            at = [int((scores - score).abs().argmin()) for score in ours.tolist()]
            assert at == sorted(set(at))
            assert set(at) <= set(likely.tolist())
            wanted = said.pred_boxes[0][at].clamp(0, 1).numpy() * np.array([video.width, video.height] * 2)
            assert seen.boxes(video)[own] == pytest.approx(wanted, abs=0.01)
            masks = said.pred_masks[0].numpy() > 0
            for lost in sorted(set(likely.tolist()) - set(at)):
                better = [i for i in at if scores[i] >= scores[lost]]
                assert mask_iou(masks[[lost]], masks[better]).max() > model.det_nms_thresh


# Random weights are never sure, and find something else in each frame.
EASY = {"high_conf_det_threshold": 0.1, "minimum_consecutive_frames": 1}
ACTIVE, LOOSE = {"track_activation_threshold": 0.1}, {"minimum_iou_threshold": 0.05}


@pytest.mark.parametrize(
    ("name", "easy"), [("bytetrack", ACTIVE | LOOSE), ("ocsort", LOOSE), ("botsort", ACTIVE)]
)
def test_own_boxes_are_linked_as_given_ones(name, easy, finds, random_sam3, video):
    rows = [
        (seen.frame, *box, score)
        for seen in finds
        for box, score, prompt in zip(seen.boxes(video), seen.scores, seen.prompts, strict=True)
        if prompt == 0
    ]
    given = pd.DataFrame(rows, columns=list(tables.DETECTIONS.columns)).astype(
        {column: str(kind.dtype) for column, kind in tables.DETECTIONS.columns.items()}
    )
    easy = EASY | easy
    wanted = list(make_tracker(name, detections=given, **easy).track(video, progress=False))
    tracker = make_tracker(name, model=random_sam3, device="cpu", **easy)
    assert tracker.takes_prompts
    found = list(tracker.track(video, PROMPTS[:1], progress=False))
    assert any(len(frame) for frame in wanted)
    for one, other in zip(found, wanted, strict=True):
        assert [each.bbox for each in one] == [each.bbox for each in other]
        assert {each.class_name for each in one} <= {"player in white"}
    pairs = {
        (a.tracking_id, b.tracking_id)
        for one, other in zip(found, wanted, strict=True)
        for a in one
        for b in other
        if a.bbox == b.bbox
    }
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
    assert tracker.settings["device"] == "cpu"


def test_each_prompt_is_linked_by_itself(random_sam3, video):
    easy = EASY | ACTIVE | LOOSE
    tracker = make_tracker("bytetrack", model=random_sam3, device="cpu", **easy)
    both = list(tracker.track(video, PROMPTS, progress=False))
    kinds = {}
    for frame in both:
        numbers = [each.tracking_id for each in frame]
        assert numbers == sorted(set(numbers))
        for each in frame:
            assert each.class_name == PROMPTS[each.class_id]
            assert kinds.setdefault(each.tracking_id, each.class_id) == each.class_id
    assert sorted(kinds) == list(range(1, len(kinds) + 1))
    assert set(kinds.values()) == {0, 1}


def blobs(frame: int, *found: tuple[int, float, int]) -> FrameFinds:
    """Squares of 8 cells at a column, each with its score and prompt, on a grid of 40."""
    masks = torch.full((len(found), 40, 40), -5.0)
    for index, (column, _, _) in enumerate(found):
        masks[index, 10:18, column : column + 8] = 5.0
    scores = torch.tensor([score for _, score, _ in found])
    return FrameFinds(
        frame, Proposals(masks, scores, torch.zeros(len(found), 4)), np.array([p for *_, p in found], int)
    )


@pytest.mark.parametrize(
    ("case", "frames", "wanted"),
    [
        ("one walks", [[(0, 0.9, 0)], [(2, 0.9, 0)], [(4, 0.4, 0)]], [[1], [1], [1]]),
        ("too unsure to start", [[(0, 0.4, 0)], [(0, 0.7, 0)]], [[], [1]]),
        ("two cross", [[(0, 0.9, 0), (20, 0.9, 0)], [(3, 0.9, 0), (17, 0.8, 0)]], [[1, 2], [1, 2]]),
        ("the best pair first", [[(0, 0.9, 0)], [(4, 0.9, 0), (1, 0.9, 0)]], [[1], [1, 2]]),
        ("back in time", [[(0, 0.9, 0)], [], [], [(0, 0.9, 0)]], [[1], [], [], [1]]),
        ("back too late", [[(0, 0.9, 0)], [], [], [], [(0, 0.9, 0)]], [[1], [], [], [], [2]]),
        ("prompts apart", [[(0, 0.9, 0)], [(0, 0.9, 1)]], [[1], [2]]),
        ("too far", [[(0, 0.9, 0)], [(9, 0.9, 0)]], [[1], [2]]),
    ],
)
def test_association_without_memory(case, frames, wanted, video):
    tracker = Sam3Associate("absent", "cpu", lost_track_buffer=2)
    rules = SimpleNamespace(assoc_iou_thresh=0.1, new_det_thresh=0.6, whole_overlaps=True)
    seen = (blobs(number, *found) for number, found in enumerate(frames))
    shown = list(tracker._track(video, PROMPTS, seen, rules, False))
    assert [[each.tracking_id for each in frame] for frame in shown] == wanted
    for frame in shown:
        assert all(each.mask.shape == (video.height, video.width) for each in frame)


def test_associate_follows_masks_that_do_not_overlap_each_other_much(random_sam3, video):
    tracker = make_tracker("sam3-associate", model=random_sam3, device="cpu")
    frames = list(tracker.track(video, PROMPTS, progress=False))
    assert [frame.frame_number for frame in frames] == list(range(video.frame_count))
    assert any(len(frame) for frame in frames)
    assert tracker.settings["lost_track_buffer"] == 30
    assert tracker.settings["dtype"] == "float32"


@pytest.mark.parametrize(
    ("case", "name", "prompts", "options", "sentence"),
    [
        ("boxes from nowhere", "ocsort", [], {}, "ocsort needs boxes to link: name a file with --detections"),
        ("no prompt", "sam3-associate", [], {}, "SAM 3 needs to know what to follow"),
        (
            "foreign",
            "sam3-associate",
            [],
            {"speed": "fast"},
            "sam3-associate has no setting 'speed': it has lost",
        ),
        ("negative", "sam3-associate", [], {"lost_track_buffer": -1}, "needs a whole number from 0"),
        ("a switch", "sam3-associate", [], {"lost_track_buffer": True}, "needs a whole number from 0"),
    ],
)
def test_what_can_not_work_is_one_sentence(case, name, prompts, options, sentence, video):
    with pytest.raises(SettingError, match=sentence) as caught:
        make_tracker(name, model="absent", device="cpu", **options).track(video, prompts)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["botsort", "sam3-associate"])
def test_a_missing_model_is_one_sentence(name, video):
    with pytest.raises(ModelError, match="there is no model folder"):
        make_tracker(name, model="data/models/absent", device="cpu").track(video, ["referee"])
