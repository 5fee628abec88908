from __future__ import annotations

import os
from pathlib import Path

import pytest

REPO_DIR = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The data that is shared between checkouts: golden files and human clips."""
    path = Path(os.environ.get("TIMBRE_SHARED", REPO_DIR.parent / "shared"))
    if not path.is_dir():
        pytest.skip(f"no shared data at {path}; set TIMBRE_SHARED")
    return path
