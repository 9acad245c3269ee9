"""The engine's state in one file, so that following a video can stop at any frame and go on from there."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from courtside.errors import RunError
from courtside.files import whole
from courtside.sam3.association import Track
from courtside.sam3.engine import FrameMasks, State
from courtside.sam3.memory import Memory, MemoryBank

__all__ = ["read_state", "write_state"]

_KINDS = ("conditioning", "tracked")
_PLAIN_TRACK = tuple(each.name for each in fields(Track) if each.name not in ("given", "memory"))
_PLAIN_FRAME = tuple(each.name for each in fields(FrameMasks) if each.name != "masks")


def write_state(path: Path, state: State, **more: Any) -> None:
    """Write ``state`` and the JSON-safe values ``more`` as a safetensors file, whole or not at all."""
    tensors: dict[str, torch.Tensor] = {}
    tracks = []
    for index, track in enumerate(state.tracks):
        values = {name: getattr(track, name) for name in _PLAIN_TRACK}
        for kind in _KINDS:
            memories: dict[int, Memory] = getattr(track.memory, kind)
            values[kind] = list(memories)
            for frame, memory in memories.items():
                tensors[f"{kind}.{index}.{frame}.pointer"] = memory.pointer
                if memory.features is not None:
                    tensors[f"{kind}.{index}.{frame}.features"] = memory.features
        values["given"] = list(track.given)
        tensors |= {f"given.{index}.{frame}": mask for frame, mask in track.given.items()}
        values["qualities"] = [memory.quality for memory in track.memory.tracked.values()]
        tracks.append(values)
    waiting = []
    for place, frame in enumerate(state.waiting):
        waiting.append({name: getattr(frame, name) for name in _PLAIN_FRAME})
        tensors |= {f"waiting.{place}.{at}": mask for at, mask in enumerate(frame.masks)}
    plain = {each.name: getattr(state, each.name) for each in fields(State)}
    plain |= {"tracks": tracks, "waiting": waiting}
    # A view would be written with all of its storage, and shared storages are refused.
    tensors = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    with whole(path) as part:
        save_file(tensors, part, metadata={"state": json.dumps(plain), "more": json.dumps(more)})


def read_state(path: Path, device: torch.device | str = "cpu") -> tuple[State, dict[str, Any]]:
    """What :func:`write_state` wrote, tensors on ``device``; raises :class:`RunError` if it is damaged."""
    try:
        with safe_open(path, "pt", device=str(device)) as file:
            metadata = file.metadata()
            plain, more = json.loads(metadata["state"]), json.loads(metadata["more"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return _restore(plain, tensors), more
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"the checkpoint {path} can't be read ({error}): delete it to start anew") from error


def _restore(plain: dict[str, Any], tensors: dict[str, torch.Tensor]) -> State:
    tracks = []
    for index, values in enumerate(plain.pop("tracks")):
        bank = MemoryBank()
        qualities = values.pop("qualities")
        values["given"] = {frame: tensors[f"given.{index}.{frame}"] for frame in values["given"]}
        for kind in _KINDS:
            for frame in values.pop(kind):
                name = f"{kind}.{index}.{frame}"
                memory = Memory(tensors.get(f"{name}.features"), tensors[f"{name}.pointer"])
                getattr(bank, kind)[frame] = memory
        for memory, quality in zip(bank.tracked.values(), qualities, strict=True):
            memory.quality = quality
        # JSON knows no numbers as keys.
        values["doubles"] = {int(other): count for other, count in values["doubles"].items()}
        tracks.append(Track(**values, memory=bank))
    waiting = []
    for place, values in enumerate(plain.pop("waiting")):
        columns = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        masks = tuple(tensors[f"waiting.{place}.{at}"] for at in range(len(columns["object_ids"])))
        waiting.append(FrameMasks(**columns, masks=masks))
    return State(**plain, tracks=tracks, waiting=waiting)
