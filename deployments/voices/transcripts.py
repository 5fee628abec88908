"""What is said in clips whose callers did not tell: heard once for each clip, then kept.

A transcript is a record of its clip, beside the voice's: any router finds it, and removing the clip
removes it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import numpy as np

from cache_store.cache import VoiceCache
from cache_store.codec import FieldSpec, Record, RecordSchema
from cache_store.errors import StoreError
from cache_store.keys import ClipKey, VoiceKey, fingerprint
from cache_store.opening import open_cache
from cache_store.settings import CacheSettings
from pipeline.contracts import ReferenceClip
from pipeline.errors import StageTimeoutError, StageUnavailableError
from pipeline.transcription import Transcriber

TRANSCRIPT_SCHEMA = RecordSchema("transcript", 1, (FieldSpec("words", "uint8", (None,)),))
MEMORY_BYTES = 4 * 2**20
MAX_RECORD_BYTES = 64 * 2**10
UNHEARD = (
    "what is said in the clip could not be found out, for the recogniser does not answer: send the "
    "transcript with the clip, or try again in a moment"
)


class Hearing(Transcriber, Protocol):
    """A recogniser, wherever it runs, and whatever it is just now."""

    async def fingerprint(self) -> str:
        """Of the one that runs now. Raises StageError when none answers."""
        ...


class Transcripts:
    """Words by clip. Use it from one event loop, between `start` and `close`."""

    def __init__(self, settings: CacheSettings, hearing: Hearing) -> None:
        self._hearing = hearing
        self._made_by: str | None = None  # of the recogniser that was asked last
        self._cache: VoiceCache = open_cache(_beside_voices(settings), TRANSCRIPT_SCHEMA)

    async def start(self) -> None:
        """Make the cache ready; reads no records."""
        await self._cache.start()

    async def close(self) -> None:
        """Write what is queued."""
        await self._cache.close()

    async def of(
        self, namespace: str, clip_digest: str, read: Callable[[], Awaitable[ReferenceClip]]
    ) -> str:
        """What is said in a clip; empty where no words were heard.

        read: gives the clip; used only where nobody heard it before. Raises StageUnavailableError
        when no recogniser answers, CapacityError when it is full, StageError when it fails.
        """

        async def heard() -> Record:
            words = await self._hearing.transcribe(await read())
            return Record({"words": np.frombuffer(words.encode(), np.uint8)}, {})

        known = None
        if self._made_by is not None:  # what was heard before needs no recogniser
            known = await self._cache.get(VoiceKey(namespace, clip_digest, self._made_by))
        try:
            if known is None:
                name = await self._hearing.fingerprint()
                self._made_by = fingerprint("transcript", {"recogniser": name})
                key = VoiceKey(namespace, clip_digest, self._made_by)
                known = await self._cache.get_or_compute(key, heard)
        except (StageTimeoutError, StageUnavailableError) as error:
            raise StageUnavailableError(UNHEARD, detail=str(error)) from error
        return known.record.arrays["words"].tobytes().decode()

    async def forget(self, clip: ClipKey) -> None:
        """Remove a clip's transcripts from every tier.

        Raises StageUnavailableError when a tier may have kept something.
        """
        try:
            await self._cache.forget(clip)
        except StoreError as error:
            raise StageUnavailableError(
                "the clip's transcript could not be removed", detail=str(error)
            ) from error


def _beside_voices(settings: CacheSettings) -> CacheSettings:
    """The same tiers, of which the voices' cache keeps the directory's budget."""
    changes = {
        "l1_bytes": MEMORY_BYTES,
        "alias_bytes": 0,
        "max_record_bytes": MAX_RECORD_BYTES,
        "writeback_bytes": 16 * MAX_RECORD_BYTES,
        "l3_max_bytes": None,
    }
    return settings.model_copy(update=changes)
