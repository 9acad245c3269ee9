"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def real_clips() -> Path:
    """The folder of real labelled clips, which are not part of the project."""
    folder = Path(os.environ.get("COURTSIDE_REAL_CLIPS", REPOSITORY.parent / "shared" / "data" / "real"))
    if not (folder / "basketball-a" / "video.mp4").is_file():
        pytest.skip(f"needs the real labelled clips; none at {folder} (set COURTSIDE_REAL_CLIPS)")
    return folder
