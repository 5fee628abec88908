"""Fixtures of every tier."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Golden data and human clips, which the project may not commit; tests that need them skip without."""
    path = Path(os.environ.get("TIMBRE_SHARED", ROOT.parent / "shared"))
    if not (path / "golden").is_dir():
        pytest.skip("no shared directory with golden data and clips beside the project")
    return path
