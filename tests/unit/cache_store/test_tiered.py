"""VoiceCache: tiers in order, one computation, aliases, durability, no fault in a request."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from pydantic import ValidationError

from cache_store.aliases import Alias
from cache_store.cache import VoiceCache
from cache_store.codec import Record, RecordCodec
from cache_store.keyring import Keyring
from cache_store.keys import AliasKey, VoiceKey
from cache_store.opening import open_cache
from cache_store.settings import CacheSettings
from cache_store.threads import INLINE_BYTES
from tests.cache_helpers import FINGERPRINT, SCHEMA, ScriptedTier, make_key, make_record, same
from tests.unit.cache_store.caches import ALIAS_KEY, PATIENT_S, Encoder, make_cache

pytestmark = pytest.mark.unit


async def test_miss_then_l1():
    cache, encode = make_cache(), Encoder()
    first = await cache.get_or_compute(make_key(), encode)
    second = await cache.get_or_compute(make_key(), encode)
    assert (first.tier, second.tier, encode.calls) == ("miss", "l1", 1)
    assert same(first.record, make_record())
    assert second.record is first.record
    assert first.record.metadata["duration_s"] == "1.0"


async def test_what_is_computed_is_read_only_too():
    result = await make_cache().get_or_compute(make_key(), Encoder())
    for array in result.record.arrays.values():
        assert not array.flags.writeable


async def test_tiers_are_asked_in_order_and_nearer_ones_filled():
    far = ScriptedTier("l3")
    await make_cache(far).get_or_compute(make_key(), Encoder())
    near, encode = ScriptedTier("l2", is_durable=False), Encoder()
    cache = make_cache(near, far)
    assert (await cache.get_or_compute(make_key(), encode)).tier == "l3"
    assert near.entries == far.entries
    other = make_cache(near, far)
    assert (await other.get_or_compute(make_key(), encode)).tier == "l2"
    assert (await other.get_or_compute(make_key(), encode)).tier == "l1"
    assert encode.calls == 0


@pytest.mark.parametrize("name", ["l2", "l3", "l4", "nearby"])
async def test_a_tier_is_reported_by_its_own_name(name: str):
    tier = ScriptedTier(name)
    await make_cache(tier).get_or_compute(make_key(), Encoder())
    cache = make_cache(tier)
    found = await cache.get_or_compute(make_key(), Encoder())
    assert (found.tier, found.is_durable) == (name, True)
    stats = cache.stats()
    assert set(stats.tiers) == {name}
    assert stats.requests["voice", name, "hit"] == 1


async def test_get_never_computes():
    far = ScriptedTier("l3")
    assert await make_cache(far).get(make_key()) is None
    await make_cache(far).get_or_compute(make_key(), Encoder())
    found = await make_cache(far).get(make_key())
    assert found is not None
    assert (found.tier, found.is_durable) == ("l3", True)


@pytest.mark.usefixtures("virtual_time")
async def test_64_requests_for_one_clip_are_one_computation():
    cache, encode = make_cache(ScriptedTier()), Encoder(0.03)
    results = await asyncio.gather(*(cache.get_or_compute(make_key(), encode) for _ in range(64)))
    assert encode.calls == 1
    assert {result.tier for result in results} == {"miss"}
    assert sum(result.joined for result in results) == cache.stats().joined == 63


@pytest.mark.usefixtures("virtual_time")
async def test_a_client_that_goes_away_cancels_nobody_else():
    cache, encode = make_cache(), Encoder(0.05)
    first = asyncio.create_task(cache.get_or_compute(make_key(), encode))
    await asyncio.sleep(0.01)
    others = [asyncio.create_task(cache.get_or_compute(make_key(), encode)) for _ in range(3)]
    await asyncio.sleep(0.01)
    first.cancel()
    assert {result.tier for result in await asyncio.gather(*others)} == {"miss"}
    assert encode.calls == 1


@pytest.mark.usefixtures("virtual_time")
async def test_a_computation_whose_clients_are_all_gone_is_kept():
    cache, encode = make_cache(), Encoder(0.02)
    only = asyncio.create_task(cache.get_or_compute(make_key(), encode))
    await asyncio.sleep(0.005)
    only.cancel()
    await asyncio.sleep(0.05)
    assert (await cache.get_or_compute(make_key(), encode)).tier == "l1"
    assert encode.calls == 1


async def test_a_failed_computation_is_raised_and_not_stored():
    tier = ScriptedTier()
    cache = make_cache(tier)

    async def fail() -> Record:
        raise ValueError("no voice in it")

    with pytest.raises(ValueError, match="no voice"):
        await cache.get_or_compute(make_key(), fail)
    assert tier.entries == {}
    assert cache.stats().compute_failures == 1
    assert (await cache.get_or_compute(make_key(), Encoder())).tier == "miss"


async def test_namespaces_and_fingerprints_do_not_share():
    tier, encode = ScriptedTier(), Encoder()
    cache = make_cache(tier)
    clip = make_key().clip_digest
    for key in (
        VoiceKey("a", clip, FINGERPRINT),
        VoiceKey("b", clip, FINGERPRINT),
        VoiceKey("a", clip, "cd" * 32),
    ):
        assert (await cache.get_or_compute(key, encode)).tier == "miss"
    assert encode.calls == 3


async def test_an_object_under_another_name_is_quarantined_not_served():
    tier = ScriptedTier()
    cache = make_cache(tier)
    await cache.get_or_compute(make_key("a"), Encoder(seed=1))
    tier.entries[make_key("b").path] = tier.entries[make_key("a").path]
    fresh = make_cache(tier)
    result = await fresh.get_or_compute(make_key("b"), Encoder(seed=2))
    assert result.tier == "miss"
    assert same(result.record, make_record(2))
    assert tier.rejected == [make_key("b").path]
    assert fresh.stats().requests["voice", "l3", "corrupt"] == 1
    assert (await make_cache(tier).get_or_compute(make_key("b"), Encoder())).tier == "l3"


async def test_an_unknown_key_id_is_a_miss_and_stays():
    tier = ScriptedTier()
    theirs = VoiceCache(SCHEMA, [tier], CacheSettings(), Keyring({"k9": "quite another secret"}))
    await theirs.get_or_compute(make_key(), Encoder())
    cache = make_cache(tier)
    before = dict(tier.entries)
    assert (await cache.get_or_compute(make_key(), Encoder())).tier == "miss"
    assert tier.entries == before
    assert tier.rejected == []
    assert cache.stats().requests["voice", "l3", "unreadable"] == 1


async def test_a_failing_tier_is_a_counted_miss():
    tier = ScriptedTier(fails=True)
    cache = make_cache(tier)
    result = await cache.get_or_compute(make_key(), Encoder(), durable=True)
    assert (result.tier, result.is_durable) == ("miss", False)
    assert cache.stats().requests["voice", "l3", "error"] == 1
    assert await cache.find_alias(ALIAS_KEY) is None


async def test_a_tier_with_a_bug_is_a_counted_miss():
    tier = ScriptedTier()

    async def crash(key):
        raise KeyError("a bug")

    tier.get = crash
    cache = make_cache(tier)
    assert (await cache.get_or_compute(make_key(), Encoder())).tier == "miss"
    assert cache.stats().requests["voice", "l3", "error"] == 1


@pytest.mark.usefixtures("virtual_time")
async def test_concurrent_look_ups_of_one_alias_ask_once():
    tier = ScriptedTier(delay_s=0.01)
    cache = make_cache(tier)
    await asyncio.gather(*(cache.find_alias(ALIAS_KEY) for _ in range(8)))
    assert tier.gets == 1


async def test_a_record_that_its_schema_refuses_is_served_and_not_stored(caplog):
    tier = ScriptedTier()
    cache = make_cache(tier)

    async def encode() -> Record:
        record = make_record()
        return Record({**record.arrays, "vq02": np.array([5000], np.int16)}, {})

    result = await cache.get_or_compute(make_key(), encode, durable=True)
    assert result.record.arrays["vq02"][0] == 5000
    assert not result.is_durable
    assert tier.entries == {}
    assert cache.stats().refused_records == 1
    assert "is not stored" in caplog.text


class NoticedCodec(RecordCodec):
    """Notes on which threads it worked."""

    threads: ClassVar[list[int]] = []

    def encode(self, record: Record, key: str) -> bytes:
        self.threads.append(threading.get_ident())
        return super().encode(record, key)

    def decode(self, entry: bytes, key: str) -> Record:
        self.threads.append(threading.get_ident())
        return super().decode(entry, key)


@pytest.mark.parametrize("is_large", [False, True])
async def test_large_records_leave_the_event_loop_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_large: bool
):
    monkeypatch.setattr("cache_store.cache.RecordCodec", NoticedCodec)
    monkeypatch.setattr(NoticedCodec, "threads", [])
    seconds = 30 if is_large else 5
    assert (make_record(seconds=seconds).array_bytes > INLINE_BYTES) == is_large
    settings = CacheSettings(url=str(tmp_path), l3_read_deadline_s=PATIENT_S)
    for _ in range(2):  # computed and sealed, then read and verified
        cache = open_cache(settings, SCHEMA)

        async def encode() -> Record:
            return make_record(seconds=seconds)

        await cache.get_or_compute(make_key(), encode, durable=True)
        await cache.close()
    here = [thread == threading.get_ident() for thread in NoticedCodec.threads]
    assert here == [not is_large] * 3


async def test_durable_answers_after_the_store_has_it():
    tier = ScriptedTier(delay_s=0.01)
    tier.offer = lambda key, entry: None
    cache = make_cache(tier)
    assert not (await cache.get_or_compute(make_key(), Encoder())).is_durable
    assert tier.entries == {}
    result = await cache.get_or_compute(make_key(), Encoder(), durable=True)
    assert (result.tier, result.is_durable) == ("l1", True)
    assert list(tier.entries) == [make_key().path]


async def test_aliases_are_found_in_memory_and_below():
    tier = ScriptedTier()
    cache = make_cache(tier)
    assert await cache.find_alias(ALIAS_KEY) is None
    alias = Alias(make_key().clip_digest, 3.25, ("quiet", "noisy"))
    cache.publish_alias(ALIAS_KEY, alias)
    assert await cache.find_alias(ALIAS_KEY) == alias
    fresh = make_cache(tier)
    assert await fresh.find_alias(ALIAS_KEY) == alias
    assert await fresh.find_alias(ALIAS_KEY) == alias
    assert fresh.stats().requests["alias", "l3", "hit"] == 1
    assert fresh.stats().requests["alias", "l1", "hit"] == 1
    other = AliasKey("other", ALIAS_KEY.raw, ALIAS_KEY.decode_fingerprint)
    assert await fresh.find_alias(other) is None


async def test_a_forged_alias_is_refused():
    tier = ScriptedTier()
    keyring = Keyring({"k1": "a secret of length"})
    thief = make_cache(tier)
    thief.publish_alias(ALIAS_KEY, Alias(make_key().clip_digest, 1.0))
    cache = VoiceCache(SCHEMA, [tier], CacheSettings(), keyring)
    assert await cache.find_alias(ALIAS_KEY) is None


async def test_the_memory_budget_holds():
    size = 3_000 + len(RecordCodec(SCHEMA, Keyring()).encode(make_record(), "12" * 32))
    cache = make_cache(l1_bytes=5 * size)
    for i in range(50):
        await cache.get_or_compute(make_key(str(i)), Encoder(seed=i))
    stats = cache.stats().l1
    assert 3 * size < stats.bytes <= 5 * size
    assert stats.entries + stats.evictions == 50


async def test_stats_are_counted_at_look_up_and_are_json():
    tier = ScriptedTier()
    cache = make_cache(tier)
    await cache.get_or_compute(make_key(), Encoder(0.02))
    await cache.get_or_compute(make_key(), Encoder())
    stats = cache.stats()
    assert dict(stats.requests) == {
        ("voice", "l1", "miss"): 1,
        ("voice", "l3", "miss"): 1,
        ("voice", "l1", "hit"): 1,
    }
    assert stats.computes == 1
    assert 0.015 < stats.saved_s < 1
    shown = json.loads(json.dumps(stats.as_dict()))
    assert shown["requests"]["voice"]["l1"] == {"hit": 1, "miss": 1}
    assert shown["tiers"]["l3"] == {"entries": 1}


def test_settings_refuse_mistakes(monkeypatch):
    with pytest.raises(ValidationError, match="l1_byte"):
        CacheSettings.model_validate({"l1_byte": 1})
    with pytest.raises(ValidationError, match="namespace"):
        CacheSettings(namespace="Team One")
    with pytest.raises(ValidationError, match="frozen"):
        CacheSettings().url = "x"
    with pytest.raises(ValueError, match="NO_SUCH_VARIABLE"):
        open_cache(CacheSettings(mac_keys_env="NO_SUCH_VARIABLE"), SCHEMA)
