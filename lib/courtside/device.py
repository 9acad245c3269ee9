"""Which device and number format to compute with, and why."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from courtside.errors import DeviceError

__all__ = ["Device", "choose_device", "free_memory"]


@dataclass(frozen=True, slots=True)
class Device:
    """Where to compute, in which format, and the reason in one sentence for the user."""

    device: torch.device
    dtype: torch.dtype
    reason: str

    def __str__(self) -> str:
        said = self.facts()
        return f"{said['device']} in {said['dtype']}: {said['reason']}"

    def facts(self) -> dict[str, str]:
        """``device``, ``dtype`` and ``reason`` as ``config.json`` has them."""
        dtype = str(self.dtype).removeprefix("torch.")
        return {"device": str(self.device), "dtype": dtype, "reason": self.reason}

    def settings(self) -> dict[str, str]:
        """The same as a tracker's settings have it, where the reason is ``device_reason``."""
        said = self.facts()
        return {"device": said["device"], "dtype": said["dtype"], "device_reason": said["reason"]}


def choose_device(wanted: str = "auto") -> Device:
    """The device to use: ``auto`` prefers CUDA, then MPS, then the CPU; a name asks for just that one.

    Each candidate must first compute something. CUDA runs in bfloat16 where the chip has it; MPS and
    the CPU run in float32, since bfloat16 loses detections on MPS and is slow on most CPUs. Raises
    :class:`DeviceError` when the device asked for does not work.

    >>> choose_device("cpu").dtype
    torch.float32
    """
    name = str(wanted).strip().lower()
    kind, _, index = name.partition(":")
    if kind not in ("auto", "cuda", "mps", "cpu") or (index and not (kind == "cuda" and index.isdigit())):
        raise DeviceError(f"unknown device {str(wanted)!r}: use auto, cuda, cuda:0, mps or cpu")
    if kind != "auto":
        problem = _problem(name)
        if problem:
            raise DeviceError(f"the device {name} was asked for but {problem}; use --device auto or cpu")
        return _describe(name, "asked for, and a test computation worked")
    passed_over = []
    for name in ("cuda", "mps"):
        problem = _problem(name)
        if not problem:
            return _describe(name, "; ".join([*passed_over, "a test computation worked"]))
        passed_over.append(f"no {name.upper()}: {problem}")
    return _describe("cpu", "; ".join(passed_over))


def _problem(name: str) -> str:
    """Why ``name`` can't compute here; empty when it can."""
    if name.startswith("cuda"):
        if not torch.cuda.is_available():
            return "PyTorch finds no CUDA GPU"
        count = torch.cuda.device_count()
        if torch.device(name).index is not None and torch.device(name).index >= count:
            return f"this machine has {count} CUDA GPU{'s' if count > 1 else ''}, counted from cuda:0"
    if name == "mps" and not torch.backends.mps.is_available():
        return "PyTorch finds no Apple GPU"
    try:
        difference = _trial(torch.device(name), _dtype(name))
    except (RuntimeError, AssertionError) as error:
        # A driver older than the build, a chip the build has no kernels for, a GPU that is full.
        return f"a test computation failed ({str(error).strip().splitlines()[0][:120]})"
    if not difference < 0.02:
        return f"a test computation came out wrong by {difference:.3g}"
    return ""


def _trial(device: torch.device, dtype: torch.dtype) -> float:
    """Largest error on ``device`` of a convolution and a product whose result is exactly 1."""
    image = torch.ones(1, 16, 8, 8, device=device, dtype=dtype)
    kernel = torch.full((16, 16, 1, 1), 1 / 16, device=device, dtype=dtype)
    features = torch.nn.functional.conv2d(image, kernel).flatten(2)[0]
    product = features.T @ features / 16
    return float((product.float().cpu() - 1).abs().max())


def _dtype(name: str) -> torch.dtype:
    if name.startswith("cuda") and torch.cuda.get_device_capability(name)[0] >= 8:
        return torch.bfloat16
    return torch.float32


def _describe(name: str, why: str) -> Device:
    dtype = _dtype(name)
    if name.startswith("cuda"):
        note = "bfloat16" if dtype == torch.bfloat16 else "float32, since this chip has no bfloat16"
        why = f"{why} on {torch.cuda.get_device_name(name)} in {note}"
    return Device(torch.device(name), dtype, why)


def free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated on ``device``, without swapping and within the container's limit."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return max(0, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    meminfo = Path("/proc/meminfo")
    if not meminfo.is_file():
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    available = int(fields["MemAvailable"].split()[0]) * 1024
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.stat")
    if limit.is_file() and used.is_file() and (most := limit.read_text().strip()) != "max":
        # Only memory that can't be dropped counts: the page cache gives way.
        stat = dict(line.split() for line in used.read_text().splitlines())
        available = min(available, max(0, int(most) - int(stat["anon"])))
    return available
