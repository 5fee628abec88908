# pyright: basic
"""Who has a slot, who waits for one, and what is to be done next.

Everything that callers and the worker share changes under one condition, `changed`.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.contracts import TokenChunk
from pipeline.errors import CapacityError, StageUnavailableError, TimbreError
from pipeline.stepaudio.llm.engine.prefix import prefix_length
from pipeline.stepaudio.llm.engine.slot import EngineRequest, Slot

_MAX_WAITS = 4096  # kept until somebody takes them


@dataclass(frozen=True, slots=True)
class Work:
    """What the worker is to do: slots whose prompts are read, the oldest first; slots to step."""

    joining: list[Slot]
    ready: list[Slot]


@dataclass(frozen=True, slots=True)
class Occupancy:
    """Slots and queue now, and totals since the start."""

    slots_total: int
    slots_active: int
    queued: int
    queue_age_s: float
    tokens_generated_total: int
    cancelled_total: int


class Scheduler:
    """Hands slots to requests that are due first, alike ones in the order they came.

    For any thread.
    """

    def __init__(self, n_slots: int, queue_size: int, stop_id: int) -> None:
        """queue_size: how many may wait beyond the free slots. stop_id: ends a prompt's turn."""
        self.changed = threading.Condition()
        self._slots: list[Slot | None] = [None] * n_slots
        self._waiting: deque[EngineRequest] = deque()
        self._queue_size, self._stop_id = queue_size, stop_id
        self._admitted_total = self._tokens_total = self._cancelled_total = 0
        self._waits_s: deque[float] = deque(maxlen=_MAX_WAITS)
        self._closed = False

    @property
    def is_closed(self) -> bool:
        """Whether nothing is admitted any more."""
        return self._closed

    # Called by streams, on their event loops.

    def submit(self, request: EngineRequest) -> None:
        """Raises CapacityError when the queue is full, StageUnavailableError after the end."""
        with self.changed:
            if self._closed:
                raise StageUnavailableError("the language model is shutting down")
            if len(self._waiting) >= self._queue_size + self._slots.count(None):
                raise CapacityError(
                    f"all {len(self._slots)} slots are busy and {len(self._waiting)} requests"
                    f" wait, allowed: {self._queue_size}"
                )
            self._waiting.append(request)
            self.changed.notify()

    def gave_up(self, request: EngineRequest) -> bool:
        """Take a request out of the queue; False when it waits no longer."""
        with self.changed:
            if request not in self._waiting:
                return False
            self._waiting.remove(request)
            request.finished = True
            return True

    def release(self, request: EngineRequest) -> None:
        """The caller is gone; a request that is not finished counts as cancelled."""
        with self.changed:
            if request.finished or request.cancelled:
                return
            request.cancelled = True
            self._cancelled_total += 1
            if request in self._waiting:
                self._waiting.remove(request)
            self.changed.notify()

    # Called by the worker.

    def next_work(self) -> Work | None:
        """Wait for work; None at the end. Reaps the cancelled, admits the waiting."""
        with self.changed:
            while not self._closed:
                self._reap_and_admit()
                active = self._in_turn()
                joining = [slot for slot in active if slot.is_prefilling]
                joining.sort(key=lambda slot: slot.ticket)
                ready = [slot for slot in active if not slot.is_prefilling]
                if joining or ready:
                    return Work(joining, ready)
                self.changed.wait()
        return None

    def _in_turn(self) -> list[Slot]:
        """Slots that have part in what is done next: those behind others seldom have."""
        active = [slot for slot in self._slots if slot]
        has_others = any(not slot.request.is_behind for slot in active)
        now_s = time.monotonic()
        return [slot for slot in active if slot.takes_turn(now_s, has_others=has_others)]

    def holds(self, slot: Slot) -> bool:
        """Whether it has not failed, and its caller is there."""
        return self._slots[slot.index] is slot and not slot.request.cancelled

    def lengths(self, window: range) -> list[int]:
        """Tokens in the cache of each slot of a window, 0 where nobody is."""
        slots = self._slots[window.start : window.stop]
        return [slot.length if slot else 0 for slot in slots]

    def count(self, n_tokens: int) -> None:
        """So many tokens were drawn."""
        with self.changed:
            self._tokens_total += n_tokens

    def free(self, slot: Slot) -> None:
        """Its request is over."""
        with self.changed:
            slot.request.finished = True
            self._slots[slot.index] = None

    def send(self, request: EngineRequest, event: TokenChunk | TimbreError) -> None:
        """To the request's stream; where its event loop is closed, nobody is left to hear."""
        try:
            request.loop.call_soon_threadsafe(request.events.put_nowait, event)
        except RuntimeError:
            with self.changed:
                request.cancelled = True

    # Called by whoever looks after the engine.

    def occupancy(self) -> Occupancy:
        """One consistent look."""
        with self.changed:
            return Occupancy(
                slots_total=len(self._slots),
                slots_active=len(self._slots) - self._slots.count(None),
                queued=len(self._waiting),
                queue_age_s=self._queue_age_s(),
                tokens_generated_total=self._tokens_total,
                cancelled_total=self._cancelled_total,
            )

    def _queue_age_s(self) -> float:
        """How long the first of those who wait for a slot has waited; call under `changed`."""
        return time.monotonic() - self._waiting[0].submitted_s if self._waiting else 0.0

    def take_waits(self) -> list[float]:
        """Seconds that each request waited for its slot, of those that got one since last time."""
        with self.changed:
            waits_s = list(self._waits_s)
            self._waits_s.clear()
        return waits_s

    def close(self) -> None:
        """From now on nothing is admitted, and `next_work` ends."""
        with self.changed:
            self._closed = True
            self.changed.notify()

    def end(self, error: TimbreError) -> None:
        """Close, and tell everyone who still has a slot or waits for one."""
        with self.changed:
            self._closed = True
            left: Iterable[EngineRequest] = (
                *self._waiting,
                *(slot.request for slot in self._slots if slot),
            )
            self._waiting.clear()
            self._slots[:] = [None] * len(self._slots)
        for request in left:
            self.send(request, error)

    def _reap_and_admit(self) -> None:
        for index, held in enumerate(self._slots):
            if held and held.request.cancelled:
                self._slots[index] = None
            if self._slots[index] is None and self._waiting:
                request = min(self._waiting, key=lambda one: (one.is_behind, one.due_s))
                self._waiting.remove(request)
                self._admitted_total += 1
                self._waits_s.append(time.monotonic() - request.submitted_s)
                prefix = prefix_length(request.prompt, self._stop_id)
                slot = Slot(index, self._admitted_total, request, prefix)
                slot.token = int(request.prompt[-1])
                self._slots[index] = slot
