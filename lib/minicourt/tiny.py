"""The tiny SAM 3: transformers' own ``Sam3VideoModel``, small enough to train on a rendered court.

Only sizes and starting values are ours; every layer is transformers'. ``build`` gives a fresh model,
``save`` a folder that ``Sam3VideoModel.from_pretrained`` and ``Sam3VideoProcessor.from_pretrained`` load.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from torch import nn
from transformers import (
    PreTrainedTokenizerFast,
    Sam3Model,
    Sam3VideoConfig,
    Sam3VideoModel,
    Sam3VideoProcessor,
)
from transformers.models.sam2_video.video_processing_sam2_video import Sam2VideoVideoProcessor
from transformers.models.sam3.image_processing_sam3 import Sam3ImageProcessor

from minicourt.words import TOKEN_LIMIT, vocabulary

__all__ = [
    "GRID",
    "HIDDEN",
    "IMAGE",
    "MASK_GRID",
    "QUERIES",
    "build",
    "config",
    "processor",
    "quieten",
    "save",
    "tokenizer",
]

IMAGE = 384
PATCH = 16
GRID = IMAGE // PATCH
MASK_GRID = 4 * GRID
TARGET_GRID = (
    2 * MASK_GRID
)  # masks are drawn on MASK_GRID, but judged enlarged: edges then fall between cells
HIDDEN = 128
VIT_WIDTH, VIT_LAYERS = 192, 6
QUERY_GRID = (10, 4)
QUERIES = QUERY_GRID[0] * QUERY_GRID[1]
TYPICAL_BOX = (0.07, 0.36)  # width and height of a player, shares of the frame


def config(**settings) -> Sam3VideoConfig:
    """The model's configuration; ``settings`` replace association settings such as ``new_det_thresh``."""
    sizes = [[MASK_GRID, MASK_GRID], [2 * GRID, 2 * GRID], [GRID, GRID]]
    vision = {
        "model_type": "sam3_vision_model",
        "backbone_config": {
            "model_type": "sam3_vit_model",
            "hidden_size": VIT_WIDTH,
            "intermediate_size": 2 * VIT_WIDTH,
            "num_hidden_layers": VIT_LAYERS,
            "num_attention_heads": VIT_WIDTH // 32,
            "image_size": IMAGE,
            "pretrain_image_size": IMAGE,
            "patch_size": PATCH,
            "window_size": GRID // 2,
            "global_attn_indexes": list(range(1, VIT_LAYERS, 2)),
        },
        "fpn_hidden_size": HIDDEN,
        "backbone_feature_sizes": sizes,
    }
    text = {
        "model_type": "clip_text_model",
        "vocab_size": len(vocabulary()),
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "projection_dim": HIDDEN,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": TOKEN_LIMIT,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    detr = {"hidden_size": HIDDEN, "num_attention_heads": 4, "intermediate_size": 3 * HIDDEN, "dropout": 0.0}
    detector = {
        "model_type": "sam3",
        "vision_config": vision,
        "text_config": text,
        "geometry_encoder_config": {"num_layers": 1, "roi_size": 3, **detr},
        "detr_encoder_config": {"num_layers": 3, **detr},
        "detr_decoder_config": {"num_layers": 4, "num_queries": QUERIES, **detr},
        "mask_decoder_config": {"hidden_size": HIDDEN, "num_attention_heads": 4},
    }
    tracker = {
        "model_type": "sam3_tracker_video",
        "vision_config": vision,
        "image_size": IMAGE,
        "prompt_encoder_config": {
            "hidden_size": HIDDEN,
            "image_size": IMAGE,
            "patch_size": PATCH,
            "mask_input_channels": 8,
        },
        "mask_decoder_config": {
            "hidden_size": HIDDEN,
            "mlp_dim": 2 * HIDDEN,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "iou_head_hidden_dim": HIDDEN,
            "dynamic_multimask_via_stability": False,
        },
        "multimask_output_in_sam": False,
        "num_maskmem": 3,
        "max_cond_frame_num": 4,
        # Of an object the latest frames in which it was seen well are remembered, however long ago they were.
        "use_memory_selection": True,
        "mf_threshold": 0.5,
        # Of masks that overlap each has the pixels that it claims more surely than the other.
        "non_overlap_masks_for_output": True,
        # Two who touch have masks that lie a little on each other: neither is a double of the other one.
        "o2o_matching_masklets_enable": True,
        # Where two cover each other, a mask that the tracker itself gives little lies on the wrong person.
        "pred_iou_thresh": 0.25,
        "max_object_pointers_in_encoder": 8,
        "memory_attention_hidden_size": HIDDEN,
        "memory_attention_num_layers": 2,
        "memory_attention_feed_forward_hidden_size": 2 * HIDDEN,
        "memory_attention_dropout": 0.0,
        "memory_attention_rope_dropout": 0.0,
        "memory_attention_rope_feat_sizes": [GRID, GRID],
        "memory_encoder_hidden_size": HIDDEN,
        "memory_encoder_output_channels": 64,
        "mask_downsampler_embed_dim": HIDDEN,
        "memory_fuser_embed_dim": HIDDEN,
        "memory_fuser_intermediate_dim": 2 * HIDDEN,
        "memory_fuser_layer_scale_init_value": 0.3,
    }
    association = {
        "fill_hole_area": 2,
        "score_threshold_detection": 0.5,
        "new_det_thresh": 0.85,
        "det_nms_thresh": 0.4,
        "assoc_iou_thresh": 0.1,
        "trk_assoc_iou_thresh": 0.3,
        "high_conf_thresh": 0.4,
        "high_iou_thresh": 0.4,
        # Every third frame, four of them remembered: memory then reaches back to before two people met.
        "recondition_every_nth_frame": 3,
        # Remembered masks are corrected by detected ones: the tracker's own come loose sooner.
        "recondition_on_trk_masks": False,
        # A track that no detection fits is not shown: mostly it went on with somebody else's back.
        "suppress_unmatched_only_within_hotstart": False,
        "init_trk_keep_alive": 1,
        "max_trk_keep_alive": 1,
    }
    return Sam3VideoConfig(
        detector_config=detector,
        tracker_config=tracker,
        low_res_mask_size=MASK_GRID,
        **{**association, **settings},
    )


def build(seed: int = 0, **settings) -> Sam3VideoModel:
    """A fresh model with starting values that make so small a network learn.

    transformers' own start (normal, 0.02) is meant for widths of a thousand; here it leaves signals
    too weak to train from nothing.
    """
    torch.manual_seed(seed)
    model = Sam3VideoModel(config(**settings))
    model.set_attn_implementation("eager")
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_uniform_(module.weight, a=1)
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d) and module.bias is not None:
            nn.init.zeros_(module.bias)
    detector = model.detector_model
    embeddings = detector.vision_encoder.backbone.embeddings
    with torch.no_grad():
        embeddings.position_embeddings[0] = 0.3 * _sine_grid(GRID, VIT_WIDTH)
        embeddings.patch_embeddings.projection.weight.copy_(_cosine_patches(VIT_WIDTH, PATCH))
        nn.init.normal_(detector.text_encoder.get_input_embeddings().weight, std=0.5)
        detector.dot_product_scoring.query_proj.weight.mul_(2)
        _start_decoder(detector.detr_decoder)
        # Else every query begins by claiming most of the picture, and masks drown all other losses.
        detector.mask_decoder.mask_embedder.layers[-1].weight.mul_(0.1)
        _start_tracker(model)
    return model


def _sine_grid(grid: int, width: int) -> torch.Tensor:
    """Sine-cosine positions of a square grid, shape (grid * grid, width)."""
    rates = 100.0 ** (-torch.arange(width // 4) / (width // 4))
    y, x = torch.meshgrid(torch.arange(grid).float(), torch.arange(grid).float(), indexing="ij")
    waves = [wave(axis.flatten()[:, None] * rates) for axis in (y, x) for wave in (torch.sin, torch.cos)]
    return torch.cat(waves, 1)


def _cosine_patches(width: int, patch: int) -> torch.Tensor:
    """Patch embedding that starts as a cosine transform of each colour channel: (width, 3, patch, patch)."""
    steps = torch.arange(patch) + 0.5
    waves = sorted((u + v, u, v) for u in range(patch) for v in range(patch))[: width // 3]
    weight = torch.zeros(width, 3, patch, patch)
    for channel in range(3):
        for k, (order, u, v) in enumerate(waves):
            basis = torch.outer(
                torch.cos(math.pi * u * steps / patch), torch.cos(math.pi * v * steps / patch)
            )
            weight[channel * len(waves) + k, channel] = basis / basis.norm() * 0.12 * (1 + order) ** 0.8
    return weight


def _start_decoder(decoder: nn.Module) -> None:
    """Queries start as a grid of player-sized boxes that look only near themselves."""
    nn.init.zeros_(decoder.box_head.layer3.weight)
    nn.init.zeros_(decoder.box_head.layer3.bias)
    for embed in (decoder.box_rpb_embed_x, decoder.box_rpb_embed_y):
        # Two hidden units measure the distance outside the box on either side; each head fades with it.
        nn.init.normal_(embed.layer2.weight, std=0.05)
        embed.layer1.weight[0] = torch.tensor([-1.0, 0.0])
        embed.layer1.weight[1] = torch.tensor([0.0, 1.0])
        for head, slope in enumerate((3.0, 6.0, 10.0, 16.0)):
            embed.layer2.weight[head, :2] = -slope
    columns, rows = QUERY_GRID
    x = (torch.arange(columns) + 0.5) / columns
    y = 0.30 + 0.45 * (torch.arange(rows) + 0.5) / rows
    boxes = torch.stack(
        [
            x.repeat(rows),
            y.repeat_interleave(columns),
            torch.full((QUERIES,), TYPICAL_BOX[0]),
            torch.full((QUERIES,), TYPICAL_BOX[1]),
        ],
        1,
    )
    decoder.reference_points.weight.copy_(torch.logit(boxes))
    nn.init.normal_(decoder.query_embed.weight, std=0.3)


def _start_tracker(model: Sam3VideoModel) -> None:
    """Mask prompts must be as loud as the picture, or every object gets the same mask."""
    tracker = model.tracker_model
    tracker.mask_downsample.weight.fill_(10 / 16.0)
    tracker.mask_downsample.bias.fill_(-5.0)
    tracker.prompt_encoder.mask_embed.conv3.weight.mul_(2)
    nn.init.normal_(tracker.prompt_encoder.no_mask_embed.weight, std=0.02)
    for head in tracker.mask_decoder.output_hypernetworks_mlps:
        head.proj_out.weight.mul_(0.15)
    tracker.memory_encoder.mask_downsampler.final_conv.weight.mul_(1.5)
    for layer in tracker.memory_encoder.memory_fuser.layers:
        layer.scale.fill_(model.config.tracker_config.memory_fuser_layer_scale_init_value)


@torch.no_grad()
def quieten(detector: Sam3Model, pictures: torch.Tensor) -> None:
    """Bring what the encoders say of ``pictures``, float (B, 3, IMAGE, IMAGE), back to a usual loudness.

    Where every layer adds to its input what it makes of that input normalised, all that matters is how
    the parts compare; so training lets them grow together, tenfold when steps are large. Whoever then reads
    the sum as it is, as the decoder's attention and the finer necks do, is deafened and learns nothing.
    Here all that is added is scaled alike: nothing else changes.
    """
    encoder, coarse = detector.vision_encoder, detector.vision_encoder.neck.fpn_layers[2]
    tokens = encoder.backbone(pictures).last_hidden_state
    first = 2.0 / tokens.std()
    tokens = tokens.view(len(pictures), GRID, GRID, -1).permute(0, 3, 1, 2)
    second = 3.0 / coarse(tokens).std()

    def scale(share: torch.Tensor, *modules: nn.Module) -> None:
        for module in modules:
            module.weight.mul_(share)
            module.bias.mul_(share)

    scale(first, encoder.backbone.layer_norm)
    for layer in encoder.backbone.layers:
        scale(first, layer.attention.o_proj, layer.mlp.fc2)
    coarse.proj1.bias.mul_(first)
    coarse.proj2.weight.mul_(second / first)
    coarse.proj2.bias.mul_(second)
    for layer in detector.detr_encoder.layers:
        scale(second, layer.self_attn.o_proj, layer.cross_attn.o_proj, layer.mlp.fc2)


def start_tracker_neck(model: Sam3VideoModel) -> None:
    """Begin the tracker's neck as the trained detector's, quietened to the level of its mask prompts."""
    model.tracker_neck.load_state_dict(model.detector_model.vision_encoder.neck.state_dict())
    with torch.no_grad():
        for level, share in ((2, 0.15), (1, 0.2), (0, 0.7)):
            layer = model.tracker_neck.fpn_layers[level].proj2
            layer.weight.mul_(share)
            layer.bias.mul_(share)


def tokenizer() -> PreTrainedTokenizerFast:
    """Whole words in lower case; unknown words become ``[unk]``. Texts are framed by begin and end tokens."""
    words = {word: i for i, word in enumerate(vocabulary())}
    core = Tokenizer(WordLevel(words, unk_token="[unk]"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Punctuation("removed"), pre_tokenizers.WhitespaceSplit()]
    )
    core.post_processor = processors.TemplateProcessing(
        single="[bos] $A [eos]", special_tokens=[("[bos]", 1), ("[eos]", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="[unk]",
        pad_token="[pad]",
        bos_token="[bos]",
        eos_token="[eos]",
        model_max_length=TOKEN_LIMIT,
        clean_up_tokenization_spaces=False,
    )


def processor() -> Sam3VideoProcessor:
    """Pictures become ``IMAGE`` x ``IMAGE`` in -1..1, texts 32 tokens."""
    size = {"height": IMAGE, "width": IMAGE}
    frames = {"size": size, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    return Sam3VideoProcessor(
        image_processor=Sam3ImageProcessor(mask_size={"height": MASK_GRID, "width": MASK_GRID}, **frames),
        video_processor=Sam2VideoVideoProcessor(**frames),
        tokenizer=tokenizer(),
    )


def save(model: Sam3VideoModel, folder: str | Path, dtype: torch.dtype = torch.float16) -> Path:
    """Write weights (safetensors), config, tokenizer and processor files into ``folder``."""
    folder = Path(folder)
    shadow = Sam3VideoModel(model.config).to(dtype)
    shadow.load_state_dict({name: value.to(dtype) for name, value in model.state_dict().items()})
    shadow.save_pretrained(folder)
    processor().save_pretrained(folder)
    return folder
