"""Faster and inexact: what lies between the frames that the model saw, and what fits into a time budget."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from courtside import trackers
from courtside.errors import SettingError
from courtside.sam3 import speed as speeds
from courtside.sam3.engine import Engine
from courtside.sam3.speed import EXACT, Speed, between, parse_duration
from courtside.sam3.tracker import Sam3Tracker
from courtside.types import BoundingBox, Detection, FrameDetections
from courtside.video import Video, VideoWriter

FRAMES = 21


@pytest.mark.parametrize(
    ("stride", "count", "seen"),
    [
        (1, 5, [0, 1, 2, 3, 4]),
        (2, 5, [0, 2, 4]),
        (2, 6, [0, 1, 3, 5]),
        (1.5, 7, [0, 1, 3, 4, 6]),
        (9, 4, [0, 3]),
        (3, 1, [0]),
    ],
)
def test_the_first_the_last_and_frames_evenly_between_are_seen(stride, count, seen):
    assert Speed("", stride=stride).seen(count) == seen
    gaps = np.diff(Speed("", stride=stride).seen(500))
    assert gaps.min() >= 1
    assert gaps.max() <= np.ceil(stride)


def _frame(number: int, *boxes: tuple, size: tuple[int, int] | None = None) -> FrameDetections:
    detections = []
    for tracking_id, x1, y1, x2, y2 in boxes:
        mask = None
        if size is not None:
            mask = np.zeros(size, bool)
            mask[y1:y2, x1:x2] = True
        detections.append(Detection(BoundingBox(x1, y1, x2, y2), 0.9, 0, "a", tracking_id, mask))
    return FrameDetections(number, number / 10, tuple(detections))


def test_between_two_frames_everything_moves_in_a_straight_line():
    first = _frame(10, (1, 0, 0, 10, 20), (2, 50, 50, 60, 60))
    last = _frame(14, (1, 8, 4, 22, 28), (3, 30, 30, 40, 40))
    shown = {number: between(first, last, number, number / 10) for number in (11, 12, 13)}
    assert [each.tracking_id for each in shown[11]] == [1, 2]
    assert [each.tracking_id for each in shown[13]] == [1, 3]
    assert shown[11].detections[0].bbox.to_xyxy() == (2, 1, 13, 22)
    assert shown[13].detections[0].bbox.to_xyxy() == (6, 3, 19, 26)
    assert (shown[12].frame_number, shown[12].time_s) == (12, 1.2)


def test_between_two_frames_a_mask_moves_with_its_box():
    size = (60, 80)
    first, last = _frame(0, (1, 10, 10, 20, 30), size=size), _frame(2, (1, 30, 14, 46, 44), size=size)
    middle = between(first, last, 1, 0.1).detections[0]
    assert middle.bbox.to_xyxy() == (20, 12, 33, 37)
    assert middle.mask[12:37, 20:33].all()
    assert middle.mask.sum() == 25 * 13
    edge = between(
        _frame(0, (1, 70, 50, 80, 60), size=size), _frame(2, (1, 74, 54, 80, 60), size=size), 1, 0.1
    )
    assert edge.detections[0].mask.any()


@pytest.mark.parametrize(
    ("seconds", "frame_s", "stride"), [(100, 0.1, 1), (50, 0.1, 2), (40, 0.1, 2.5), (1000, 0.1, 1)]
)
def test_a_budget_is_used_up_and_not_overrun(seconds, frame_s, stride):
    fitted = EXACT.for_budget(seconds, frame_s, 1000)
    assert fitted.stride == pytest.approx(stride)
    assert len(fitted.seen(1000)) * frame_s <= seconds * 1.01


@pytest.mark.parametrize("seconds", [5, 0, -3])
def test_a_budget_too_short_says_what_would_do(seconds):
    with pytest.raises(SettingError, match=rf"every {speeds.MOST_STRIDE}th of 1000 frames takes 9 s"):
        EXACT.for_budget(seconds, 0.1, 1000)


@pytest.mark.parametrize("text", ["", "soon", "-5", "0", "5 days", "1:30"])
def test_a_duration_that_is_none(text):
    with pytest.raises(SettingError, match="give it as 90s, 5min or 1h"):
        parse_duration(text)


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Video:
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    with VideoWriter(path, 128, 72, 25) as writer:
        for number in range(FRAMES):
            image = np.full((72, 128, 3), 40, np.uint8)
            image[20:60, 10 + 3 * number : 30 + 3 * number] = (200, 60, 60)
            writer.write(image)
    return Video(path)


@pytest.fixture
def stepped(monkeypatch) -> list[int]:
    seen: list[int] = []
    step = Engine.step
    monkeypatch.setattr(
        Engine, "step", lambda engine, number, pixels: (seen.append(number), step(engine, number, pixels))[1]
    )
    return seen


def _follow(tracker: Sam3Tracker, video: Video) -> list[FrameDetections]:
    return list(tracker.track(video, ["a"], progress=False))


def test_fast_gives_every_frame_and_sees_some_of_them(random_sam3, video, stepped):
    tracker = trackers.make_tracker("sam3", model=random_sam3, device="cpu", speed="fast")
    frames = _follow(tracker, video)
    assert stepped == list(range(9))
    assert [frame.frame_number for frame in frames] == list(range(FRAMES))
    assert sum(map(len, frames)) >= FRAMES
    for frame in frames:
        for each in frame:
            assert each.mask.any()
            assert each.bbox.area > 0
    assert tracker.settings["speed"]["stride"] == 2.5


@pytest.mark.parametrize("stop", [1, 2, 8, 9, 15])
def test_fast_tracking_goes_on_where_it_was_saved(stop, random_sam3, video, tmp_path):
    tracker = Sam3Tracker(random_sam3, "cpu", speed="fast")
    wanted = _follow(tracker, video)
    frames = tracker.track(video, ["a"], progress=False)
    early = list(itertools.islice(frames, stop))
    frames.save(tmp_path / "state")
    late = list(tracker.track(video, ["a"], progress=False, resume=tmp_path / "state"))
    assert [frame.frame_number for frame in early + late] == list(range(FRAMES))
    for frame, other in zip(early + late, wanted, strict=True):
        assert frame == other
        assert all(np.array_equal(each.mask, same.mask) for each, same in zip(frame, other, strict=True))


def test_a_time_budget_times_the_first_frames(random_sam3, video, stepped):
    tracker = Sam3Tracker(random_sam3, "cpu", time_budget="1h")
    assert len(_follow(tracker, video)) == FRAMES
    assert stepped == [*range(14), *range(FRAMES)]
    assert tracker.settings["speed"]["stride"] == 1


def test_a_time_budget_sees_what_fits(random_sam3, video, stepped, monkeypatch):
    monkeypatch.setattr("courtside.sam3.tracker._time_a_frame", lambda *_: 1.0)
    tracker = Sam3Tracker(random_sam3, "cpu", time_budget="7s")
    assert [frame.frame_number for frame in _follow(tracker, video)] == list(range(FRAMES))
    assert len(stepped) <= 8
    assert tracker.settings["speed"]["stride"] == pytest.approx(3, abs=0.2)
    assert tracker.settings["time_budget_s"] == 7


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"speed": "warp"}, "unknown speed 'warp': use one of exact, fast"),
        ({"time_budget": "soon"}, "is no duration"),
        ({"memory_selection": 2}, "between 0 and 1"),
        ({"stride": 2}, "has no setting 'stride'"),
    ],
)
def test_settings_that_can_not_work(settings, says):
    with pytest.raises(SettingError, match=says):
        trackers.make_tracker("sam3", **settings)
