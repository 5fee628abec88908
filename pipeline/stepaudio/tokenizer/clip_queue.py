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
class _Place(Generic[Result]):
    """A clip that waits. turn: its batch once that has begun, and its number there."""

    clip: ReferenceClip
    turn: asyncio.Future[tuple[Batch[Result], int]]


class ClipQueue(Generic[Result]):
    """Clips in the order they came, encoded in batches. Use it from one event loop at a time.

    encode: a batch → the result of every clip, done or failed; what it raises is every clip's
    error. turns: batches at work together. batch_s: seconds of audio in a batch; 0 or a longer clip
    means a clip alone.
    """

    def __init__(
        self,
        encode: Callable[[list[ReferenceClip]], Coroutine[Any, Any, Sequence[Future[Result]]]],
        turns: int,
        batch_s: float,
    ) -> None:
        self._encode = encode
        self._turns = turns
        self._batch_s = batch_s
        self._waiting: list[_Place[Result]] = []
        self._batches: set[Batch[Result]] = set()

    async def begin(self, clip: ReferenceClip) -> Coroutine[Any, Any, Result]:
        """Wait until the batch of `clip` begins; await what is returned for the result.

        A call cancelled before that leaves the queue; afterwards its work goes on unseen.
        """
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(_Place(clip, turn))
        self._fill_turns()
        return _result(*await turn)

    def _fill_turns(self) -> None:
        self._waiting = [place for place in self._waiting if not place.turn.cancelled()]
        while self._waiting and len(self._batches) < self._turns:
            places = self._take()
            batch = asyncio.create_task(self._encode([place.clip for place in places]))
            self._batches.add(batch)
            batch.add_done_callback(self._end)
            for number, place in enumerate(places):
                place.turn.set_result((batch, number))

    def _take(self) -> list[_Place[Result]]:
        """The oldest, and those nearest to it in length: a short clip ends with its batch."""
        oldest, *others = self._waiting
        others.sort(key=lambda place: abs(place.clip.duration_s - oldest.clip.duration_s))
        taken, left_s = [oldest], self._batch_s - oldest.clip.duration_s
        for place in others:
            if place.clip.duration_s <= left_s:
                taken.append(place)
                left_s -= place.clip.duration_s
        self._waiting = [place for place in self._waiting if place not in taken]
        return taken

    def _end(self, batch: Batch[Result]) -> None:
        self._batches.remove(batch)
        self._fill_turns()


async def _result(batch: Batch[Result], number: int) -> Result:
    results = await asyncio.shield(batch)  # a caller that goes leaves the others theirs
    return results[number].result()
