"""The vocoder's states of voices as records of their clips; a state is two rows of numbers here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cache_store.background import spawn
from cache_store.codec import FieldSpec, Record, RecordSchema
from cache_store.keys import VoiceKey, fingerprint
from cache_store.settings import CacheSettings
from deployments.stages.clip_records import ClipRecords
from pipeline.contracts import AudioChunk, Stream, TokenChunk, VoicePrompt
from pipeline.serving.listener import Listener
from pipeline.serving.tracing import UNTRACED, Trace

if TYPE_CHECKING:
    from pipeline.stepaudio.vocoder.voice_state import StateArrays
    from pipeline.stepaudio.vocoder.wave_decoder import StepWaveDecoder

STATE_SCHEMA = RecordSchema(
    "vocoder",
    1,
    (
        FieldSpec("keys", "int16", (None,), min_rows=1),
        FieldSpec("rest", "float32", (None,), min_rows=1),
    ),
)


class StateLibrary:
    """States by clip. Use it from one event loop.

    decoder_fingerprint: of all but the voice that decides a state's bits.
    """

    def __init__(self, settings: CacheSettings, decoder_fingerprint: str) -> None:
        self._decoder = decoder_fingerprint
        max_bytes = settings.max_state_bytes
        self.records = ClipRecords(settings, STATE_SCHEMA, "vocoder state", max_bytes)

    def shelf(self, voice: VoicePrompt, clip_name: str = "") -> VoiceShelf | None:
        """Where the state of a voice is; None for one that has no clip, or where none are kept.

        clip_name: of its clip, where a tenant has it.
        """
        if not voice.clip_digest or not self.records.max_bytes:
            return None
        parts = {"decoder": self._decoder, "encoder": voice.fingerprint}
        key = self.records.key(clip_name or voice.clip_digest, fingerprint("vocoder", parts))
        return VoiceShelf(self.records, key)


class VoiceShelf:
    """Implements the decoder's `StateShelf` for one voice."""

    def __init__(self, records: ClipRecords, key: VoiceKey) -> None:
        self._records, self.key = records, key

    async def find(self) -> StateArrays | None:
        """See ClipRecords.find."""
        from pipeline.stepaudio.vocoder.voice_state import StateArrays

        record = await self._records.find(self.key)
        if record is None:
            return None
        return StateArrays(record.arrays["keys"], record.arrays["rest"])

    def keep(self, arrays: StateArrays) -> None:
        """See ClipRecords.keep."""
        record = Record({"keys": arrays.keys, "rest": arrays.rest}, {})
        spawn("keeping a vocoder state", self._records.keep(self.key, record))


@dataclass(frozen=True, slots=True)
class OwnedDecoder:
    """The decoder, for the answers to one request: what it keeps is found by `owner`, its clip."""

    decoder: StepWaveDecoder
    owner: str
    shelf: VoiceShelf | None
    listener: Listener | None = None
    is_marked: bool = True
    trace: Trace = UNTRACED

    def stream(
        self,
        tokens: AsyncIterator[TokenChunk],
        voice: VoicePrompt,
        first_chunk_rows: int | None = None,
    ) -> Stream[AudioChunk]:
        """See contracts.WaveDecoder."""
        kept = (self.owner, self.shelf, self.listener)
        unlike: dict[str, Any] = {} if self.is_marked else {"is_marked": False}
        if self.trace:
            unlike["trace"] = self.trace
        return self.decoder.stream(tokens, voice, first_chunk_rows, *kept, **unlike)
