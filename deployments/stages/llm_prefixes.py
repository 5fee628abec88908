"""Keys and values of voices' prompt prefixes as records of their clips, where they are small.

Fetching those of the embedded model takes a tenth of making them; the released model's 20 MB are
fetched no faster than made where a network lies between (docs/decisions/0005).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blake3 import blake3

from cache_store.background import spawn
from cache_store.codec import FieldSpec, Record, RecordSchema
from cache_store.keys import VoiceKey, fingerprint
from cache_store.settings import CacheSettings
from deployments.stages.clip_records import ClipRecords
from pipeline.contracts import Int32Array

if TYPE_CHECKING:
    from pipeline.stepaudio.llm.engine.engine import Engine

PREFIX_SCHEMA = RecordSchema("prefix", 1, (FieldSpec("bits", "uint8", (None,), min_rows=1),))


@dataclass(frozen=True, slots=True, eq=False)
class NewPrefix:
    """A prefix that no tier has; the engine has it once its request drew a token."""

    key: VoiceKey
    ids: Int32Array
    clip_name: str = ""


class PrefixLibrary:
    """Prefixes by clip and ids, for one engine. Use it from one event loop.

    made_by: fingerprint of all but the ids that decides the bits. max_bytes: larger ones are
    neither looked for nor kept; 0 keeps none.
    """

    def __init__(
        self, settings: CacheSettings, engine: Engine, made_by: str, max_bytes: int
    ) -> None:
        self._engine, self._made_by = engine, made_by
        self.records = ClipRecords(settings, PREFIX_SCHEMA, "prompt prefix", max_bytes)

    async def bring(self, prompt_ids: Int32Array, clip_name: str) -> NewPrefix | None:
        """Look for the prefix of a prompt that the engine lacks and would hold, and give it to it.

        None when there is nothing to offer later.
        """
        ids = self._engine.prefix(prompt_ids)
        n_bytes = self._engine.prefix_bytes(ids)
        if not clip_name or not 0 < n_bytes <= self.records.max_bytes:
            return None
        if not self._engine.wants_prefix(ids, clip_name):
            return None
        parts = {"made_by": self._made_by, "ids": blake3(ids.tobytes()).hexdigest()}
        key = self.records.key(clip_name, fingerprint("prefix", parts))
        record = await self.records.find(key)
        if record is None:
            return NewPrefix(key, ids, clip_name)
        bits = record.arrays["bits"]
        await asyncio.to_thread(self._engine.give_prefix, ids, bits, clip_name)
        return None

    def offer(self, made: NewPrefix) -> None:
        """To the tiers, in the background, if the engine kept it."""
        spawn("keeping a prompt prefix", self._keep(made))

    async def _keep(self, made: NewPrefix) -> None:
        """In a thread, for a copy from a device is waited for, and speech is under way."""
        bits = await asyncio.to_thread(self._engine.prefix_bits, made.ids, made.clip_name)
        if bits is not None:
            await self.records.keep(made.key, Record({"bits": bits}, {}))
