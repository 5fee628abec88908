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
from pipeline.guardrail import GOOD, Quality, TokenGuard, Verdict

SPEAKER_DIGITS = 16  # hex digits of the clip's digest in a speaker name
_OTHER_SEED = 0x9E3779B97F4A7C15  # any fixed pattern: the second answer follows from the first seed


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
    quality: what the guard thinks of the answer so far.
    """

    samples: Float32Array
    last: bool
    llm_s: float
    vocoder_s: float
    quality: Quality = GOOD


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

    def least_tokens(self, request: SpeechRequest, voice: VoicePrompt) -> int:
        """Audio tokens below which an answer cannot hold its text."""
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
    named = replace(request, speaker=speaker_name(voice.clip_digest))
    async with aclosing(speaker.speak(named, voice.prompt)) as speech:
        async for chunk in speech:
            watch.audio_made(chunk)
            yield chunk


def speaker_name(clip_digest: str) -> str:
    """What the stages call the voice of a clip."""
    return f"clone_{clip_digest[:SPEAKER_DIGITS]}"


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
        """Raises InputError for a prompt that cannot be written, StageError when a stage fails.

        An answer that proves bad before any audio of it was handed out is drawn once more with
        another seed, where the request allows it.
        """
        prompt_ids = self._prompts.build(request, voice)
        sampling = self._prompts.bounded(request, voice)
        is_bounded = sampling.max_tokens < request.sampling.max_tokens
        least_tokens = min(self._prompts.least_tokens(request, voice), sampling.max_tokens)
        spent = _Spent()
        for is_retried in (False, True):
            guard = TokenGuard(least_tokens, sampling.max_tokens if is_bounded else None)
            may_retry = request.may_reseed and not is_retried
            chunks = self._attempt(prompt_ids, sampling, request, voice, guard, spent)
            async with aclosing(chunks):
                async for samples, last in chunks:
                    if may_retry and guard.verdict is not Verdict.OK:
                        break
                    may_retry = may_retry and not len(samples)
                    quality = Quality(guard.verdict, is_retried)
                    yield SpeechChunk(samples, last, spent.llm_s, spent.vocoder_s, quality)
                else:
                    return
            sampling = replace(sampling, seed=sampling.seed ^ _OTHER_SEED)

    async def _attempt(
        self,
        prompt_ids: Int32Array,
        sampling: Sampling,
        request: SpeechRequest,
        voice: VoicePrompt,
        guard: TokenGuard,
        spent: _Spent,
    ) -> AsyncGenerator[tuple[Float32Array, bool]]:
        """One answer as (samples, last); `spent` keeps the account."""
        lm_s, vocoder_s = spent.llm_s, spent.vocoder_s
        stream = self._lm.stream(prompt_ids, sampling)
        async with aclosing(_WatchedTokens(stream, guard)) as tokens:
            first_rows = request.first_chunk_rows
            async with aclosing(self._decoder.stream(tokens, voice, first_rows)) as audio:
                busy_s = 0.0
                resumed_s = time.perf_counter()
                async for chunk in audio:
                    busy_s += time.perf_counter() - resumed_s
                    spent.llm_s = lm_s + tokens.waited_s
                    spent.vocoder_s = vocoder_s + max(busy_s - tokens.waited_s, 0.0)
                    yield chunk.samples, chunk.last
                    resumed_s = time.perf_counter()


@dataclass(slots=True)
class _Spent:
    """Seconds of both stages over all attempts."""

    llm_s: float = 0.0
    vocoder_s: float = 0.0


class _WatchedTokens:
    """Passes tokens through, shows them to the guard, counts the seconds waited for them."""

    def __init__(self, chunks: AsyncGenerator[TokenChunk], guard: TokenGuard) -> None:
        self._chunks = chunks
        self._guard = guard
        self.waited_s = 0.0

    def __aiter__(self) -> _WatchedTokens:
        return self

    async def __anext__(self) -> TokenChunk:
        asked_s = time.perf_counter()
        try:
            chunk = await anext(self._chunks)
        finally:
            self.waited_s += time.perf_counter() - asked_s
        self._guard.add(chunk)
        return chunk

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
        self.quality = GOOD

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
        self.quality = chunk.quality

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
