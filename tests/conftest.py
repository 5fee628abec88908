"""Fixtures that all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cache_helpers import S3Server, make_bucket, ministack

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


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server on loopback that checks signatures, with a bucket and a user for it."""
    directory: Path = tmp_path_factory.mktemp("s3")
    with ministack(directory) as (endpoint, _):
        yield make_bucket(endpoint, "voices")
