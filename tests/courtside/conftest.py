"""Fixtures of the library's tests: a small SAM 3 video model with random weights."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SIDE, PATCH = 112, 14
GRID = SIDE // PATCH
WIDTH = 128
TOKENS = 32


def _config():
    from transformers import Sam3VideoConfig

    vision = {
        "model_type": "sam3_vision_model",
        "fpn_hidden_size": WIDTH,
        "backbone_feature_sizes": [[GRID * scale] * 2 for scale in (4, 2, 1)],
        "backbone_config": {
            "model_type": "sam3_vit_model",
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": SIDE,
            "pretrain_image_size": SIDE,
            "patch_size": PATCH,
            "window_size": 4,
            "global_attn_indexes": [1],
        },
    }
    text = {
        "model_type": "clip_text_model",
        "vocab_size": 514,
        "bos_token_id": 512,
        "eos_token_id": 513,
        "pad_token_id": 513,
        "hidden_size": WIDTH,
        "projection_dim": WIDTH,
        "intermediate_size": 128,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "max_position_embeddings": TOKENS,
    }
    head = {"hidden_size": WIDTH, "num_attention_heads": 4, "intermediate_size": 128, "dropout": 0.0}
    detector = {
        "model_type": "sam3",
        "vision_config": vision,
        "text_config": text,
        "geometry_encoder_config": {"num_layers": 1, "roi_size": 3, **head},
        "detr_encoder_config": {"num_layers": 1, **head},
        "detr_decoder_config": {"num_layers": 1, "num_queries": 6, **head},
        "mask_decoder_config": {"hidden_size": WIDTH, "num_attention_heads": 4},
    }
    tracker = {
        "model_type": "sam3_tracker_video",
        "vision_config": vision,
        "image_size": SIDE,
        "prompt_encoder_config": {"hidden_size": WIDTH, "image_size": SIDE, "patch_size": PATCH},
        "mask_decoder_config": {
            "hidden_size": WIDTH,
            "mlp_dim": 128,
            "num_attention_heads": 4,
            "iou_head_hidden_dim": WIDTH,
        },
        "memory_attention_hidden_size": WIDTH,
        "memory_attention_num_layers": 1,
        "memory_attention_feed_forward_hidden_size": 128,
        "memory_attention_dropout": 0.0,
        "memory_attention_rope_dropout": 0.0,
        "memory_attention_rope_feat_sizes": [GRID, GRID],
        "memory_encoder_hidden_size": WIDTH,
        "memory_encoder_output_channels": 64,
        "mask_downsampler_embed_dim": WIDTH,
        "memory_fuser_embed_dim": WIDTH,
        "memory_fuser_intermediate_dim": 128,
    }
    return Sam3VideoConfig(detector_config=detector, tracker_config=tracker, low_res_mask_size=4 * GRID)


def _processor():
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer, Sam2VideoVideoProcessor, Sam3ImageProcessor, Sam3VideoProcessor

    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    size = {"height": SIDE, "width": SIDE}
    normal = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    return Sam3VideoProcessor(
        Sam3ImageProcessor(size=size, **normal),
        Sam2VideoVideoProcessor(size=size, **normal),
        CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=TOKENS),
    )


@pytest.fixture(scope="session")
def random_sam3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a SAM 3 video model of random weights and thresholds low enough to follow something.

    It takes 112 x 112 pixels and prompts of at most 32 tokens (a letter is a token), and takes back
    false objects within 5 frames.
    """
    import torch
    from transformers import Sam3VideoModel

    torch.manual_seed(0)
    config = _config()
    for name, value in {
        "score_threshold_detection": 0.2,
        "new_det_thresh": 0.2,
        "det_nms_thresh": 0.3,
        "assoc_iou_thresh": 0.02,
        "trk_assoc_iou_thresh": 0.02,
        "hotstart_delay": 5,
        "hotstart_unmatch_thresh": 3,
        "hotstart_dup_thresh": 3,
        "fill_hole_area": 4,
        "recondition_every_nth_frame": 4,
    }.items():
        setattr(config, name, value)
    folder = tmp_path_factory.mktemp("random-sam3")
    Sam3VideoModel(config).save_pretrained(folder)
    _processor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def stock_loop(repository: Path) -> ModuleType:
    """The module that runs transformers' own loop, which the benchmarks use too."""
    spec = importlib.util.spec_from_file_location("stock_loop", repository / "benchmarks" / "stock.py")
    module = importlib.util.module_from_spec(spec)
    # Its dataclass looks itself up there.
    sys.modules["stock_loop"] = module
    spec.loader.exec_module(module)
    return module
