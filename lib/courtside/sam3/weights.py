"""Load a SAM 3 video model from a folder or from the Hugging Face hub, or say in one sentence why not."""

from __future__ import annotations

import errno
import json
import re
import struct
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from huggingface_hub import constants, get_token, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    StrictDataclassError,
)
from safetensors import SafetensorError

from courtside.device import Device, free_memory
from courtside.errors import DiskFullError, ModelError

if TYPE_CHECKING:
    from transformers import Sam3VideoModel, Sam3VideoProcessor

__all__ = ["fit", "load", "locate", "memory_needed"]

INSTEAD = "--model data/models/sam3-tiny runs without"

_KINDS = {"sam3_video": "SAM 3 video model"}
_FILES = ["*.json", "*.txt", "*.safetensors"]
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl")
_RETRIED = (408, 425, 429, 500, 502, 503, 504)


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
    config = _read_config(folder)
    shapes = _read_shapes(folder)
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


def locate(
    model: str | Path,
    *,
    attempts: int = 5,
    first_wait_s: float = 1.0,
    kinds: tuple[str, ...] = ("sam3_video",),
    instead: str = INSTEAD,
) -> Path:
    """The folder that holds ``model``, downloaded first where it is a name on the hub.

    What was downloaded before is used without asking the network. A network that fails is tried
    ``attempts`` times, after waits of ``first_wait_s``, twice that, and so on. ``kinds`` are the model
    types that will do, and ``instead`` ends sentences about a download that failed.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        raise ModelError(f"{model} is a file: give the folder with config.json and model.safetensors")
    is_name = re.fullmatch(r"[\w.-]+/[\w.-]+", str(model)) and not str(model).startswith(".")
    if not is_name or path.parent.is_dir():
        raise ModelError(
            f"there is no model folder {model}: give a folder with config.json and model.safetensors,"
            " or facebook/sam3"
        )
    return _download(str(model), attempts, first_wait_s, kinds, instead)


def _download(name: str, attempts: int, first_wait_s: float, kinds: tuple[str, ...], instead: str) -> Path:
    try:
        cached = Path(snapshot_download(name, allow_patterns=_FILES, local_files_only=True))
        _read_config(cached, kinds)
        _read_shapes(cached)
        return cached
    except (LocalEntryNotFoundError, ModelError):
        pass  # Nothing here yet, or a download that was cut off: the hub has the rest.
    except HFValidationError as error:
        raise ModelError(f"{name!r} is neither a folder nor a name on the Hugging Face hub") from error
    if constants.is_offline_mode():
        raise ModelError(f"{name} was not downloaded yet and HF_HUB_OFFLINE forbids it: unset it; {instead}")
    for attempt in range(attempts):
        try:
            return Path(snapshot_download(name, allow_patterns=_FILES))
        except GatedRepoError as error:
            accept = f"accept the licence at https://huggingface.co/{name}"
            if get_token() is None:
                accept = f"run `hf auth login` and {accept}"
            raise ModelError(f"{name} is gated and you have no access yet: {accept}; or {instead}") from error
        except RepositoryNotFoundError as error:
            raise ModelError(
                f"the Hugging Face hub shows no model {name}: check the name, or run `hf auth login` if it"
                f" is private; {instead}"
            ) from error
        except (OSError, HTTPError) as error:
            if getattr(error, "errno", None) == errno.ENOSPC:
                raise DiskFullError(
                    f"the disk filled up while {name} was downloaded to {constants.HF_HUB_CACHE}: make room"
                    " or set HF_HOME to another disk"
                ) from error
            status = _http_status(error)
            if status is not None and status not in _RETRIED:
                raise ModelError(
                    f"the Hugging Face hub refused {name} with HTTP status {status}: try again later,"
                    f" or {instead}"
                ) from error
            failure = error
        if attempt + 1 < attempts:
            time.sleep(first_wait_s * 2**attempt)
    raise ModelError(
        f"no network: {name} could not be downloaded in {attempts} attempts; connect and try again (gated"
        f" weights also need `hf auth login` and the licence accepted at the model's page), or {instead}"
    ) from failure


def _http_status(error: BaseException | None) -> int | None:
    """What the hub answered, which its client may wrap; None where it never answered."""
    while error is not None:
        if isinstance(error, HfHubHTTPError) and error.response is not None:
            return error.response.status_code
        error = error.__cause__
    return None


def _read_config(folder: Path, kinds: tuple[str, ...] = ("sam3_video",)) -> dict:
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(f"{folder} is no model folder: it has no config.json")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        kind = config.get("model_type")
    except (ValueError, AttributeError) as error:
        raise ModelError(f"{path} is not the JSON of a model's settings: get the file again") from error
    if kind not in kinds:
        raise ModelError(
            f"{folder} is not a {_KINDS.get(kinds[0], kinds[0])}: its config.json says model_type"
            f" {kind!r}, not {kinds[0]!r}"
        )
    return config


def _read_shapes(folder: Path) -> dict[str, list[int]]:
    """The shape of each weight, from the heads of the safetensors files."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            files = sorted({folder / name for name in json.loads(index.read_text())["weight_map"].values()})
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ModelError(f"{index} does not say where the weights are: get the file again") from error
    else:
        files = [folder / "model.safetensors"]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        pickles = sorted(file.name for pattern in _PICKLES for file in folder.glob(pattern))
        if pickles and not index.is_file():
            raise ModelError(
                f"{folder} has its weights only as a pickle ({pickles[0]}), which can run any code when"
                " read: convert them to model.safetensors"
            )
        raise ModelError(f"{folder} has no weights: {missing[0]} is missing")
    shapes: dict[str, list[int]] = {}
    for file in files:
        shapes |= _read_head(file)
    return shapes


def _read_head(file: Path) -> dict[str, list[int]]:
    """Shapes from the JSON that starts a safetensors file; the package would map all of it into memory."""
    try:
        with open(file, "rb") as opened:
            length = struct.unpack("<Q", opened.read(8))[0]
            start, size = 8 + length, file.stat().st_size
            head = json.loads(opened.read(length)) if start <= size else {}
        head.pop("__metadata__", None)
        end = start + max((entry["data_offsets"][1] for entry in head.values()), default=0)
        shapes = {key: [int(side) for side in entry["shape"]] for key, entry in head.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise ModelError(f"{file} is damaged, its head can't be read: get the file again") from error
    if size < end:
        raise ModelError(f"{file} is cut off at {size} of {end} bytes: get the file again")
    return shapes


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
