"""Speech of a checkpoint, of each answer the marked and the unmarked one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field

import numpy as np

from pipeline.contracts import (
    OUTPUT_SAMPLE_RATE_HZ,
    AudioChunk,
    Float32Array,
    Sampling,
    SpeechRequest,
    TokenChunk,
    VoicePrompt,
    VoiceReference,
)
from pipeline.local import LocalPipeline
from pipeline.marks.marker import Marker
from pipeline.voice_list import load_voices

TEXTS = (
    "The first bus leaves before the bakery opens, and it comes back at noon.",
    "Nobody had told them that the bridge was closed.",
    "Your parcel will arrive between nine and eleven. Please stay at home until then.",
    "If you would like to speak to somebody, press one.",
    "There was a light in the kitchen, and the radio was on.",
    "We have moved your appointment to Thursday afternoon.",
    "It rained for a week, and then the garden was green.",
    "Turn left behind the church, and you will see the sea.",
    "A letter came, and after that nothing was as before.",
    "In the evening the whole street smelled of bread.",
    "The last question was the easiest of them all.",
)


@dataclass(slots=True)
class Spoken:
    """One answer. first_s: what the mark took of the first chunk, mark_s: of all."""

    plain: list[Float32Array] = field(default_factory=list[Float32Array])
    marked: list[Float32Array] = field(default_factory=list[Float32Array])
    first_s: float = 0.0
    mark_s: float = 0.0

    @property
    def unmarked(self) -> Float32Array:
        return np.concatenate(self.plain)

    @property
    def audio(self) -> Float32Array:
        """Marked."""
        return np.concatenate(self.marked)

    @property
    def audio_s(self) -> float:
        return sum(map(len, self.plain)) / OUTPUT_SAMPLE_RATE_HZ


class _Both:
    """A decoder whose chunks are kept as they are made, and marked as the vocoder marks them."""

    def __init__(self, pipeline: LocalPipeline, marker: Marker) -> None:
        self._decoder, self._marker = pipeline.decoder, marker
        self.spoken = Spoken()

    async def stream(
        self,
        tokens: AsyncIterator[TokenChunk],
        voice: VoicePrompt,
        first_chunk_rows: int | None = None,
    ) -> AsyncGenerator[AudioChunk]:
        """See contracts.WaveDecoder."""
        mark, spoken = self._marker.begin(), self.spoken
        async with aclosing(self._decoder.stream(tokens, voice, first_chunk_rows)) as chunks:
            async for chunk in chunks:
                began_s = time.perf_counter()
                spoken.marked.append(mark.process(chunk.samples))
                took_s = time.perf_counter() - began_s
                spoken.first_s = spoken.first_s or took_s
                spoken.mark_s += took_s
                spoken.plain.append(chunk.samples)
                yield chunk


async def speak(pipeline: LocalPipeline, marker: Marker, count: int) -> list[Spoken]:
    """So many answers: the listed voices in turn, a text and a seed for each."""
    made = list[Spoken]()
    voices = list(load_voices().values())
    for number in range(count):
        voice = voices[number % len(voices)]
        both = _Both(pipeline, marker)
        clip = await asyncio.to_thread(voice.path.read_bytes)
        resolved = await pipeline.voices.resolve(VoiceReference(clip))
        request = SpeechRequest(
            TEXTS[number % len(TEXTS)], voice.transcript, sampling=Sampling(seed=number)
        )
        async with aclosing(pipeline.chain(both).speak(request, resolved.prompt)) as speech:
            async for _ in speech:
                pass
        made.append(both.spoken)
    return made
