"""Fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The directory with golden files and clips: TIMBRE_SHARED, else beside the repository.

    Skips when absent.
    """
    directory = Path(os.environ.get("TIMBRE_SHARED", ROOT.parent / "shared"))
    if not directory.is_dir():
        pytest.skip(f"no shared data at {directory}")
    return directory
