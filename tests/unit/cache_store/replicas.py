"""Caches as in several processes that share one index, without Ray."""

from __future__ import annotations

import asyncio

import numpy as np

from cache_store.cache import VoiceCache
from cache_store.claims import Claim, Heard, Told
from cache_store.codec import Record
from cache_store.errors import StoreError
from cache_store.index import Held, Index, Origin
from cache_store.settings import CacheSettings
from tests.cache_helpers import SCHEMA, ScriptedTier, make_key, make_record


async def hold(data) -> Held:
    return Held("ref", np.array(data))


def make_index(max_bytes: int = 10**7) -> Index:
    return Index(max_bytes, hold)


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


class Codec:
    """ValueErrors are the input's fault."""

    def encode(self, error):
        return str(error).encode() if isinstance(error, ValueError) else None

    def decode(self, failure):
        return ValueError(failure.decode())
