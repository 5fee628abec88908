"""A replica of the vocoder in simulated time: the service's own admission, then chunk by chunk.

The gate, its forecast and its learned costs are those of `deployments.admission`, on this clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from simpy import Environment, Event

from cache_store.memory import MemoryTier
from deployments.admission.costs import ROW_S, ServiceCosts
from deployments.admission.gate import AdmissionGate, Permit, Places
from deployments.admission.line import Demand
from deployments.capacity.language_model import LanguageModel
from deployments.capacity.processor import Processor
from deployments.capacity.profile import Profile
from deployments.config.admission_settings import AdmissionSettings
from pipeline.contracts import GROUP_S, GROUP_TOKENS
from pipeline.serving.terms import Terms
from pipeline.stepaudio.vocoder.schedule import chunk_schedule

GROUP_ROWS = round(GROUP_S / ROW_S)
AHEAD_ROWS = 3  # that a chunk needs behind its own
HELD_ROWS = 4  # the newest rows are heard with the next chunk
QUIET_SHARE = 0.25  # of max_streams, up to which a first chunk may be small

Steps = Generator[Event, Any, None]


@dataclass(frozen=True, slots=True)
class Piece:
    """What is handed out at a time, and what its answer took until then, as replies tell it."""

    audio_s: float
    llm_s: float
    """Of waiting for tokens."""
    vocoder_s: float


Heard = Callable[[Piece], None]


class _Turn(Event):
    """Of one who waits at the gate."""

    def __init__(self, env: Environment) -> None:
        super().__init__(env)

    def cancelled(self) -> bool:
        return False

    def set_result(self, result: None) -> None:
        self.succeed(result)

    def __await__(self) -> Generator[Event, Any, None]:
        yield self


class _Timer:
    def __init__(self, event: Event, call: Callable[[], None]) -> None:
        self._is_off = False

        def ring(_: Event) -> None:
            if not self._is_off:
                call()

        assert event.callbacks is not None  # noqa: S101 - it is still to come
        event.callbacks.append(ring)

    def cancel(self) -> None:
        self._is_off = True


class SimulatedClock:
    """For the gate; see deployments.admission.clock.Clock."""

    def __init__(self, env: Environment) -> None:
        self._env = env

    def now_s(self) -> float:
        return self._env.now

    def turn(self) -> _Turn:
        return _Turn(self._env)

    def later(self, delay_s: float, call: Callable[[], None]) -> _Timer:
        return _Timer(self._env.timeout(delay_s), call)


@dataclass(slots=True, eq=False)
class _Job:
    stream: _Passage
    rows: int
    """0 of a prompt."""
    seconds: float
    """Of a prompt."""
    may_join: bool
    """May run with others of as many rows."""
    wanted_s: float
    """As it was when it was submitted."""
    done: Event


@dataclass(frozen=True, slots=True)
class Speech:
    """What is to be spoken. guess_s: as long as its text says, audio_s: as it comes out."""

    audio_s: float
    guess_s: float
    voice: int
    is_adaptive: bool
    """Its first chunk may be smaller while there is little to do."""
    passages: tuple[float, ...] = ()
    """See Ask."""

    def parts(self, passage_s: float) -> list[float]:
        """Seconds of each passage. passage_s: the longest."""
        n = max(math.ceil(self.guess_s / passage_s), 1)
        return [share * self.audio_s for share in self.passages or [1 / n] * n]


@dataclass(slots=True)
class _Told:
    """What an answer took so far."""

    tokens: int = 0
    work_s: float = 0.0
    """Of the LLM, at what was drawn."""
    llm_s: float = 0.0
    vocoder_s: float = 0.0
    pieces: int = 0


@dataclass(frozen=True, slots=True)
class _Passage:
    """What is spoken in one answer of the LLM."""

    audio_s: float
    voice: int
    permit: Permit
    told: _Told
    """Of the whole answer."""
    is_last: bool

    @property
    def rows(self) -> int:
        return max(round(self.audio_s / ROW_S / GROUP_ROWS), 1) * GROUP_ROWS


class Vocoder:
    """One replica, with the LLM that it draws from."""

    def __init__(
        self,
        env: Environment,
        device: Processor,
        front: Processor,
        profile: Profile,
        admission: AdmissionSettings,
    ) -> None:
        """front: what prompts are written on, and calls between processes pass."""
        costs = profile.vocoder
        self._env, self._device, self._costs = env, device, costs
        self._front, self._front_costs = front, profile.front
        self._weight = profile.engine_weight
        learned = self._learned = ServiceCosts()
        learned.decoded(rows := max(costs.chunk_rows), 1, costs.chunks(rows, 1))
        learned.begin()
        places = Places(costs.max_streams, None, costs.queue_size)
        self._gate = AdmissionGate(admission, places, learned, clock=SimulatedClock(env))
        self._states = MemoryTier[bool](costs.kept_voices)
        self._jobs: list[_Job] = []
        self._more = Event(env)
        self._streams = 0
        self._last: _Passage | None = None
        self.in_work = 0
        """Answers in work and waiting."""
        env.process(self._work())

    def speak(self, speech: Speech, terms: Terms, llm: LanguageModel, heard: Heard) -> Steps:
        """One answer, from the gate to its end. heard: told of pieces.

        Raises CapacityError as the gate does.
        """
        sizes = self._costs.chunk_rows
        permit = self._gate.permit(terms, Demand(1, speech.guess_s, sizes))
        self.in_work += 1
        try:
            yield from permit.gate.enter(permit.asked).__await__()
            is_quiet = self._streams <= self._costs.max_streams * QUIET_SHARE
            try:
                self._streams += 1
                if is_quiet and speech.is_adaptive:
                    sizes = chunk_schedule(sizes, self._costs.quiet_first_rows)
                told = _Told()
                parts = speech.parts(llm.passage_s)
                for number, audio_s in enumerate(parts, 1):
                    passage = _Passage(audio_s, speech.voice, permit, told, number == len(parts))
                    yield from self._chunks(passage, list(sizes), llm, heard)
                    sizes = self._costs.chunk_rows
            finally:
                self._streams -= 1
                permit.release()
        finally:
            self.in_work -= 1

    def _chunks(
        self, passage: _Passage, sizes: list[int], llm: LanguageModel, heard: Heard
    ) -> Steps:
        """One passage: its prompt written, the LLM asked, the voice placed, then chunk by chunk."""
        permit, told, total = passage.permit, passage.told, passage.rows
        yield self._front.work(self._front_costs.write_s, "front")
        prompt = self._prompt(passage)
        asked_s = self._env.now
        yield self._front.work(self._front_costs.call_s, "front")
        due_s = permit.asked.llm_due_s or 0.0
        flow = llm.stream(total // GROUP_ROWS * GROUP_TOKENS, passage.voice, due_s)
        before, done = (told.tokens, told.work_s), 0
        while done < total:
            size = sizes[0]
            is_last = total - done < size + AHEAD_ROWS
            rows = total - done if is_last else size
            wanted = flow.tokens if is_last else tokens_of(done + rows + AHEAD_ROWS)
            yield flow.reached(self._env, wanted)
            tokens, work_s = flow.drawn(wanted)
            told.tokens, told.work_s = before[0] + tokens, before[1] + work_s
            drawn_s = self._env.now
            told.llm_s += drawn_s - asked_s
            yield prompt
            yield self._submit(passage, rows, may_join=not is_last)
            asked_s = self._env.now
            told.vocoder_s += asked_s - drawn_s
            sounding = rows - (0 if done else HELD_ROWS) + (HELD_ROWS if is_last else 0)
            audio_s = max(min(sounding, total) * ROW_S, 0.0)
            self._hand_out(passage, audio_s, heard, is_end=is_last and passage.is_last)
            done += rows
            if len(sizes) > 1:
                sizes.pop(0)

    def _hand_out(self, passage: _Passage, audio_s: float, heard: Heard, *, is_end: bool) -> None:
        told, permit = passage.told, passage.permit
        if not told.pieces and not is_end:
            self._learned.led_in(told.llm_s)
        told.pieces += 1
        self._learned.drew(told.tokens, told.work_s)
        permit.listener.heard(audio_s, self._env.now)
        heard(Piece(audio_s, told.llm_s, told.vocoder_s))

    def _prompt(self, passage: _Passage) -> Event:
        """A voice's state, while the first tokens are drawn: made, or copied from what is kept.

        Even that is a turn of the one thread: it waits for the chunk that is being made.
        """
        is_kept = self._states.get(str(passage.voice)) is not None
        self._states.put(str(passage.voice), value=True, size_bytes=1)
        return self._submit(passage, 0, seconds=0.0 if is_kept else self._costs.prompt_s)

    def _submit(
        self, passage: _Passage, rows: int, *, seconds: float = 0.0, may_join: bool = False
    ) -> Event:
        wanted_s = passage.permit.listener.wanted_s(self._env.now)
        job = _Job(passage, rows, seconds, may_join, wanted_s, Event(self._env))
        self._jobs.append(job)
        if not self._more.triggered:
            self._more.succeed()
        return job.done

    def _work(self) -> Steps:
        while True:
            while not self._jobs:
                self._more = Event(self._env)
                yield self._more
            taken = self._take()
            rows = sum(job.rows for job in taken)
            seconds = self._costs.chunks(rows, len(taken)) if rows else taken[0].seconds
            if rows and taken[-1].stream is not self._last:
                seconds += self._costs.switch_s
                self._last = taken[-1].stream
            begun_s = self._env.now
            yield self._device.work(seconds, "vocoder", self._weight)
            if rows:
                self._learned.decoded(rows, len(taken), self._env.now - begun_s)
            for job in taken:
                job.done.succeed()

    def _take(self) -> list[_Job]:
        """The job that is wanted first, and those that may run with it."""
        first = min(self._jobs, key=lambda job: job.wanted_s)
        taken = [first]
        if first.may_join and first.rows and self._costs.together > 1:
            alike = [one for one in self._jobs if one.may_join and one.rows == first.rows]
            alike.sort(key=lambda job: job.wanted_s)
            taken = alike[: self._costs.together]
        self._jobs = [one for one in self._jobs if one not in taken]
        return taken


def tokens_of(rows: int) -> int:
    """Of the whole groups that hold so many rows."""
    return -(-rows // GROUP_ROWS) * GROUP_TOKENS
