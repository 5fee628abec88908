"""LLM and vocoder chained: prompts, passages, the guard's retry, edits applied again.

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
    GOOD,
    GROUP_TOKENS,
    AudioChunk,
    Float32Array,
    Int32Array,
    Mode,
    Quality,
    Sampling,
    SpeechChunk,
    SpeechLM,
    SpeechRequest,
    TokenChunk,
    Verdict,
    VoicePrompt,
    WaveDecoder,
)
from pipeline.errors import CapacityError, StageError
from pipeline.guardrail import TokenGuard
from pipeline.stepaudio.tokens import deinterleave

_OTHER_SEED = 0x9E3779B97F4A7C15  # any fixed pattern: the second answer follows from the first seed
_TRIES, _TRY_AGAIN_S = 60, 0.5  # of a passage behind the first, while the LLM is full
_SEED_STEP = 0x2545F4914F6CDD1D  # any odd number: every passage's seed follows from the request's


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
