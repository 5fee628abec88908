"""Leases: one holder at a time, until it lapses or is given back."""

from __future__ import annotations

import asyncio
import time

import pytest

from cache_store.leases import LeaseTable

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("virtual_time")]


async def test_one_holder_at_a_time():
    table = LeaseTable()
    fence = table.claim("d", "a", 10)
    assert fence is not None
    assert table.claim("d", "b", 10) is None
    assert table.claim("other", "b", 10) is not None
    table.release("d", "b", fence)  # not its holder
    assert table.claim("d", "b", 10) is None
    table.release("d", "a", fence)
    assert table.claim("d", "b", 10) == fence + 2


async def test_a_lease_lapses_unless_renewed():
    table = LeaseTable()
    fence = table.claim("d", "a", 0.05)
    for _ in range(4):
        await asyncio.sleep(0.03)
        assert table.renew("d", "a", fence, 0.05) == fence
    assert table.claim("d", "b", 1) is None
    await asyncio.sleep(0.06)
    assert table.claim("d", "b", 1) is not None
    assert table.renew("d", "a", fence, 1) is None
    assert (table.stats()["expired"], table.stats()["fenced"]) == (1, 1)


async def test_a_holder_that_renews_in_an_empty_table_goes_on():
    table = LeaseTable()
    assert table.renew("d", "a", 77, 10) is not None
    assert table.claim("d", "b", 10) is None


async def test_waiters_wake_at_release_and_at_expiry():
    table = LeaseTable()
    fence = table.claim("d", "a", 10)

    async def waited_s(timeout_s: float) -> float:
        started = time.monotonic()
        await table.wait("d", timeout_s)
        return time.monotonic() - started

    waiters = [asyncio.create_task(waited_s(5)) for _ in range(3)]
    await asyncio.sleep(0.02)
    table.release("d", "a", fence)
    assert max(await asyncio.gather(*waiters)) < 0.2
    table.claim("d", "a", 0.05)
    assert 0.04 < await waited_s(5) < 0.2
    table.claim("d", "a", 10)
    assert 0.04 < await waited_s(0.05) < 0.2


async def test_abandoned_leases_do_not_pile_up(monkeypatch):
    monkeypatch.setattr("cache_store.leases._SWEEP_AT", 100)
    table = LeaseTable()
    for i in range(1000):
        table.claim(str(i), "a", 0.0)
    assert table.stats()["leases"] <= 101
