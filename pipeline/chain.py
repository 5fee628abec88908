"""LLM and vocoder chained: prompts, passages, the guard's retry, repeated edits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.audio.joints import faded, with_silence
from pipeline.audio.quality.defects import SoundGuard
from pipeline.contracts import (
    GOOD,
    GROUP_TOKENS,
    NO_TIMES,
    NO_USAGE,
    AudioChunk,
    Drawn,
    Float32Array,
    Int32Array,
    Mode,
    Quality,
    Sampling,
    SpeechChunk,
    SpeechLM,
    SpeechRequest,
    StageTimes,
    Stream,
    TokenChunk,
    Usage,
    Verdict,
    VoicePrompt,
    WaveDecoder,
)
from pipeline.errors import CapacityError, StageError
from pipeline.guardrail import TokenGuard
from pipeline.serving.tracing import UNTRACED, Trace
from pipeline.stepaudio.tokens import deinterleave

_OTHER_SEED = 0x9E3779B97F4A7C15  # any fixed pattern: the second answer follows from the first seed
_TRIES, _TRY_AGAIN_S = 60, 0.5  # tries of a later passage while the LLM is full
_SEED_STEP = 0x2545F4914F6CDD1D  # any odd number: every passage's seed follows from the request's


@dataclass(frozen=True, slots=True, eq=False)
class Script:
    """One passage for the LLM, and the bounds of its answer."""

    prompt_ids: Int32Array
    """int32 (n,)."""
    sampling: Sampling
    """The request's, completed with the checkpoint's defaults."""
    least_tokens: int
    """Audio tokens below which an answer cannot contain the passage."""
    most_tokens: int
    """Upper bound for the passage, for answers without a stop."""
    before_s: float = 0.0
    """Silence in front of the passage."""
    after_s: float = 0.0
    """Silence behind it; of the last one alone."""


class PromptWriter(Protocol):
    """Writes the LLM's prompts."""

    def scripts(self, request: SpeechRequest, voice: VoicePrompt) -> Iterator[Script]:
        """A clone or an edit, passage by passage: the model speaks each in one answer.

        Blocks, at every step: call it off the event loop. One passage at least.
        Raises InputError, at the first step, when the request cannot be written.
        """
        ...


_Piece = TypeVar("_Piece", AudioChunk, TokenChunk)
# Turns an answer's tokens into pieces: of audio, or of the tokens themselves.
_Decode: TypeAlias = Callable[[Stream[TokenChunk]], Stream[_Piece]]


class SpeechChain:
    """LLM and decoder chained, wherever they run.

    Writes the prompts, pulls tokens from the LLM and audio from the decoder.
    """

    def __init__(
        self,
        prompts: PromptWriter,
        lm: SpeechLM,
        decoder: WaveDecoder,
        trace: Trace = UNTRACED,
    ) -> None:
        """trace: what the spans of writing prompts lie below."""
        self._trace = trace
        self._prompts = prompts
        self._lm = lm
        self._decoder = decoder

    async def speak(
        self, request: SpeechRequest, voice: VoicePrompt
    ) -> AsyncGenerator[SpeechChunk]:
        """Raises InputError for a prompt that cannot be written, StageError when a stage fails.

        Passages are spoken one after another. An answer that proves bad before any audio of its
        passage was handed out is drawn once more with another seed, where the request allows it.
        Silence that the text asks for is sent with the audio in front of it, or the first.
        """
        totals = _Totals()
        edited, seed = await self._edited(request, voice, totals)
        totals.ids.clear()  # of passes that nobody hears
        scripts = self._prompts.scripts(request, edited)
        with self._trace.span("prompt"):
            script = await asyncio.to_thread(next, scripts, None)
        left_tokens, first_rows = request.sampling.max_tokens, request.first_chunk_rows
        is_begun = False
        while script is not None:
            take = _Take(script, seed, request.may_reseed, left_tokens, is_begun)
            script, is_joint = None, is_begun
            before_s = 0.0 if is_begun else take.script.before_s
            decode = partial(self._decoder.stream, voice=voice, first_chunk_rows=first_rows)
            async with aclosing(_Answer(self._lm, take, decode, totals)) as chunks:
                async for chunk in chunks:
                    if chunk.last and left_tokens - totals.answer_tokens >= GROUP_TOKENS:
                        script = await asyncio.to_thread(next, scripts, None)
                    is_followed = script is not None
                    behind_s = take.silence_behind_s(script) if chunk.last else 0.0
                    is_joined = is_followed or behind_s > 0
                    samples = faded(chunk.samples, at_start=is_joint, at_end=is_joined)
                    is_joint = is_joint and not len(samples)
                    samples, before_s = with_silence(samples, before_s, behind_s), 0.0
                    yield totals.chunk(samples, last=chunk.last and not is_followed)
            left_tokens -= totals.answer_tokens
            seed, first_rows, is_begun = _next_seed(seed), None, True

    async def _edited(
        self, request: SpeechRequest, voice: VoicePrompt, totals: _Totals
    ) -> tuple[VoicePrompt, int]:
        """What the last pass of an edit starts from, and its seed.

        Passes before the last make no sound: the tokens of each are the next one's input. Only the
        prompt takes them; what speaks remains the voice of the clip.
        """
        seed = request.sampling.seed
        if request.source is not None:
            voice = _saying(voice, request.source.ids)
        for _ in range(request.iterations - 1 if request.mode is not Mode.CLONE else 0):
            script = await asyncio.to_thread(next, self._prompts.scripts(request, voice))
            take = _Take(script, seed, request.may_reseed, request.sampling.max_tokens)
            async with aclosing(_Answer(self._lm, take, _Whole, totals)) as answer:
                ids = (await anext(answer)).ids
            if not len(ids):
                raise StageError("the model produced no audio for this request; try another seed")
            voice, seed = _saying(voice, ids), _next_seed(seed)
        return voice, seed


@dataclass(frozen=True, slots=True)
class _Take:
    """How one passage's answer is drawn."""

    script: Script
    seed: int
    may_reseed: bool
    left_tokens: int
    """Audio tokens that the request may still use."""
    is_begun: bool = False
    """Audio of earlier passages was sent already."""

    def sampling(self, *, is_retried: bool) -> Sampling:
        seed = self.seed ^ _OTHER_SEED if is_retried else self.seed
        most_tokens = min(self.script.most_tokens, self.left_tokens)
        return replace(self.script.sampling, seed=seed, max_tokens=most_tokens)

    def silence_behind_s(self, following: Script | None) -> float:
        """Between this passage and the one that follows, or behind the last one."""
        return self.script.after_s if following is None else following.before_s

    def guard(self) -> TokenGuard:
        script, left_tokens = self.script, self.left_tokens
        is_bounded = script.most_tokens < left_tokens
        least_tokens = min(script.least_tokens, script.most_tokens, left_tokens)
        return TokenGuard(least_tokens, script.most_tokens if is_bounded else None)


@dataclass(slots=True)
class _Totals:
    """Of all answers so far: times, quality, tokens; answer_tokens is of the newest.

    usage is without the newest answer, ids and made_by without one that is under way.
    """

    times: StageTimes = NO_TIMES
    quality: Quality = GOOD
    answer_tokens: int = 0
    usage: Usage = NO_USAGE
    ids: list[Int32Array] = field(default_factory=list[Int32Array])
    made_by: set[str] = field(default_factory=set[str])

    def begins(self, script: Script) -> None:
        """The next answer."""
        used = self.usage
        self.usage = Usage(
            used.input_tokens + len(script.prompt_ids), used.output_tokens + self.answer_tokens
        )
        self.answer_tokens = 0

    def judged(self, quality: Quality, n_tokens: int) -> None:
        self.quality = self.quality.merged(quality)
        self.answer_tokens = n_tokens

    def ended(self, tokens: _Tokens) -> None:
        """An answer is complete."""
        self.ids += tokens.ids
        self.made_by.add(tokens.made_by)

    def chunk(self, samples: Float32Array, *, last: bool) -> SpeechChunk:
        used = replace(self.usage, output_tokens=self.usage.output_tokens + self.answer_tokens)
        drawn = self._drawn() if last else None
        return SpeechChunk(samples, last, self.times, self.quality, used, drawn)

    def _drawn(self) -> Drawn:
        ids = np.concatenate([np.empty(0, np.int32), *self.ids]).astype(np.int16)
        return Drawn(ids, frozenset(self.made_by))


class _Answer(Stream[_Piece]):
    """The pieces of one passage, drawn once more where it may be and must.

    Pieces without content come at its end alone.
    """

    def __init__(self, lm: SpeechLM, take: _Take, decode: _Decode[_Piece], totals: _Totals) -> None:
        totals.begins(take.script)
        self._draw = partial(_Attempt[_Piece], lm, take, decode, totals)
        self._totals = totals
        self._attempt = self._draw(is_retried=False)
        self._may_retry = take.may_reseed

    async def __anext__(self) -> _Piece:
        piece = await anext(self._attempt)
        if self._may_retry and self._attempt.quality.verdict is not Verdict.OK:
            await self._attempt.aclose()
            self._attempt = self._draw(is_retried=True)
            piece = await anext(self._attempt)
        self._may_retry = False
        self._totals.judged(self._attempt.quality, self._attempt.n_tokens)
        if piece.last:
            self._totals.ended(self._attempt.tokens)
        return piece

    async def aclose(self) -> None:
        await self._attempt.aclose()


class _Attempt(Stream[_Piece]):
    """One drawing of a passage; writes into the account what it took."""

    def __init__(
        self,
        lm: SpeechLM,
        take: _Take,
        decode: _Decode[_Piece],
        totals: _Totals,
        *,
        is_retried: bool,
    ) -> None:
        self._is_retried = is_retried
        self._guard, self._sound = take.guard(), SoundGuard()
        stream = partial(lm.stream, take.script.prompt_ids, take.sampling(is_retried=is_retried))
        self.tokens = _Tokens(stream, self._guard, _TRIES if take.is_begun else 1)
        self._pieces = decode(self.tokens)
        self._totals, self._before, self._busy_s = totals, totals.times, 0.0

    @property
    def quality(self) -> Quality:
        """Of what came so far."""
        sounds = Quality(self._sound.verdict, self._is_retried)
        return Quality(self._guard.verdict).merged(sounds)

    @property
    def n_tokens(self) -> int:
        return self._guard.n_tokens

    async def __anext__(self) -> _Piece:
        asked_s = time.perf_counter()
        piece = await anext(self._pieces)
        self._busy_s += time.perf_counter() - asked_s
        if isinstance(piece, AudioChunk):
            self._sound.add(piece.samples)
        before, waited_s = self._before, self.tokens.waited_s
        self._totals.times = replace(
            before,
            llm_s=before.llm_s + waited_s,
            llm_work_s=before.llm_work_s + self.tokens.work_s,
            vocoder_s=before.vocoder_s + max(self._busy_s - waited_s, 0.0),
        )
        return piece

    async def aclose(self) -> None:
        try:
            await self._pieces.aclose()
        finally:
            await self.tokens.aclose()


class _Tokens(Stream[TokenChunk]):
    """The tokens of an answer: shown to the guard, and the seconds counted that were waited.

    tries: how often a full LLM is asked, until it gave something. ids: all that came.
    """

    def __init__(
        self, stream: Callable[[], Stream[TokenChunk]], guard: TokenGuard, tries: int
    ) -> None:
        self._stream, self._guard, self._tries_left = stream, guard, tries
        self._chunks = stream()
        self.waited_s = self.work_s = 0.0
        self.ids: list[Int32Array] = []
        self.made_by = ""

    async def __anext__(self) -> TokenChunk:
        asked_s = time.perf_counter()
        try:
            chunk = await self._next()
        finally:
            self.waited_s += time.perf_counter() - asked_s
        self.work_s, self._tries_left = chunk.work_s, 1
        self.ids.append(chunk.ids)
        self.made_by = chunk.made_by
        self._guard.add(chunk)
        return chunk

    async def _next(self) -> TokenChunk:
        while True:
            try:
                return await anext(self._chunks)
            except CapacityError:
                self._tries_left -= 1
                if not self._tries_left:
                    raise
            await self._chunks.aclose()
            await asyncio.sleep(_TRY_AGAIN_S)
            self._chunks = self._stream()

    async def aclose(self) -> None:
        await self._chunks.aclose()


class _Whole(Stream[TokenChunk]):
    """All tokens as one chunk."""

    def __init__(self, tokens: Stream[TokenChunk]) -> None:
        self._tokens = tokens

    async def __anext__(self) -> TokenChunk:
        ids = [chunk.ids async for chunk in self._tokens]
        if not ids:
            raise StopAsyncIteration
        return TokenChunk(np.concatenate(ids), last=True)

    async def aclose(self) -> None:
        await self._tokens.aclose()


def _saying(voice: VoicePrompt, ids: NDArray[np.integer]) -> VoicePrompt:
    """The voice, for prompts, with the codes of an answer, (5k,), in place of its clip's own."""
    vq02, vq06 = (codes.astype(np.int16) for codes in deinterleave(ids))
    return replace(voice, vq02=vq02, vq06=vq06)


def _next_seed(seed: int) -> int:
    """The seed of a request's next passage or pass."""
    return (seed + _SEED_STEP) % 2**63
