"""Several voices in one reply, one after another; the next turn is made while one is heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from deployments.edits.account import Account
from deployments.edits.joints import Ends
from deployments.longform.production import WAIT_S, WAITS
from deployments.speech.library import ReusingSpeech
from pipeline.contracts import (
    OUTPUT_SAMPLE_RATE_HZ,
    SpeechChunk,
    SpeechRequest,
    Stream,
    VoicePrompt,
    VoiceReference,
)
from pipeline.errors import CapacityError, UnknownVoiceError
from pipeline.synthesis import ResolvedVoice

PAUSE_S = 0.25  # between turns, beside the silence that an answer ends with


@dataclass(frozen=True, slots=True)
class Turn:
    """What one of them says. voice: None for the default. voice_param: the field that names it."""

    voice: str | None
    request: SpeechRequest
    voice_param: str


class Dialogue:
    """Voices and synthesizer of one reply; see pipeline.synthesis for both. Use `resolve` first.

    speech: makes the voices and synthesizer of one turn.
    """

    def __init__(self, turns: Sequence[Turn], speech: Callable[[], ReusingSpeech]) -> None:
        self._turns = turns
        self._speech = [speech() for _ in turns]
        self._voices: list[ResolvedVoice] = []

    async def resolve(self, reference: VoiceReference) -> ResolvedVoice:
        """Every turn's voice; returns the first one's. See VoiceResolver."""
        del reference  # each turn has its own
        for turn, speech in zip(self._turns, self._speech, strict=True):
            try:
                voice = await speech.resolve(VoiceReference(name=turn.voice))
            except UnknownVoiceError as error:
                raise UnknownVoiceError(error.message, param=turn.voice_param) from error
            self._voices.append(voice)
        return self._voices[0]

    async def speak(
        self, request: SpeechRequest, voice: VoicePrompt
    ) -> AsyncGenerator[SpeechChunk]:
        """All turns. request, voice: of the first, which this knows, as all others."""
        del request, voice
        account = Account()
        told: SpeechChunk | None = None
        last = len(self._turns) - 1
        ahead = _Ahead(partial(self._opened, 0), waits=0)
        try:
            for number in range(last + 1):
                now = ahead
                ends = Ends(at_start=number > 0, at_end=number < last)
                async with aclosing(now) as chunks:
                    async for chunk in chunks:
                        if ahead is now and number < last:
                            ahead = _Ahead(partial(self._opened, number + 1), waits=WAITS)
                        told = account.told(ends.faded(chunk), is_end=number == last)
                        yield replace(told, drawn=None)
                if number < last and told is not None:
                    pause = np.zeros(round(PAUSE_S * OUTPUT_SAMPLE_RATE_HZ), np.float32)
                    yield replace(told, samples=pause, drawn=None, last=False)
        finally:
            await ahead.aclose()

    def _opened(self, number: int) -> Stream[SpeechChunk]:
        voice = self._voices[number]
        request = self._turns[number].request
        if number:
            request = replace(request, terms=replace(request.terms, is_begun=True, due_s=None))
        completed = voice.completed(request)
        return self._speech[number].speak(completed, voice.prompt)


class _Ahead(Stream[SpeechChunk]):
    """A stream that is read before it is wanted.

    waits: how often it is asked for again while the stages are full: a reply that has begun is not
    given up for that.
    """

    def __init__(self, opened: Callable[[], Stream[SpeechChunk]], waits: int) -> None:
        self._chunks: asyncio.Queue[SpeechChunk | Exception | None] = asyncio.Queue()
        self._task = asyncio.create_task(self._read(opened, waits))

    async def _read(self, opened: Callable[[], Stream[SpeechChunk]], waits: int) -> None:
        try:
            while await self._is_refused(opened(), may_be=waits > 0):
                waits -= 1
                await asyncio.sleep(WAIT_S)
        except Exception as error:  # noqa: BLE001 - it is the listener's, and raised there
            self._chunks.put_nowait(error)
        else:
            self._chunks.put_nowait(None)

    async def _is_refused(self, speech: Stream[SpeechChunk], *, may_be: bool) -> bool:
        """Read it to its end; True when there was no place for it, and there may be one later."""
        is_begun = False
        try:
            async with aclosing(speech) as chunks:
                async for chunk in chunks:
                    self._chunks.put_nowait(chunk)
                    is_begun = True
        except CapacityError:
            if is_begun or not may_be:
                raise
            return True
        return False

    async def __anext__(self) -> SpeechChunk:
        chunk = await self._chunks.get()
        if isinstance(chunk, Exception):
            raise chunk
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
