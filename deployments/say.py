"""`timbre say`: speech in this process, with the cache of the service.

A voice that was spoken here or served before is found; one that is new is found the next time.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from cache_store.settings import CacheSettings
from deployments.config.settings import Settings
from deployments.stages.vocoder_states import OwnedDecoder, StateLibrary
from deployments.voices.resolver import VoiceLibrary
from pipeline.audio.encode import encode_file, file_format
from pipeline.contracts import (
    Float32Array,
    SpeechChunk,
    SpeechRequest,
    StageTimes,
    Stream,
    VoicePrompt,
    VoiceReference,
)
from pipeline.local import LocalPipeline, spoken


class KeptStates:
    """A Synthesizer in this process that finds the vocoder's state of a voice, and keeps it."""

    def __init__(self, pipeline: LocalPipeline, cache: CacheSettings) -> None:
        self._pipeline = pipeline
        self._states = StateLibrary(cache, pipeline.decoder.state_fingerprint)

    def speak(self, request: SpeechRequest, voice: VoicePrompt) -> Stream[SpeechChunk]:
        """See synthesis.Synthesizer."""
        shelf = self._states.shelf(voice)
        decoder = OwnedDecoder(self._pipeline.decoder, voice.clip_digest, shelf)
        return self._pipeline.chain(decoder).speak(request, voice)

    async def close(self) -> None:
        """Write what is to be kept."""
        await self._states.records.close()


def without_cluster(settings: Settings) -> Settings:
    """The same, with the tiers of a process alone."""
    cache = settings.cache.model_copy(update={"l2": "off"})
    return settings.model_copy(update={"cache": cache})


def say_to_file(
    pipeline: LocalPipeline, settings: Settings, clip: bytes, request: SpeechRequest, output: Path
) -> StageTimes:
    """Speak `request` in the voice of a clip's bytes into `output`, whose suffix names the format.

    settings: of the service whose cache it is. Raises AudioError for a clip that cannot be used,
    and UnsupportedError for a suffix before anything is computed.
    """
    file_format(output)
    samples, times = asyncio.run(_said(pipeline, settings, clip, request))
    encode_file(samples, output)
    return times


async def _said(
    pipeline: LocalPipeline, settings: Settings, upload: bytes, request: SpeechRequest
) -> tuple[Float32Array, StageTimes]:
    settings = without_cluster(settings)
    voices = VoiceLibrary(settings, pipeline.encoder)
    synthesizer = KeptStates(pipeline, settings.cache)
    await voices.start()
    try:
        return await spoken(VoiceReference(upload), request, voices, synthesizer)
    finally:
        await voices.close()
        await synthesizer.close()
