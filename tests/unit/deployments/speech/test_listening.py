"""What is being made has any number of listeners, in any process; some go away, and some die."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.contracts import (
    Usage,
)
from pipeline.errors import CapacityError
from tests.fakes import SAMPLES_PER_GROUP
from tests.unit.cache_store.replicas import make_index
from tests.unit.deployments.speech.processes import first_of, samples_of, source_of
from tests.waiting import until

pytestmark = pytest.mark.unit


async def test_who_listened_elsewhere_has_the_tokens_when_they_are_published(made) -> None:
    index = make_index()
    maker, other = made(index), made(index)
    maker.speaker.step = asyncio.Semaphore(0)
    first = asyncio.create_task(maker.hear())
    maker.let_out(1)
    await until(lambda: maker.speaker.open_streams == 1)
    listening = await other.ask()
    await anext(listening)
    maker.let_out(2)
    heard = [chunk async for chunk in listening]
    expected = (await first)[-1].drawn.ids
    while heard[-1].drawn is None:
        await asyncio.sleep(0.01)
        heard = await other.listen()
    assert np.array_equal(heard[-1].drawn.ids, expected)
    assert not other.speaker.requests


async def test_equal_requests_at_once_are_one_computation_heard_from_its_start(made) -> None:
    process = made()
    process.speaker.step = asyncio.Semaphore(0)
    first = asyncio.create_task(process.hear())
    process.let_out(2)
    await until(lambda: process.speaker.step.locked() and process.live() == 1)
    late = await process.ask()
    heard = [await anext(late), await anext(late)]  # what was said before it came, at once
    process.let_out(1)
    heard += [chunk async for chunk in late]
    made_now = await first
    assert samples_of(made_now) == samples_of(heard)
    assert (source_of(made_now), source_of(heard)) == ("none", "joined")
    assert len(process.speaker.requests) == 1


async def test_a_first_caller_who_leaves_takes_nothing_from_the_others(made) -> None:
    process = made()
    process.speaker.step = asyncio.Semaphore(0)
    first, second = await process.ask(), await process.ask()
    process.let_out(1)
    await anext(first)
    await anext(second)
    await first.aclose()
    process.let_out(2)
    rest = [chunk async for chunk in second]
    assert rest[-1].last
    assert len(process.speaker.requests) == 1
    assert source_of(await process.hear()) == "l1"


async def test_what_nobody_listens_to_is_cancelled_and_not_kept(made) -> None:
    process = made(make_index())
    process.speaker.step = asyncio.Semaphore(0)
    listeners = [await process.ask(), await process.ask()]
    process.let_out(1)
    for listener in listeners:
        await anext(listener)
    for listener in listeners:
        await listener.aclose()
    await until(lambda: not process.speaker.open_streams and not process.live())
    process.let_out(3)
    assert source_of(await process.hear()) == "none"  # at once, though the other had just ended
    assert len(process.speaker.requests) == 2


async def test_listeners_of_another_process_hear_it_from_its_start(made) -> None:
    index = make_index()
    maker, other = made(index), made(index)
    maker.speaker.step = asyncio.Semaphore(0)
    first = asyncio.create_task(maker.hear())
    maker.let_out(1)
    await until(lambda: maker.speaker.open_streams == 1)
    listening = await other.ask()
    heard = [await anext(listening)]
    assert len(heard[0].samples) == SAMPLES_PER_GROUP  # while the second chunk is not made yet
    maker.let_out(2)
    heard += [chunk async for chunk in listening]
    assert samples_of(heard) == samples_of(await first)
    assert source_of(heard) == "joined"
    assert not other.speaker.requests
    await until(lambda: not other.live())
    assert source_of(await other.hear()) == "l1"


async def test_nothing_goes_to_the_index_ahead_of_the_speech(made, monkeypatch) -> None:
    """Whoever asked waits for the stages alone: nobody else can listen yet."""
    index, sent = make_index(), list[int]()
    add = index.add

    async def noted(digest: str, holder: str, start: int, data: Any, *rest: Any) -> Any:
        sent.append(data.nbytes)
        return await add(digest, holder, start, data, *rest)

    monkeypatch.setattr(index, "add", noted)
    maker = made(index)
    maker.speaker.step = asyncio.Semaphore(0)
    heard = asyncio.create_task(maker.hear())
    await until(lambda: maker.speaker.open_streams == 1)
    assert not sent
    maker.let_out(3)
    await heard
    assert sent[0]


async def test_a_maker_without_listeners_of_its_own_goes_on_for_others(made) -> None:
    index = make_index()
    maker, other = made(index), made(index)
    maker.speaker.step = asyncio.Semaphore(0)
    first = await maker.ask()
    maker.let_out(1)
    await anext(first)
    listening = await other.ask()
    heard = [await anext(listening)]
    await until(lambda: any(live._relay.is_heard for live in maker.library._live.values()))
    await first.aclose()
    maker.let_out(2)
    heard += [chunk async for chunk in listening]
    assert len(samples_of(heard)) == 3 * SAMPLES_PER_GROUP * 4
    assert not other.speaker.requests


async def test_a_maker_that_nobody_hears_any_more_stops(made, monkeypatch) -> None:
    monkeypatch.setattr("cache_store.partial.HEARD_S", 0.1)
    monkeypatch.setattr("deployments.speech.relay.LOOK_S", 0.05)
    index = make_index()
    maker, other = made(index), made(index)
    maker.speaker.step = asyncio.Semaphore(0)
    first = await maker.ask()
    maker.let_out(1)
    await anext(first)
    listening = await other.ask()
    await anext(listening)
    await until(lambda: any(live._relay.is_heard for live in maker.library._live.values()))
    await first.aclose()
    assert maker.speaker.open_streams == 1
    await listening.aclose()
    await until(lambda: maker.speaker.open_streams == 0)
    await until(lambda: not other.live())
    assert not other.speaker.requests


async def test_when_its_maker_dies_one_listener_takes_over_without_a_gap(made) -> None:
    index = make_index()
    maker, *others = made(index), made(index), made(index)
    maker.speaker.step = asyncio.Semaphore(0)
    dying = asyncio.create_task(maker.hear())
    maker.let_out(2)
    await until(lambda: maker.speaker.open_streams == 1)
    listening = [await other.ask() for other in others]
    heard = [await first_of(one, 2) for one in listening]
    maker.tier.die()
    for one, chunks in zip(listening, heard, strict=True):
        chunks += [chunk async for chunk in one]
    assert sum(len(other.speaker.requests) for other in others) == 1
    maker.let_out(1)
    whole = samples_of(await dying)
    assert all(samples_of(chunks) == whole for chunks in heard)


async def test_an_index_that_goes_away_makes_a_listener_compute(made) -> None:
    process = made(make_index())
    process.tier.fails = True
    assert source_of(await process.hear()) == "none"
    assert source_of(await process.hear()) == "l1"


async def test_an_error_is_every_listeners_and_nothing_is_kept(made) -> None:
    process = made()
    process.speaker.error = CapacityError("full")
    process.speaker.step = asyncio.Semaphore(0)
    asked = [asyncio.create_task(process.hear()) for _ in range(3)]
    await until(lambda: sum(live.tape.listeners for live in process.library._live.values()) == 3)
    process.let_out(3)
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(answer) for answer in answers] == [CapacityError] * 3
    assert len(process.speaker.requests) == 1
    process.speaker.error, process.speaker.step = None, None
    assert source_of(await process.hear()) == "none"


@pytest.mark.parametrize(("n_chunks", "flags"), [(1, [True]), (2, [False, True])])
async def test_one_piece_is_told_to_be_the_last_one_whoever_listens(
    made, tmp_path: Path, n_chunks: int, flags: list[bool]
) -> None:
    """A reply whose first audio is its last tells its length, which is in the bytes."""
    index = make_index()
    maker, listener, later = made(index), made(index), made(index)
    maker.speaker.n_chunks = n_chunks
    maker.speaker.step = asyncio.Semaphore(0)
    first = asyncio.create_task(maker.listen())
    await until(lambda: maker.speaker.open_streams == 1)
    second = asyncio.create_task(listener.listen())
    await until(lambda: bool(listener.live()))
    maker.let_out(2 * n_chunks)  # and for the one that is made without the cache
    heard = [await first, await second]
    await until(lambda: not maker.live() and not maker.tier.tasks)
    heard += [await maker.hear(), await later.hear(), await maker.hear(reuse="off")]
    stored = made(url=str(tmp_path))
    stored.speaker.n_chunks = n_chunks
    await stored.hear()
    await stored.library.close()
    heard.append(await made(url=str(tmp_path)).hear())
    sources = ["none", "joined", "l1", "l2", "none", "l3"]
    assert [source_of(chunks) for chunks in heard] == sources
    assert all((len(chunks) == 1) == (n_chunks == 1) for chunks in heard)
    assert {samples_of(chunks) for chunks in heard} == {samples_of(heard[0])}
    assert {chunks[-1].usage for chunks in heard} == {Usage(7, 5 * n_chunks)}
    assert [chunk.last for chunk in heard[0]] == flags
