"""Load a SAM 3 video model from a folder or from the Hugging Face hub, or say in one sentence why not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from courtside.device import Device, free_memory
from courtside.errors import ModelError
from courtside.hub import locate, read_config, read_shapes

if TYPE_CHECKING:
    from transformers import Sam3VideoModel, Sam3VideoProcessor

__all__ = ["fit", "load", "memory_needed"]


def load(
    model: str | Path, device: Device, *, attempts: int = 5, first_wait_s: float = 1.0
) -> tuple[Sam3VideoModel, Sam3VideoProcessor, Device]:
    """The model in evaluation mode, its processor, and the device that it is on.

    ``model`` is a folder written by ``save_pretrained`` or a name on the hub such as
    ``facebook/sam3``. Weights are read from safetensors only and converted to ``device.dtype``. Where
    the device has too little memory the CPU takes over, with a warning. Raises :class:`ModelError`
    where the model can't be had or used; ``attempts`` and ``first_wait_s`` are as in :func:`locate`.
    """
    folder = locate(model, attempts=attempts, first_wait_s=first_wait_s)
    config = read_config(folder)
    shapes = read_shapes(folder)
    _require_processor(folder)
    device = fit(str(model), lambda dtype: memory_needed(shapes, config, dtype), device)
    try:
        return *_load(folder, device), device
    except torch.OutOfMemoryError as error:
        cpu = _cpu_instead(device, f"{device.device} ran out of memory while {model} was loaded")
        if cpu is None:
            raise ModelError(f"{model} does not fit into memory: close other programs") from error
        fit(str(model), lambda dtype: memory_needed(shapes, config, dtype), cpu)
    return *_load(folder, cpu), cpu


def _require_processor(folder: Path) -> None:
    here = {path.name for path in folder.iterdir()}
    if not here & {"tokenizer.json", "vocab.json"}:
        raise ModelError(f"{folder} has no tokenizer (tokenizer.json): save the model's processor beside it")
    if not here & {"processor_config.json", "preprocessor_config.json"}:
        raise ModelError(f"{folder} has no processor_config.json: save the model's processor beside it")


def memory_needed(shapes: dict[str, list[int]], config: dict, dtype: torch.dtype) -> int:
    """Bytes to track with: the weights in ``dtype`` plus room to work, which grows with the image's area.

    The room, 3 GiB at 1008 x 1008 pixels in float32, is an estimate for ten players, made to refuse
    what can't work rather than to promise what will.
    """
    size = torch.finfo(dtype).bits // 8
    weights = sum(size * _product(shape) for shape in shapes.values())
    tracker = config.get("tracker_config") or {}
    side = tracker.get("image_size") or 1008
    side = max(side) if isinstance(side, (list, tuple)) else side
    return weights + int(3 * 2**30 * (side / 1008) ** 2 * size / 4)


def _product(shape: list[int]) -> int:
    count = 1
    for length in shape:
        count *= length
    return count


def fit(
    model: str,
    needed: Callable[[torch.dtype], int],
    device: Device,
    free: Callable[[torch.device], int] = free_memory,
) -> Device:
    """``device`` where it has the memory ``needed`` (bytes, by dtype), else the CPU with a warning.

    Raises :class:`ModelError` when the CPU has too little as well.
    """
    if needed(device.dtype) <= free(device.device):
        return device
    short = (
        f"{model} needs about {needed(device.dtype) / 2**30:.1f} GiB and {device.device} has"
        f" {free(device.device) / 2**30:.1f} GiB free"
    )
    cpu = _cpu_instead(device, short)
    if cpu is None:
        raise ModelError(f"{short}: close other programs; --model data/models/sam3-tiny needs far less")
    return fit(model, needed, cpu, free)


def _cpu_instead(device: Device, why: str) -> Device | None:
    """The CPU in place of ``device``, with a warning; None when it is the CPU that failed."""
    if device.device.type == "cpu":
        return None
    warnings.warn(f"{why}: using the CPU, which is far slower", stacklevel=3)
    return Device(torch.device("cpu"), torch.float32, f"fell back from {device.device}, since {why}")


def _load(folder: Path, device: Device) -> tuple[Sam3VideoModel, Sam3VideoProcessor]:
    from transformers import Sam3VideoModel, Sam3VideoProcessor

    foreign = (
        OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError,
        SafetensorError, StrictDataclassError,
    )  # fmt: skip
    try:
        model, report = Sam3VideoModel.from_pretrained(
            folder, dtype=device.dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
        processor = Sam3VideoProcessor.from_pretrained(folder, local_files_only=True)
    except torch.OutOfMemoryError:
        raise
    except foreign as error:
        # transformers raises whatever a damaged or foreign folder makes it trip over.
        said = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ModelError(f"{folder} can't be loaded as a SAM 3 video model: {said}") from error
    if report["missing_keys"]:
        lacking = sorted(report["missing_keys"])
        raise ModelError(
            f"{folder} lacks {len(lacking)} of the model's weights, {lacking[0]} the first: get its weights"
            " again, or a config.json that fits them"
        )
    return model.to(device.device).eval(), processor
