"""Caches in several processes that share an index (here without Ray): one computation; failures."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from cache_store.cache import VoiceCache
from cache_store.codec import Record
from cache_store.keys import AliasKey
from cache_store.settings import CacheSettings
from tests.cache_helpers import SCHEMA, make_key, make_record, same
from tests.unit.cache_store.replicas import Codec, DirectTier, Replicas

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("virtual_time")]


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
