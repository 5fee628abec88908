"""The Ray cluster of three nodes that the chaos tests share."""

from __future__ import annotations

import os
from unittest.mock import patch

import pytest

from tests.cache_fleet import start_cluster, stop_cluster


@pytest.fixture(scope="package")
def nodes():
    with patch.dict(os.environ):  # what it sets is for this cluster alone
        running = start_cluster()
        yield running
        stop_cluster(running)
