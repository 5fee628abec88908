"""The breaker: when it opens, what passes while it is open, and that it recovers by itself."""

from __future__ import annotations

import asyncio
import time

import pytest

from cache_store.breaker import Breaker, BreakerPolicy, BreakerState
from cache_store.errors import StoreDenied, StoreError, StoreSkipped

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("virtual_time")]

FAST = BreakerPolicy(first_probe_s=0.02, longest_probe_s=0.05)


class Backend:
    def __init__(self) -> None:
        self.error: Exception | None = None
        self.probes = 0

    async def probe(self) -> None:
        self.probes += 1
        if self.error:
            raise self.error


async def call(breaker: Breaker, error: Exception | None = None) -> None:
    async with breaker.guard():
        if error:
            raise error


@pytest.fixture
async def pair():
    backend = Backend()
    breaker = Breaker("test", backend.probe, FAST)
    yield backend, breaker
    await breaker.close()


async def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        with pytest.raises(StoreError):
            await call(breaker, StoreError("down"))


async def test_five_failures_in_a_row_open_it(pair):
    backend, breaker = pair
    backend.error = StoreError("down")
    await fail(breaker, 4)
    await call(breaker)
    await fail(breaker, 4)
    assert breaker.state is BreakerState.CLOSED
    await fail(breaker, 1)
    assert breaker.state is BreakerState.OPEN
    with pytest.raises(StoreSkipped, match="down"):
        await call(breaker)


async def test_half_of_many_failing_opens_it(pair):
    backend, breaker = pair
    backend.error = StoreError("down")
    for _ in range(10):
        if breaker.state is BreakerState.OPEN:
            break
        await call(breaker)
        await fail(breaker, 1)
    assert breaker.openings == 1


async def test_refused_credentials_open_it_at_once(pair):
    backend, breaker = pair
    backend.error = StoreDenied("403")
    with pytest.raises(StoreDenied):
        await call(breaker, StoreDenied("403"))
    assert breaker.state is BreakerState.OPEN
    assert breaker.reason == "403"


async def test_errors_that_are_not_the_stores_do_not_count(pair):
    _, breaker = pair
    for _ in range(20):
        with pytest.raises(KeyError):
            await call(breaker, KeyError("a bug"))
    assert breaker.state is BreakerState.CLOSED


async def test_it_closes_by_itself_without_any_request(pair):
    backend, breaker = pair
    backend.error = StoreError("down")
    await fail(breaker, 5)
    await asyncio.sleep(0.15)
    assert breaker.state is BreakerState.OPEN
    assert 2 <= backend.probes <= 10  # pauses grow to the longest
    backend.error = None
    started = time.monotonic()
    await asyncio.wait_for(breaker.wait_closed(), 1)
    assert time.monotonic() - started < 0.2
    await call(breaker)
    await fail(breaker, 4)
    assert breaker.state is BreakerState.CLOSED  # old failures are forgotten
