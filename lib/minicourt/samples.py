"""Training samples, drawn from scenes on the fly: nothing is stored, and step k is always the same.

Training scenes have seeds from ``TRAINING_SEEDS`` up; smaller seeds are never trained on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from minicourt.palette import JERSEY_NAMES, shade_names
from minicourt.scene import Rendered, Scene
from minicourt.tiny import IMAGE, TARGET_GRID, tokenizer
from minicourt.words import sample_prompts

__all__ = [
    "REFEREE_COLOR",
    "TRAINING_SEEDS",
    "DetectorBatch",
    "covered_share",
    "detector_batches",
    "encode_texts",
    "view",
]

TRAINING_SEEDS = 1_000_000
LEVEL_MIX = {"easy": 0.12, "game": 0.16, "crowd": 0.34, "reentry": 0.1, "lookalike": 0.28}
RENDER_SIZE = (640, 360)
REFEREE_COLOR = len(JERSEY_NAMES)
_FRAMES_PER_SCENE = 4


@dataclass(slots=True)
class View:
    """One picture as the model sees it: ``image`` uint8 (IMAGE, IMAGE, 3); of the people that count,
    ``boxes`` (N, 4) xyxy in 0..1, ``masks`` float32 (N, TARGET_GRID, TARGET_GRID) covered share of each
    cell, ``ids`` (N,) object ids."""

    image: np.ndarray
    boxes: np.ndarray
    masks: np.ndarray
    ids: list[int]


@dataclass(slots=True)
class DetectorBatch:
    """B pictures and P prompts for each; prompt p of picture b is row b * P + p.

    ``images`` uint8 (B, IMAGE, IMAGE, 3); per picture ``boxes``, ``masks`` and ``colors`` of everyone;
    per row ``wanted``, bool over the people of its picture, and ``tokens``/``token_mask`` (B * P, T).
    """

    images: torch.Tensor
    boxes: list[torch.Tensor]
    masks: list[torch.Tensor]
    colors: list[torch.Tensor]
    wanted: list[torch.Tensor]
    tokens: torch.Tensor
    token_mask: torch.Tensor


_tokenizer = lru_cache(maxsize=1)(tokenizer)


def encode_texts(texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask, (N, T), T the longest text: behind a causal mask more padding changes nothing."""
    encoded = _tokenizer()(texts, padding=True, return_tensors="pt")
    return encoded.input_ids, encoded.attention_mask


def covered_share(mask: np.ndarray) -> np.ndarray:
    """How much of each cell of the target grid a bool mask (H, W) covers, float32 in 0..1."""
    bytes_ = mask.astype(np.uint8) * 255
    return (
        cv2.resize(bytes_, (TARGET_GRID, TARGET_GRID), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    )


def view(rendered: Rendered, crop: tuple[int, int, int, int] | None = None, flip: bool = False) -> View:
    """What the model sees of a frame, optionally of a crop (x0, y0, x1, y1) and mirrored.

    People count as in the labels; a person whom the crop cuts counts while enough of the body is left.
    """
    height, width = rendered.ids.shape
    x0, y0, x1, y1 = crop or (0, 0, width, height)
    image, ids = rendered.image[y0:y1, x0:x1], rendered.ids[y0:y1, x0:x1]
    if flip:
        image, ids = image[:, ::-1], np.ascontiguousarray(ids[:, ::-1])
    image = cv2.resize(image, (IMAGE, IMAGE), interpolation=cv2.INTER_AREA)
    boxes, masks, kept = [], [], []
    for object_id in rendered.boxes:
        if not rendered.counts(object_id):
            continue
        mask = ids == object_id
        area = int(np.count_nonzero(mask))
        if area < max(40, 0.25 / rendered.visible[object_id] * rendered.area[object_id]):
            continue
        columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
        box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)
        boxes.append(box / np.array([x1 - x0, y1 - y0] * 2, np.float32))
        masks.append(
            cv2.resize(mask.astype(np.float32), (TARGET_GRID, TARGET_GRID), interpolation=cv2.INTER_AREA)
        )
        kept.append(object_id)
    return View(
        image,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(masks, np.float32).reshape(-1, TARGET_GRID, TARGET_GRID),
        kept,
    )


def _compress(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """The blocks and smears of video compression, sometimes."""
    if rng.random() < 0.4:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))]
        return cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR)
    return image


def random_scene(rng: np.random.Generator, levels: dict[str, float] = LEVEL_MIX) -> Scene:
    """A training scene at a random moment."""
    level = str(rng.choice(list(levels), p=list(levels.values())))
    scene = Scene(level, TRAINING_SEEDS + int(rng.integers(1 << 40)))
    for _ in range(int(rng.integers(0, 100))):
        scene.step()
    return scene


def _detector_batch(rng: np.random.Generator, pictures: int, prompts: int) -> DetectorBatch:
    images, boxes, masks, colors, wanted, texts = [], [], [], [], [], []
    scene = None
    for i in range(pictures):
        if i % _FRAMES_PER_SCENE == 0:
            scene = random_scene(rng)
        else:
            for _ in range(18):
                scene.step()
        crop = None
        if rng.random() < 0.5:
            scale = rng.uniform(0.72, 1.0)
            w, h = int(RENDER_SIZE[0] * scale), int(RENDER_SIZE[1] * scale)
            x, y = int(rng.integers(RENDER_SIZE[0] - w + 1)), int(rng.integers(RENDER_SIZE[1] - h + 1))
            crop = (x, y, x + w, y + h)
        seen = view(scene.render(*RENDER_SIZE), crop, flip=bool(rng.random() < 0.5))
        people = {person.object_id: person for person in scene.people}
        looks = [people[object_id] for object_id in seen.ids]
        images.append(torch.from_numpy(_compress(rng, seen.image)))
        boxes.append(torch.from_numpy(seen.boxes))
        masks.append(torch.from_numpy(seen.masks))
        names = [JERSEY_NAMES.index(p.color_name) if p.color_name else REFEREE_COLOR for p in looks]
        colors.append(torch.tensor(names, dtype=torch.long))
        shades = tuple(shade_names(jersey) for jersey in scene.jerseys)
        for text, meaning in sample_prompts(rng, scene.color_names, shades, prompts):
            fits = [meaning.fits(p.kind, p.color_name, shade_names(p.looks.jersey)) for p in looks]
            wanted.append(torch.tensor(fits, dtype=torch.bool))
            texts.append(text)
    tokens, token_mask = encode_texts(texts)
    return DetectorBatch(torch.stack(images), boxes, masks, colors, wanted, tokens, token_mask)


class _Batches(IterableDataset):
    """Yields ``make(rng, step)`` for each step from ``start``, with numbers drawn that depend on it alone."""

    def __init__(self, make, seed: tuple[int, ...], start: int, steps: int):
        self.make, self.seed, self.start, self.steps = make, seed, start, steps

    def __iter__(self) -> Iterator:
        torch.set_num_threads(1)
        for step in range(self.start, self.steps):
            yield self.make(np.random.default_rng([*self.seed, step]), step)


def stream(make, seed: tuple[int, ...], start: int, steps: int) -> DataLoader:
    """Batches for steps ``start`` to ``steps``, made by one process ahead of the training."""
    batches = _Batches(make, seed, start, steps)
    return DataLoader(batches, batch_size=None, num_workers=1, prefetch_factor=4, persistent_workers=False)


class _DetectorMaker:
    def __init__(self, pictures: int, prompts: int):
        self.pictures, self.prompts = pictures, prompts

    def __call__(self, rng: np.random.Generator, step: int) -> DetectorBatch:
        return _detector_batch(rng, self.pictures, self.prompts)


def detector_batches(
    pictures: int, prompts: int, *, seed: int = 0, rank: int = 0, start: int = 0, steps: int = 1
) -> DataLoader:
    """Batches of ``pictures`` x ``prompts`` for the detector, reproducible step by step."""
    return stream(_DetectorMaker(pictures, prompts), (seed, 1, rank), start, steps)
