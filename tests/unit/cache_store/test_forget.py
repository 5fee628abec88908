"""A removed clip stays removed: every queue, flight, refill, tier and older encoder."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import numpy as np
import pytest

from cache_store.aliases import Alias
from cache_store.cache import VoiceCache
from cache_store.errors import StoreDenied, StoreError
from cache_store.keyring import Keyring
from cache_store.keys import AliasKey, SpeechKey, VoiceKey
from cache_store.local_store import LocalStore
from cache_store.opening import open_cache, open_store
from cache_store.persistent_tier import PersistentTier
from cache_store.settings import CacheSettings
from cache_store.store import QUARANTINE, TMP, aside_name
from tests.cache_helpers import (
    SCHEMA,
    S3Server,
    ScriptedTier,
    make_key,
)
from tests.unit.cache_store.forgetting import (
    ALIAS_KEY,
    CLIP,
    OTHER_ENCODER,
    PATIENT_S,
    Gate,
    Held,
    World,
    encode,
    started,
)
from tests.unit.cache_store.replicas import Codec, Replicas, hold
from tests.waiting import until

pytestmark = pytest.mark.unit


async def test_what_waits_in_the_queue_is_not_written(world, gate):
    """Four writers hold on to other clips; the removed one stands behind them."""
    await started(world, "1", "2", "3", "4")
    await until(lambda: len(gate.held) == 4)
    await world.cache.get_or_compute(make_key(), encode)
    await world.cache.forget(CLIP)
    gate.opened.set()
    await until(lambda: world.cache.stats().tiers["l3"]["writeback_entries"] == 0)
    assert make_key().path not in world.files()
    assert len(world.files()) == 4
    assert await world.cache.get(make_key()) is None


async def test_a_removal_waits_for_the_write_under_way_and_undoes_it(world, gate):
    await world.cache.get_or_compute(make_key(), encode)
    await until(lambda: gate.held == [make_key().path])
    removal = asyncio.create_task(world.cache.forget(CLIP))
    await asyncio.sleep(0.05)
    assert not removal.done()
    gate.opened.set()
    await removal
    assert gate.done == [make_key().path]
    assert world.files() == set()
    assert await world.cache.get(make_key()) is None


async def test_a_write_that_does_not_end_makes_the_removal_fail(tmp_path, monkeypatch):
    world = World(tmp_path, l3_write_deadline_s=0.1, writeback_tries=1)
    gate = Gate(world.store, "create", monkeypatch)
    await world.cache.get_or_compute(make_key(), encode)
    await until(lambda: len(gate.held) == 1)
    with pytest.raises(StoreError, match="still runs"):
        await world.cache.forget(CLIP)
    gate.opened.set()
    await until(lambda: world.files() == {make_key().path})
    await world.cache.forget(CLIP)  # asked again, as the caller of a failed removal has to
    assert world.files() == set()
    await world.cache.close()


async def test_a_failed_write_is_not_tried_again_after_a_removal(world, monkeypatch):
    monkeypatch.setattr("cache_store.writeback.FIRST_RETRY_S", 0.01)
    real, tries = world.store.create, []

    def fails_once(path: str, data: bytes) -> bool:
        tries.append(path)
        if len(tries) == 1:
            raise StoreError("down")
        return real(path, data)

    monkeypatch.setattr(world.store, "create", fails_once)
    await world.cache.get_or_compute(make_key(), encode)
    await until(lambda: len(tries) == 1)
    await world.cache.forget(CLIP)
    await until(lambda: world.cache.stats().tiers["l3"]["writeback_entries"] == 0)
    await asyncio.sleep(0.05)
    assert tries == [make_key().path]
    assert world.files() == set()


async def test_while_writing_is_set_aside_the_queue_is_emptied_and_stays_so(world, monkeypatch):
    real, is_down = world.store.create, threading.Event()
    is_down.set()

    def create(path: str, data: bytes) -> bool:
        if is_down.is_set():
            raise StoreDenied("403")
        return real(path, data)

    monkeypatch.setattr(world.store, "create", create)
    await world.cache.get_or_compute(make_key(), encode)
    await until(lambda: world.cache.stats().tiers["l3"]["write_breaker"] == 1)
    await world.cache.forget(CLIP)
    is_down.clear()
    await until(lambda: world.cache.stats().tiers["l3"]["write_breaker"] == 0)
    await world.cache.get_or_compute(make_key("later"), encode, durable=True)
    # The queue writes the same record meanwhile, by a file that it stages.
    await until(lambda: world.cache.stats().tiers["l3"]["writeback_entries"] == 0)
    assert world.files() == {make_key("later").path}
    assert await world.cache.get(make_key()) is None


async def test_a_store_that_cannot_be_reached_makes_the_removal_fail(world, monkeypatch):
    await world.cache.get_or_compute(make_key(), encode, durable=True)

    def down(*_: object) -> None:
        raise StoreError("down")

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "names", down)
        with pytest.raises(StoreError):
            await world.cache.forget(CLIP)
        patch.undo()
        patch.setattr(world.store, "delete", down)
        with pytest.raises(StoreError):
            await world.cache.forget(CLIP)
    await world.cache.forget(CLIP)
    assert world.files() == set()


async def test_a_tier_that_fails_does_not_keep_the_others_from_forgetting():
    near, far = ScriptedTier("l2", is_durable=False), ScriptedTier("l3")
    cache = VoiceCache(SCHEMA, [near, far], CacheSettings())
    await cache.get_or_compute(make_key(), encode)
    far.fails = True
    with pytest.raises(StoreError):
        await cache.forget(CLIP)
    assert near.entries == {}
    assert len(far.entries) == 1


@pytest.mark.parametrize("keyring", [Keyring(), Keyring({"k1": "a secret of length"})])
async def test_records_of_every_encoder_and_all_aliases_go(tmp_path, keyring):
    """A new process: it has seen none of the keys."""
    settings = CacheSettings(url=str(tmp_path), l3_read_deadline_s=PATIENT_S)

    def opened() -> VoiceCache:
        tier = PersistentTier(LocalStore(tmp_path), settings, keyring=keyring)
        return VoiceCache(SCHEMA, [tier], settings, keyring)

    old = opened()
    others = [make_key("other"), VoiceKey("team-1", CLIP.clip_digest, "ee" * 32)]
    for key in [make_key(), OTHER_ENCODER, *others]:
        await old.get_or_compute(key, encode, durable=True)
    uploads = [AliasKey("shared", digit * 64, "01" * 32) for digit in "abc"]
    for upload in uploads[:2]:
        old.publish_alias(upload, Alias(CLIP.clip_digest, 1.0))
    old.publish_alias(uploads[2], Alias(make_key("other").clip_digest, 1.0))
    await old.close()
    files = {file.name for file in tmp_path.rglob("*") if CLIP.clip_digest in file.name}
    assert len(files) == 2  # notes that the aliases lead to the clip

    fresh = opened()
    await fresh.forget(CLIP)
    for key in (make_key(), OTHER_ENCODER):
        assert await fresh.get(key) is None
    assert [await fresh.find_alias(upload) is None for upload in uploads] == [True, True, False]
    assert [(await fresh.get(key)).tier for key in others] == ["l3", "l3"]
    await fresh.close()
    assert not [file for file in tmp_path.rglob("*") if CLIP.clip_digest in file.name]


async def test_set_aside_and_half_written_copies_go_too(world):
    path = make_key().path
    world.store.create(path, b"damaged")
    for directory, name in (("tmp", path), (QUARANTINE, make_key("other").path)):
        world.store.create(f"{directory}/{name.replace('/', '_')}.0123abcd", b"")
    assert (await world.cache.get_or_compute(make_key(), encode)).tier == "miss"
    await until(lambda: world.cache.stats().tiers["l3"]["quarantined"] == 1)
    await world.cache.forget(CLIP)
    assert [name.partition("/")[0] for name in world.files()] == [QUARANTINE]
    assert make_key("other").digest in next(iter(world.files()))


async def test_a_removal_waits_for_a_damaged_record_to_be_set_aside(world, monkeypatch):
    gate = Gate(world.store, "quarantine", monkeypatch)
    world.store.create(make_key().path, b"damaged")
    assert await world.cache.get(make_key()) is None
    removal = asyncio.create_task(world.cache.forget(CLIP))
    await until(lambda: len(gate.held) == 1)
    await asyncio.sleep(0.05)
    gate.opened.set()
    await removal
    assert world.files() == set()


async def test_an_encoder_of_which_only_damage_is_left_is_passed_over(world):
    world.store.create(OTHER_ENCODER.path, b"garbage")
    await world.cache.get_or_compute(make_key(), encode, durable=True)
    await world.cache.forget(CLIP)
    assert await world.cache.get(make_key()) is None


async def test_records_under_unknown_keys_are_not_said_to_be_removed(world):
    theirs = VoiceCache(
        SCHEMA, [world.tier], world.settings, Keyring({"k9": "quite another secret"})
    )
    await theirs.get_or_compute(OTHER_ENCODER, encode, durable=True)
    fresh = World(world.root)
    with pytest.raises(StoreError, match="sealed under keys"):
        await fresh.cache.forget(CLIP)
    await fresh.cache.get(OTHER_ENCODER)  # now the encoder is known
    await fresh.cache.forget(CLIP)
    assert fresh.files() == set()
    await fresh.cache.close()


@pytest.mark.slow
async def test_on_s3(s3_server: S3Server):
    settings = CacheSettings(
        url=f"s3://{s3_server.bucket}/forget",
        storage_options=s3_server.storage_options,
        l3_read_deadline_s=PATIENT_S,
        connect_timeout_s=PATIENT_S,
        read_timeout_s=PATIENT_S,
    )
    old = open_cache(settings, SCHEMA)
    for key in (make_key(), OTHER_ENCODER, make_key("other")):
        await old.get_or_compute(key, encode, durable=True)
    old.publish_alias(ALIAS_KEY, Alias(CLIP.clip_digest, 1.0))
    await old.close()
    store = open_store(settings)
    assert len(list(store.list("v1"))) == 5
    fresh = open_cache(settings, SCHEMA)
    await fresh.forget(CLIP)
    await fresh.forget(CLIP)  # nothing is left: fine
    assert [blob.path for blob in store.list("v1")] == [make_key("other").path]
    await fresh.close()


async def test_an_empty_store_and_no_store_have_nothing_to_forget(tmp_path):
    for url in (str(tmp_path / "absent"), "none"):
        cache = open_cache(CacheSettings(url=url), SCHEMA)
        await cache.forget(CLIP)
        await cache.close()


@pytest.mark.usefixtures("virtual_time")
class TestCluster:
    """Several processes over one index."""

    async def test_what_the_index_holds_goes_under_every_encoder(self):
        replicas = Replicas(2)
        for key in (make_key(), OTHER_ENCODER, make_key("other")):
            await replicas.caches[0].get_or_compute(key, encode)
        replicas.caches[0].publish_alias(ALIAS_KEY, Alias(CLIP.clip_digest, 1.0))
        await asyncio.sleep(0.01)
        assert (await replicas.index.stats())["entries"] == 4
        for cache in reversed(replicas.caches):
            await cache.forget(CLIP)
        assert (await replicas.index.stats())["entries"] == 1
        assert [await cache.get(make_key()) for cache in replicas.caches] == [None, None]

    async def test_a_computation_of_another_process_publishes_nothing(self):
        replicas, held = Replicas(3), Held()
        [asked] = replicas.ask(replicas.caches[:1], held)
        await held.begun.wait()
        for cache in reversed(replicas.caches):
            await cache.forget(CLIP)
        await asyncio.sleep(1)  # some renewals long
        assert (await replicas.index.stats())["leases"] == 0
        held.may_end.set()
        assert (await asked).tier == "miss"
        await asyncio.sleep(1)
        assert [await cache.get(make_key()) for cache in replicas.caches] == [None] * 3
        assert replicas.l3.entries == {}
        stats = await replicas.index.stats()
        assert (stats["entries"], stats["leases"]) == (0, 0)

    async def test_its_lease_holds_nobody_up(self):
        replicas, held = Replicas(2), Held()
        [asked] = replicas.ask(replicas.caches[:1], held)
        await held.begun.wait()
        for cache in replicas.caches:
            await cache.forget(CLIP)
        async with asyncio.timeout(0.1):
            result = await replicas.caches[1].get_or_compute(make_key(), encode)
        await asyncio.sleep(1)
        held.may_end.set()
        await asked
        assert result.tier == "miss"
        assert (await replicas.caches[1].get(make_key())).tier == "l1"
        assert (await replicas.caches[0].get(make_key())).tier == "l2"

    async def test_who_waits_for_a_removed_computation_computes_and_keeps_nothing(self):
        replicas, held = Replicas(2), Held()
        asked = replicas.ask(replicas.caches[:1], held)
        await held.begun.wait()
        asked += replicas.ask(replicas.caches[1:], held)
        await asyncio.sleep(0.05)
        for cache in replicas.caches:
            await cache.forget(CLIP)
        held.may_end.set()
        assert [result.tier for result in await asyncio.gather(*asked)] == ["miss", "miss"]
        await asyncio.sleep(1)
        assert [await cache.get(make_key()) for cache in replicas.caches] == [None, None]

    async def test_a_failure_of_a_removed_clip_is_not_remembered(self):
        replicas, held = Replicas(2, failures=Codec()), Held(ValueError("silence"))
        [asked] = replicas.ask(replicas.caches[:1], held)
        await held.begun.wait()
        for cache in replicas.caches:
            await cache.forget(CLIP)
        held.may_end.set()
        with pytest.raises(ValueError, match="silence"):
            await asked
        await asyncio.sleep(0.1)
        for cache in replicas.caches:
            assert (await cache.get_or_compute(make_key(), encode)).tier in {"miss", "l2"}

    async def test_a_publication_that_is_late_is_refused_by_the_index(self, monkeypatch):
        """Sent before the removal, taken in after it: messages may overtake each other."""
        replicas = Replicas(1)
        tier, data = replicas.tiers[0], np.zeros(10, np.uint8)
        sent = tier.origin(CLIP.owner)
        await tier.forget(CLIP)
        await replicas.index.publish(make_key().digest, data, sent)
        assert (await replicas.index.find(make_key().digest))[0].kind == "absent"
        await replicas.index.publish(make_key().digest, data, tier.origin(CLIP.owner))
        assert (await replicas.index.find(make_key().digest))[0].kind == "hit"

    async def test_a_publication_that_is_being_stored_is_dropped(self, monkeypatch):
        replicas, storing, may_go_on = Replicas(1), asyncio.Event(), asyncio.Event()

        async def slowly(data):
            storing.set()
            await may_go_on.wait()
            return await hold(data)

        monkeypatch.setattr(replicas.index, "_store", slowly)
        await replicas.caches[0].get_or_compute(make_key(), encode)
        await storing.wait()
        await replicas.caches[0].forget(CLIP)
        may_go_on.set()
        await asyncio.sleep(0.01)
        assert (await replicas.index.find(make_key().digest))[0].kind == "absent"


def spoken(text: str, models: str = "ab" * 32) -> SpeechKey:
    return SpeechKey(make_key(), "clone", "", text, "", (("seed", "7"),), models)


async def test_a_clips_speech_goes_with_it_whatever_models_made_it(world):
    """Records, copies of damaged ones and half-written ones; another clip's stay."""
    other = replace(spoken("One."), voice=make_key("other"))
    for key in (spoken("One."), spoken("Two."), spoken("One.", "cd" * 32), other):
        await world.cache.get_or_compute(key, encode)
    await until(lambda: len([f for f in world.files() if not f.startswith(TMP)]) == 4)
    world.store.quarantine(spoken("Two.").path, b"")
    half = world.root / TMP / aside_name(spoken("Three.").path)
    half.parent.mkdir(parents=True, exist_ok=True)
    half.write_bytes(b"half")
    await world.cache.forget(CLIP)
    assert world.files() == {other.path}
    assert await world.cache.get(spoken("One.")) is None
    assert await world.cache.get(other) is not None


async def test_speech_says_which_models_made_it(world):
    result = await world.cache.get_or_compute(spoken("One."), encode)
    assert result.record.metadata["cache.model_fingerprint"] == "ab" * 32
    assert world.cache.stats().requests["speech", "l1", "miss"] == 1


async def test_a_dropped_record_is_computed_anew(world):
    await started(world, "clip")
    await until(lambda: bool(world.files()))
    await world.cache.drop(make_key())
    assert world.files() == set()
    assert (await world.cache.get_or_compute(make_key(), encode)).tier == "miss"


async def test_a_dropped_record_waits_for_its_write_under_way(world, gate):
    await world.cache.get_or_compute(make_key(), encode)
    await until(lambda: gate.held == [make_key().path])
    dropping = asyncio.create_task(world.cache.drop(make_key()))
    await asyncio.sleep(0.05)
    assert not dropping.done()
    gate.opened.set()
    await dropping
    assert world.files() == set()


async def test_a_dropped_record_that_waits_in_the_queue_is_not_written(world, gate):
    await started(world, "1", "2", "3", "4")
    await until(lambda: len(gate.held) == 4)
    await world.cache.get_or_compute(make_key(), encode)
    await world.cache.drop(make_key())
    gate.opened.set()
    await until(lambda: world.cache.stats().tiers["l3"]["writeback_entries"] == 0)
    assert make_key().path not in world.files()
    assert len(world.files()) == 4
