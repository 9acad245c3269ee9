"""Training the memory tracker: the video loop's steps on transformers' modules, batched and differentiable.

``begin`` starts objects from masks, ``remember`` encodes a frame into memory, ``propagate`` finds the
objects in the next frame. They repeat what ``Sam3VideoModel`` does for one object at a time under
``inference_mode``, with one difference: masks are not forced to -1024 where an object is judged absent, a
step that would stop every gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import Sam3VideoModel

from minicourt.clips import Clip
from minicourt.detector import crowd_mean, crowding, enlarge, mask_losses, mask_overlap, normalise
from minicourt.tiny import GRID, IMAGE, MASK_GRID, TARGET_GRID

__all__ = [
    "Features",
    "begin",
    "click",
    "draw_clicks",
    "follow_clip",
    "look",
    "mistake",
    "owner_loss",
    "presence_loss",
    "propagate",
    "remember",
    "spoil",
]

_ABSENT = 1.5
_CONFIRMED = 0.7  # how often a conditioning frame is remembered as it was, at least
_MISTAKEN = 0.1  # how often the mask of somebody near is remembered then


@dataclass(slots=True)
class Features:
    """The tracker's view of one frame: ``fine`` (1, C/8, 4g, 4g), ``middle`` (1, C/4, 2g, 2g), ``coarse``
    (1, C, g, g) and the position encoding of the coarse map, (1, C, g, g)."""

    fine: torch.Tensor
    middle: torch.Tensor
    coarse: torch.Tensor
    position: torch.Tensor


def look(model: Sam3VideoModel, images: torch.Tensor) -> list[Features]:
    """Features of each uint8 image (T, IMAGE, IMAGE, 3). The backbone belongs to the detector and rests."""
    with torch.no_grad():
        tokens = model.detector_model.vision_encoder.backbone(normalise(images)).last_hidden_state
    tokens = tokens.view(len(images), GRID, GRID, -1).permute(0, 3, 1, 2)
    neck, heads = model.tracker_neck, model.tracker_model.mask_decoder
    fine, middle, coarse = (neck.fpn_layers[level](tokens) for level in range(3))
    position = neck.position_encoding(coarse.shape, coarse.device, coarse.dtype)[:1]
    fine, middle = heads.conv_s0(fine), heads.conv_s1(middle)
    return [
        Features(fine[t : t + 1], middle[t : t + 1], coarse[t : t + 1], position) for t in range(len(images))
    ]


def _spread(feature: torch.Tensor, count: int) -> torch.Tensor:
    return feature.expand(count, -1, -1, -1)


def _decode(tracker: nn.Module, features: Features, pixels: torch.Tensor, mask, several: bool, clicks=None):
    count = len(pixels)
    if clicks is None:
        points = torch.zeros(count, 1, 1, 2, device=pixels.device)
        labels = -torch.ones(count, 1, 1, dtype=torch.int32, device=pixels.device)
    else:
        points, labels = clicks
    sparse, dense = tracker.prompt_encoder(
        input_points=points, input_labels=labels, input_boxes=None, input_masks=mask
    )
    masks, quality, tokens, score = tracker.mask_decoder(
        image_embeddings=pixels,
        image_positional_embeddings=tracker.get_image_wide_positional_embeddings().repeat(count, 1, 1, 1),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=several,
        high_resolution_features=[_spread(features.fine, count), _spread(features.middle, count)],
    )
    return masks[:, 0].float(), quality[:, 0].float(), tokens[:, 0], score.view(count).float()


def begin(tracker: nn.Module, features: Features, masks: torch.Tensor):
    """Start N objects from binary masks (N, 4g, 4g).

    Returns the logits to remember (N, 1, IMAGE, IMAGE), pointers (N, C), and the decoder's own three
    masks (N, 3, 4g, 4g), their predicted qualities (N, 3) and object scores (N,), for the losses.
    """
    large = F.interpolate(
        masks[:, None].float(), size=(IMAGE, IMAGE), mode="bilinear", align_corners=False, antialias=True
    )
    large = large.to(torch.bool).float()  # the video loop casts back to its boolean type, which dilates
    pixels = _spread(features.coarse, len(masks))
    logits, quality, tokens, score = _decode(tracker, features, pixels, tracker.mask_downsample(large), True)
    best = quality.argmax(-1)
    pointer = tracker.object_pointer_proj(tokens[torch.arange(len(best), device=best.device), best])
    return large * 20 - 10, pointer, logits, quality, score


def click(tracker: nn.Module, features: Features, points: torch.Tensor, labels: torch.Tensor):
    """Start N objects from points (N, 1, P, 2) in pixels of the model's picture, labelled (N, 1, P) 1 for on
    the object, 0 for beside it, and 2 and 3 for a box's corners.

    Returns mask logits (N, 4g, 4g), predicted quality (N,), object score (N,) and pointers (N, C).
    """
    pixels = _spread(features.coarse, len(points)) + tracker.no_memory_embedding.view(1, -1, 1, 1)
    logits, quality, out, score = _decode(tracker, features, pixels, None, False, (points, labels))
    return logits[:, 0], quality[:, 0], score, tracker.object_pointer_proj(out[:, 0])


def remember(tracker: nn.Module, features: Features, logits: torch.Tensor, present: torch.Tensor):
    """Memory of a frame for N objects: features and positions, each (g * g, N, 64).

    ``logits`` (N, 1, H, W) is the mask, ``present`` (N,) bool; an absent object's memory says so.
    """
    flat = _spread(features.coarse, len(logits)).flatten(2).permute(2, 0, 1)
    score = torch.where(present, 10.0, -10.0).view(-1, 1, 1)
    memory, position = tracker._encode_new_memory(
        current_vision_feats=flat,
        pred_masks_high_res=logits,
        object_score_logits=score,
        is_mask_from_pts=False,
    )
    return memory.float(), position.float()


def propagate(tracker: nn.Module, features: Features, memories: list, pointers: list):
    """Find N objects in a frame from ``memories`` [(slot, (features, positions))] and ``pointers``
    [(frames ago, (N, C))]. Slot 0 is a conditioning frame, k the k-th frame back.

    Returns mask logits (N, 4g, 4g), predicted quality (N,), object score (N,) and new pointers (N, C).
    """
    count = memories[0][1][0].shape[1]
    current = _spread(features.coarse, count).flatten(2).permute(2, 0, 1)
    position = _spread(features.position, count).flatten(2).permute(2, 0, 1)
    steps = tracker.memory_temporal_positional_encoding
    bank = [memory for _, (memory, _) in memories]
    places = [place + steps[slot - 1] for slot, (_, place) in memories]
    tokens, token_places = tracker._process_object_pointers(
        [ago for ago, _ in pointers],
        [pointer for _, pointer in pointers],
        tracker.config.max_object_pointers_in_encoder,
        count,
        tracker.hidden_dim,
        current.device,
    )
    fused = tracker.memory_attention(
        current_vision_features=current,
        current_vision_position_embeddings=position,
        memory=torch.cat([*bank, tokens.float()]),
        memory_posision_embeddings=torch.cat([*places, token_places.float()]),
        num_object_pointer_tokens=len(tokens),
    )
    pixels = fused.squeeze(0).transpose(1, 2).reshape(count, -1, GRID, GRID)
    logits, quality, out, score = _decode(tracker, features, pixels, None, False)
    return logits[:, 0], quality[:, 0], score, tracker.object_pointer_proj(out[:, 0])


def presence_loss(scores: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of object scores (N,) with who is ``seen``, bool (N,), as a mean in which the absent
    count half as much again: they are few, and a track that does not notice goes on with somebody else.
    """
    weights = torch.where(seen, 1.0, _ABSENT)
    costs = F.binary_cross_entropy_with_logits(scores, seen.float(), weights, reduction="sum")
    return costs / weights.sum()


def owner_loss(logits: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Whose each pixel is: cross-entropy over N people of mask logits (N, S, S) where one of covered
    ``shares`` (N, S, S) has more than half of the pixel, as a mean over these pixels.

    Followed one by one, two tracks may claim the same person; here each must leave others to others, also
    somebody who is hidden.
    """
    inside = shares.amax(0) > 0.5
    if len(logits) < 2 or not inside.any():
        return logits.sum() * 0
    claims = logits[:, inside].clamp(-20, 20).T
    return F.cross_entropy(claims, shares.argmax(0)[inside])


def mistake(shapes: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Binary masks (N, 4g, 4g) in which some who touch somebody else have that one's mask, as when a
    detection is taken for the wrong track."""
    rows, columns = shapes.amax(2), shapes.amax(1)
    touches = (rows @ rows.T > 0) & (columns @ columns.T > 2)
    touches.fill_diagonal_(False)
    taken = shapes.clone()
    for one in touches.any(1).nonzero()[:, 0].tolist():
        if rng.random() < _MISTAKEN:
            others = touches[one].nonzero()[:, 0].tolist()
            taken[one] = shapes[others[rng.integers(len(others))]]
    return taken


def spoil(masks: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Binary masks (N, 4g, 4g) as a detector draws them, from covered shares: thick or thin, a cell off,
    or without feet or head."""
    spoiled = []
    for share in masks:
        moved = torch.roll(share, (int(rng.integers(-1, 2)), int(rng.integers(-1, 2))), (0, 1))
        mask = moved > rng.uniform(0.2, 0.65)
        if rng.random() < 0.25 and mask.any():
            rows = mask.any(1).nonzero()[:, 0]
            cut = int(len(rows) * rng.uniform(0.1, 0.3))
            mask = mask.clone()
            mask[rows[-cut:] if rng.random() < 0.6 else rows[:cut]] = cut == 0
        spoiled.append(mask if mask.any() else share >= share.max().clamp(min=1e-6))
    return torch.stack(spoiled)


def draw_clicks(
    shares: torch.Tensor, rng: np.random.Generator, kind: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Points and labels, as :func:`click` takes them, on people of covered shares (N, S, S).

    ``kind`` is "box" or "points": one on each person, and up to two more on or just beside them.
    """
    scale = IMAGE / shares.shape[-1]
    more = int(rng.integers(0, 3)) if kind == "points" else 0
    points, labels = [], []
    for share in shares.cpu().numpy():
        inside = np.argwhere(share >= min(0.5, share.max()))
        (top, left), (bottom, right) = inside.min(0), inside.max(0) + 1
        size = np.array([bottom - top, right - left])
        if kind == "box":
            jitter = rng.normal(0, 0.04, (2, 2)) * size
            corners = np.array([[top, left], [bottom, right]]) + jitter
            points.append(corners[:, ::-1] * scale)
            labels.append([2, 3])
            continue
        chosen, marks = [inside[rng.integers(len(inside))] + rng.random(2)], [1]
        around = np.argwhere(share[max(0, top - 3) : bottom + 3, max(0, left - 3) : right + 3] <= 0)
        for _ in range(more):
            on = rng.random() < 0.5 or not len(around)
            cells = inside if on else around + np.maximum([top - 3, left - 3], 0)
            chosen.append(cells[rng.integers(len(cells))] + rng.random(2))
            marks.append(int(on))
        points.append(np.array(chosen)[:, ::-1] * scale)
        labels.append(marks)
    placed = torch.from_numpy(np.array(points, np.float32))[:, None]
    return placed, torch.tensor(labels, dtype=torch.int32)[:, None]


def follow_clip(
    model: Sam3VideoModel,
    clip: Clip,
    rng: np.random.Generator,
    *,
    taught: float,
    start: str | None = None,
) -> tuple[torch.Tensor, dict[str, float], list[torch.Tensor]]:
    """Follow everyone through a clip and compare: loss, its parts by name, mask logits of each frame.

    People are started by ``start``: "mask", "points" or "box" (drawn by lot when None).
    With chance ``taught`` a frame is remembered as it was rather than as it was found. Frames become
    conditioning frames at random, as detections that confirm a track make them: those are mostly remembered
    as they were, since the detection's mask is (never with ``taught`` 0), and sometimes with a
    :func:`mistake`. As many of them are looked at as a fast or an exact tracker looks at.
    """
    tracker = model.tracker_model
    device = clip.images.device
    features = look(model, clip.images)
    shares = F.avg_pool2d(clip.masks, TARGET_GRID // MASK_GRID)
    moments, count = clip.there.shape
    slots, closest = tracker.num_maskmem, int(rng.integers(tracker.config.max_cond_frame_num)) + 1
    reach = tracker.config.max_object_pointers_in_encoder
    confirmed = float(rng.choice([0.0, 0.5, 0.95]))
    every_pointer = bool(rng.random() < 0.5)
    how = start or str(rng.choice(["mask", "points", "box"], p=[0.65, 0.2, 0.15]))
    present = torch.ones(count, dtype=torch.bool, device=device)
    if how == "mask":
        given = spoil(shares[0], rng) if rng.random() < 0.8 else shares[0] > 0.5
        kept, pointer, logits, quality, score = begin(tracker, features[0], given.to(device))
    else:
        clicks = (each.to(device) for each in draw_clicks(clip.masks[0], rng, how))
        mask, quality, score, pointer = click(tracker, features[0], *clicks)
        logits, quality = mask[:, None], quality[:, None]
        known = shares[0] if rng.random() < taught else mask.detach().sigmoid()
        kept = (known > 0.5)[:, None].float() * 20 - 10
    drawn = logits.shape[1]
    each = logits.flatten(0, 1)
    target = clip.masks[0][:, None].expand(-1, drawn, -1, -1).flatten(0, 1)
    cross, dice, extent = mask_losses(enlarge(each), target)
    overlap = mask_overlap(each > 0, shares[0][:, None].expand(-1, drawn, -1, -1).flatten(0, 1) > 0.5)
    parts: dict[str, list[torch.Tensor]] = {
        "start_cross": [cross.mean()],
        "start_dice": [dice.mean()],
        "start_extent": [extent.mean()],
        f"{how}_iou": [overlap.mean().detach()],
        "quality": [(quality.flatten() - overlap).abs().mean()],
        "score": [F.binary_cross_entropy_with_logits(score, torch.ones_like(score))],
    }
    conditioning = {clip.frames[0]: (remember(tracker, features[0], kept, present), pointer)}
    passing: dict[int, tuple] = {}
    found: list[torch.Tensor] = [kept[:, 0]]
    for t in range(1, moments):
        now = clip.frames[t]
        near = sorted(conditioning, key=lambda frame: now - frame)[:closest]
        memories = [(0, conditioning[frame][0]) for frame in near]
        for back in range(slots - 1, 0, -1):
            memory = passing.get(now - back) or (
                conditioning.get(now - back) if now - back not in near else None
            )
            if memory is not None:
                memories.append((back, memory[0]))
        pointers = [
            (now - frame, conditioning[frame][1]) for frame in (conditioning if every_pointer else near)
        ]
        pointers += [(back, passing[now - back][1]) for back in range(1, reach) if now - back in passing]
        mask, quality, score, pointer = propagate(tracker, features[t], memories, pointers)
        large = enlarge(mask)
        seen, away = clip.there[t] == 1, clip.there[t] == 0
        said = seen | away
        if said.any():
            parts["score"].append(presence_loss(score[said], seen[said]))
        if seen.any():
            losses = mask_losses(large[seen], clip.masks[t][seen])
            crowd = crowding(clip.masks[t])[seen]
            overlap = mask_overlap(mask[seen] > 0, shares[t][seen] > 0.5)
            for name, part in zip(("cross", "dice", "extent"), losses, strict=True):
                parts.setdefault(name, []).append(crowd_mean(part, crowd))
            parts["quality"].append((quality[seen] - overlap).abs().mean())
            parts.setdefault("iou", []).append(overlap.mean())
        parts.setdefault("owner", []).append(owner_loss(large, clip.masks[t]))
        if away.any():
            parts.setdefault("absent_right", []).append((score[away] < 0).float().mean().detach())
        confirms = rng.random() < confirmed
        as_it_was = rng.random() < (max(taught, _CONFIRMED) if taught and confirms else taught)
        present = seen if as_it_was else score > 0
        if as_it_was:
            shape = spoil(shares[t], rng).to(device).float()
            shape = (mistake(shape, rng) if confirms else shape) * 20 - 10
        else:
            shape = mask.detach()
        shape = torch.where(present[:, None, None], shape, torch.full_like(shape, -1024.0))
        present = present & (shape > 0).flatten(1).any(1)
        pointer = torch.where(present[:, None], pointer, tracker.no_object_pointer.to(pointer.dtype))
        memory = remember(tracker, features[t], shape[:, None], present), pointer
        found.append(torch.where((score > 0)[:, None, None], mask.detach(), torch.full_like(mask, -1024.0)))
        if confirms and bool(present.any()):
            conditioning[now] = memory
        else:
            passing[now] = memory
    means = {name: torch.stack(values).mean() for name, values in parts.items()}
    weights = {"start_cross": 0.5, "start_dice": 1.0, "start_extent": 1.0, "score": 1.0, "quality": 0.3}
    weights |= {"cross": 1.0, "dice": 2.5, "extent": 5.0, "owner": 2.0}
    loss = sum(weights[name] * value for name, value in means.items() if name in weights)
    return loss, {name: value.item() for name, value in means.items()} | {"loss": loss.item()}, found
