# pyright: basic
"""One stream of a decoder: audio chunk by chunk, as its tokens come.

Model work runs on the decoder's worker thread; whatever ends the stream lets go of its state.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import TypeVar

import torch

from pipeline.contracts import AudioChunk, Float32Array, Stream, TokenChunk
from pipeline.errors import StageError
from pipeline.serving.tracing import in_turn, now_ns
from pipeline.stepaudio.vocoder.decode_worker import DecodeWorker, Job
from pipeline.stepaudio.vocoder.stream import Utterance
from pipeline.stepaudio.vocoder.voice_state import StateShelf


class Decoding(Stream[AudioChunk]):
    """See `StepWaveDecoder.stream`.

    begin: makes its state, when its first chunk is wanted. streams: those that hold state; it is
    one of them from then on.
    """

    def __init__(
        self,
        worker: DecodeWorker[Float32Array],
        begin: Callable[[], Utterance],
        tokens: AsyncIterator[TokenChunk],
        shelf: StateShelf | None,
        streams: set[Decoding],
    ) -> None:
        self._worker = worker
        self._begin = begin
        self._tokens = tokens
        self._shelf = shelf
        self._streams = streams
        self._utterance: Utterance | None = None
        self._early: asyncio.Task[None] | None = None
        self._is_last_token = self._is_over = False

    async def __anext__(self) -> AudioChunk:
        if self._is_over:
            await self.aclose()
            raise StopAsyncIteration
        try:
            chunk = await self._next()
        except BaseException:
            await self.aclose()
            raise
        self._is_over = chunk.last
        return chunk

    async def aclose(self) -> None:
        self._is_over = True
        self._streams.discard(self)
        if self._early is not None:
            self._early.cancel()
            await asyncio.gather(self._early, return_exceptions=True)
        if self._utterance is not None:
            self._utterance.release()
            self._utterance = None
        close = getattr(self._tokens, "aclose", None)
        if close is not None:
            await close()

    async def _next(self) -> AudioChunk:
        if self._utterance is None or self._early is None:
            self._streams.add(self)
            self._utterance = self._begin()
            self._early = asyncio.create_task(self._prepare(self._utterance))
        utterance = self._utterance
        while True:
            while utterance.has_work:
                await self._early  # with it a first chunk may run together with others'
                samples = await self._run(utterance.next_work(), utterance)
                if len(samples):
                    return AudioChunk(samples, last=False)
            if self._is_last_token:
                await self._early
                rest = Job(utterance.finish, rows=utterance.n_waiting_rows)
                return AudioChunk(await self._run(rest, utterance), last=True)
            asked_ns = now_ns()
            chunk = await anext(self._tokens, None)
            if chunk is None:
                raise StageError("the token stream ended without a last chunk")
            utterance.trace.waited("tokens", asked_ns)
            with self._worker.health.watching():
                utterance.add(chunk.ids)
            self._is_last_token = chunk.last

    async def _prepare(self, utterance: Utterance) -> None:
        """What needs no token, while the language model reads its prompt."""
        work, shelf = utterance.early_work(), self._shelf
        if work is None:
            return
        is_new = shelf is not None and utterance.needs_state
        if shelf is not None and is_new and (arrays := await shelf.find()) is not None:
            await self._run(utterance.give_state(arrays), utterance)
            is_new = utterance.needs_state
        await self._run(work, utterance)
        if shelf is not None and is_new and (made := utterance.kept_state()) is not None:
            shelf.keep(made)

    async def _run(self, work: Job[Float32Array], utterance: Utterance) -> Float32Array:
        """A stream's `work` on the worker thread, before that of streams with more in hand.

        When the caller goes away, waits for the worker to let go of the state.
        """
        run = partial(guarded, in_turn(utterance.trace, work.run))
        job = self._worker.submit(replace(work, run=run, wanted_s=utterance.wanted_s))
        try:
            samples = await asyncio.wrap_future(job)
        finally:
            if not job.done():
                utterance.stopped.set()
                job.cancel()
                await _settled(job)
        utterance.heard(samples)
        return samples


async def _settled(job: Future[Float32Array]) -> None:
    waiter = asyncio.wrap_future(job)
    await asyncio.wait((waiter,))
    if not waiter.cancelled():
        waiter.exception()  # nobody waits for the result any more


_Result = TypeVar("_Result")


def guarded(work: Callable[[], _Result]) -> _Result:
    """Run `work` without gradients; torch's own failures become StageError."""
    try:
        with torch.inference_mode():
            return work()
    except RuntimeError as error:  # torch raises nothing more specific, out of memory included
        reason = str(error).strip().partition("\n")[0]
        raise StageError("the vocoder failed", detail=reason) from error
