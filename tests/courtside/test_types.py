"""Boxes and detections: conversions that lose nothing, and values that cannot be."""

from __future__ import annotations

import numpy as np
import pytest
import supervision

from courtside.types import BoundingBox, Detection, FrameDetections


def test_corners_and_sizes_say_the_same():
    box = BoundingBox.from_xywh(10, 20, 30, 40)
    assert box == BoundingBox.from_xyxy(10, 20, 40, 60)
    assert (box.width, box.height, box.area, box.center) == (30, 40, 1200, (25, 40))
    assert BoundingBox.from_xywh(*box.to_xywh()) == box


@pytest.mark.parametrize(
    ("other", "iou"),
    [
        ((0, 0, 10, 10), 1.0),
        ((5, 0, 15, 10), 1 / 3),
        ((10, 0, 20, 10), 0.0),
        ((2, 2, 4, 4), 0.04),
        ((3, 3, 3, 3), 0.0),
    ],
)
def test_overlap(other, iou):
    box, other = BoundingBox(0, 0, 10, 10), BoundingBox(*other)
    assert box.iou(other) == other.iou(box) == pytest.approx(iou)


def test_two_empty_boxes_overlap_nowhere():
    assert BoundingBox(1, 1, 1, 1).iou(BoundingBox(1, 1, 1, 1)) == 0


@pytest.mark.parametrize(
    "corners", [(5, 0, 4, 1), (0, 5, 1, 4), (0, 0, float("nan"), 1), (0, 0, float("inf"), 1)]
)
def test_impossible_boxes(corners):
    with pytest.raises(ValueError, match="a box needs"):
        BoundingBox(*corners)


def test_clipping_to_the_frame():
    assert BoundingBox(-5, 10, 50, 95).clip(40, 90) == BoundingBox(0, 10, 40, 90)
    assert BoundingBox(50, 10, 60, 20).clip(40, 90).area == 0


def _frame(masks: bool) -> FrameDetections:
    shape = np.zeros((4, 6), bool)
    shape[1:3, 2:5] = True
    return FrameDetections(
        7,
        0.28,
        (
            Detection(BoundingBox(2, 1, 5, 3), 0.5, 1, "referee", 3, shape if masks else None, "07"),
            Detection(BoundingBox(0, 0, 1, 1), 0.25, 0, "player in white", None, ~shape if masks else None),
        ),
    )


@pytest.mark.parametrize("masks", [False, True])
def test_there_and_back_through_supervision(masks):
    frame = _frame(masks)
    converted = frame.to_supervision()
    assert converted.tracker_id.tolist() == [3, -1]
    back = FrameDetections.from_supervision(converted, 7, 0.28)
    assert back == frame
    for before, after in zip(frame, back, strict=True):
        if masks:
            np.testing.assert_array_equal(after.mask, before.mask)
        else:
            assert after.mask is None


def test_an_empty_frame_there_and_back():
    empty = FrameDetections(0, 0.0)
    assert len(empty.to_supervision()) == 0
    assert FrameDetections.from_supervision(empty.to_supervision(), 0, 0.0) == empty


def test_bare_boxes_from_supervision_take_defaults():
    bare = supervision.Detections(xyxy=np.array([[0.0, 0.0, 2.0, 2.0]]))
    (detection,) = FrameDetections.from_supervision(bare, 0, 0.0)
    assert detection == Detection(BoundingBox(0, 0, 2, 2), 1.0)
