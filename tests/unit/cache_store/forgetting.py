"""A cache over a local directory, for the tests of removal."""

from __future__ import annotations

import asyncio
import threading

import pytest

from cache_store.breaker import BreakerPolicy
from cache_store.cache import VoiceCache
from cache_store.codec import Record
from cache_store.keys import AliasKey, ClipKey, VoiceKey
from cache_store.local_store import LocalStore
from cache_store.persistent_tier import PersistentTier
from cache_store.settings import CacheSettings
from cache_store.store import BlobStore
from tests.cache_helpers import (
    SCHEMA,
    make_key,
    make_record,
)
from tests.unit.cache_store.replicas import Codec

CLIP = ClipKey("shared", make_key().clip_digest)
OTHER_ENCODER = VoiceKey("shared", CLIP.clip_digest, "cd" * 32)
ALIAS_KEY = AliasKey("shared", "ef" * 32, "01" * 32)
PATIENT_S = 60.0


async def encode() -> Record:
    return make_record()


class Gate:
    """Holds calls of a store's method until it is opened."""

    def __init__(self, store: BlobStore, method: str, patch: pytest.MonkeyPatch) -> None:
        self.opened = threading.Event()
        self.held: list[str] = []
        self.done: list[str] = []
        real = getattr(store, method)

        def gated(path: str, *args: object) -> object:
            self.held.append(path)
            assert self.opened.wait(PATIENT_S)
            result = real(path, *args)
            self.done.append(path)
            return result

        patch.setattr(store, method, gated)


class World:
    """A cache over a local directory, whose files tell what is kept."""

    def __init__(self, root, **settings) -> None:
        patient = {"l3_read_deadline_s": PATIENT_S, "l3_write_deadline_s": PATIENT_S}
        self.settings = CacheSettings(url=str(root), **{**patient, **settings})
        self.root = root
        self.store = LocalStore(root)
        policy = BreakerPolicy(first_probe_s=0.01, longest_probe_s=0.02)
        self.tier = PersistentTier(self.store, self.settings, policy)
        self.cache = VoiceCache(SCHEMA, [self.tier], self.settings, failures=Codec())

    def files(self) -> set[str]:
        ours = (file for file in self.root.rglob("*") if file.is_file())
        names = {file.relative_to(self.root).as_posix() for file in ours}
        return {name for name in names if not name.endswith(".probe")}


class Held:
    """A computation that ends when it is let go."""

    def __init__(self, error: Exception | None = None) -> None:
        self.begun, self.may_end = asyncio.Event(), asyncio.Event()
        self.calls = 0
        self._error = error

    async def __call__(self) -> Record:
        self.calls += 1
        self.begun.set()
        await self.may_end.wait()
        if self._error is not None:
            raise self._error
        return make_record()


async def started(world: World, *names: str) -> None:
    for name in names:
        await world.cache.get_or_compute(make_key(name), encode)
