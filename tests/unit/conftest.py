"""Fixtures of the unit tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cache_helpers import S3Server, make_bucket, ministack


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server on loopback that checks signatures, with a bucket and a user for it."""
    directory: Path = tmp_path_factory.mktemp("s3")
    with ministack(directory) as (endpoint, _):
        yield make_bucket(endpoint, "voices")
