"""What a stage derives from a clip, as records of the cache: a new replica starts warm.

Such a record is the clip's, under a fingerprint of its own, so removing a clip removes it too.
"""

from __future__ import annotations

import asyncio
import logging

from cache_store.background import spawn
from cache_store.cache import VoiceCache
from cache_store.codec import Record, RecordSchema
from cache_store.errors import CacheClosed, StoreError
from cache_store.keys import ClipKey, VoiceKey
from cache_store.opening import open_cache
from cache_store.settings import STATE_MARGIN_BYTES, CacheSettings
from pipeline.errors import StageUnavailableError
from pipeline.forgotten import Forgotten
from pipeline.serving.clip_names import digest_of, tenant_of

logger = logging.getLogger(__name__)

QUEUED_RECORDS = 4  # of the largest size, on their way to the store


class ClipRecords:
    """Records of one schema by clip, see pipeline.serving.clip_names. Use it from one event loop.

    name: of one such record, for messages. max_bytes: larger ones are not kept; 0 keeps none.
    found_total, missed_total: look-ups, of what the stage did not hold itself.
    """

    def __init__(
        self, settings: CacheSettings, schema: RecordSchema, name: str, max_bytes: int
    ) -> None:
        self._namespace, self._name, self.max_bytes = settings.namespace, name, max_bytes
        self._cache: VoiceCache = open_cache(_below_a_stage(settings, max_bytes), schema)
        self._starting: asyncio.Task[None] | None = None
        self._forgotten = Forgotten()
        self.found_total = self.missed_total = 0

    def key(self, clip_name: str, made_by: str) -> VoiceKey:
        """Of the record of a clip; made_by: fingerprint of all else that decides its bits."""
        clip = self._clip(clip_name)
        return VoiceKey(clip.namespace, clip.clip_digest, made_by)

    async def find(self, key: VoiceKey) -> Record | None:
        """The record of the nearest tier below this process; a damaged one is a miss."""
        found = await (await self.cache()).get(key)
        if found is None:
            self.missed_total += 1
            return None
        self.found_total += 1
        return found.record

    async def keep(self, key: VoiceKey, record: Record) -> None:
        """Offer it to the tiers, unless it is too large or its clip was removed meanwhile."""

        async def made() -> Record:
            return record

        cache = await self.cache()
        if record.array_bytes > self.max_bytes or key.owner in self._forgotten:
            return
        try:
            await cache.get_or_compute(key, made)
        except CacheClosed:
            logger.info("a %s is not kept: the cache is closing", self._name)

    async def cache(self) -> VoiceCache:
        """The cache, started: a replica's constructor has no loop to start it on."""
        if self._starting is None:
            self._starting = spawn(f"opening the cache of {self._name}s", self._cache.start())
        await asyncio.shield(self._starting)
        return self._cache

    async def close(self) -> None:
        """Write what is queued, where anything was."""
        if self._starting is not None:
            await (await self.cache()).close()

    async def forget(self, clip_name: str) -> None:
        """Remove the records of a clip, also those on their way to the store.

        Raises StageUnavailableError when a tier may have kept something.
        """
        clip = self._clip(clip_name)
        self._forgotten.add(clip.owner)
        try:
            await (await self.cache()).forget(clip)
        except StoreError as error:
            raise StageUnavailableError(
                f"the clip's {self._name} could not be removed", detail=str(error)
            ) from error

    def _clip(self, clip_name: str) -> ClipKey:
        return ClipKey(tenant_of(clip_name) or self._namespace, digest_of(clip_name))


def _below_a_stage(settings: CacheSettings, max_bytes: int) -> CacheSettings:
    """The same tiers. The stage is their memory, and the routers keep the directory's budget."""
    largest = max(max_bytes, 1024) + STATE_MARGIN_BYTES
    changes = {
        "l1_bytes": 0,
        "alias_bytes": 0,
        "max_record_bytes": largest,
        "writeback_bytes": QUEUED_RECORDS * largest,
        "l3_max_bytes": None,
    }
    return settings.model_copy(update=changes)
