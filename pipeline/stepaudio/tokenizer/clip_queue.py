"""Who is encoded now, and with whom: clips that wait are taken together when a turn gets free.

Nobody waits for others to come. Knows no model.
"""

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
    """A clip that waits. turn: its batch once that has begun, and its number there."""

    clip: ReferenceClip
    begun: asyncio.Future[tuple[Batch[Result], int]]


class ClipQueue(Generic[Result]):
    """Clips in the order they came, encoded in batches. Use it from one event loop at a time.

    encode: a batch → the result of every clip, done or failed; what it raises is every clip's
    error. turns: batches at work together. batch_s: seconds of audio in a batch; 0 or a longer clip
    means a clip alone.
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
        """Wait until the batch of `clip` begins; await what is returned for the result.

        A call cancelled before that leaves the queue; afterwards its work goes on unseen.
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
        """The oldest, and those nearest to it in length: a short clip ends with its batch."""
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
    results = await asyncio.shield(batch)  # a caller that goes leaves the others theirs
    return results[number].result()
