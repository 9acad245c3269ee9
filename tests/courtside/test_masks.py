"""Masks against brute force and against pycocotools."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco

from courtside.errors import TableError
from courtside.masks import (
    connected_components,
    decode_rle,
    encode_rle,
    fill_holes,
    mask_iou,
    mask_to_box,
    nms,
    remove_sprinkles,
    rle_iou,
    rle_to_box,
)


def picture(text: str) -> np.ndarray:
    """A mask drawn with # and dots, rows separated by blanks."""
    return np.array([[pixel == "#" for pixel in row] for row in text.split()])


def random_masks(seed: int, count: int = 40) -> list[np.ndarray]:
    """Masks of many sizes and densities, the empty and the full one among them."""
    rng = np.random.default_rng(seed)
    masks = []
    for density in np.linspace(0, 1, count):
        height, width = rng.integers(1, 24, 2)
        masks.append(rng.random((height, width)) < density)
    return masks


def flood(mask: np.ndarray) -> list[set[tuple[int, int]]]:
    """Connected parts found by walking over neighbours: slow, and plainly right."""
    left = set(zip(*(axis.tolist() for axis in np.nonzero(mask)), strict=True))
    parts = []
    while left:
        part, edge = set(), [left.pop()]
        while edge:
            y, x = edge.pop()
            part.add((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            edge.extend(near)
        parts.append(part)
    return parts


def test_rle_is_cocos_and_comes_back():
    for mask in random_masks(0):
        rle = encode_rle(mask)
        assert rle == coco.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()
        back = decode_rle(rle, *mask.shape)
        assert back.dtype == bool
        assert np.array_equal(back, mask)


def test_rle_of_a_whole_frame_comes_back():
    rows, columns = np.ogrid[:1080, :1920]
    mask = (rows - 500) ** 2 + (columns - 1900) ** 2 < 300**2
    mask[::7] = False
    assert np.array_equal(decode_rle(encode_rle(mask), 1080, 1920), mask)


@pytest.mark.parametrize(
    ("case", "rle", "height", "width"),
    [
        ("another size", encode_rle(np.eye(4, dtype=bool)), 4, 5),
        ("empty string", "", 2, 2),
        ("cut off", encode_rle(np.ones((100, 100), bool))[:-1], 100, 100),
        ("a byte outside the alphabet", "2\x7f", 2, 2),
        ("not ASCII", "2é", 2, 2),
        ("a number that never ends", "oooooooooooo0", 2, 2),
        ("a negative run", "1N4", 2, 2),
    ],
)
def test_damaged_rle_is_one_sentence(case, rle, height, width):
    for read in (lambda: decode_rle(rle, height, width), lambda: rle_iou([rle], ["04"], height, width)):
        with pytest.raises(TableError, match=f"{height} x {width} pixels") as caught:
            read()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (4,), (2, 4, 4)])
def test_encode_wants_one_mask(shape):
    with pytest.raises(ValueError, match="mask needs"):
        encode_rle(np.zeros(shape, bool))


def test_ious_agree_with_counting_pixels():
    rng = np.random.default_rng(1)
    first, second = rng.random((6, 17, 23)) < 0.3, rng.random((4, 17, 23)) < 0.6
    first[2] = second[1] = False
    wanted = np.array([[(a & b).sum() / max((a | b).sum(), 1) for b in second] for a in first])
    assert np.allclose(mask_iou(first, second), wanted)
    codes = [[encode_rle(mask) for mask in side] for side in (first, second)]
    assert np.allclose(rle_iou(*codes, 17, 23), wanted)


def test_ious_of_nothing_have_the_right_shape():
    none, some = np.zeros((0, 4, 4), bool), np.ones((3, 4, 4), bool)
    assert mask_iou(none, some).shape == (0, 3)
    assert mask_iou(some, none).shape == (3, 0)
    assert rle_iou([], ["04", "04"], 2, 2).shape == (0, 2)
    assert rle_iou(["04"], [], 2, 2).shape == (1, 0)


def test_ious_want_masks_of_one_size():
    with pytest.raises(ValueError, match="shapes"):
        mask_iou(np.ones((1, 4, 4), bool), np.ones((1, 4, 5), bool))


@pytest.mark.parametrize(
    ("case", "mask", "box"),
    [
        ("one pixel", "... .#. ...", (1, 1, 2, 2)),
        ("the frame", "## ##", (0, 0, 2, 2)),
        ("two parts", "#... .... ...#", (0, 0, 4, 3)),
        ("last column", "..# ..#", (2, 0, 3, 2)),
        ("empty", "... ...", None),
    ],
)
def test_box_covers_whole_pixels(case, mask, box):
    found = mask_to_box(picture(mask))
    assert (found and found.to_xyxy()) == box
    assert rle_to_box(encode_rle(picture(mask)), *picture(mask).shape) == found


def test_box_of_run_lengths_is_that_of_the_pixels():
    for mask in random_masks(5):
        assert rle_to_box(encode_rle(mask), *mask.shape) == mask_to_box(mask)
    with pytest.raises(TableError, match=r"damaged|height and width"):
        rle_to_box("22", 3, 3)


def brute_nms(ious, scores, threshold):
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    kept: list[int] = []
    for index in order:
        if all(ious[index][other] <= threshold for other in kept):
            kept.append(index)
    return kept


def test_nms_agrees_with_brute_force():
    rng = np.random.default_rng(2)
    for count in (0, 1, 2, 5, 30):
        for _ in range(20):
            ious = rng.random((count, count)).round(1)
            ious = np.maximum(ious, ious.T)
            scores = rng.random(count).round(1)
            kept = nms(ious, scores, 0.6)
            assert kept.dtype == np.int64
            assert kept.tolist() == brute_nms(ious, scores, 0.6)


def test_nms_wants_a_square():
    with pytest.raises(ValueError, match=r"\(2, 2\)"):
        nms(np.zeros((2, 3)), np.zeros(2), 0.5)


def test_components_agree_with_flood_fill():
    for mask in random_masks(3):
        labels, areas = connected_components(mask)
        assert labels.dtype == areas.dtype == np.int32
        found = {}
        for y, x in zip(*np.nonzero(labels), strict=True):
            found.setdefault(int(labels[y, x]), set()).add((int(y), int(x)))
        parts = flood(mask)
        assert sorted(map(sorted, found.values())) == sorted(map(sorted, parts))
        wanted = np.zeros(mask.shape, int)
        for part in parts:
            for pixel in part:
                wanted[pixel] = len(part)
        assert np.array_equal(areas, wanted)


def test_components_of_a_stack_are_those_of_each_mask():
    stack = np.random.default_rng(4).random((2, 3, 9, 11)) < 0.4
    labels, areas = connected_components(stack)
    for index in np.ndindex(2, 3):
        alone = connected_components(stack[index])
        assert np.array_equal(labels[index], alone[0])
        assert np.array_equal(areas[index], alone[1])


@pytest.mark.parametrize(
    ("case", "before", "max_area", "after"),
    [
        ("a small hole", "#### #..# ####", 2, "#### #### ####"),
        ("a hole above the limit", "#### #..# ####", 1, "#### #..# ####"),
        ("a hole at the edge", ".### #### ####", 1, "#### #### ####"),
        ("two holes that touch at a corner", "#### #.## ##.# ####", 1, "#### #.## ##.# ####"),
        ("nothing to fill", "#### ....", 1, "#### ...."),
    ],
)
def test_holes(case, before, max_area, after):
    assert np.array_equal(fill_holes(picture(before), max_area), picture(after))


@pytest.mark.parametrize(
    ("case", "before", "max_area", "after"),
    [
        ("a speck", "#... ..## ..##", 1, ".... ..## ..##"),
        ("a speck above the limit", "##.. .... .### .###", 1, "##.. .... .### .###"),
        ("a small object stays", ".... .#.. ....", 9, ".... .#.. ...."),
        ("half of the object goes, as in SAM 3", "##.. .... ..##", 9, ".... .... ...."),
        ("nothing there", ".... ....", 9, ".... ...."),
    ],
)
def test_sprinkles(case, before, max_area, after):
    assert np.array_equal(remove_sprinkles(picture(before), max_area), picture(after))


def test_holes_and_sprinkles_of_a_stack_are_those_of_each_mask():
    stack = np.random.default_rng(5).random((5, 12, 13)) < 0.6
    for work in (fill_holes, remove_sprinkles):
        assert np.array_equal(work(stack, 3), np.stack([work(mask, 3) for mask in stack]))
        assert not np.array_equal(work(stack, 3), stack)
