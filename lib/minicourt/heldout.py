"""How a model in training does on scenes it never sees: cheap measures, taken as it learns.

``detector_figures`` looks at single frames, ``follower_figures`` follows people through 30 frames.
``minicourt.evaluate`` measures whole videos through Courtside itself.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from torchvision.ops import box_convert, box_iou
from transformers import Sam3VideoModel

from minicourt.clips import assemble, look
from minicourt.detector import detect, enlarge, mask_overlap
from minicourt.follower import follow_clip
from minicourt.palette import JERSEY_NAMES, shade_names
from minicourt.samples import View, encode_texts, view
from minicourt.scene import LEVELS, Scene
from minicourt.words import Meaning

__all__ = ["HELDOUT_SEEDS", "detector_figures", "follower_figures"]

HELDOUT_SEEDS = range(500_000, 500_020)
_THRESHOLD = 0.5


def _scene(index: int) -> Scene:
    scene = Scene(list(LEVELS)[index % len(LEVELS)], HELDOUT_SEEDS[index])
    for _ in range(30 + 7 * index % 50):
        scene.step()
    return scene


@lru_cache(maxsize=1)
def _frames() -> list[tuple[View, list[tuple[str, str, np.ndarray]]]]:
    """Pictures with prompts of each kind: (kind, text, who is wanted)."""
    frames = []
    for index in range(len(HELDOUT_SEEDS)):
        scene = _scene(index)
        seen = view(scene.render(1280, 720))
        people = {person.object_id: person for person in scene.people}
        absent = [name for name in JERSEY_NAMES if name not in scene.color_names]
        wanted = [
            ("everyone", "basketball player", Meaning("player")),
            *(("team", f"player in {name}", Meaning("player", name)) for name in scene.color_names),
            ("nobody", f"player in {absent[index % len(absent)]}", Meaning("nobody")),
            ("referee", "referee", Meaning("referee")),
        ]
        prompts = []
        for kind, text, meaning in wanted:
            looks = [people[i] for i in seen.ids]
            fits = [meaning.fits(p.kind, p.color_name, shade_names(p.looks.jersey)) for p in looks]
            prompts.append((kind, text, np.array(fits, bool)))
        frames.append((seen, prompts))
    return frames


def _pairs(boxes: torch.Tensor, truth: torch.Tensor) -> list[tuple[int, int]]:
    """Greedy pairs at IoU 0.5, best score first."""
    if not len(boxes) or not len(truth):
        return []
    overlap = box_iou(boxes, truth)
    pairs = []
    for found in range(len(boxes)):
        best = int(overlap[found].argmax())
        if overlap[found, best] >= 0.5:
            pairs.append((found, best))
            overlap[:, best] = -1
    return pairs


@torch.no_grad()
def detector_figures(model: Sam3VideoModel) -> dict[str, float]:
    """Recall and precision of boxes at score and IoU 0.5 by kind of prompt, for the detector's own boxes
    and (``cut``) for boxes around its masks; IoU of matched masks on the target grid."""
    device = model.device
    counts: dict[str, np.ndarray] = {}
    overlaps = []
    for seen, prompts in _frames():
        tokens, token_mask = encode_texts([text for _, text, _ in prompts])
        image = torch.from_numpy(seen.image)[None].to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type != "mps"):
            output = detect(
                model.detector_model,
                image,
                tokens.to(device),
                token_mask.to(device),
                torch.arange(len(prompts), device=device),
            )
        scores = output.logits[-1].sigmoid() * output.presence[-1].sigmoid()[:, None]
        for row, (kind, _, wanted) in enumerate(prompts):
            order = scores[row].argsort(descending=True)
            order = order[scores[row][order] > _THRESHOLD]
            boxes = box_convert(output.boxes[-1, row][order], "cxcywh", "xyxy").cpu()
            truth = torch.from_numpy(seen.boxes[wanted])
            masks = enlarge(output.masks[row][order]).cpu() > 0
            pairs = _pairs(boxes, truth)
            for found, person in pairs:
                target = torch.from_numpy(seen.masks[wanted][person]) > 0.5
                overlaps.append(
                    float((masks[found] & target).sum() / (masks[found] | target).sum().clamp(min=1))
                )
            cut = torch.stack([_around(mask) for mask in masks]) if len(masks) else torch.zeros(0, 4)
            row_counts = [len(pairs), len(boxes), len(truth), len(_pairs(cut, truth))]
            counts[kind] = counts.get(kind, np.zeros(4)) + row_counts
    figures = {"mask_iou": float(np.mean(overlaps)) if overlaps else 0.0}
    for kind, (hits, found, true, cut_hits) in counts.items():
        if kind == "nobody":
            figures["nobody_found"] = float(found)
        else:
            figures[f"{kind}_recall"] = hits / max(1, true)
            figures[f"{kind}_precision"] = hits / max(1, found)
            figures[f"{kind}_cut_f1"] = 2 * cut_hits / max(1, true + found)
    return {name: round(float(value), 4) for name, value in figures.items()}


def _around(mask: torch.Tensor) -> torch.Tensor:
    """The box around a bool mask, xyxy in 0..1; empty at the origin for an empty mask."""
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    if not len(rows):
        return torch.zeros(4)
    corners = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    return torch.tensor([float(c) for c in corners]) / mask.shape[0]


@torch.no_grad()
def follower_figures(model: Sam3VideoModel, clips: int = 3, frames: int = 30) -> dict[str, float]:
    """Mask IoU when everyone is followed from the first frame with nothing but memory, 1 to ``frames`` on;
    and of masks drawn from clicks or a box in that frame."""
    device = model.device
    overlaps: dict[int, list[float]] = {}
    started: dict[str, list[float]] = {"points": [], "box": []}
    for index in range(clips):
        scene = _scene(5 * index + 1)
        looks = []
        for _ in range(frames):
            looks.append(look(scene, False))
            scene.step()
        clip = assemble(looks, list(range(frames)), looks[0][2])
        clip.images, clip.masks, clip.there = (x.to(device) for x in (clip.images, clip.masks, clip.there))
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type != "mps"):
            found = follow_clip(model, clip, np.random.default_rng(index), taught=0.0, start="mask")[2]
            first = replace(
                clip, images=clip.images[:1], masks=clip.masks[:1], there=clip.there[:1], frames=[0]
            )
            for how, values in started.items():
                log = follow_clip(model, first, np.random.default_rng(index), taught=0.0, start=how)[1]
                values.append(log[f"{how}_iou"])
        for t in range(1, frames):
            seen = clip.there[t] == 1
            if not seen.any():
                continue
            iou = mask_overlap(enlarge(found[t][seen]) > 0, clip.masks[t][seen] > 0.5)
            overlaps.setdefault(t, []).extend(iou.tolist())
    near = {
        at: [v for t in range(max(1, at - 2), at + 1) for v in overlaps.get(t, [])] for at in (3, 8, 15, 29)
    }
    figures = {f"iou_{at}": values for at, values in near.items() if values}
    figures |= {f"{how}_iou": values for how, values in started.items()}
    return {name: round(float(np.mean(values)), 4) for name, values in figures.items()}
