"""The main path: a clip and a text become speech, on Protocols alone.

Knows no model, Ray or HTTP.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeAlias, TypeVar

import numpy as np

from pipeline.audio.joints import faded
from pipeline.contracts import (
    GROUP_TOKENS,
    OUTPUT_SAMPLE_RATE_HZ,
    AudioChunk,
    Float32Array,
    Int32Array,
    Mode,
    Sampling,
    SpeechLM,
    SpeechRequest,
    StageTimes,
    TokenChunk,
    VoicePrompt,
    VoiceReference,
    WaveDecoder,
)
from pipeline.edit_values import SAME_WORDS
from pipeline.errors import CapacityError, StageError
from pipeline.guardrail import GOOD, Quality, TokenGuard, Verdict
from pipeline.stepaudio.tokens import deinterleave

SPEAKER_DIGITS = 16  # hex digits of the clip's digest in a speaker name
_OTHER_SEED = 0x9E3779B97F4A7C15  # any fixed pattern: the second answer follows from the first seed
_TRIES, _TRY_AGAIN_S = 60, 0.5  # of a passage behind the first, while the LLM is full
_SEED_STEP = 0x2545F4914F6CDD1D  # any odd number: every passage's seed follows from the request's


@dataclass(frozen=True, slots=True)
class ResolvedVoice:
    """A voice ready to speak.

    prompt: what the stages need of the clip. clip_digest: names the clip. tier: what answered (l1,
    l2, l3, miss). warnings: what is wrong with the upload, each in a word. transcript: what a
    listed voice's clip says; None where the caller sent the clip.
    """

    prompt: VoicePrompt
    clip_digest: str
    tier: str
    warnings: tuple[str, ...] = ()
    transcript: str | None = None

    def completed(self, request: SpeechRequest) -> SpeechRequest:
        """The request with what only the voice knows: its name, and a listed clip's words."""
        named = replace(request, speaker=speaker_name(self.clip_digest))
        if self.transcript is None:
            return named
        text = self.transcript if request.mode in SAME_WORDS else request.text
        return replace(named, transcript=self.transcript, text=text)


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
    """Finds or makes the voice prompt of an uploaded clip or a listed voice."""

    async def resolve(self, reference: VoiceReference) -> ResolvedVoice:
        """Raises AudioError for an unusable clip, StageError when no encoder could be reached.

        And UnknownVoiceError for a name that is not listed.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Script:
    """One passage as the LLM gets it, and what its answer is judged by.

    prompt_ids: int32 (n,). sampling: the request's, with nothing left to the checkpoint.
    least_tokens: audio tokens below which an answer cannot hold the passage. most_tokens: what the
    passage can need at most, so that a missing stop cannot run on.
    """

    prompt_ids: Int32Array
    sampling: Sampling
    least_tokens: int
    most_tokens: int


class PromptWriter(Protocol):
    """Writes the LLM's prompts."""

    def scripts(self, request: SpeechRequest, voice: VoicePrompt) -> Iterator[Script]:
        """A clone or an edit, passage by passage: each is what the model says in one go.

        Blocks, at every step: call it off the event loop. One passage at least.
        Raises InputError, at the first step, when the request cannot be written.
        """
        ...


class Speaker(Protocol):
    """LLM and vocoder chained: speaks a request in a voice."""

    def speak(self, request: SpeechRequest, voice: VoicePrompt) -> AsyncGenerator[SpeechChunk]:
        """Chunks in order, the final one has `last`. Closing it frees every stage's state."""
        ...


async def synthesize(
    reference: VoiceReference,
    request: SpeechRequest,
    voices: VoiceResolver,
    speaker: Speaker,
    watch: StopWatch,
) -> AsyncGenerator[SpeechChunk]:
    """Speak `request` in the voice that is meant; `watch` keeps the account.

    Nothing outlives the generator: closing it closes every stage. Errors pass through as they are.
    """
    voice = await voices.resolve(reference)
    del reference  # a stream may last minutes; what it needs of the clip is in the voice
    watch.voice_resolved(voice.tier, voice.warnings)
    async with aclosing(speaker.speak(voice.completed(request), voice.prompt)) as speech:
        async for chunk in speech:
            watch.audio_made(chunk)
            yield chunk


def speaker_name(clip_digest: str) -> str:
    """What the stages call the voice of a clip."""
    return f"clone_{clip_digest[:SPEAKER_DIGITS]}"


_Piece = TypeVar("_Piece", AudioChunk, TokenChunk)
# Turns an answer's tokens into pieces: of audio, or of the tokens themselves.
_Decode: TypeAlias = Callable[[AsyncIterator[TokenChunk]], AsyncGenerator[_Piece]]


class ChainedSpeaker:
    """LLM and decoder chained, wherever they run.

    Writes the prompts, pulls tokens from the LLM and audio from the decoder.
    """

    def __init__(self, prompts: PromptWriter, lm: SpeechLM, decoder: WaveDecoder) -> None:
        self._prompts = prompts
        self._lm = lm
        self._decoder = decoder

    async def speak(
        self, request: SpeechRequest, voice: VoicePrompt
    ) -> AsyncGenerator[SpeechChunk]:
        """Raises InputError for a prompt that cannot be written, StageError when a stage fails.

        Passages are spoken one after another. An answer that proves bad before any audio of its
        passage was handed out is drawn once more with another seed, where the request allows it.
        """
        account = _Account()
        edited, seed = await self._edited(request, voice, account)
        scripts = self._prompts.scripts(request, edited)
        script = await asyncio.to_thread(next, scripts, None)
        left_tokens, first_rows = request.sampling.max_tokens, request.first_chunk_rows
        is_begun = False
        while script is not None:
            take = _Take(script, seed, request.may_reseed, left_tokens, is_begun)
            script, is_joint = None, is_begun
            decode = partial(self._decoder.stream, voice=voice, first_chunk_rows=first_rows)
            async with aclosing(self._answer(take, decode, account)) as chunks:
                async for chunk in chunks:
                    if chunk.last and left_tokens - account.answer_tokens >= GROUP_TOKENS:
                        script = await asyncio.to_thread(next, scripts, None)
                    is_followed = script is not None
                    samples = faded(chunk.samples, at_start=is_joint, at_end=is_followed)
                    is_joint = is_joint and not len(samples)
                    yield account.chunk(samples, last=chunk.last and not is_followed)
            left_tokens -= account.answer_tokens
            seed, first_rows, is_begun = _next_seed(seed), None, True

    async def _edited(
        self, request: SpeechRequest, voice: VoicePrompt, account: _Account
    ) -> tuple[VoicePrompt, int]:
        """What the last pass of an edit starts from, and its seed.

        Passes before the last make no sound: the tokens of each are the next one's input. Only the
        prompt takes them; what speaks remains the voice of the clip.
        """
        seed = request.sampling.seed
        for _ in range(request.iterations - 1 if request.mode is not Mode.CLONE else 0):
            script = await asyncio.to_thread(next, self._prompts.scripts(request, voice))
            take = _Take(script, seed, request.may_reseed, request.sampling.max_tokens)
            async with aclosing(self._answer(take, _whole_answer, account)) as answer:
                ids = (await anext(answer)).ids
            if not len(ids):
                raise StageError("the model produced no audio for this request; try another seed")
            vq02, vq06 = (codes.astype(np.int16) for codes in deinterleave(ids))
            voice, seed = replace(voice, vq02=vq02, vq06=vq06), _next_seed(seed)
        return voice, seed

    async def _answer(
        self, take: _Take, decode: _Decode[_Piece], account: _Account
    ) -> AsyncGenerator[_Piece]:
        """The pieces of one passage, drawn once more where it may be and must."""
        for is_retried in (False, True):
            guard = take.guard()
            may_retry = take.may_reseed and not is_retried
            sampling = take.sampling(is_retried=is_retried)
            stream = partial(self._lm.stream, take.script.prompt_ids, sampling)
            chunks = _patient(stream) if take.is_begun else stream()
            pieces = self._attempt(chunks, guard, decode, account)
            async with aclosing(pieces):
                async for piece in pieces:
                    if may_retry and guard.verdict is not Verdict.OK:
                        break
                    may_retry = False
                    account.judged(Quality(guard.verdict, is_retried), guard.n_tokens)
                    yield piece
                else:
                    return

    async def _attempt(
        self,
        chunks: AsyncGenerator[TokenChunk],
        guard: TokenGuard,
        decode: _Decode[_Piece],
        account: _Account,
    ) -> AsyncGenerator[_Piece]:
        """One answer; pieces without content come at its end alone."""
        lm_s, vocoder_s = account.llm_s, account.vocoder_s
        async with aclosing(_WatchedTokens(chunks, guard)) as tokens:
            async with aclosing(decode(tokens)) as pieces:
                busy_s = 0.0
                resumed_s = time.perf_counter()
                async for piece in pieces:
                    busy_s += time.perf_counter() - resumed_s
                    account.llm_s = lm_s + tokens.waited_s
                    account.vocoder_s = vocoder_s + max(busy_s - tokens.waited_s, 0.0)
                    yield piece
                    resumed_s = time.perf_counter()


async def _patient(stream: Callable[[], AsyncGenerator[TokenChunk]]) -> AsyncGenerator[TokenChunk]:
    """A stream of a speech that is being heard: while the LLM is full it is asked again."""
    for tries_left in range(_TRIES - 1, -1, -1):
        is_given = False
        try:
            async with aclosing(stream()) as chunks:
                async for chunk in chunks:
                    is_given = True
                    yield chunk
        except CapacityError:
            if is_given or not tries_left:
                raise
            await asyncio.sleep(_TRY_AGAIN_S)
        else:
            return


async def _whole_answer(tokens: AsyncIterator[TokenChunk]) -> AsyncGenerator[TokenChunk]:
    """All tokens as one chunk."""
    ids = [chunk.ids async for chunk in tokens]
    yield TokenChunk(np.concatenate(ids), last=True)


@dataclass(frozen=True, slots=True)
class _Take:
    """One passage's answer as it is to be drawn.

    left_tokens: what the request still allows. is_begun: earlier passages are being heard.
    """

    script: Script
    seed: int
    may_reseed: bool
    left_tokens: int
    is_begun: bool = False

    def sampling(self, *, is_retried: bool) -> Sampling:
        seed = self.seed ^ _OTHER_SEED if is_retried else self.seed
        most_tokens = min(self.script.most_tokens, self.left_tokens)
        return replace(self.script.sampling, seed=seed, max_tokens=most_tokens)

    def guard(self) -> TokenGuard:
        script, left_tokens = self.script, self.left_tokens
        is_bounded = script.most_tokens < left_tokens
        least_tokens = min(script.least_tokens, script.most_tokens, left_tokens)
        return TokenGuard(least_tokens, script.most_tokens if is_bounded else None)


@dataclass(slots=True)
class _Account:
    """Of all answers so far: seconds of both stages, quality; answer_tokens is of the newest."""

    llm_s: float = 0.0
    vocoder_s: float = 0.0
    quality: Quality = GOOD
    answer_tokens: int = 0

    def judged(self, quality: Quality, n_tokens: int) -> None:
        self.quality = self.quality.merged(quality)
        self.answer_tokens = n_tokens

    def chunk(self, samples: Float32Array, *, last: bool) -> SpeechChunk:
        return SpeechChunk(samples, last, self.llm_s, self.vocoder_s, self.quality)


def _next_seed(seed: int) -> int:
    """The seed of a request's next passage or pass."""
    return (seed + _SEED_STEP) % 2**63


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
        self.warnings: tuple[str, ...] = ()

    def voice_resolved(self, tier: str, warnings: tuple[str, ...] = ()) -> None:
        """The voice prompt is at hand; `tier` answered. warnings: of its clip."""
        self._tier = tier
        self.warnings = warnings
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
