"""Short training clips for the memory tracker: a few moments of a scene, and where everyone is in each.

Four kinds: ``walk`` shows moments close together; ``hide`` takes larger steps through a crowd, so that
people vanish behind others; ``cross`` takes two people who are apart, meet in the picture and part again,
which is where tracks change the person, and looks at all of that or at a part of it; ``return`` follows
someone out of the picture and back, with the moments that the tracker's memory would hold when the person
comes back.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

from minicourt.samples import LEVEL_MIX, RENDER_SIZE, TRAINING_SEEDS, covered_share, random_scene, stream
from minicourt.scene import FPS, Scene
from minicourt.tiny import IMAGE, TARGET_GRID

__all__ = ["Clip", "assemble", "clip_batches", "look", "moments_at", "random_clip"]

_SMALLEST = 14  # pixels of RENDER_SIZE: less than this is neither there nor away


@dataclass(slots=True)
class Clip:
    """T moments and N people, all of whom count in the first.

    ``images`` uint8 (T, IMAGE, IMAGE, 3); ``masks`` (T, N, TARGET_GRID, TARGET_GRID) covered shares;
    ``there`` (T, N): 1 in the picture, 0 not, -1 too little to say; ``frames`` (T,) frame numbers.
    """

    images: torch.Tensor
    masks: torch.Tensor
    there: torch.Tensor
    frames: list[int]


def look(scene: Scene, flip: bool) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """The scene as it stands: picture (IMAGE, IMAGE, 3), object ids of RENDER_SIZE pixels, who counts."""
    rendered = scene.render(*RENDER_SIZE)
    image, ids = rendered.image, rendered.ids
    if flip:
        image, ids = image[:, ::-1], np.ascontiguousarray(ids[:, ::-1])
    image = cv2.resize(image, (IMAGE, IMAGE), interpolation=cv2.INTER_AREA)
    return image, ids, [i for i in rendered.boxes if rendered.counts(i)]


def assemble(
    looks: list[tuple[np.ndarray, np.ndarray, list[int]]], frames: list[int], people: list[int]
) -> Clip:
    """A clip of what :func:`look` saw at ``frames``, with masks of ``people`` by object id."""
    masks = np.zeros((len(looks), len(people), TARGET_GRID, TARGET_GRID), np.float32)
    there = np.zeros((len(looks), len(people)), np.int64)
    for t, (_, ids, _) in enumerate(looks):
        for n, person in enumerate(people):
            shape = ids == person
            pixels = int(np.count_nonzero(shape))
            there[t, n] = 1 if pixels >= _SMALLEST else 0 if pixels == 0 else -1
            if pixels:
                masks[t, n] = covered_share(shape)
    images = torch.from_numpy(np.stack([image for image, _, _ in looks]))
    return Clip(images, torch.from_numpy(masks), torch.from_numpy(there), frames)


def _looks_at(level: str, seed: int, times: list[int], flip: bool) -> tuple[Scene, list]:
    """What :func:`look` sees of a scene at rising frame numbers, and the scene as it stands at the last."""
    scene = Scene(level, seed)
    looks = []
    for step in range(times[-1] + 1):
        if step:
            scene.step()
        if step in times:
            looks.append(look(scene, flip))
    return scene, looks


def _choose(rng: np.random.Generator, candidates: list[int], limit: int, first: list[int] = ()) -> list[int]:
    """``first`` and a random choice of the others, ``limit`` in all."""
    others = [int(i) for i in rng.permutation([c for c in candidates if c not in first])]
    return [*first, *others][:limit]


def _walk(rng: np.random.Generator, moments: int, limit: int, hide: bool) -> Clip:
    levels = {"crowd": 0.6, "lookalike": 0.25, "game": 0.15} if hide else LEVEL_MIX
    scene = random_scene(rng, levels)
    flip = bool(rng.random() < 0.5)
    looks, frames = [look(scene, flip)], [0]
    for _ in range(moments - 1):
        for _ in range(int(rng.integers(3, 8) if hide else rng.choice([1, 2, 3, 4], p=[0.4, 0.3, 0.2, 0.1]))):
            scene.step()
        looks.append(look(scene, flip))
        frames.append(frames[-1] + 1)
    return assemble(looks, frames, _choose(rng, looks[0][2], limit))


def _is_inside(scene: Scene, index: int) -> bool:
    person = scene.people[index]
    place, _ = scene.camera().project(np.array([*person.position, 0.9]), 16, 9)
    return bool(-0.35 < place[0] < 16.35)


def _return(rng: np.random.Generator, moments: int, limit: int) -> Clip:
    """Someone leaves and comes back 0.4 to 5 s later; moments before, while away, and after."""
    for _ in range(8):
        seed = TRAINING_SEEDS + int(rng.integers(1 << 40))
        scene = Scene("reentry", seed)
        inside = []
        for _ in range(220):
            inside.append([_is_inside(scene, i) for i in range(len(scene.people))])
            scene.step()
        inside = np.array(inside)
        stories = []
        for i in range(inside.shape[1]):
            edges = np.flatnonzero(np.diff(inside[:, i].astype(int)))
            for leave, back in itertools.pairwise(edges):
                if inside[leave, i] and 0.4 * FPS <= back - leave <= 5 * FPS and leave >= 12 and back < 212:
                    stories.append((i, int(leave) + 1, int(back) + 1))
        if not stories:
            continue
        index, leave, back = stories[rng.integers(len(stories))]
        before = sorted(rng.choice(np.arange(max(0, leave - 14), leave - 3), 2, replace=False).tolist())
        late = int(rng.integers(-2, 3))
        after = [back + late + 2 * k for k in range(moments - 4)]
        # A person's arms arrive before the middle does: look away a little earlier, to remember an absence.
        times = [*before, back - 7, back - 6, *after]
        if times[2] <= times[1]:
            continue
        scene, looks = _looks_at("reentry", seed, times, bool(rng.random() < 0.5))
        person = scene.people[index].object_id
        if person in looks[0][2]:
            others = [i for i in looks[0][2] if i != person]
            gap = times[2] - times[1]
            frames = [0, 1, 1 + gap, 2 + gap, *(3 + gap + k for k in range(len(after)))]
            return assemble(looks, frames, _choose(rng, others, limit, [person]))
    return _walk(rng, moments, limit, hide=False)


def _outlines(scene: Scene) -> np.ndarray:
    """Where everyone stands in a picture 16 wide, and how tall they are there: (N, 2)."""
    camera = scene.camera()
    outlines = []
    for person in scene.people:
        head, depth = camera.project(np.array([*person.position, 1.8]), 16, 9)
        feet, _ = camera.project(np.array([*person.position, 0.0]), 16, 9)
        outlines.append((head[0], feet[1] - head[1] if depth > 0 else 0.0))
    return np.array(outlines)


def meetings(outlines: np.ndarray, longest: int = 36) -> list[tuple[int, int, int, int]]:
    """Who meets whom: (person, other, last frame apart before, first frame apart after).

    ``outlines`` (T, N, 2) are places across and heights. Two people touch from a tenth of the taller's
    height on and are apart from four tenths on; ``longest`` is the most frames that may lie in between.

    >>> passing = np.array([[[x, 1.0], [0.0, 1.0]] for x in (-0.6, -0.3, 0.0, 0.3, 0.6)])
    >>> meetings(passing)
    [(0, 1, 0, 4)]
    """
    found = []
    for one, other in itertools.combinations(range(outlines.shape[1]), 2):
        tall = np.maximum(outlines[:, one, 1], outlines[:, other, 1]).clip(min=1e-6)
        gap = np.abs(outlines[:, one, 0] - outlines[:, other, 0]) / tall
        edges = np.flatnonzero(gap >= 0.4).tolist()
        for before, after in itertools.pairwise(edges):
            if 2 <= after - before <= longest and gap[before:after].min() < 0.1:
                found.append((one, other, before, after))
    return found


def moments_of(
    rng: np.random.Generator, before: int, after: int, moments: int
) -> tuple[list[int], list[int]] | None:
    """When to look at a meeting that lasts from frame ``before`` to ``after``, and under which numbers.

    In one of three ways: all of it in even steps; some of it frame by frame, as a tracker lives through it;
    or once before it and then where they part, which is where a track is found again or lost. None where
    the meeting is too short for as many ``moments``.
    """
    how = rng.random()
    numbers = list(range(moments))
    if how < 0.4:
        times = np.linspace(before - rng.uniform(0, 3), after + rng.uniform(0, 3), moments).round()
    elif how < 0.7:
        times = rng.integers(before - 1, max(before, after - moments + 2)) + np.arange(moments)
    else:
        late = after + rng.integers(0, 4) - rng.integers(1, 4) * np.arange(moments - 1)[::-1]
        times = np.array([before - rng.integers(0, 3), *late])
        numbers = [0, *(int(times[1] - times[0]) + k for k in range(moments - 1))]
    times = times.astype(int).tolist()
    return (times, numbers) if all(np.diff(times) > 0) else None


def _cross(rng: np.random.Generator, moments: int, limit: int) -> Clip:
    """Two people meet and part; moments as :func:`moments_of` has them."""
    for _ in range(4):
        level = str(rng.choice(list(LEVEL_MIX), p=list(LEVEL_MIX.values())))
        seed = TRAINING_SEEDS + int(rng.integers(1 << 40))
        scene = Scene(level, seed)
        outlines = []
        for _ in range(110):
            outlines.append(_outlines(scene))
            scene.step()
        outlines = np.array(outlines)
        stories = [
            (one, other, before, after)
            for one, other, before, after in meetings(outlines)
            if before >= 3 and after < 102 and (np.abs(outlines[before, [one, other], 0] - 8) < 7.5).all()
        ]
        if not stories:
            continue
        one, other, before, after = stories[rng.integers(len(stories))]
        looked = moments_of(rng, before, after, moments)
        if looked is None:
            continue
        times, numbers = looked
        scene, looks = _looks_at(level, seed, times, bool(rng.random() < 0.5))
        pair = [scene.people[i].object_id for i in (one, other)]
        if set(pair) <= set(looks[0][2]):
            return assemble(looks, numbers, _choose(rng, looks[0][2], limit, pair))
    return _walk(rng, moments, limit, hide=True)


def random_clip(rng: np.random.Generator, moments: int = 6, limit: int = 6) -> Clip:
    """A training clip of ``moments`` moments with at most ``limit`` people, of a random kind."""
    while True:
        kind = rng.random()
        if kind < 0.25 and moments > 4:
            clip = _return(rng, moments, limit)
        elif kind < 0.75:
            clip = _cross(rng, moments, limit)
        else:
            clip = _walk(rng, moments, limit, hide=kind < 0.8)
        if clip.masks.shape[1]:
            return clip


def moments_at(step: int, steps: int) -> int:
    """How long clips are at a step: short ones teach first what long ones take for granted, in less time.

    >>> [moments_at(step, 1000) for step in (0, 199, 200, 449, 450, 999)]
    [3, 3, 4, 4, 6, 6]
    """
    return 3 if step < 0.2 * steps else 4 if step < 0.45 * steps else 6


class _ClipMaker:
    def __init__(self, clips: int, limit: int, steps: int):
        self.clips, self.limit, self.steps = clips, limit, steps

    def __call__(self, rng: np.random.Generator, step: int) -> list[Clip]:
        moments = moments_at(step, self.steps)
        return [random_clip(rng, moments, self.limit) for _ in range(self.clips)]


def clip_batches(
    clips: int, limit: int, *, seed: int = 0, rank: int = 0, start: int = 0, steps: int = 1
) -> DataLoader:
    """``clips`` clips a step, reproducible step by step, longer towards the last of ``steps``."""
    return stream(_ClipMaker(clips, limit, steps), (seed, 2, rank), start, steps)
