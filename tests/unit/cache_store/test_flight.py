"""Single flight and write-back: who waits, who is cancelled, what is bounded, what is lost."""

from __future__ import annotations

import asyncio
import contextvars
import time

import pytest

from cache_store import writeback
from cache_store.errors import CacheClosed, StoreDenied, StoreError
from cache_store.flight import SingleFlight
from cache_store.writeback import WriteBack
from tests.cache_helpers import make_key

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("virtual_time")]

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id")


async def test_one_task_for_all_who_ask_meanwhile():
    flight, runs = SingleFlight[int](), 0

    async def work() -> int:
        nonlocal runs
        runs += 1
        await asyncio.sleep(0.02)
        return runs

    results = await asyncio.gather(*(flight.run("k", work) for _ in range(64)))
    assert runs == 1
    assert sorted(joined for _, joined in results) == [False] + [True] * 63
    assert len(flight) == 0
    assert await flight.run("k", work) == (2, False)


async def test_a_cancelled_caller_cancels_only_its_own_wait():
    flight, finished = SingleFlight[str](), asyncio.Event()

    async def work() -> str:
        await asyncio.sleep(0.05)
        finished.set()
        return "done"

    first = asyncio.create_task(flight.run("k", work))
    await asyncio.sleep(0.01)
    second = asyncio.create_task(flight.run("k", work))
    await asyncio.sleep(0.01)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await second == ("done", True)


async def test_the_work_ends_even_when_every_caller_is_gone():
    flight, finished = SingleFlight[None](), asyncio.Event()

    async def work() -> None:
        await asyncio.sleep(0.02)
        finished.set()

    caller = asyncio.create_task(flight.run("k", work))
    await asyncio.sleep(0.005)
    caller.cancel()
    await asyncio.wait_for(finished.wait(), 1)


async def test_the_work_runs_outside_the_callers_context():
    """Ray finds what to cancel through context variables."""
    flight = SingleFlight[str | None]()
    request_id.set("r-1")

    async def work() -> str | None:
        return request_id.get(None)

    assert (await flight.run("k", work))[0] is None
    assert request_id.get() == "r-1"


async def test_a_failure_reaches_all_and_is_not_remembered():
    flight, runs = SingleFlight[int](), 0

    async def work() -> int:
        nonlocal runs
        runs += 1
        await asyncio.sleep(0.01)
        if runs == 1:
            raise ValueError("first")
        return runs

    results = await asyncio.gather(
        *(flight.run("k", work) for _ in range(3)), return_exceptions=True
    )
    assert [str(result) for result in results] == ["first"] * 3
    assert await flight.run("k", work) == (2, False)


async def test_a_failure_that_nobody_waits_for_is_not_reported_as_lost():
    flight, lost = SingleFlight[None](), []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))

    async def work() -> None:
        await asyncio.sleep(0.01)
        raise ValueError("nobody listens")

    caller = asyncio.create_task(flight.run("k", work))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.sleep(0.03)
    import gc

    gc.collect()
    assert lost == []


async def test_closing_waits_and_then_tells_the_callers():
    flight = SingleFlight[str]()

    async def work(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "done"

    quick = asyncio.create_task(flight.run("quick", lambda: work(0.02)))
    stuck = asyncio.create_task(flight.run("stuck", lambda: work(60)))
    await asyncio.sleep(0)
    await flight.close(0.1)
    assert await quick == ("done", False)
    with pytest.raises(CacheClosed):
        await stuck


@pytest.fixture(autouse=True)
def _short_backoff(monkeypatch):
    monkeypatch.setattr(writeback, "FIRST_RETRY_S", 0.001)


def make_queue(write, **changes):
    limits = {"max_bytes": 1000, "max_entries": 10, "workers": 2, "tries": 3} | changes
    return WriteBack(write, **limits)


async def test_everything_offered_is_written_before_close_returns():
    written = []

    async def write(key, entry):
        await asyncio.sleep(0.005)
        written.append((key, entry))

    queue = make_queue(write)
    keys = [make_key(str(i)) for i in range(8)]
    assert all(queue.offer(key, b"x" * 100) for key in keys)
    assert queue.offer(keys[0], b"x" * 100)  # already under way
    assert await queue.close(1) == 0
    assert sorted(key.digest for key, _ in written) == sorted(key.digest for key in keys)
    stats = queue.stats()
    assert (stats.written, stats.entries, stats.bytes, stats.dropped) == (8, 0, 0, 0)


async def test_the_queue_is_bounded_by_bytes_and_by_entries():
    gate = asyncio.Event()

    async def write(key, entry):
        await gate.wait()

    by_bytes = make_queue(write)
    assert by_bytes.offer(make_key("a"), b"x" * 900)
    assert not by_bytes.offer(make_key("b"), b"x" * 101)
    assert by_bytes.offer(make_key("c"), b"x" * 100)
    by_entries = make_queue(write)
    assert [by_entries.offer(make_key(str(i)), b"x") for i in range(11)] == [True] * 10 + [False]
    assert by_entries.stats().dropped == 1
    gate.set()
    assert await by_bytes.close(1) == 0
    assert await by_entries.close(1) == 0


async def test_failures_are_retried_a_bounded_number_of_times():
    attempts = 0

    async def write(key, entry):
        nonlocal attempts
        attempts += 1
        if key.digest == doomed.digest or attempts < 2:
            raise StoreError("down")

    doomed, lucky = make_key("doomed"), make_key("lucky")
    queue = make_queue(write, workers=1)
    queue.offer(lucky, b"x")
    queue.offer(doomed, b"x")
    await queue.close(5)
    stats = queue.stats()
    assert (stats.written, stats.dropped, stats.retries, attempts) == (1, 1, 3, 5)


async def test_a_refusal_is_not_retried():
    attempts = 0

    async def write(key, entry):
        nonlocal attempts
        attempts += 1
        raise StoreDenied("403")

    queue = make_queue(write)
    queue.offer(make_key(), b"x")
    await queue.close(5)
    assert attempts == 1
    assert queue.stats().dropped == 1


async def test_close_keeps_its_deadline():
    async def write(key, entry):
        await asyncio.sleep(60)

    queue = make_queue(write)
    for i in range(5):
        queue.offer(make_key(str(i)), b"x")
    started = time.monotonic()
    assert await queue.close(0.05) == 5
    assert time.monotonic() - started < 1
    assert queue.stats().dropped == 5
