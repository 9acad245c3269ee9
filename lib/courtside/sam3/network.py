"""The layers of a SAM 3 video model, run as following many objects through a video needs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate
from transformers.models.sam3.modeling_sam3 import Sam3VisionEncoderOutput
from transformers.models.sam3_tracker_video import modeling_sam3_tracker_video as modeling

from courtside import masks as mask_tools
from courtside.sam3.memory import Recall

__all__ = ["Embeddings", "Features", "Network", "Prompt", "Propagated", "Proposals", "detect_all", "overlaps"]

_ABSENT = -1024.0  # logit of every pixel where the tracker finds its object absent
_MASK_SCALE, _MASK_BIAS = 20.0, -10.0  # a given mask as logits: -10 outside, 10 inside


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text as the detector takes it: its features, computed once, and the mask of its tokens [1, T]."""

    text: Any
    attention_mask: torch.Tensor


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One frame as the detector sees it: ``levels`` of its neck, from the backbone's ``picture``,
    (1, C, g, g)."""

    levels: Sam3VisionEncoderOutput
    picture: torch.Tensor


@dataclass(frozen=True, slots=True)
class Features:
    """One frame as the layers see it.

    ``embeddings`` are the detector's. ``fine``, (1, C / 8, 4g, 4g) and (1, C / 4, 2g, 2g), and ``top``,
    (1, C, g, g), are the tracker's. ``queries`` (1, 1, g * g, C) have been through the first
    self-attention of memory attention and ``projected`` (1, C, g, g) through the memory encoder's
    projection: both are the same for all objects.
    """

    embeddings: Embeddings
    fine: tuple[torch.Tensor, torch.Tensor]
    top: torch.Tensor
    queries: torch.Tensor
    projected: torch.Tensor


@dataclass(frozen=True, slots=True)
class Proposals:
    """What the detector proposes: mask logits (N, h, w), scores (N,) in [0, 1], and boxes (N, 4), two corners
    each, as shares of the picture's width and height."""

    masks: torch.Tensor
    scores: torch.Tensor
    boxes: torch.Tensor

    def chosen(self, which: torch.Tensor) -> Proposals:
        """Those that ``which`` names, by flags or by places."""
        return Proposals(self.masks[which], self.scores[which], self.boxes[which])


@dataclass(frozen=True, slots=True)
class Propagated:
    """Objects in a frame: mask logits (N, h, w), logits (N,) of being there, pointers (N, C), and the
    estimated IoU (N,) of each mask."""

    masks: torch.Tensor
    scores: torch.Tensor
    pointers: torch.Tensor
    ious: torch.Tensor


class Network:
    """Runs the layers of one ``Sam3VideoModel``, batched over objects; it holds no state of any video.

    Everything is computed as transformers' loop does it for one object at a time, but for what that
    loop computes and nobody reads. ``frame_count`` bounds how far apart pointers can be in a short video.
    """

    def __init__(self, model: Any, frame_count: int) -> None:
        self.model, self.tracker, self.detector = model, model.tracker_model, model.detector_model
        tracker = self.tracker
        self.dtype, self.device = model.dtype, model.device
        self.side = tracker.prompt_encoder.image_embedding_size[0]
        self.mask_side = model.low_res_mask_size
        self.pointers = min(frame_count, tracker.config.max_object_pointers_in_encoder)
        with torch.inference_mode():
            self._image_positions = tracker.get_image_wide_positional_embeddings()
            nowhere = torch.zeros(1, 1, 1, 2, dtype=self.dtype, device=self.device)
            no_point = -torch.ones(1, 1, 1, dtype=torch.int32, device=self.device)
            self._no_prompt = tracker.prompt_encoder(nowhere, no_point, None, None)
            self._rope = tracker.memory_attention.rotary_emb(
                self._image_positions, tracker.memory_attention.position_ids
            )
            self._memory_positions = self._positions_of_memories()
        self._positions: dict[Any, torch.Tensor] = {}

    def _positions_of_memories(self) -> torch.Tensor:
        """Position in the picture and in time of memories from 0, 1, ... frames ago, (F, g * g, M)."""
        tracker = self.tracker
        shape = torch.Size((1, tracker.mem_dim, self.side, self.side))
        place = tracker.memory_encoder.position_encoding(shape, self.device, self.dtype)
        place = place.flatten(2).permute(0, 2, 1)
        times = tracker.memory_temporal_positional_encoding
        return torch.stack([place[0] + times[ago - 1, 0] for ago in range(tracker.num_maskmem)])

    def prompt(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Prompt:
        """A tokenized text, int64 [1, T], ready for :meth:`detect`."""
        ids, mask = input_ids.to(self.device), attention_mask.to(self.device)
        text = self.detector.get_text_features(input_ids=ids, attention_mask=mask, return_dict=True)
        return Prompt(text, mask)

    def embed(self, pixels: torch.Tensor) -> Embeddings:
        """What the detector needs of a frame, (3, side, side) in the model's number format."""
        encoder = self.detector.vision_encoder
        hidden = encoder.backbone(pixels[None]).last_hidden_state
        picture = hidden.view(1, self.side, self.side, -1).permute(0, 3, 1, 2)
        # The coarsest level of both necks is read by nobody; the detector expects to drop it.
        levels, positions = self._neck(encoder.neck, picture)
        embeddings = Sam3VisionEncoderOutput(
            last_hidden_state=hidden,
            fpn_hidden_states=(*levels, levels[-1]),
            fpn_position_encoding=(*positions, positions[-1]),
        )
        return Embeddings(embeddings, picture)

    def features(self, pixels: torch.Tensor) -> Features:
        """The features of a frame, (3, side, side) in the model's number format."""
        embeddings, attention = self.embed(pixels), self.tracker.memory_attention
        (first, second, top), positions = self._neck(self.model.tracker_neck, embeddings.picture)
        decoder = self.tracker.mask_decoder
        queries = top.flatten(2).transpose(1, 2) + 0.1 * positions[-1].flatten(2).transpose(1, 2)
        return Features(
            embeddings=embeddings,
            fine=(decoder.conv_s0(first), decoder.conv_s1(second)),
            top=top,
            queries=self._self_attention(attention.layers[0], queries[:, None]),
            projected=self.tracker.memory_encoder.feature_projection(top),
        )

    def _neck(self, neck: Any, picture: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        levels = [layer(picture) for layer in neck.fpn_layers[:-1]]
        positions = []
        for level in levels:
            key = id(neck), tuple(level.shape)
            if key not in self._positions:
                self._positions[key] = neck.position_encoding(level.shape, level.device, level.dtype)
            positions.append(self._positions[key])
        return levels, positions

    def detect(self, embeddings: Embeddings, prompt: Prompt) -> Proposals:
        """All that the detector proposes for ``prompt``, unfiltered."""
        found = self.detector(
            vision_embeds=embeddings.levels, text_embeds=prompt.text, attention_mask=prompt.attention_mask
        )
        scores = found.pred_logits.sigmoid() * found.presence_logits.sigmoid()
        return Proposals(found.pred_masks[0], scores[0], found.pred_boxes[0])

    def propagate(self, features: Features, recalls: Sequence[Recall]) -> Propagated:
        """Find objects with memories of one size in a new frame."""
        picture = self._attend(features, recalls)
        sparse, dense = self._no_prompt
        config = self.tracker.config
        several = (
            config.multimask_output_in_sam
            and config.multimask_output_for_tracking
            and config.multimask_min_pt_num <= 0 <= config.multimask_max_pt_num
        )
        return self._decode(features, picture, sparse, dense, several)

    def _attend(self, features: Features, recalls: Sequence[Recall]) -> torch.Tensor:
        """The frame's features as seen with each object's memories in mind, (N, C, g, g)."""
        values, keys, pointer_tokens = self._remember(recalls)
        queries = features.queries.expand(len(recalls), -1, -1, -1)
        attention = self.tracker.memory_attention
        for number, layer in enumerate(attention.layers):
            if number > 0:
                queries = self._self_attention(layer, queries)
            seen, _ = layer.cross_attn_image(
                query=layer.layer_norm2(queries),
                key=keys,
                value=values,
                position_embeddings=self._rope,
                num_k_exclude_rope=pointer_tokens,
            )
            queries = queries + seen
            inner = layer.activation(layer.linear1(layer.layer_norm3(queries)))
            queries = queries + layer.linear2(inner)
        queries = attention.layer_norm(queries)
        return queries[:, 0].transpose(1, 2).unflatten(2, (self.side, self.side))

    def _self_attention(self, layer: Any, queries: torch.Tensor) -> torch.Tensor:
        own = layer.layer_norm1(queries)
        return queries + layer.self_attn(query=own, key=own, value=own, position_embeddings=self._rope)[0]

    def _remember(self, recalls: Sequence[Recall]) -> tuple[torch.Tensor, torch.Tensor, int]:
        """Values and keys (N, 1, L, M) of memory attention, and how many of L are of pointers."""
        count, depth = len(recalls), self.tracker.mem_dim
        memories = torch.stack([each.to(self.device) for recall in recalls for _, each in recall.features])
        memories = memories.view(count, -1, depth).to(self.dtype)
        agos = [[ago for ago, _ in recall.features] for recall in recalls]
        # Objects of equal age usually read the same frames: then one row of positions serves all.
        agos = agos[:1] if all(each == agos[0] for each in agos) else agos
        times = torch.tensor(agos, device=self.device)
        keys = memories + self._memory_positions[times].flatten(1, 2).to(self.dtype)
        if not recalls[0].pointers:
            return memories[:, None], keys[:, None], 0
        pointers = torch.stack([pointer for recall in recalls for _, pointer in recall.pointers])
        tokens = pointers.view(count, -1, depth).to(self.dtype)
        positions = self._positions_of_pointers(recalls)
        positions = positions.repeat_interleave(tokens.shape[1] // positions.shape[1], dim=1)
        values = torch.cat([memories, tokens], 1)
        return values[:, None], torch.cat([keys, tokens + positions], 1)[:, None], tokens.shape[1]

    def _positions_of_pointers(self, recalls: Sequence[Recall]) -> torch.Tensor:
        """Positions in time of pointers, (N, P, M)."""
        tracker = self.tracker
        times = torch.tensor(
            [[ago for ago, _ in recall.pointers] for recall in recalls],
            dtype=torch.float32,
            device=self.device,
        )
        if not tracker.config.enable_temporal_pos_encoding_for_object_pointers:
            return torch.zeros(*times.shape, tracker.mem_dim, dtype=self.dtype, device=self.device)
        waves = modeling.get_1d_sine_pe(times / float(self.pointers - 1), dim=tracker.hidden_dim)
        return tracker.temporal_positional_encoding_projection_layer(waves.to(self.dtype))

    def _decode(
        self,
        features: Features,
        picture: torch.Tensor,
        sparse: torch.Tensor,
        dense: torch.Tensor,
        several: bool,
    ) -> Propagated:
        """Masks of objects from their pictures (N, C, g, g); of ``several`` candidates the best."""
        count = len(dense) if len(picture) == 1 else len(picture)
        candidates, ious, tokens, scores = self.tracker.mask_decoder(
            image_embeddings=picture.expand(count, -1, -1, -1),
            image_positional_embeddings=self._image_positions,
            sparse_prompt_embeddings=sparse.expand(count, -1, -1, -1),
            dense_prompt_embeddings=dense,
            multimask_output=several,
            high_resolution_features=list(features.fine),
        )
        # One candidate needs no choice: its token is the first.
        best = ious[:, 0].argmax(-1) if several else torch.zeros(count, dtype=torch.long, device=self.device)
        rows, scores = torch.arange(count, device=self.device), scores[:, 0, 0]
        token = tokens[rows, 0, best] if tokens.shape[2] > 1 else tokens[:, 0, 0]
        there = scores > 0
        masks = torch.where(there[:, None, None], candidates[rows, 0, best], _ABSENT)
        pointers = self._pointer(self.tracker.object_pointer_proj(token), there)
        return Propagated(masks, scores, pointers, ious[rows, 0, best])

    def _pointer(self, pointer: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        share = there[:, None].to(pointer.dtype)
        return share * pointer + (1 - share) * self.tracker.no_object_pointer

    def begin(self, features: Features, inside: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Start objects with given masks, bool (N, h, w).

        Returns their mask logits (N, 1, side, side), at the resolution of the model's input, and their
        pointers (N, C).
        """
        tracker = self.tracker
        size = (tracker.image_size, tracker.image_size)
        given = inside[:, None].to(self.dtype)
        if given.shape[-2:] != size:
            given = _resize(given, size)
        prompt = tracker.mask_downsample(given)
        if prompt.shape[-2:] != tracker.prompt_encoder.mask_input_size:
            prompt = _resize(prompt, tracker.prompt_encoder.mask_input_size)
        sparse, _ = self._no_prompt
        dense = tracker.prompt_encoder.mask_embed(prompt)
        pointers = self._decode(features, features.top, sparse, dense, several=True).pointers
        return given * _MASK_SCALE + _MASK_BIAS, self._pointer(pointers, inside.flatten(1).any(1))

    def click(self, features: Features, points: torch.Tensor, labels: torch.Tensor) -> Propagated:
        """Start objects with points (N, P, 2), in pixels of the model's input, labelled int (N, P).

        A label is 1 for on the object and 0 for beside it; a box is its corners, labelled 2 and 3.
        """
        config, count = self.tracker.config, points.shape[1]
        several = config.multimask_output_in_sam and (
            config.multimask_min_pt_num <= count <= config.multimask_max_pt_num
        )
        points = points[:, None].to(self.device, self.dtype)
        labels = labels[:, None].to(self.device, torch.int32)
        sparse, dense = self.tracker.prompt_encoder(points, labels, None, None)
        picture = features.top + self.tracker.no_memory_embedding.view(1, -1, 1, 1)
        return self._decode(features, picture, sparse, dense, several)

    def encode(
        self, features: Features, masks: torch.Tensor, there: torch.Tensor, sure: bool
    ) -> torch.Tensor:
        """Memories, bfloat16 (N, g * g, M), of objects with mask logits (N, 1, ., .).

        ``there``, bool (N,), says which objects are in the frame. A mask that is ``sure``, as given ones
        are, counts as all or nothing.
        """
        tracker, encoder = self.tracker, self.tracker.memory_encoder
        size = tuple(4 * side for side in tracker.prompt_encoder.mask_input_size)
        if masks.shape[-2:] != size:
            masks = _resize(masks, size)
        share = (masks > 0).to(masks.dtype) if sure else torch.sigmoid(masks)
        share = share * tracker.config.sigmoid_scale_for_mem_enc + tracker.config.sigmoid_bias_for_mem_enc
        memories = encoder.memory_fuser(features.projected + encoder.mask_downsampler(share))
        memories = encoder.projection(memories)
        if tracker.occlusion_spatial_embedding_parameter is not None:
            absent = 1 - there[:, None, None, None].float()
            memories = memories + absent * tracker.occlusion_spatial_embedding_parameter[..., None, None]
        # bfloat16 even where all else is float32, as the model was trained.
        return memories.to(torch.bfloat16).flatten(2).transpose(1, 2)

    def enlarge(self, masks: torch.Tensor) -> torch.Tensor:
        """Mask logits (N, h, w) at the resolution of the model's input, (N, 1, side, side)."""
        size = (self.tracker.image_size, self.tracker.image_size)
        return interpolate(masks[:, None].float(), size=size, mode="bilinear").to(masks.dtype)


def overlaps(first: torch.Tensor, second: torch.Tensor) -> np.ndarray:
    """IoU of each pair of masks, bool (N, h, w) and (M, h, w), as float32 [N, M]."""
    # Products of zeros and ones are exact in float32 up to 2**24 pixels.
    one, other = first.flatten(1).float(), second.flatten(1).float()
    shared = one @ other.T
    union = one.sum(1)[:, None] + other.sum(1)[None] - shared
    return (shared / union.clamp(min=1)).cpu().numpy()


def detect_all(
    network: Network,
    embeddings: Embeddings,
    prompts: Sequence[Prompt],
    least_score: float,
    nms_threshold: float,
) -> tuple[Proposals, np.ndarray]:
    """The detections of all prompts that score above ``least_score``, and the prompt of each, int [N].

    Of two of one prompt whose masks overlap by more than ``nms_threshold`` (0 for never) the better stays.
    """
    side, like = network.mask_side, {"dtype": network.dtype, "device": network.device}
    none = Proposals(*(torch.zeros(0, *shape, **like) for shape in ((side, side), (), (4,))))
    kept, numbers = [none], []
    for index, prompt in enumerate(prompts):
        found = network.detect(embeddings, prompt)
        found = found.chosen(found.scores > least_score)
        if nms_threshold > 0 and len(found.scores) > 1:
            inside = found.masks > 0
            scores = found.scores.float().cpu().numpy()
            best = mask_tools.nms(overlaps(inside, inside), scores, nms_threshold)
            found = found.chosen(torch.from_numpy(np.sort(best)).to(found.masks.device))
        kept.append(found)
        numbers += [index] * len(found.scores)
    columns = ([getattr(each, name) for each in kept] for name in ("masks", "scores", "boxes"))
    return Proposals(*map(torch.cat, columns)), np.array(numbers, int)


def _resize(masks: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return interpolate(masks.float(), size=size, mode="bilinear", antialias=True).to(masks.dtype)
