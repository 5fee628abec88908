"""Who may be spoken to now by one vocoder, who waits, and who is told at once that he cannot be.

Knows places, memory and shares; what would become of everybody it has from the outlook.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from deployments.admission.clock import Clock, LoopClock, Timer
from deployments.admission.costs import ServiceCosts
from deployments.admission.line import Asked, Demand, Order, Shares
from deployments.admission.outlook import Outlook
from deployments.admission.refusal import Refusals
from deployments.config.admission_settings import AdmissionSettings
from pipeline.errors import TooLargeError
from pipeline.serving.listener import BEGIN_S, Listener
from pipeline.serving.terms import Service, Terms

LOOK_S = 0.1  # between looks at who waits
LEAST_LEFT = 0.5  # of the time that an answer may take: that much is there from here on
LISTENERS_SHARE = 0.25  # of the places, where no whole answers are


@dataclass(frozen=True, slots=True)
class Places:
    """What one vocoder has room for. max_bytes: of all answers in work; None: unlimited.

    max_waiting: answers that may wait, of both classes; None: unlimited.
    """

    max_streams: int
    max_bytes: int | None = None
    max_waiting: int | None = None


_Question = tuple[Service, str, bool]


def _unheard(service: Service, reason: str) -> None:
    del service, reason


class AdmissionGate:
    """Hands out permits. Use it from one event loop.

    refused: told of every refusal, with the kind of service and the reason. clock: of a simulation.
    """

    def __init__(
        self,
        settings: AdmissionSettings,
        places: Places,
        costs: ServiceCosts,
        refused: Callable[[Service, str], None] = _unheard,
        clock: Clock | None = None,
    ) -> None:
        self._settings, self._places = settings, places
        self._clock = clock or LoopClock()
        self._outlook = Outlook(costs, settings.headroom)
        self._shares = Shares(settings.tenant_weights)
        self._refusals = Refusals(settings.max_retry_after_s, self._shares, refused, self._clock)
        self._running: list[Asked] = []
        self._waiting: list[Asked] = []
        self._used_bytes = 0
        self._numbers = itertools.count()
        self._look: Timer | None = None
        self._too_late: tuple[float, _Question, tuple[float, float]] | None = None
        self.capacity = self._outlook.capacity([], self._clock.now_s())
        """Seconds of audio a second that it would promise. For any thread, as what follows."""

    @property
    def used_bytes(self) -> int:
        """Bytes that the answers in work may take."""
        return self._used_bytes

    @property
    def queue_age_s(self) -> float:
        """How long the one waits who waits longest; batches do not count."""
        now_s = self._clock.now_s()
        return max((now_s - one.asked_s for one in _interactive(self._waiting)), default=0.0)

    @property
    def reserved(self) -> float:
        """Seconds of audio a second that the listeners of what is in work play."""
        played = [one for one in self._running if one.terms.service is Service.STREAM]
        return sum((one.demand.speed for one in played), 0.0)

    def permit(self, terms: Terms, demand: Demand) -> Permit:
        """A permit, not yet acquired. terms: as they arrived in this process.

        Raises TooLargeError for an answer that would not fit even alone.
        """
        if not self.can_hold(demand.size_bytes):
            raise TooLargeError(
                f"the stream would take {demand.size_bytes} bytes of the device and "
                f"{self._places.max_bytes} are there for streams; a shorter reference clip and a "
                "lower initial_codec_chunk_frames take fewer"
            )
        now_s = self._clock.now_s()
        due_s = self._due_s(terms, demand, now_s)
        listener = Listener(now_s, replace(terms, due_s=due_s), demand.speed)
        number = next(self._numbers)
        return Permit(self, Asked(number, terms, demand, now_s, due_s, now_s, listener))

    def can_hold(self, size_bytes: int) -> bool:
        """Whether an answer of this many bytes fits at least alone."""
        return self._places.max_bytes is None or size_bytes <= self._places.max_bytes

    async def enter(self, asked: Asked) -> None:
        """Wait for its turn. Raises CapacityError at once for what could not be served in time."""
        now_s = self._clock.now_s()
        self._refuse_over_limit(asked)
        if not self._ahead_of(asked) and self._may_begin(asked, now_s):
            self._begin(asked, now_s)
            return
        self._refuse_or_plan(asked, now_s)
        asked.turn = self._clock.turn()
        self._waiting.append(asked)
        self._look_later()
        try:
            await asked.turn
        except asyncio.CancelledError:
            if asked.turn.cancelled():
                self._let_in()
            else:  # its turn came at the same moment
                self.leave(asked)
            raise

    def leave(self, asked: Asked) -> None:
        """An answer is over; whoever waits may take its place."""
        self._running.remove(asked)
        self._used_bytes -= asked.demand.size_bytes
        self._too_late = None
        self._outlook.ended(asked)
        self._let_in()

    # Who may begin.

    def _due_s(self, terms: Terms, demand: Demand, now_s: float) -> float:
        if terms.service is Service.BATCH:
            return math.inf
        if terms.is_begun and terms.service is Service.STREAM:
            return now_s + BEGIN_S if terms.due_s is None else terms.due_s
        is_whole = terms.service is Service.WHOLE
        within_s = self._settings.whole_s if is_whole else self._settings.first_audio_s
        due_s = now_s + within_s if terms.due_s is None else terms.due_s
        due_s = max(due_s, now_s + LEAST_LEFT * within_s)  # its voice may have taken long to make
        return due_s + demand.audio_s / demand.speed if is_whole else due_s

    def _ahead_of(self, asked: Asked) -> list[Asked]:
        """Those who wait and are served before, in order.

        Whole answers and streams wait for other things: only alike ones wait for each other.
        """
        self._waiting = [one for one in self._waiting if one.turn and not one.turn.cancelled()]
        order = Order(self._running, self._shares)
        own, service = order(asked), asked.terms.service
        alike = (one for one in self._waiting if asked.is_batch or one.terms.service is service)
        return sorted((one for one in alike if order(one) < own), key=order)

    def _may_begin(self, asked: Asked, now_s: float) -> bool:
        most, used = self._places.max_bytes, self._used_bytes + asked.demand.size_bytes
        if len(self._running) >= self._most_running(asked) or (most is not None and used > most):
            return False
        if asked.is_batch:
            return len(_batches(self._running)) < self._most_batches(self._places.max_streams)
        others = _interactive(self._running)
        if not others or asked.terms.is_begun or not self._settings.enabled:
            return True
        return self._outlook.is_good(others, [asked], now_s)

    def _most_running(self, asked: Asked) -> int:
        """Answers in work with this one: whole ones leave some places to those who listen."""
        most = self._places.max_streams
        return max(most - max(int(LISTENERS_SHARE * most), 1), 1) if asked.is_whole else most

    def _most_batches(self, of: int) -> int:
        return max(int(self._settings.batch_share * of), 1)

    def _begin(self, asked: Asked, now_s: float) -> None:
        self._running.append(asked)
        self._used_bytes += asked.demand.size_bytes
        asked.begin_s = now_s
        self.capacity = self._outlook.capacity(_interactive(self._running), now_s)

    def _let_in(self) -> None:
        """Those whose turn it is."""
        now_s = self._clock.now_s()
        while (asked := self._next(now_s)) is not None:
            self._waiting.remove(asked)
            self._begin(asked, now_s)
            if asked.turn is not None:
                asked.turn.set_result(None)
        self._look_later()

    def _next(self, now_s: float) -> Asked | None:
        """The first in the line of streams, of whole answers, or of batches, that may begin."""
        self._waiting = [one for one in self._waiting if one.turn and not one.turn.cancelled()]
        seen = set[Service]()
        for asked in sorted(self._waiting, key=Order(self._running, self._shares)):
            if asked.terms.service in seen or (asked.is_batch and seen):
                continue
            if self._may_begin(asked, now_s):
                return asked
            seen.add(asked.terms.service)
        return None

    def _look_later(self) -> None:
        """Time alone lets some in: what listeners have in hand grows."""
        if self._look is not None:
            self._look.cancel()
            self._look = None
        if self._waiting:
            self._look = self._clock.later(LOOK_S, self._let_in)

    # Who is refused.

    def _predicted(
        self, asked: Asked, running: Sequence[Asked], places: int, now_s: float
    ) -> tuple[float, float]:
        """See Outlook.wait. What was too late a moment ago still is: a crowd costs one forecast."""
        question = (asked.terms.service, asked.tenant, asked.terms.is_begun)
        if self._too_late is not None:
            until_s, same, answer = self._too_late
            if now_s < until_s and same == question:
                return answer
        ahead = _interactive(self._ahead_of(asked))
        answer = self._outlook.wait(running, ahead, asked, places, now_s)
        is_late = answer[1] > 0
        self._too_late = (now_s + LOOK_S, question, answer) if is_late else None
        return answer

    def _refuse_over_limit(self, asked: Asked) -> None:
        limit = self._settings.tenant_streams
        if limit is None or asked.terms.is_begun:
            return
        in_house = (*self._running, *self._waiting)
        if sum(one.tenant == asked.tenant for one in in_house) >= limit:
            raise self._refusals.over_limit(asked, limit)

    def _refuse_or_plan(self, asked: Asked, now_s: float) -> None:
        """Raises CapacityError for one who may not wait; else predicts when it begins."""
        most = self._places.max_waiting
        alike = (_batches if asked.is_batch else _interactive)(self._waiting)
        if most is not None:
            batches = min(self._most_batches(most), most // 2)
            most = batches if asked.is_batch else most - batches
        is_full = most is not None and len(alike) >= most
        if asked.is_batch:
            if is_full:
                raise self._refusals.line_is_full(asked, len(alike), 1.0, 0.0)
            return
        running = _interactive(self._running)
        places = self._most_running(asked) - len(_batches(self._running))
        wait_s = beyond_s = 0.0
        if self._settings.enabled:
            wait_s, beyond_s = self._predicted(asked, running, places, now_s)
        if asked.terms.is_begun and not is_full:
            return
        every_s = self._outlook.every_s(asked)
        everybody = _interactive([*self._running, *self._waiting])
        if self._shares.has_its_share(asked.tenant, everybody, max(len(running), 1), now_s):
            raise self._refusals.over_share(asked, wait_s, every_s)
        if is_full:
            raise self._refusals.line_is_full(asked, len(alike), wait_s, every_s)
        if beyond_s > 0:
            raise self._refusals.too_late(asked, wait_s, beyond_s, every_s)


@dataclass(frozen=True, slots=True)
class Permit:
    """One answer's permit; `acquire` and `release` work like a lock's."""

    gate: AdmissionGate
    asked: Asked

    @property
    def listener(self) -> Listener:
        """Says when more of the answer is wanted; to be told what is handed out."""
        return self.asked.listener

    async def acquire(self) -> None:
        """Wait for admission."""
        await self.gate.enter(self.asked)

    def release(self) -> None:
        """Give it back."""
        self.gate.leave(self.asked)


def _batches(asked: Sequence[Asked]) -> list[Asked]:
    return [one for one in asked if one.is_batch]


def _interactive(asked: Sequence[Asked]) -> list[Asked]:
    return [one for one in asked if not one.is_batch]
