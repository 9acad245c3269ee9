"""What is installed on this machine, what is missing for a run, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from courtside import notebook
from courtside.errors import CourtsideError
from courtside.settings import DEFAULT_MODEL

__all__ = ["Finding", "describe", "examine", "versions"]

_DISTRIBUTIONS = (
    "av",
    "courtside",
    "motmetrics",
    "numpy",
    "onnxruntime",
    "pandas",
    "rapidocr",
    "supervision",
)
_DISTRIBUTIONS += ("supervision", "torch", "torchvision", "trackers", "transformers")
_LEAST_DISK_BYTES = 2e9
_LEAST_MEMORY_BYTES = 4e9
_MARKS = {"good": "ok  ", "note": "note", "missing": "MISS"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    ``state`` is ``good``, ``note`` (some runs do without) or ``missing`` (every run needs it). ``fix``
    says what to do, and is empty where nothing is to be done.
    """

    name: str
    state: str
    text: str
    fix: str = ""


def examine() -> list[Finding]:
    """Look at everything a run needs. Downloads nothing and writes nothing."""
    looks: list[Callable[[], Finding]] = [_python, _packages, _device, _codecs, _weights, _login]
    looks += [_reader, _kernel, _report_notebook, _disk, _memory]
    return [look() for look in looks]


def describe(findings: list[Finding]) -> str:
    """The findings as lines of text, each fix on a line of its own.

    >>> print(describe([Finding("disk", "note", "1 GB free", "free some")]))
    note  disk      1 GB free
                    -> free some
    """
    lines = []
    for finding in findings:
        lines.append(f"{_MARKS[finding.state]}  {finding.name:<8}  {finding.text}")
        if finding.fix:
            lines.append(f"{'':16}-> {finding.fix}")
    return "\n".join(lines)


def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that results depend on; None for one not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def _python() -> Finding:
    text = f"{platform.python_version()} at {sys.executable} on {platform.system()} {platform.machine()}"
    if (3, 11) <= sys.version_info[:2] <= (3, 12):
        return Finding("python", "good", text)
    return Finding("python", "missing", text, "install Python 3.11 or 3.12 and run make setup")


def _packages() -> Finding:
    found = versions()
    text = ", ".join(f"{name} {version or 'missing'}" for name, version in found.items() if name != "python")
    if None in found.values():
        return Finding("packages", "missing", text, "run make setup in the checkout of Courtside")
    return Finding("packages", "good", text)


def _device() -> Finding:
    from courtside.device import choose_device

    try:
        return Finding("device", "good", str(choose_device("auto")))
    except CourtsideError as error:
        return Finding("device", "missing", str(error), "run make setup to install PyTorch again")


def _codecs() -> Finding:
    import av

    library = ".".join(map(str, av.library_versions["libavcodec"]))
    wanted = {"h264": "r", "hevc": "r", "libx264": "w"}
    lacking = []
    for name, mode in wanted.items():
        try:
            av.codec.Codec(name, mode)
        except av.codec.codec.UnknownCodecError:
            lacking.append(name)
    text = f"PyAV {importlib.metadata.version('av')} with FFmpeg's libavcodec {library}"
    if lacking:
        return Finding(
            "video", "missing", f"{text} lacks {', '.join(lacking)}", "pip install --force-reinstall av"
        )
    return Finding("video", "good", f"{text}: reads H.264 and HEVC, writes H.264")


def _weights() -> Finding:
    import huggingface_hub

    lacking = [
        name
        for name in ("config.json", "model.safetensors")
        if not isinstance(huggingface_hub.try_to_load_from_cache(DEFAULT_MODEL, name), str)
    ]
    if not lacking:
        return Finding("weights", "good", f"{DEFAULT_MODEL} is on this machine")
    return Finding(
        "weights",
        "note",
        f"{DEFAULT_MODEL} is not on this machine (about 3.4 GB, fetched when first used)",
        f"accept its licence at https://huggingface.co/{DEFAULT_MODEL} and log in; "
        "without access, --tracker bytetrack works from a detections file",
    )


def _login() -> Finding:
    import huggingface_hub

    if huggingface_hub.get_token() is not None:
        return Finding(
            "login", "good", "a Hugging Face token is stored (not checked, since that needs a network)"
        )
    return Finding("login", "note", "no Hugging Face token is stored", "run hf auth login")


def _reader() -> Finding:
    from courtside.jersey.readers import find_recogniser

    try:
        model = find_recogniser()
    except CourtsideError as error:
        return Finding(
            "reader", "note", str(error), "run make setup; runs work without, numbers stay unknown"
        )
    return Finding("reader", "good", f"jersey numbers are read by {model.stem}, offline")


def _kernel() -> Finding:
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    try:
        spec = KernelSpecManager().get_kernel_spec("python3")
    except NoSuchKernel:
        return Finding(
            "kernel", "missing", "no notebook kernel python3", "pip install --force-reinstall ipykernel"
        )
    return Finding("kernel", "good", f"python3 in {spec.resource_dir}")


def _report_notebook() -> Finding:
    try:
        return Finding("notebook", "good", str(notebook.find()))
    except CourtsideError as error:
        return Finding("notebook", "missing", str(error), "run make setup in the checkout of Courtside")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    text = f"{free / 1e9:.1f} GB free in {Path.cwd()}"
    if free < _LEAST_DISK_BYTES:
        return Finding("disk", "note", text, "free some space, or put runs elsewhere with --out")
    return Finding("disk", "good", text)


def _memory() -> Finding:
    import torch

    from courtside.device import free_memory

    free = free_memory(torch.device("cpu"))
    text = f"{free / 1e9:.1f} GB free, {os.cpu_count()} CPU cores"
    if free < _LEAST_MEMORY_BYTES:
        return Finding("memory", "note", text, "close other programs before you load a large model")
    return Finding("memory", "good", text)
