"""The index that processes share, what is sent to it, and what is heard of it while it is made."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from cache_store.cluster import (
    BACKGROUND_BYTES,
    LARGE_BYTES,
    LATER_S,
    START_DEADLINE_S,
    ClusterTier,
)
from cache_store.errors import StoreTimeout
from cache_store.index import PART_BYTES, PARTS, Index
from cache_store.partial import HEARD_S
from cache_store.settings import CacheSettings
from tests.cache_helpers import make_key
from tests.unit.cache_store.replicas import make_index

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("virtual_time")]


async def test_an_entry_arrives_whole_in_parts_or_as_a_reference():
    index = make_index()
    for size in (1, PART_BYTES, PART_BYTES * PARTS, PART_BYTES * PARTS + 1):
        data = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
        await index.publish(str(size), data)
        header, *parts = await index.find(str(size))
        assert header.kind == "hit"
        if size <= PART_BYTES * PARTS:
            assert b"".join(parts) == data.tobytes()
        else:
            assert header.refs == ("ref",)


async def test_the_index_keeps_its_budget():
    index = make_index(1000)
    for i in range(20):
        await index.publish(str(i), np.zeros(300, np.uint8))
    stats = await index.stats()
    assert (stats["entries"], stats["bytes"], stats["evictions"]) == (3, 900, 17)
    await index.publish("large", np.zeros(2000, np.uint8))
    assert (await index.find("large"))[0].kind == "absent"


async def test_a_publication_that_fails_still_ends_the_lease():
    async def refuse(_):
        raise MemoryError("store is full")

    index = Index(1000, refuse)
    await index.claim("d", "a", 10, 0)
    with pytest.raises(MemoryError):
        await index.publish("d", np.zeros(3, np.uint8))
    assert (await index.claim("d", "b", 10, 0))[0].kind == "lease"


class StartingIndex(ClusterTier):
    """A tier whose index answers from `answers_after_s` on, or never."""

    answers_after_s: float | None = None

    async def _invoke(self, shard, wait_s, method, *args, parts=1):
        try:
            async with asyncio.timeout(wait_s):
                await asyncio.sleep(3600 if self.answers_after_s is None else self.answers_after_s)
        except TimeoutError as error:
            raise StoreTimeout("no answer") from error
        return {}


@pytest.mark.parametrize(("answers_after_s", "expected_s"), [(7.0, 7.0), (None, START_DEADLINE_S)])
async def test_the_start_waits_for_an_index_that_is_starting(caplog, answers_after_s, expected_s):
    tier = StartingIndex(CacheSettings(l2_shards=3))
    tier.answers_after_s = answers_after_s
    started_s = time.monotonic()
    await tier.start()
    assert time.monotonic() - started_s == pytest.approx(expected_s, abs=0.01)
    assert ("going on without it" in caplog.text) == (answers_after_s is None)


class RecordingIndex(ClusterTier):
    """A tier that tells what reached its index, and when."""

    def __init__(self, settings: CacheSettings) -> None:
        super().__init__(settings)
        self.reached: list[tuple[str, int, float]] = []
        self.answers = asyncio.Event()
        self.answers.set()

    async def _invoke(self, shard, wait_s, method, *args, parts=1):
        self.reached.append((method, len(args[1]), time.monotonic()))
        await self.answers.wait()


async def test_a_large_entry_that_nobody_waits_for_is_sent_after_whoever_read_it_was_served():
    tier, began_s = RecordingIndex(CacheSettings()), time.monotonic()
    for entry in (bytes(LARGE_BYTES), b"small"):
        tier.offer(make_key(), entry)
    await asyncio.sleep(2 * LATER_S)
    await tier.close(1.0)
    assert tier.reached == [
        ("publish", 5, pytest.approx(began_s, abs=0.01)),
        ("publish", LARGE_BYTES, pytest.approx(began_s + LATER_S, abs=0.01)),
    ]
    assert tier.stats()["dropped"] == 0


async def test_entries_that_wait_to_be_sent_count_for_the_bound():
    tier = RecordingIndex(CacheSettings())
    tier.answers.clear()
    n = BACKGROUND_BYTES // LARGE_BYTES
    for i in range(n + 2):
        tier.offer(make_key(str(i)), bytes(LARGE_BYTES))
    await asyncio.sleep(2 * LATER_S)
    tier.answers.set()
    await tier.close(1.0)
    assert len(tier.reached) == n
    assert tier.stats()["dropped"] == 2


async def test_what_waits_to_be_sent_later_keeps_no_room_from_what_comes_behind_it():
    tier = RecordingIndex(CacheSettings())
    for i in range(2 * BACKGROUND_BYTES // LARGE_BYTES):
        tier.offer(make_key(str(i)), bytes(LARGE_BYTES))
        await asyncio.sleep(0)
    await tier.close(2 * LATER_S)
    assert len(tier.reached) == 2 * BACKGROUND_BYTES // LARGE_BYTES
    assert tier.stats()["dropped"] == 0


async def listened(index: Index, start: int = 0, wait_s: float = 5.0) -> tuple[str, bytes, bool]:
    header, *parts = await index.follow("d", start, wait_s)
    return header.kind, b"".join(parts), header.is_whole


def as_array(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)


async def test_what_is_being_made_is_heard_from_the_start_by_each():
    index = make_index()
    assert (await listened(index))[0] == "absent"
    await index.claim("d", "a", 10, 0)
    waiting = asyncio.create_task(listened(index))
    await asyncio.sleep(0.01)
    told = await index.add("d", "a", 0, as_array(b"one"), b"note", False)
    assert (told.total_bytes, told.is_heard) == (3, True)
    assert await waiting == ("partial", b"one", False)
    await index.add("d", "a", 3, as_array(b"two"), b"note", True)
    assert await listened(index) == ("partial", b"onetwo", True)
    assert await listened(index, 4) == ("partial", b"wo", True)


async def test_only_the_holder_is_heard_and_in_order():
    index = make_index()
    await index.claim("d", "a", 10, 0)
    assert (await index.add("d", "b", 0, as_array(b"x"), b"", False)).kind == "absent"
    assert (await index.add("d", "a", 5, as_array(b"late"), b"", False)).total_bytes == 0
    assert (await listened(index, 0, 0.1))[0] == "busy"


async def test_the_end_of_a_lease_wakes_who_listens():
    index = make_index()
    header, *_ = await index.claim("d", "a", 10, 0)
    waiting = asyncio.create_task(listened(index))
    await asyncio.sleep(0.01)
    await index.release("d", "a", header.fence, b"")
    assert (await waiting)[0] == "absent"
    await index.claim("d", "a", 0.2, 0)  # a holder that dies
    assert (await listened(index))[0] == "absent"
    assert (await index.claim("d", "b", 10, 0))[0].kind == "lease"
    assert (await listened(index, 0, 0.1))[0] == "busy"  # of another maker, from the start


async def test_what_nobody_listens_to_is_told_to_its_maker():
    index = make_index()
    await index.claim("d", "a", 100, 0)
    await listened(index, 0, 0.1)
    assert (await index.add("d", "a", 0, as_array(b""), b"", False)).is_heard
    await asyncio.sleep(HEARD_S + 0.1)
    assert not (await index.add("d", "a", 0, as_array(b""), b"", False)).is_heard


async def test_what_is_being_made_keeps_within_its_budget(monkeypatch):
    monkeypatch.setattr("cache_store.index.PARTIAL_BYTES", 10)
    index = make_index()
    await index.claim("d", "a", 10, 0)
    await index.add("d", "a", 0, as_array(bytes(8)), b"", False)
    assert (await index.add("d", "a", 8, as_array(bytes(8)), b"", False)).total_bytes == 8
