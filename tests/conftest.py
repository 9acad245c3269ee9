"""Fixtures that every test may use."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def _hear_ctrl_c() -> None:
    """Jobs in the background are started deaf to Ctrl-C, and would hand that on to what tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def tiny_sam3() -> Path:
    """The folder of the tiny SAM 3 that the project brings."""
    return REPOSITORY / "data" / "models" / "sam3-tiny"


@pytest.fixture(scope="session")
def real_clips() -> Path:
    """The folder of real labelled clips, which are not part of the project."""
    folder = Path(os.environ.get("COURTSIDE_REAL_CLIPS", REPOSITORY.parent / "shared" / "data" / "real"))
    if not (folder / "basketball-a" / "video.mp4").is_file():
        pytest.skip(f"needs the real labelled clips; none at {folder} (set COURTSIDE_REAL_CLIPS)")
    return folder
