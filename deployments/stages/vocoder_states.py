"""The vocoder's states of voices as records of the cache: a new replica starts warm.

A state is two rows of numbers here. Its record is the clip's, under a fingerprint of its own, so
removing a clip removes it too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cache_store.background import spawn
from cache_store.cache import VoiceCache
from cache_store.codec import FieldSpec, Record, RecordSchema
from cache_store.errors import CacheClosed, StoreError
from cache_store.keys import ClipKey, VoiceKey, fingerprint
from cache_store.opening import open_cache
from cache_store.settings import CacheSettings
from pipeline.contracts import AudioChunk, TokenChunk, VoicePrompt
from pipeline.errors import StageUnavailableError
from pipeline.forgotten import Forgotten

if TYPE_CHECKING:
    from pipeline.stepaudio.vocoder.voice_state import StateArrays
    from pipeline.stepaudio.vocoder.wave_decoder import StepWaveDecoder

logger = logging.getLogger(__name__)

STATE_SCHEMA = RecordSchema(
    "vocoder",
    1,
    (
        FieldSpec("keys", "int16", (None,), min_rows=1),
        FieldSpec("rest", "float32", (None,), min_rows=1),
    ),
)
QUEUED_STATES = 4  # of the largest size, on their way to the store


class StateLibrary:
    """States by clip. Use it from one event loop.

    decoder_fingerprint: of all but the voice that decides a state's bits.
    found_total, missed_total: look-ups, of voices whose state the decoder did not hold itself.
    """

    def __init__(self, settings: CacheSettings, decoder_fingerprint: str) -> None:
        self._namespace, self._decoder = settings.namespace, decoder_fingerprint
        self._max_bytes = settings.max_state_bytes
        self._cache: VoiceCache = open_cache(_of_states(settings), STATE_SCHEMA)
        self._starting: asyncio.Task[None] | None = None
        self._forgotten = Forgotten()
        self.found_total = self.missed_total = 0

    def shelf(self, clip_digest: str, voice: VoicePrompt) -> VoiceShelf | None:
        """Where the state of a voice is; None for one that has no clip, or where none are kept."""
        if not clip_digest or not self._max_bytes:
            return None
        parts = {"decoder": self._decoder, "encoder": voice.fingerprint}
        key = VoiceKey(self._namespace, clip_digest, fingerprint("vocoder", parts))
        return VoiceShelf(self, key)

    async def find(self, key: VoiceKey) -> Record | None:
        """The record of the nearest tier below this process; a damaged one is a miss."""
        found = await (await self.cache()).get(key)
        if found is None:
            self.missed_total += 1
            return None
        self.found_total += 1
        return found.record

    async def keep(self, key: VoiceKey, arrays: StateArrays) -> None:
        """Offer it to the tiers, unless it is too large or its clip was removed meanwhile."""
        is_small = arrays.keys.nbytes + arrays.rest.nbytes <= self._max_bytes
        record = Record({"keys": arrays.keys, "rest": arrays.rest}, {})

        async def made() -> Record:
            return record

        cache = await self.cache()
        if not is_small or key.clip_digest in self._forgotten:
            return
        try:
            await cache.get_or_compute(key, made)
        except CacheClosed:
            logger.info("a vocoder state is not kept: the cache is closing")

    async def cache(self) -> VoiceCache:
        """The cache, started: a replica's constructor has no loop to start it on."""
        if self._starting is None:
            self._starting = spawn("opening the cache of vocoder states", self._cache.start())
        await asyncio.shield(self._starting)
        return self._cache

    async def close(self) -> None:
        """Write what is queued, where anything was."""
        if self._starting is not None:
            await (await self.cache()).close()

    async def forget(self, clip_digest: str) -> None:
        """Remove the states of a clip, also those on their way to the store.

        Raises StageUnavailableError when a tier may have kept something.
        """
        self._forgotten.add(clip_digest)
        try:
            await (await self.cache()).forget(ClipKey(self._namespace, clip_digest))
        except StoreError as error:
            raise StageUnavailableError(
                "the clip's vocoder state could not be removed", detail=str(error)
            ) from error


class VoiceShelf:
    """Implements the decoder's `StateShelf` for one voice."""

    def __init__(self, library: StateLibrary, key: VoiceKey) -> None:
        self._library, self._key = library, key

    async def find(self) -> StateArrays | None:
        """See StateLibrary.find."""
        from pipeline.stepaudio.vocoder.voice_state import StateArrays

        record = await self._library.find(self._key)
        if record is None:
            return None
        return StateArrays(record.arrays["keys"], record.arrays["rest"])

    def keep(self, arrays: StateArrays) -> None:
        """See StateLibrary.keep."""
        spawn("keeping a vocoder state", self._library.keep(self._key, arrays))


@dataclass(frozen=True, slots=True)
class OwnedDecoder:
    """The decoder, for the streams of one voice: what it keeps of them is found by its name."""

    decoder: StepWaveDecoder
    owner: str
    shelf: VoiceShelf | None

    def stream(
        self,
        tokens: AsyncIterator[TokenChunk],
        voice: VoicePrompt,
        first_chunk_rows: int | None = None,
    ) -> AsyncGenerator[AudioChunk]:
        """See contracts.WaveDecoder."""
        return self.decoder.stream(tokens, voice, first_chunk_rows, self.owner, self.shelf)


def _of_states(settings: CacheSettings) -> CacheSettings:
    """The same tiers. The decoder is their memory, and the routers keep the directory's budget."""
    largest = max(settings.max_state_bytes, 1024) + 64 * 1024
    changes = {
        "l1_bytes": 0,
        "alias_bytes": 0,
        "max_record_bytes": largest,
        "writeback_bytes": QUEUED_STATES * largest,
        "l3_max_bytes": None,
    }
    return settings.model_copy(update=changes)
