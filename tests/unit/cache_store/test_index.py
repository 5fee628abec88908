"""Leases, the index, and caches in several processes that share one (here without Ray)."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from cache_store.cache import VoiceCache
from cache_store.claims import Claim, Heard, Told
from cache_store.cluster import (
    BACKGROUND_BYTES,
    LARGE_BYTES,
    LATER_S,
    START_DEADLINE_S,
    ClusterTier,
)
from cache_store.codec import Record
from cache_store.errors import StoreError, StoreTimeout
from cache_store.index import PART_BYTES, PARTS, Held, Index, Origin
from cache_store.keys import AliasKey
from cache_store.leases import LeaseTable
from cache_store.partial import HEARD_S
from cache_store.settings import CacheSettings
from tests.cache_helpers import SCHEMA, ScriptedTier, make_key, make_record, same

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


async def hold(data) -> Held:
    return Held("ref", np.array(data))


def make_index(max_bytes: int = 10**7) -> Index:
    return Index(max_bytes, hold)


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


class DirectLease:
    """What RayLease is over Ray, over an index in this process."""

    def __init__(self, tier: DirectTier, digest: str, fence: int, origin: Origin) -> None:
        self.tier, self.digest, self.fence, self.origin = tier, digest, fence, origin
        self.renewal = asyncio.create_task(self._renew())
        tier.renewals.append(self.renewal)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self.tier.ttl_s / 3)
            fence = await self.tier.index.renew(
                self.digest, self.tier.holder, self.fence, self.tier.ttl_s, self.origin
            )
            self.fence = fence or self.fence

    def publish(self, entry: bytes) -> None:
        self.renewal.cancel()
        data = np.frombuffer(entry, np.uint8)
        self.tier.later(self.tier.index.publish(self.digest, data, self.origin))

    def release(self, failure: bytes = b"") -> None:
        self.renewal.cancel()
        word = (self.digest, self.tier.holder, self.fence, failure, self.origin)
        self.tier.later(self.tier.index.release(*word))


class DirectTier(ScriptedTier):
    """An L2 tier over an index in this process. `index` may be replaced: a restart."""

    ttl_s = 0.2

    def __init__(self, index: Index, holder: str) -> None:
        super().__init__("l2", is_durable=False)
        self.index, self.holder = index, holder
        self.removals = 0
        self.tasks: set[asyncio.Task] = set()
        self.renewals: list[asyncio.Task] = []

    def die(self) -> None:
        """As a process that is killed: nothing of it reaches the index any more."""
        self.fails = True
        for renewal in self.renewals:
            renewal.cancel()

    def later(self, work) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def claim(self, key, wait_s):
        if self.fails:
            raise StoreError("told to fail")
        origin = self.origin(key.owner)
        header, *parts = await self.index.claim(
            key.digest, self.holder, self.ttl_s, wait_s, key.owner
        )
        match header.kind:
            case "hit":
                return Claim(entry=b"".join(parts))
            case "lease":
                return Claim(lease=DirectLease(self, key.digest, header.fence, origin))
            case "failure":
                return Claim(failure=header.failure)
            case _:
                return Claim(is_busy=True)

    def offer(self, key, entry):
        data = np.frombuffer(entry, np.uint8)
        self.later(self.index.publish(key.digest, data, self.origin(key.owner)))

    def origin(self, owner: str) -> Origin:
        return Origin(owner, self.holder, self.removals)

    async def add(self, key, start, data, note, *, is_whole):
        if self.fails:
            raise StoreError("told to fail")
        array = np.frombuffer(data, np.uint8)
        header = await self.index.add(key.digest, self.holder, start, array, note, is_whole)
        return None if header.kind == "absent" else Told(header.total_bytes, header.is_heard)

    async def follow(self, key, start, wait_s):
        if self.fails:
            raise StoreError("told to fail")
        header, *parts = await self.index.follow(key.digest, start, wait_s)
        data = b"".join(parts)
        is_whole = header.is_whole and start + len(data) >= header.total_bytes
        return Heard(data, header.note, is_whole, is_live=header.kind != "absent")

    async def drop(self, key):
        await self.index.drop(key.digest)

    async def get(self, key):
        header, *parts = await self.index.find(key.digest)
        return b"".join(parts) if header.kind == "hit" else None

    def reject(self, key, entry):
        self.rejected.append(key.path)
        self.later(self.index.drop(key.digest))

    async def forget(self, clip):
        self.removals += 1
        await self.index.forget(self.origin(clip.owner))

    async def index_stats(self):
        if self.fails:
            raise StoreError("told to fail")
        return [await self.index.stats()]


class Replicas:
    """Several caches, as in several processes, over one index and one L3."""

    def __init__(self, count: int, *, failures=None, l3=True) -> None:
        self.index = make_index()
        self.l3 = ScriptedTier("l3")
        self.tiers = [DirectTier(self.index, f"replica-{i}") for i in range(count)]
        lower = [self.l3] if l3 else []
        self.caches = [
            VoiceCache(SCHEMA, lower, CacheSettings(), shared=tier, failures=failures)
            for tier in self.tiers
        ]
        self.encodes = 0

    def encoder(self, delay_s: float):
        async def encode() -> Record:
            self.encodes += 1
            await asyncio.sleep(delay_s)
            return make_record()

        return encode

    def ask(self, caches, encode) -> list[asyncio.Task]:
        return [asyncio.create_task(c.get_or_compute(make_key(), encode)) for c in caches]

    def restart_index(self) -> None:
        self.index = make_index()
        for tier in self.tiers:
            tier.index = self.index


async def test_64_requests_on_8_replicas_are_one_computation():
    replicas = Replicas(8)
    encode = replicas.encoder(0.1)
    started = time.monotonic()
    results = await asyncio.gather(
        *(replicas.caches[i % 8].get_or_compute(make_key(), encode) for i in range(64))
    )
    assert replicas.encodes == 1
    assert all(same(result.record, make_record()) for result in results)
    assert sorted({result.tier for result in results}) == ["l2", "miss"]
    assert time.monotonic() - started < 0.5
    assert sum(cache.stats().waited for cache in replicas.caches) == 7


async def test_a_computation_longer_than_the_lease_is_still_one():
    replicas = Replicas(4)
    encode = replicas.encoder(0.7)
    await asyncio.gather(*(c.get_or_compute(make_key(), encode) for c in replicas.caches))
    assert replicas.encodes == 1


async def test_a_holder_that_dies_is_replaced_within_the_lease():
    replicas = Replicas(4)
    header, *_ = await replicas.index.claim(make_key().digest, "dead", DirectTier.ttl_s, 0)
    assert header.kind == "lease"
    started = time.monotonic()
    encode = replicas.encoder(0.1)
    await asyncio.gather(*(c.get_or_compute(make_key(), encode) for c in replicas.caches))
    assert replicas.encodes == 1
    assert time.monotonic() - started < DirectTier.ttl_s + 0.1 + 0.2


async def test_an_index_that_restarts_costs_no_second_computation():
    """The one at work claims its lease again before the others have it."""
    replicas = Replicas(4, l3=False)
    encode = replicas.encoder(0.5)
    requests = replicas.ask(replicas.caches[:1], encode)
    await asyncio.sleep(0.05)
    requests += replicas.ask(replicas.caches[1:], encode)
    await asyncio.sleep(0.05)
    for tier in replicas.tiers[1:]:
        tier.fails = True
    replicas.restart_index()
    await asyncio.sleep(0.1)
    for tier in replicas.tiers:
        tier.fails = False
    results = await asyncio.gather(*requests)
    assert replicas.encodes == 1
    assert [result.tier for result in results] == ["miss", "l2", "l2", "l2"]


async def test_who_waits_finds_the_record_below_when_the_index_is_gone():
    replicas = Replicas(3)
    encode = replicas.encoder(0.3)
    requests = replicas.ask(replicas.caches[:1], encode)
    await asyncio.sleep(0.05)
    requests += [
        asyncio.create_task(c.get_or_compute(make_key(), encode)) for c in replicas.caches[1:]
    ]
    await asyncio.sleep(0.05)
    for tier in replicas.tiers:
        tier.fails = True
    results = await asyncio.gather(*requests)
    assert replicas.encodes == 1
    assert [result.tier for result in results] == ["miss", "l3", "l3"]


async def test_an_index_that_is_down_from_the_start_delays_nobody():
    replicas = Replicas(2)
    for tier in replicas.tiers:
        tier.fails = True
    started = time.monotonic()
    encode = replicas.encoder(0.0)
    await asyncio.gather(*(c.get_or_compute(make_key(), encode) for c in replicas.caches))
    assert time.monotonic() - started < 0.2
    assert replicas.caches[0].stats().requests["voice", "l2", "error"] == 1


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


async def test_the_indexs_counts_are_shown_while_it_is_there():
    replicas = Replicas(1)
    await replicas.caches[0].get_or_compute(make_key(), replicas.encoder(0.0))
    assert (await replicas.caches[0].cluster_stats())[0]["granted"] == 1
    replicas.tiers[0].fails = True
    assert await replicas.caches[0].cluster_stats() == []
    assert await VoiceCache(SCHEMA, [], CacheSettings()).cluster_stats() == []


async def test_what_l3_has_is_shared_through_the_lease():
    replicas = Replicas(3)
    encode = replicas.encoder(0.0)
    await VoiceCache(SCHEMA, [replicas.l3], CacheSettings()).get_or_compute(make_key(), encode)
    replicas.l3.delay_s = 0.05
    await asyncio.gather(*(c.get_or_compute(make_key(), encode) for c in replicas.caches))
    assert replicas.encodes == 1
    assert replicas.l3.gets == 1 + 1  # the writer's own look-up, and one for all replicas


async def test_a_damaged_entry_in_l2_is_dropped_and_replaced():
    replicas = Replicas(2)
    await replicas.index.publish(make_key().digest, np.zeros(5000, np.uint8))
    encode = replicas.encoder(0.0)
    result = await replicas.caches[0].get_or_compute(make_key(), encode)
    assert result.tier == "miss"
    assert replicas.tiers[0].rejected == [make_key().path]
    await asyncio.sleep(0.02)
    assert (await replicas.caches[1].get_or_compute(make_key(), encode)).tier == "l2"
    assert replicas.encodes == 1


class Codec:
    """ValueErrors are the input's fault."""

    def encode(self, error):
        return str(error).encode() if isinstance(error, ValueError) else None

    def decode(self, failure):
        return ValueError(failure.decode())


@pytest.mark.parametrize(("error", "calls"), [(ValueError("silence"), 1), (OSError("down"), 4)])
async def test_a_failure_for_good_is_remembered_in_the_cluster(error, calls):
    replicas = Replicas(2, failures=Codec())

    async def encode() -> Record:
        replicas.encodes += 1
        await asyncio.sleep(0.02)
        raise error

    for cache in [*replicas.caches, *replicas.caches]:
        with pytest.raises(type(error), match=str(error)):
            await cache.get_or_compute(make_key(), encode)
        await asyncio.sleep(0.02)
    assert replicas.encodes == calls


async def test_a_failure_is_forgotten_after_a_while(monkeypatch):
    monkeypatch.setattr("cache_store.failures.REMEMBERED_S", 0.05)
    cache = VoiceCache(SCHEMA, [], CacheSettings(), failures=Codec())
    key = AliasKey("shared", "ab" * 32, "cd" * 32)
    assert cache.remember_failure(key, OSError("down")) == b""
    assert await cache.find_alias(key) is None
    cache.remember_failure(key, ValueError("not audio"))
    with pytest.raises(ValueError, match="not audio"):
        await cache.find_alias(key)
    assert cache.stats().requests["alias", "l1", "negative"] == 1
    await asyncio.sleep(0.06)
    assert await cache.find_alias(key) is None


async def test_failures_without_a_codec_are_not_remembered():
    cache = VoiceCache(SCHEMA, [], CacheSettings())
    assert cache.remember_failure(make_key(), ValueError("x")) == b""


async def test_the_lease_ends_when_a_record_cannot_be_stored():
    replicas = Replicas(2)

    async def encode() -> Record:
        record = make_record()
        return Record({**record.arrays, "vq02": np.array([5000], np.int16)}, {})

    await replicas.caches[0].get_or_compute(make_key(), encode)
    await asyncio.sleep(0.02)
    assert (await replicas.index.stats())["leases"] == 0


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
