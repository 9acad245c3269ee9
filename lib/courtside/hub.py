"""A model's folder, fetched from the Hugging Face hub where it isn't here yet, and what its files say."""

from __future__ import annotations

import errno
import json
import re
import struct
import time
from pathlib import Path

from huggingface_hub import constants, get_token, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from courtside.errors import DiskFullError, ModelError

__all__ = ["locate", "read_config", "read_shapes"]

_INSTEAD = "--model data/models/sam3-tiny runs without"

_KINDS = {"sam3_video": "SAM 3 video model"}
_FILES = ["*.json", "*.txt", "*.safetensors"]
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl")
_RETRIED = (408, 425, 429, 500, 502, 503, 504)


def locate(
    model: str | Path,
    *,
    attempts: int = 5,
    first_wait_s: float = 1.0,
    kinds: tuple[str, ...] = ("sam3_video",),
    instead: str = _INSTEAD,
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
        read_config(cached, kinds)
        read_shapes(cached)
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


def read_config(folder: Path, kinds: tuple[str, ...] = ("sam3_video",)) -> dict:
    """The settings in a model folder, which must be of one of ``kinds``."""
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


def read_shapes(folder: Path) -> dict[str, list[int]]:
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
