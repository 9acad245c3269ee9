"""Training the detector: the forward pass with every layer's output, and the losses.

The forward pass calls transformers' modules in the order of ``Sam3Model.forward``, but keeps the
outputs of all decoder layers (the model returns only the last) and draws masks only for the prompts
asked for, since the finest convolutions cost most.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import nn
from torchvision.ops import box_convert, generalized_box_iou, generalized_box_iou_loss
from transformers import Sam3Model
from transformers.models.sam3.modeling_sam3 import inverse_sigmoid

from minicourt.samples import REFEREE_COLOR, DetectorBatch
from minicourt.tiny import GRID, HIDDEN, MASK_GRID, TARGET_GRID, TYPICAL_BOX, VIT_WIDTH

__all__ = [
    "DetectorOutput",
    "Helpers",
    "crowd_mean",
    "crowding",
    "detect",
    "detector_loss",
    "dice_loss",
    "encode_pictures",
    "extent_loss",
    "mask_losses",
    "mask_overlap",
    "place_code",
    "whose_loss",
]

_FINE = TARGET_GRID // GRID  # target cells under a token, each way
_CELLS = MASK_GRID // GRID  # cells of a mask under a token, each way
_WAVES = (
    (0, 2.0), (0, 1.0), (0, 0.5), (0, 0.25), (0, 0.125), (1, 2.0), (1, 1.0), (1, 0.5), (1, 0.25), (1, 0.125),
    (2, 0.5), (2, 0.25), (3, 1.0), (3, 0.5),
)  # fmt: skip
"""Parts of a box (centre x and y, width, height) and wave lengths, shares of the frame."""
_CODE = 2 * len(_WAVES)


@dataclass(slots=True)
class DetectorOutput:
    """For R rows (a picture and a prompt each), L decoder layers, Q queries.

    ``boxes`` (L, R, Q, 4) cxcywh in 0..1, ``logits`` (L, R, Q), ``presence`` (L, R); for the M rows in
    ``drawn``: ``masks`` (M, Q, G, G) logits, ``semantic`` (M, 1, G, G), and what masks are the products of,
    ``pixels`` (M, C, G, G) and ``queries`` (M, Q, C). ``tokens`` (R, S, C) come from the encoder,
    ``features`` (B, C, S, S) from the neck, ``picture`` (B, V, S, S) from the backbone.
    """

    boxes: torch.Tensor
    logits: torch.Tensor
    presence: torch.Tensor
    drawn: torch.Tensor
    masks: torch.Tensor
    semantic: torch.Tensor
    pixels: torch.Tensor
    queries: torch.Tensor
    tokens: torch.Tensor
    features: torch.Tensor
    picture: torch.Tensor


def normalise(images: torch.Tensor) -> torch.Tensor:
    """uint8 (B, H, W, 3) to float (B, 3, H, W) in -1..1, as the processor does."""
    return images.permute(0, 3, 1, 2).float().div(127.5).sub(1)


def encode_pictures(
    model: Sam3Model, images: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Backbone tokens as a map, the coarsest neck feature and its position encoding, for uint8 images."""
    encoder = model.vision_encoder
    tokens = encoder.backbone(normalise(images)).last_hidden_state
    tokens = tokens.view(len(images), GRID, GRID, -1).permute(0, 3, 1, 2)
    features = encoder.neck.fpn_layers[2](tokens)
    position = encoder.neck.position_encoding(features.shape, features.device, features.dtype)[:1]
    return tokens, features, position


def read_prompts(model: Sam3Model, features, position, token_ids, token_mask, prompts: int):
    """Encode each of the ``prompts`` texts of each picture together with the picture."""
    text = model.get_text_features(input_ids=token_ids, attention_mask=token_mask, return_dict=True)
    text, mask = text.pooler_output, token_mask.bool()
    repeated = features.repeat_interleave(prompts, 0)
    encoded = model.detr_encoder(
        vision_features=[repeated],
        text_features=text,
        vision_pos_embeds=[position.expand(len(repeated), -1, -1, -1)],
        text_mask=mask,
    )
    return text, mask, encoded


def detect(model: Sam3Model, images, token_ids, token_mask, drawn: torch.Tensor) -> DetectorOutput:
    """All that the detector says of ``images`` (B) for the prompts (R = B * P rows).

    Masks are drawn for the rows named in ``drawn`` (M,).
    """
    prompts = len(token_ids) // len(images)
    tokens, features, position = encode_pictures(model, images)
    text, mask, encoded = read_prompts(model, features, position, token_ids, token_mask, prompts)
    decoded = model.detr_decoder(
        vision_features=encoded.last_hidden_state,
        text_features=encoded.text_features,
        vision_pos_encoding=encoded.pos_embeds_flattened,
        text_mask=mask,
        spatial_shapes=encoded.spatial_shapes,
    )
    queries = decoded.intermediate_hidden_states
    boxes = (inverse_sigmoid(decoded.reference_boxes) + model.detr_decoder.box_head(queries)).sigmoid()
    logits = model.dot_product_scoring(
        decoder_hidden_states=queries, text_features=encoded.text_features, text_mask=mask
    ).squeeze(-1)
    pictures, where = torch.unique(drawn // prompts, return_inverse=True)
    layers = model.vision_encoder.neck.fpn_layers
    pyramid = [layers[0](tokens[pictures]), layers[1](tokens[pictures]), features[pictures]]
    kept: dict[str, torch.Tensor] = {}
    hooks = [
        part.register_forward_hook(lambda _, __, said, name=name: kept.update({name: said}))
        for name, part in (
            ("pixels", model.mask_decoder.instance_projection),
            ("queries", model.mask_decoder.mask_embedder),
        )
    ]
    drawing = model.mask_decoder(
        decoder_queries=queries[-1][drawn],
        backbone_features=[level[where] for level in pyramid],
        encoder_hidden_states=encoded.last_hidden_state[drawn],
        prompt_features=text[drawn],
        prompt_mask=mask[drawn],
    )
    for hook in hooks:
        hook.remove()
    return DetectorOutput(
        boxes=boxes.float(),
        logits=logits.float(),
        presence=decoded.presence_logits.squeeze(-1).float(),
        drawn=drawn,
        masks=drawing.pred_masks.float(),
        semantic=drawing.semantic_seg.float(),
        pixels=kept["pixels"].float(),
        queries=kept["queries"].float(),
        tokens=encoded.last_hidden_state.float(),
        features=features.float(),
        picture=tokens.float(),
    )


def enlarge(logits: torch.Tensor) -> torch.Tensor:
    """Mask logits (N, g, g) or (N, C, g, g) enlarged bilinearly to the grid of the targets."""
    flat = logits[:, None] if logits.ndim == 3 else logits
    flat = F.interpolate(flat, size=(TARGET_GRID, TARGET_GRID), mode="bilinear", align_corners=False)
    return flat[:, 0] if logits.ndim == 3 else flat


def dice_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """1 - (2 |p t| + 1) / (|p| + |t| + 1) for each row of (N, ...): 0 is perfect, near 1 is disjoint."""
    p, t = logits.sigmoid().flatten(1), target.flatten(1)
    return 1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)


def extent_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Dice of the rows and columns that masks (N, ..., h, w) reach, mean of both: (N,) in 0..1.

    Boxes are cut from masks, so a cell far from anybody ruins a box that it hardly counts for in the
    mask (the projection loss of Tian et al. 2021, BoxInst). A row or column is reached from a quarter of a
    cell on: the last one of a foot is seldom covered whole.
    """
    reached = (4 * target).clamp(max=1)
    rows, columns = (dice_loss(logits.amax(side), reached.amax(side)) for side in (-1, -2))
    return (rows + columns) / 2


def cross_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of masks (N, ..., h, w), summed over the object's size (plus 32 cells): (N,).

    Dividing by the object rather than the grid keeps the loss of a person of 300 cells from vanishing
    among 36,864. What is the object counts twice: a mask that is unsure of an arm or a foot leaves it out,
    and the box that is cut from it comes out too small far more often than too large. Counting three times
    makes masks a cell too fat.
    """
    twice = logits.new_tensor(2.0)
    cross = F.binary_cross_entropy_with_logits(logits, target, reduction="none", pos_weight=twice)
    return cross.flatten(1).sum(1) / (target.flatten(1).sum(1) + 32)


@torch.no_grad()
def crowding(masks: torch.Tensor) -> torch.Tensor:
    """How much of other people lies in the rows and columns of each of N masks (N, S, S),
    in its own size and at most 1: (N,).
    """
    inside = (masks.amax(1) > 0)[:, None, :] & (masks.amax(2) > 0)[:, :, None]
    others = ((masks.sum(0) - masks) * inside).flatten(1).sum(1)
    return (others / masks.flatten(1).sum(1).clamp(min=1)).clamp(max=1)


def crowd_mean(losses: torch.Tensor, crowd: torch.Tensor) -> torch.Tensor:
    """The mean of ``losses`` (N,), in which people count up to three times by their :func:`crowding` (N,).

    Of boxes cut from masks, those of people who are partly hidden are wrong about seven times as often.
    """
    weights = 1 + 2 * crowd
    return (losses * weights).sum() / weights.sum()


def mask_losses(
    logits: torch.Tensor, target: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """:func:`cross_loss`, :func:`dice_loss` and :func:`extent_loss`: (N,) each."""
    return cross_loss(logits, target), dice_loss(logits, target), extent_loss(logits, target)


@torch.no_grad()
def mask_overlap(said: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """IoU of each pair of masks, bool (N, h, w) both: float (N,) in 0..1, 0 where both are empty."""
    return (said & true).flatten(1).sum(1) / (said | true).flatten(1).sum(1).clamp(min=1)


def main_person(masks: torch.Tensor, grid: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The share of each cell, (grid * grid,), that whoever covers most of it covers, and who that is.

    ``masks`` (N, S, S) are the covered shares of N people, at least one.
    """
    return F.avg_pool2d(masks[:, None], masks.shape[-1] // grid)[:, 0].flatten(1).max(0)


@dataclass(slots=True)
class Match:
    """Pairs of queries and people, for all layers at once: index arrays of equal length."""

    layer: np.ndarray
    row: np.ndarray
    query: np.ndarray
    person: np.ndarray  # counted over all rows' wanted people


def match_queries(output: DetectorOutput, targets: list[torch.Tensor], copies: int = 1) -> Match:
    """The assignment of least cost between queries and wanted boxes, in every layer and row.

    Cost 5 |box difference| - 2 GIoU, less 2 x score when ``copies`` is 1. With more copies each
    person may take as many queries, which teaches boxes and masks to more queries than the one
    that answers.
    """
    layers, _, queries = output.logits.shape
    parts: list[list[np.ndarray]] = [[], [], [], []]
    first = 0
    scores = output.logits.sigmoid()
    for row, target in enumerate(targets):
        count = len(target)
        if count:
            boxes = output.boxes[:, row].reshape(-1, 4)
            overlap = generalized_box_iou(box_convert(boxes, "cxcywh", "xyxy"), target)
            cost = 5 * torch.cdist(boxes, box_convert(target, "xyxy", "cxcywh"), p=1) - 2 * overlap
            if copies == 1:
                cost = cost - 2 * scores[:, row].reshape(-1, 1)
            cost = cost.view(layers, queries, count).cpu().numpy()
            repeats = max(1, min(copies, queries // count))
            for layer in range(layers):
                query, person = linear_sum_assignment(np.tile(cost[layer], (1, repeats)))
                for part, values in zip(
                    parts,
                    (np.full(len(query), layer), np.full(len(query), row), query, person % count + first),
                    strict=True,
                ):
                    part.append(values)
        first += count
    empty = np.zeros(0, np.int64)
    return Match(*(np.concatenate(part) if part else empty for part in parts))


class Helpers(nn.Module):
    """Heads used only while training: they make features say early what the detector will need.

    ``dense`` asks each encoder token whether it lies on a wanted person, and for that person's box, as seen
    from there; ``place`` for the same box as seen by all, in the waves of :func:`place_code`, since masks
    are told apart by these;
    ``color`` asks each picture token for the jersey colour there, before any text; ``shape`` asks each
    token of the backbone which of the target cells that it covers lie on anyone, and which on whoever
    covers most of it; ``owner`` asks it whose each of its mask cells is, in the waves of that person's box.
    All masks are drawn from what these tokens know, and where people touch it is this that they lack.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Sequential(
            nn.LayerNorm(HIDDEN), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 5)
        )
        self.color = nn.Sequential(
            nn.LayerNorm(HIDDEN), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, REFEREE_COLOR + 1)
        )
        self.shape = nn.Sequential(
            nn.LayerNorm(VIT_WIDTH), nn.Linear(VIT_WIDTH, 256), nn.GELU(), nn.Linear(256, 2 * _FINE**2)
        )
        self.place = nn.Sequential(nn.LayerNorm(HIDDEN), nn.Linear(HIDDEN, _CODE))
        self.owner = nn.Sequential(
            nn.LayerNorm(VIT_WIDTH), nn.Linear(VIT_WIDTH, 256), nn.GELU(), nn.Linear(256, _CELLS**2 * _CODE)
        )
        nn.init.zeros_(self.dense[-1].weight)
        nn.init.zeros_(self.dense[-1].bias)
        with torch.no_grad():
            self.dense[-1].bias[0] = -2.0
        center = (torch.arange(GRID) + 0.5) / GRID
        size = torch.tensor(TYPICAL_BOX).expand(GRID * GRID, 2)
        centers = torch.stack([center.repeat(GRID), center.repeat_interleave(GRID)], 1)
        self.register_buffer("anchors", torch.logit(torch.cat([centers, size], 1)), persistent=False)

    def dense_loss(self, tokens: torch.Tensor, batch: DetectorBatch) -> tuple[torch.Tensor, dict[str, float]]:
        """Cross-entropy of "a wanted person is here"; L1, GIoU and squared distance of waves of the box."""
        said = self.dense(tokens)
        prompts = len(batch.wanted) // len(batch.images)
        inside, rows, cells, boxes = [], [], [], []
        for row, wanted in enumerate(batch.wanted):
            picture = row // prompts
            masks = batch.masks[picture][wanted]
            if not len(masks):
                inside.append(torch.zeros(GRID * GRID, device=tokens.device))
                continue
            share, owner = main_person(masks, GRID)
            inside.append((3 * share).clamp(max=1))
            cell = (share > 0.12).nonzero()[:, 0]
            rows.append(torch.full_like(cell, row))
            cells.append(cell)
            boxes.append(batch.boxes[picture][wanted][owner[cell]])
        inside = torch.stack(inside)
        cross = F.binary_cross_entropy_with_logits(said[..., 0], inside, reduction="none")
        loss = cross.sum() / inside.sum().clamp(min=1)
        log = {"dense": loss.item()}
        if rows:
            row, cell, target = torch.cat(rows), torch.cat(cells), torch.cat(boxes)
            box = (said[row, cell, 1:] + self.anchors[cell]).sigmoid()
            centered = box_convert(target, "xyxy", "cxcywh")
            away = (box - centered).abs().sum(-1).mean()
            overlap = generalized_box_iou_loss(box_convert(box, "cxcywh", "xyxy"), target, reduction="mean")
            waves = F.mse_loss(self.place(tokens[row, cell]), place_code(centered))
            loss = loss + 5 * away + 2 * overlap + 3 * waves
            log |= {"dense_giou": 1 - overlap.item(), "token_place": waves.item()}
        return loss, log

    def color_loss(
        self, features: torch.Tensor, batch: DetectorBatch
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Cross-entropy of the jersey colour (or referee) at picture tokens that lie on a person."""
        said = self.color(features.flatten(2).transpose(1, 2))
        logits, names = [], []
        for picture, masks in enumerate(batch.masks):
            if len(masks):
                share, owner = main_person(masks, GRID)
                on = share > 0.15
                logits.append(said[picture][on])
                names.append(batch.colors[picture][owner[on]])
        if not logits:
            return said.sum() * 0, {}
        logits, names = torch.cat(logits), torch.cat(names)
        loss = F.cross_entropy(logits, names)
        return loss, {"color": loss.item(), "color_right": (logits.argmax(1) == names).float().mean().item()}

    def shape_loss(
        self, picture: torch.Tensor, batch: DetectorBatch
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """Cross-entropy of the cells under each token that lie on anyone and on its main person.

        Tokens that no person touches count a tenth, and not for the person.
        """
        said = self.shape(picture.flatten(2).transpose(1, 2)).unflatten(2, (2, -1))
        loss, log = said.sum() * 0, []
        for tokens, masks in zip(said, batch.masks, strict=True):
            if not len(masks):
                loss = loss + 0.1 * F.softplus(tokens[:, 0]).mean()
                continue
            under = masks.unflatten(1, (GRID, _FINE)).unflatten(3, (GRID, _FINE))
            under = under.permute(1, 3, 0, 2, 4).flatten(3).flatten(0, 1)
            anyone = under.sum(1).clamp(max=1)
            share, owner = under.mean(2).max(1)
            own = under[torch.arange(len(under), device=under.device), owner]
            touched = share > 0.02
            weight = torch.where(touched, 1.0, 0.1)[:, None]
            cross = F.binary_cross_entropy_with_logits(tokens[:, 0], anyone, reduction="none")
            loss = loss + (cross * weight).sum() / (weight.sum() * anyone.shape[1])
            if touched.any():
                loss = loss + F.binary_cross_entropy_with_logits(tokens[touched, 1], own[touched])
                overlap = mask_overlap(tokens[:, 0].flatten()[None] > 0, anyone.flatten()[None] > 0.5)
                log.append(overlap.item())
        loss = loss / len(said)
        return loss, {"shape": loss.item(), "shape_iou": float(np.mean(log)) if log else 0.0}

    def owner_loss(
        self, picture: torch.Tensor, batch: DetectorBatch
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """:func:`whose_loss` of the mask cells under each token of the backbone."""
        said = self.owner(picture.flatten(2).transpose(1, 2))
        said = said.unflatten(1, (GRID, GRID)).unflatten(3, (_CELLS, _CELLS, _CODE))
        said = said.transpose(2, 3).reshape(len(said), MASK_GRID, MASK_GRID, _CODE)
        found = [whose_loss(*each) for each in zip(said, batch.masks, batch.boxes, strict=True)]
        loss = torch.stack([loss for loss, _ in found]).mean()
        return loss, {"owner": loss.item()} | _mean_right("owner_right", found)


def place_code(boxes: torch.Tensor) -> torch.Tensor:
    """Boxes (..., 4), cxcywh in 0..1, as waves of several lengths, (..., 2 * len(_WAVES)).

    The product of two codes falls with the distance of their boxes.

    >>> near, far = place_code(torch.tensor([[0.5, 0.5, 0.1, 0.4], [0.56, 0.5, 0.1, 0.4]]))
    >>> round(float(near @ near), 3), float(near @ far) < float(near @ near) - 2
    (14.0, True)
    """
    angles = torch.stack([boxes[..., part] * (2 * math.pi / length) for part, length in _WAVES], -1)
    return torch.cat([angles.sin(), angles.cos()], -1)


def whose_loss(
    said: torch.Tensor, masks: torch.Tensor, boxes: torch.Tensor
) -> tuple[torch.Tensor, float | None]:
    """How well cells say whose they are, and the share of those on people that are right (None: nobody).

    ``said`` (G, G, C) for a picture with N people, ``masks`` (N, S, S) covered shares and ``boxes`` (N, 4)
    xyxy. Cells on someone should give that person's :func:`place_code`, and are asked by the product with
    all people's codes whose they are (cross-entropy); cells on nobody should say 0.
    """
    if not len(masks):
        return said.square().mean(), None
    share, owner = (each.view(MASK_GRID, MASK_GRID) for each in main_person(masks, MASK_GRID))
    on, off = share > 0.5, share < 0.02
    loss = said[off].square().mean()
    if not on.any():
        return loss, None
    codes = place_code(box_convert(boxes, "xyxy", "cxcywh"))
    whose, true = said[on] @ codes.T, owner[on]
    loss = loss + (said[on] - codes[true]).square().mean() + F.cross_entropy(whose, true)
    return loss, (whose.argmax(1) == true).float().mean().item()


def _mean_right(name: str, found: list[tuple[torch.Tensor, float | None]]) -> dict[str, float]:
    right = [share for _, share in found if share is not None]
    return {name: float(np.mean(right))} if right else {}


def place_loss(
    output: DetectorOutput, batch: DetectorBatch, match: Match, targets: torch.Tensor
) -> tuple[torch.Tensor, dict[str, float]]:
    """:func:`whose_loss` of the first channels of mask pixels, and how far matched queries are from the code.

    A mask is a product of the two. Left alone they find a way to tell neighbours apart only after hundreds
    of steps without any mask; where both say whose they are in the same waves, the product tells at once.
    """
    prompts, drawn = len(batch.wanted) // len(batch.images), output.drawn.tolist()
    said = output.pixels[:, :_CODE].permute(0, 2, 3, 1)
    found = [
        whose_loss(said[i], batch.masks[row // prompts], batch.boxes[row // prompts])
        for i, row in enumerate(drawn)
    ]
    loss = torch.stack([loss for loss, _ in found]).mean()
    log = {"pixel_place": loss.item()} | _mean_right("pixel_right", found)
    position = {row: i for i, row in enumerate(drawn)}
    chosen = [
        (position[row], query, person)
        for layer, row, query, person in zip(match.layer, match.row, match.query, match.person, strict=True)
        if layer == match.layer.max() and row in position
    ]
    if chosen:
        i, query, person = (torch.tensor(part) for part in zip(*chosen, strict=True))
        target = place_code(box_convert(targets[person], "xyxy", "cxcywh"))
        away = (output.queries[i, query, : target.shape[-1]] - target).square().mean()
        loss = loss + away
        log["query_place"] = away.item()
    return loss, log


def detector_loss(
    output: DetectorOutput, batch: DetectorBatch, helpers: Helpers
) -> tuple[torch.Tensor, dict[str, float]]:
    """The sum of all losses, and each by name for the curves.

    Every decoder layer: Hungarian matching, cross-entropy of the score (negatives weighted by
    score^1.5), 5 L1 + 2 GIoU of the box, one-to-many boxes at half weight, presence. Drawn rows: mask
    cross-entropy, Dice and extent for matched queries, one-to-one and one-to-many, and the semantic map.
    """
    prompts = len(batch.wanted) // len(batch.images)
    layers = len(output.logits)
    targets = [batch.boxes[row // prompts][wanted] for row, wanted in enumerate(batch.wanted)]
    truth = torch.cat(targets)
    total = max(1, len(truth))
    with torch.no_grad():
        one = match_queries(output, targets)
        many = match_queries(output, targets, copies=3)
    score_target = torch.zeros_like(output.logits)
    score_target[one.layer, one.row, one.query] = 1
    log: dict[str, float] = {}
    loss = output.logits.sum() * 0
    for match, weight in ((one, 1.0), (many, 0.5 / 3)):
        if len(match.row):
            box = output.boxes[match.layer, match.row, match.query]
            target = truth[match.person]
            away = (box - box_convert(target, "xyxy", "cxcywh")).abs().sum(-1)
            overlap = generalized_box_iou_loss(box_convert(box, "cxcywh", "xyxy"), target)
            loss = loss + weight * (5 * away.sum() + 2 * overlap.sum()) / total
            if match is one:
                log["giou"] = 1 - overlap[match.layer == layers - 1].mean().item()
    cross = F.binary_cross_entropy_with_logits(output.logits, score_target, reduction="none")
    score = output.logits.sigmoid().detach()
    weight = torch.where(score_target > 0, torch.ones_like(score), 0.75 * score.pow(1.5))
    scores = (cross * weight).sum() / total
    anyone = torch.tensor([float(len(t) > 0) for t in targets], device=truth.device).expand(layers, -1)
    presence = F.binary_cross_entropy_with_logits(output.presence, anyone)
    loss = loss + 1.5 * scores + 2 * presence
    log["score"], log["presence"] = scores.item() / layers, presence.item()

    drawn_loss, drawn_log = _drawn_loss(output, batch, one, many, prompts, layers)
    dense, dense_log = helpers.dense_loss(output.tokens, batch)
    color, color_log = helpers.color_loss(output.features, batch)
    place, place_log = place_loss(output, batch, one, truth)
    shape, shape_log = helpers.shape_loss(output.picture, batch)
    owner, owner_log = helpers.owner_loss(output.picture, batch)
    loss = loss + 2 * drawn_loss + 2 * dense + 3 * color + 6 * place + 3 * shape + owner
    log.update(drawn_log | dense_log | color_log | place_log | shape_log | owner_log)
    log["loss"] = loss.item()
    return loss, log


def _drawn_loss(output, batch, one, many, prompts, layers) -> tuple[torch.Tensor, dict[str, float]]:
    """Mask and semantic losses of the rows whose masks were drawn."""
    starts = np.cumsum([0, *(int(wanted.sum()) for wanted in batch.wanted)])
    loss, log = output.masks.sum() * 0, {}
    said, wanted_masks, first, crowds = [], [], [], []
    semantic = []
    for i, row in enumerate(output.drawn.tolist()):
        everybody, wanted = batch.masks[row // prompts], batch.wanted[row]
        masks, crowd = everybody[wanted], crowding(everybody)[wanted]
        semantic.append(
            masks.sum(0).clamp(max=1)
            if len(masks)
            else torch.zeros(TARGET_GRID, TARGET_GRID, device=loss.device)
        )
        for match in (one, many):
            here = (match.row == row) & (match.layer == layers - 1)
            if here.any():
                said.append(output.masks[i, torch.from_numpy(match.query[here])])
                people = torch.from_numpy(match.person[here] - starts[row])
                wanted_masks.append(masks[people])
                crowds.append(crowd[people])
                first.append(torch.full((int(here.sum()),), match is one))
    semantic = torch.stack(semantic)[:, None]
    everyone = enlarge(output.semantic)
    dice = dice_loss(everyone, semantic).mean()
    loss = loss + 0.3 * cross_loss(everyone, semantic).mean() + dice
    log["semantic_dice"] = dice.item()
    if said:
        said, target, first = enlarge(torch.cat(said)), torch.cat(wanted_masks), torch.cat(first)
        crowd = torch.cat(crowds)
        cross, dice, extent = (crowd_mean(part, crowd) for part in mask_losses(said, target))
        loss = loss + cross + 2.5 * dice + 5 * extent
        overlap = mask_overlap(said[first] > 0, target[first] > 0.5)
        log |= {"mask_cross": cross.item(), "mask_dice": dice.item()}
        log |= {"mask_extent": extent.item(), "mask_iou": overlap.mean().item()}
    return loss, log
