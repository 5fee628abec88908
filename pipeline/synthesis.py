"""The main path: a clip and a text become speech, on Protocols alone.

Knows no model, Ray or HTTP.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Protocol

from pipeline.contracts import (
    OUTPUT_SAMPLE_RATE_HZ,
    Float32Array,
    Int32Array,
    Sampling,
    SpeechLM,
    SpeechRequest,
    StageTimes,
    TokenChunk,
    VoicePrompt,
    WaveDecoder,
)

SPEAKER_DIGITS = 16  # hex digits of the clip's digest in a speaker name


@dataclass(frozen=True, slots=True)
class ResolvedVoice:
    """A voice ready to speak.

    prompt: what the stages need of the clip. clip_digest: names the clip. tier: what answered (l1,
    l2, l3, miss).
    """

    prompt: VoicePrompt
    clip_digest: str
    tier: str


@dataclass(frozen=True, slots=True, eq=False)
class SpeechChunk:
    """A piece of speech with the account of where time went so far.

    samples: float32 (n,), 24 kHz mono. last: no chunk follows.
    llm_s: seconds spent waiting for tokens. vocoder_s: seconds spent turning tokens into audio.
    """

    samples: Float32Array
    last: bool
    llm_s: float
    vocoder_s: float


class VoiceResolver(Protocol):
    """Finds or makes the voice prompt of an uploaded clip."""

    async def resolve(self, upload: bytes) -> ResolvedVoice:
        """Raises AudioError for an unusable clip, StageError when no encoder could be reached."""
        ...


class PromptWriter(Protocol):
    """Writes the LLM's prompt."""

    def build(self, request: SpeechRequest, voice: VoicePrompt) -> Int32Array:
        """Prompt ids of a clone or an edit.

        Raises InputError when the request cannot be written.
        """
        ...

    def bounded(self, request: SpeechRequest, voice: VoicePrompt) -> Sampling:
        """The request's sampling with `max_tokens` lowered to what the text can need."""
        ...


class Speaker(Protocol):
    """LLM and vocoder chained: speaks a request in a voice."""

    def speak(self, request: SpeechRequest, voice: VoicePrompt) -> AsyncGenerator[SpeechChunk]:
        """Chunks in order, the final one has `last`. Closing it frees every stage's state."""
        ...


async def synthesize(
    upload: bytes,
    request: SpeechRequest,
    voices: VoiceResolver,
    speaker: Speaker,
    watch: StopWatch,
) -> AsyncGenerator[SpeechChunk]:
    """Speak `request` in the voice of the uploaded clip; `watch` keeps the account.

    Nothing outlives the generator: closing it closes every stage. Errors pass through as they are.
    """
    voice = await voices.resolve(upload)
    watch.voice_resolved(voice.tier)
    named = replace(request, speaker=f"clone_{voice.clip_digest[:SPEAKER_DIGITS]}")
    async with aclosing(speaker.speak(named, voice.prompt)) as speech:
        async for chunk in speech:
            watch.audio_made(chunk)
            yield chunk


class ChainedSpeaker:
    """The chain in one process.

    Writes the prompt, pulls tokens from the LLM and audio from the decoder.
    """

    def __init__(self, prompts: PromptWriter, lm: SpeechLM, decoder: WaveDecoder) -> None:
        self._prompts = prompts
        self._lm = lm
        self._decoder = decoder

    async def speak(
        self, request: SpeechRequest, voice: VoicePrompt
    ) -> AsyncGenerator[SpeechChunk]:
        """Raises InputError for a prompt that cannot be written, StageError when a stage fails."""
        prompt_ids = self._prompts.build(request, voice)
        sampling = self._prompts.bounded(request, voice)
        async with aclosing(_TimedTokens(self._lm.stream(prompt_ids, sampling))) as tokens:
            async with aclosing(
                self._decoder.stream(tokens, voice, request.first_chunk_rows)
            ) as audio:
                busy_s = 0.0
                resumed_s = time.perf_counter()
                async for chunk in audio:
                    busy_s += time.perf_counter() - resumed_s
                    vocoder_s = max(busy_s - tokens.waited_s, 0.0)
                    yield SpeechChunk(chunk.samples, chunk.last, tokens.waited_s, vocoder_s)
                    resumed_s = time.perf_counter()


class _TimedTokens:
    """Passes tokens through and counts the seconds their consumer waited for them."""

    def __init__(self, chunks: AsyncGenerator[TokenChunk]) -> None:
        self._chunks = chunks
        self.waited_s = 0.0

    def __aiter__(self) -> _TimedTokens:
        return self

    async def __anext__(self) -> TokenChunk:
        asked_s = time.perf_counter()
        try:
            return await anext(self._chunks)
        finally:
            self.waited_s += time.perf_counter() - asked_s

    async def aclose(self) -> None:
        await self._chunks.aclose()


class StopWatch:
    """One request's clock, from acceptance to the last byte. Lives in the request's own frame."""

    def __init__(self) -> None:
        self._accepted_s = time.perf_counter()
        self._tokenizer_s = 0.0
        self._tier = "none"
        self._ttfa_s = 0.0
        self._llm_s = 0.0
        self._vocoder_s = 0.0
        self._samples = 0

    def voice_resolved(self, tier: str) -> None:
        """The voice prompt is at hand; `tier` answered."""
        self._tier = tier
        self._tokenizer_s = self._elapsed_s()

    def audio_made(self, chunk: SpeechChunk) -> None:
        """A chunk arrived from the speaker."""
        if not self._samples and len(chunk.samples):
            self._ttfa_s = self._elapsed_s()
        self._samples += len(chunk.samples)
        self._llm_s, self._vocoder_s = chunk.llm_s, chunk.vocoder_s

    def times(self) -> StageTimes:
        """The account so far."""
        return StageTimes(
            tokenizer_s=self._tokenizer_s,
            tier=self._tier,
            llm_s=self._llm_s,
            vocoder_s=self._vocoder_s,
            ttfa_s=self._ttfa_s,
            total_s=self._elapsed_s(),
            audio_s=self._samples / OUTPUT_SAMPLE_RATE_HZ,
        )

    def _elapsed_s(self) -> float:
        return time.perf_counter() - self._accepted_s


def stage_line(times: StageTimes) -> str:
    """The account on one line, seconds: the form that logs, the demo and `timbre say` print."""
    return (
        f"tokenizer={times.tokenizer_s:.3f} ({times.tier}) llm={times.llm_s:.2f} "
        f"ttfa={times.ttfa_s:.2f} vocoder={times.vocoder_s:.2f} total={times.total_s:.2f} "
        f"audio={times.audio_s:.2f} rtf={times.rtf:.2f}"
    )
