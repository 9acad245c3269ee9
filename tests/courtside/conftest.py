"""Fixtures of the library's tests: a small SAM 3 video model with random weights, and a browser."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from transformers import Sam3VideoModel, Sam3VideoProcessor

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip

SIDE, PATCH = 112, 14
WIDTH = 128
TOKENS = 32


def _config(side: int = SIDE, patch: int = PATCH, layers: int = 2):
    """A configuration for frames of ``side`` pixels; ``layers`` of the backbone, heads and memory fuser."""
    from transformers import Sam3VideoConfig

    grid = side // patch
    vision = {
        "model_type": "sam3_vision_model",
        "fpn_hidden_size": WIDTH,
        "backbone_feature_sizes": [[grid * scale] * 2 for scale in (4, 2, 1)],
        "backbone_config": {
            "model_type": "sam3_vit_model",
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": layers,
            "num_attention_heads": 2,
            "image_size": side,
            "pretrain_image_size": side,
            "patch_size": patch,
            "window_size": 4,
            "global_attn_indexes": [layers - 1],
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
        "image_size": side,
        "prompt_encoder_config": {"hidden_size": WIDTH, "image_size": side, "patch_size": patch},
        "mask_decoder_config": {
            "hidden_size": WIDTH,
            "mlp_dim": 128,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "iou_head_hidden_dim": WIDTH,
        },
        "memory_attention_hidden_size": WIDTH,
        "memory_attention_num_layers": 1,
        "memory_attention_feed_forward_hidden_size": 128,
        "memory_attention_dropout": 0.0,
        "memory_attention_rope_dropout": 0.0,
        "memory_attention_rope_feat_sizes": [grid, grid],
        "memory_encoder_hidden_size": WIDTH,
        "memory_encoder_output_channels": 64,
        "mask_downsampler_embed_dim": WIDTH,
        "memory_fuser_num_layers": layers,
        "memory_fuser_embed_dim": WIDTH,
        "memory_fuser_intermediate_dim": 128,
    }
    return Sam3VideoConfig(detector_config=detector, tracker_config=tracker, low_res_mask_size=4 * grid)


def _processor(side: int = SIDE):
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer, Sam2VideoVideoProcessor, Sam3ImageProcessor, Sam3VideoProcessor

    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    size = {"height": side, "width": side}
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
def lettered_processor() -> Callable[[int], Sam3VideoProcessor]:
    """Makes a processor for frames of so many pixels; to its tokenizer, a letter is a token."""
    return _processor


@pytest.fixture(scope="session")
def stock_loop(repository: Path) -> ModuleType:
    """The module that runs transformers' own loop, which the benchmarks use too."""
    spec = importlib.util.spec_from_file_location("stock_loop", repository / "benchmarks" / "stock.py")
    module = importlib.util.module_from_spec(spec)
    # Its dataclass looks itself up there.
    sys.modules["stock_loop"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def lively_sam3() -> Callable[..., Sam3VideoModel]:
    """Builds SAM 3 video models of random weights loud enough to give each object a mask of its own.

    Called with a seed, ``gain`` and ``bias`` of the head that finds objects there or absent, and settings of
    ``config.json``. They take 32 x 32 pixels, so they are fast, and compute in float64, so that two loops
    differ only where they do different things.
    """
    import torch
    from torch import nn
    from transformers import Sam3VideoModel

    def build(seed: int, gain: float = 1.0, bias: float = 0.0, **settings) -> Sam3VideoModel:
        torch.manual_seed(seed)
        config = _config(side=32, patch=8, layers=1)
        for name, value in settings.items():
            setattr(config, name, value)
        model = Sam3VideoModel(config).eval()
        for module in model.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
            elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight)
        tracker = model.tracker_model
        silent = ("no_memory_embedding", "memory_temporal_positional_encoding", "no_object_pointer")
        with torch.no_grad():
            for name in (*silent, "occlusion_spatial_embedding_parameter"):
                nn.init.normal_(getattr(tracker, name), std=0.5)
            tracker.mask_downsample.weight.fill_(10 / 16)
            tracker.mask_downsample.bias.fill_(-5)
            tracker.memory_encoder.mask_downsampler.final_conv.weight.mul_(4)
            for layer in tracker.memory_encoder.memory_fuser.layers:
                layer.scale.fill_(0.3)
            head = tracker.mask_decoder.pred_obj_score_head.proj_out
            head.weight.mul_(gain)
            head.bias.add_(bias)
        return model.double()

    return build


@pytest.fixture(scope="session")
def browser() -> Iterator:
    """Chromium, without a window."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright (in the extra dev)")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("needs Chromium on the path (apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def wait_for() -> Callable[..., None]:
    """Wait at most so many seconds until something has happened, as long as the worker that does it lives."""

    def wait(
        happened: Callable[[], bool], worker: subprocess.Popen | None = None, seconds: float = 60
    ) -> None:
        deadline = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < deadline
            assert worker is None or worker.poll() is None, worker.stderr.read()
            time.sleep(0.01)

    return wait
