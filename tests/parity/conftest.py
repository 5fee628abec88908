"""Where golden data comes from: the small set in the repository, and the larger one beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="session", params=["committed", "shared"])
def golden_dir(request: pytest.FixtureRequest) -> Path:
    """A directory of golden files. "shared": the reference's own, skipped where it is not."""
    if request.param == "committed":
        return ROOT / "tests" / "golden"
    shared: Path = request.getfixturevalue("shared_dir")
    return shared / "golden"
