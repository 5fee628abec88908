"""Fixtures of the tests of removal."""

from __future__ import annotations

import pytest

from tests.unit.cache_store.forgetting import Gate, World


@pytest.fixture
async def world(tmp_path):
    made = World(tmp_path)
    yield made
    await made.cache.close()


@pytest.fixture
def gate(world, monkeypatch):
    """Of the store's writes."""
    made = Gate(world.store, "create", monkeypatch)
    yield made
    made.opened.set()
