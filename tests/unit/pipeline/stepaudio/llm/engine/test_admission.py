"""Who holds a slot of the engine and for how long: the queue, slow readers, cancellation."""

from __future__ import annotations

import asyncio
import random
import threading
from dataclasses import replace

import pytest

from pipeline.contracts import Sampling
from pipeline.errors import CapacityError
from pipeline.stepaudio.llm.engine.engine import Engine
from tests.unit.pipeline.stepaudio.llm.engines import MakeEngine, collect, prompt, voiced
from tests.waiting import until

pytestmark = pytest.mark.unit


async def held(engine: Engine, may_step: threading.Event) -> asyncio.Task[list[int]]:
    """A stream that keeps its slot until steps may be taken again."""
    may_step.clear()
    holder = asyncio.create_task(collect(engine.stream(prompt(5, 1), Sampling())))
    await until(lambda: engine.gauges().slots_active == 1)
    return holder


@pytest.mark.slow
@pytest.mark.parametrize("queue_timeout_s", [300.0, 0.2])
async def test_queue_full_and_queue_timeout_are_capacity_errors(
    make_engine: MakeEngine, may_step: threading.Event, queue_timeout_s: float
) -> None:
    engine = make_engine(slots=1, queue_size=1, queue_timeout_s=queue_timeout_s)
    holder = await held(engine, may_step)
    waiter = asyncio.create_task(collect(engine.stream(prompt(5, 2), Sampling())))
    if queue_timeout_s > 1:
        await until(lambda: engine.gauges().queued == 1)
        with pytest.raises(CapacityError, match="1 slots are busy and 1 requests wait"):
            await collect(engine.stream(prompt(5, 3), Sampling()))
        waiter.cancel()
        await asyncio.wait([waiter])
    else:
        with pytest.raises(CapacityError, match=r"within 0\.2 s"):
            await waiter
    assert engine.gauges().queued == 0
    holder.cancel()
    may_step.set()
    await until(lambda: engine.gauges().slots_active == 0)
    assert len(await collect(engine.stream(prompt(5, 1), Sampling(max_tokens=10)))) == 10


async def test_how_long_requests_waited_for_a_slot_is_told_once(
    make_engine: MakeEngine, may_step: threading.Event
) -> None:
    engine = make_engine(slots=1)
    holder = await held(engine, may_step)
    waiter = asyncio.create_task(collect(engine.stream(prompt(5, 2), Sampling(max_tokens=5))))
    await until(lambda: engine.gauges().queued == 1)
    await asyncio.sleep(0.2)
    assert 0.2 <= engine.gauges().queue_age_s < 60
    holder.cancel()
    may_step.set()
    await waiter
    assert engine.gauges().queue_age_s == 0.0
    at_once_s, queued_s = engine.take_waits()
    assert at_once_s < queued_s >= 0.2
    assert engine.take_waits() == []


async def test_aclose_and_task_cancel_free_the_slot_quickly(make_engine: MakeEngine) -> None:
    engine = make_engine(max_context_tokens=1024)
    closed = engine.stream(prompt(5, 1), Sampling(temperature=1))
    await anext(closed)
    task = asyncio.create_task(collect(engine.stream(prompt(400, 2), Sampling(temperature=1))))
    await until(lambda: engine.gauges().slots_active == 2)
    await closed.aclose()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    drawn = engine.gauges().tokens_generated_total
    await until(lambda: engine.gauges().slots_active == 0)
    gauges = engine.gauges()
    assert gauges.cancelled_total == 2
    assert gauges.tokens_generated_total - drawn <= 4, (
        "two streams, the step under way and one more"
    )


async def test_a_waiting_request_can_be_cancelled(
    make_engine: MakeEngine, may_step: threading.Event
) -> None:
    engine = make_engine(slots=1)
    holder = await held(engine, may_step)
    waiter = asyncio.create_task(collect(engine.stream(prompt(5, 2), Sampling())))
    await until(lambda: engine.gauges().queued == 1)
    waiter.cancel()
    await asyncio.wait([waiter])
    assert engine.gauges().queued == 0
    assert not holder.done()
    holder.cancel()


@pytest.mark.slow
async def test_an_answer_is_drawn_to_its_end_however_slowly_it_is_read(
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(slots=1)
    sampling = Sampling(seed=9, max_tokens=60)
    expected = await collect(engine.stream(prompt(30, 4), sampling))
    slow = engine.stream(prompt(30, 4), sampling)
    ids = (await anext(slow)).ids.tolist()
    await until(lambda: engine.gauges().slots_active == 0)
    assert await collect(engine.stream(prompt(30, 4), sampling)) == expected, "the slot is free"
    assert ids + await collect(slow) == expected
    assert engine.gauges().cancelled_total == 0


@pytest.mark.slow
async def test_an_answer_that_nobody_reads_ends_at_its_limit(make_engine: MakeEngine) -> None:
    """As one whose reader's process was killed."""
    engine = make_engine()
    for sampling in (Sampling(max_tokens=35), Sampling()):
        before = engine.gauges().tokens_generated_total
        unread = engine.stream(prompt(200, 4), replace(sampling, temperature=2.0))
        await anext(unread)
        await until(lambda: engine.gauges().slots_active == 0)
        drawn = engine.gauges().tokens_generated_total - before
        assert 5 <= drawn <= min(sampling.max_tokens, engine.context_tokens - 200)
        await unread.aclose()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_requests", "is_short"),
    [(200, False), (400, True), pytest.param(10_000, True, marks=pytest.mark.exhaustive)],
)
async def test_random_joins_and_cancels_leak_nothing_and_leave_survivors_unchanged(
    make_engine: MakeEngine, n_requests: int, *, is_short: bool
) -> None:
    """is_short: prompts of a voice and little else, answers of one or two groups."""
    slot_bytes = 2 * 2 * 2 * 8 * 4  # layers · (key, value) · groups · head · bytes: of a token
    engine = make_engine(slots=12, queue_size=n_requests, prefix_cache_bytes=300 * slot_bytes)
    requests = [voiced(seed, is_short=is_short) for seed in range(8)]
    longest_s = 0.01 if is_short else 0.05
    expected = [await collect(engine.stream(*request)) for request in requests]
    rng = random.Random(0)  # noqa: S311
    n_cancelled = n_survived = 0

    async def join(index: int) -> None:
        nonlocal n_cancelled, n_survived
        seed = index % 8
        task = asyncio.create_task(collect(engine.stream(*requests[seed])))
        if rng.random() < 0.7:
            await asyncio.sleep(rng.random() * longest_s)
            if not task.done():
                task.cancel()
        await asyncio.wait([task])
        if task.cancelled():
            n_cancelled += 1
        else:
            assert task.result() == expected[seed]
            n_survived += 1

    running: set[asyncio.Task[None]] = set()
    for index in range(n_requests):
        running.add(asyncio.create_task(join(index)))
        if len(running) >= 30:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    await asyncio.gather(*running)
    await until(lambda: engine.gauges().slots_active == 0)
    gauges = engine.gauges()
    assert (gauges.queued, gauges.cancelled_total) == (0, n_cancelled)
    assert n_cancelled > n_requests // 5
    assert n_survived > n_requests // 10
    assert 0 < gauges.prefix_bytes <= 300 * slot_bytes
    assert gauges.prefix_hits_total > 0
    assert [await collect(engine.stream(*request)) for request in requests] == expected
