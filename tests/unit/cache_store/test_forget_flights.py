"""What is under way while a clip is removed brings it back no more: computations, readers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from cache_store.aliases import Alias
from cache_store.cache import VoiceCache
from cache_store.codec import Record
from cache_store.keys import ClipKey, VoiceKey
from cache_store.settings import CacheSettings
from tests.cache_helpers import (
    FINGERPRINT,
    SCHEMA,
    ScriptedTier,
    make_key,
)
from tests.unit.cache_store.forgetting import (
    ALIAS_KEY,
    CLIP,
    PATIENT_S,
    Gate,
    Held,
    World,
    encode,
)
from tests.waiting import until

pytestmark = pytest.mark.unit


async def test_a_computation_under_way_answers_and_keeps_nothing(world):
    held = Held()
    asked = asyncio.create_task(world.cache.get_or_compute(make_key(), held, durable=True))
    await held.begun.wait()
    await world.cache.forget(CLIP)
    held.may_end.set()
    result = await asked
    assert (result.tier, result.is_durable) == ("miss", False)
    assert world.cache.stats().tiers["l3"]["writeback_entries"] == 0
    assert world.files() == set()
    assert await world.cache.get(make_key()) is None


async def test_a_computation_whose_caller_is_gone_keeps_nothing_either(world):
    held = Held()
    asked = asyncio.create_task(world.cache.get_or_compute(make_key(), held))
    await held.begun.wait()
    asked.cancel()
    await world.cache.forget(CLIP)
    held.may_end.set()
    await until(lambda: world.cache.stats().in_flight == 0)
    assert await world.cache.get(make_key()) is None


@pytest.mark.usefixtures("virtual_time")
async def test_a_removal_between_the_call_and_its_task_counts():
    class Slow(ScriptedTier):
        async def forget(self, clip: ClipKey) -> None:
            await super().forget(clip)
            await asyncio.sleep(1)

    tier = Slow()
    cache = VoiceCache(SCHEMA, [tier], CacheSettings())
    asked = asyncio.create_task(cache.get_or_compute(make_key(), encode))
    await asyncio.sleep(0)
    assert cache.stats().in_flight == 1
    await cache.forget(CLIP)
    await asked
    assert tier.entries == {}


async def test_who_asks_after_the_removal_starts_anew_and_is_kept(world):
    held = Held()
    before = asyncio.create_task(world.cache.get_or_compute(make_key(), held))
    await held.begun.wait()
    await world.cache.forget(CLIP)
    after = await world.cache.get_or_compute(make_key(), encode, durable=True)
    assert (after.joined, after.is_durable) == (False, True)
    held.may_end.set()
    await before
    assert (await world.cache.get(make_key())).tier == "l1"
    await world.cache.close()  # what was queued is written, or refused
    assert world.files() == {make_key().path}


async def test_a_request_that_was_decoding_when_the_removal_came_keeps_nothing(world):
    with world.cache.watch() as watch:
        await world.cache.forget(CLIP)
        world.cache.publish_alias(ALIAS_KEY, Alias(CLIP.clip_digest, 1.0), watch)
        result = await world.cache.get_or_compute(make_key(), encode, durable=True, watch=watch)
    assert (result.tier, result.is_durable) == ("miss", False)
    assert await world.cache.find_alias(ALIAS_KEY) is None
    assert await world.cache.get(make_key()) is None
    await world.cache.close()
    assert world.files() == set()


async def test_other_clips_and_other_namespaces_are_left_alone(world):
    theirs = VoiceKey("team-1", CLIP.clip_digest, FINGERPRINT)
    keys = [make_key("other"), theirs]
    for key in [make_key(), *keys]:
        await world.cache.get_or_compute(key, encode, durable=True)
    held = Held()
    asked = asyncio.create_task(world.cache.get_or_compute(make_key("running"), held))
    await held.begun.wait()
    await world.cache.forget(CLIP)
    held.may_end.set()
    await asked
    for key in [*keys, make_key("running")]:
        assert (await world.cache.get(key)).tier == "l1"
    await world.cache.close()
    assert world.files() == {key.path for key in [*keys, make_key("running")]}


async def test_a_failure_is_forgotten_and_not_remembered_afterwards(world):
    with pytest.raises(ValueError, match="silence"):
        await world.cache.get_or_compute(make_key(), raising(ValueError("silence")))
    await world.cache.forget(CLIP)
    held = Held(ValueError("too short"))
    asked = asyncio.create_task(world.cache.get_or_compute(make_key(), held))
    await held.begun.wait()
    await world.cache.forget(CLIP)
    held.may_end.set()
    with pytest.raises(ValueError, match="too short"):
        await asked
    assert (await world.cache.get_or_compute(make_key(), encode)).tier == "miss"


def raising(error: Exception) -> Callable:
    async def fail() -> Record:
        raise error

    return fail


async def test_a_reader_under_way_refills_nothing(tmp_path, monkeypatch):
    writer = World(tmp_path)
    await writer.cache.get_or_compute(make_key(), encode, durable=True)
    writer.cache.publish_alias(ALIAS_KEY, Alias(CLIP.clip_digest, 1.0))
    await writer.cache.close()
    world, near = World(tmp_path), ScriptedTier("l2", is_durable=False)
    cache = VoiceCache(SCHEMA, [near, world.tier], world.settings)
    bytes_read = {path: world.store.get(path, 10**6) for path in world.files()}
    may_go_on, reading = threading.Event(), []

    def slow(path: str, max_bytes: int) -> bytes | None:
        reading.append(path)
        assert may_go_on.wait(PATIENT_S)
        return bytes_read.get(path)

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "get", slow)
        readers = [
            asyncio.create_task(cache.get(make_key())),
            asyncio.create_task(cache.get_or_compute(make_key(), encode)),
            asyncio.create_task(cache.find_alias(ALIAS_KEY)),
        ]
        await until(lambda: len(reading) == 3)
        world.tier._eraser.see(make_key())
        await cache.forget(CLIP)
        may_go_on.set()
        found, computed, alias = await asyncio.gather(*readers)
    assert (found.tier, computed.tier, alias.clip_digest) == ("l3", "l3", CLIP.clip_digest)
    assert near.entries == {}
    assert await cache.get(make_key()) is None
    assert await cache.find_alias(ALIAS_KEY) is None
    await cache.close()
    assert world.files() == set()


async def test_a_reader_that_begins_while_the_store_still_has_it_keeps_nothing(world, monkeypatch):
    await world.cache.get_or_compute(make_key(), encode, durable=True)
    gate = Gate(world.store, "delete", monkeypatch)
    removal = asyncio.create_task(world.cache.forget(CLIP))
    await until(lambda: gate.held == [make_key().path])
    assert (await world.cache.get(make_key())).tier == "l3"
    gate.opened.set()
    await removal
    assert await world.cache.get(make_key()) is None
