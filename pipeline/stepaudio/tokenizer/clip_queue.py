"""Opportunistic batching of reference clips; never delays a clip to fill a batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pipeline.contracts import ReferenceClip

Result = TypeVar("Result")
Batch = asyncio.Task[Sequence[Future[Result]]]


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting(Generic[Result]):
    """A waiting clip."""

    clip: ReferenceClip
    begun: asyncio.Future[tuple[Batch[Result], int]]
    """Resolves to its batch, once that begins, and its number in it."""


class ClipQueue(Generic[Result]):
    """Encodes clips in order of arrival, in batches. Use it from one event loop at a time.

    encode: a batch → one result per clip, done or failed; an error of the call is every clip's.
    concurrent_batches: at a time. batch_s: seconds of audio in a batch; with 0, or a longer clip, a
    clip is encoded alone.
    """

    def __init__(
        self,
        encode: Callable[[list[ReferenceClip]], Coroutine[Any, Any, Sequence[Future[Result]]]],
        concurrent_batches: int,
        batch_s: float,
    ) -> None:
        self._encode = encode
        self._concurrent_batches = concurrent_batches
        self._batch_s = batch_s
        self._waiting: list[_Waiting[Result]] = []
        self._batches: set[Batch[Result]] = set()

    async def begin(self, clip: ReferenceClip) -> Coroutine[Any, Any, Result]:
        """Wait until the batch of `clip` begins; await the returned coroutine for the result.

        A call cancelled before that leaves the queue; later its work runs to completion.
        """
        begun = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(clip, begun))
        self._begin_batches()
        return _result(*await begun)

    def _begin_batches(self) -> None:
        self._waiting = [waiting for waiting in self._waiting if not waiting.begun.cancelled()]
        while self._waiting and len(self._batches) < self._concurrent_batches:
            taken = self._take()
            batch = asyncio.create_task(self._encode([waiting.clip for waiting in taken]))
            self._batches.add(batch)
            batch.add_done_callback(self._end)
            for number, waiting in enumerate(taken):
                waiting.begun.set_result((batch, number))

    def _take(self) -> list[_Waiting[Result]]:
        """The oldest clip, and those closest to it in length, so that no short clip waits long."""
        oldest, *others = self._waiting
        others.sort(key=lambda waiting: abs(waiting.clip.duration_s - oldest.clip.duration_s))
        taken, left_s = [oldest], self._batch_s - oldest.clip.duration_s
        for waiting in others:
            if waiting.clip.duration_s <= left_s:
                taken.append(waiting)
                left_s -= waiting.clip.duration_s
        self._waiting = [waiting for waiting in self._waiting if waiting not in taken]
        return taken

    def _end(self, batch: Batch[Result]) -> None:
        self._batches.remove(batch)
        self._begin_batches()


async def _result(batch: Batch[Result], number: int) -> Result:
    results = await asyncio.shield(batch)  # cancelling one caller must not cancel the batch
    return results[number].result()
