"""A replica of the vocoder in simulated time: the service's own admission, then chunk by chunk.

The gate, its forecast and its learned costs are those of `deployments.admission`, on this clock.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from simpy import Environment, Event

from cache_store.memory import MemoryTier
from deployments.admission.costs import ROW_S, ServiceCosts
from deployments.admission.gate import AdmissionGate, Permit, Places
from deployments.admission.line import Demand
from deployments.capacity.language_model import LanguageModel, TokenFlow
from deployments.capacity.processor import Processor
from deployments.capacity.profile import VocoderCosts
from deployments.config.admission_settings import AdmissionSettings
from pipeline.contracts import GROUP_S, GROUP_TOKENS
from pipeline.serving.terms import Terms
from pipeline.stepaudio.vocoder.schedule import chunk_schedule

GROUP_ROWS = round(GROUP_S / ROW_S)
AHEAD_ROWS = 3  # that a chunk needs behind its own
HELD_ROWS = 4  # the newest rows are heard with the next chunk
QUIET_SHARE = 0.25  # of max_streams, up to which a first chunk may be small

Steps = Generator[Event, Any, None]
Heard = Callable[[float], None]


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
    permit: Permit
    rows: int
    """0 of a prompt."""
    seconds: float
    """Of a prompt."""
    may_join: bool
    """May run with others of as many rows."""
    done: Event


@dataclass(frozen=True, slots=True)
class Speech:
    """What is to be spoken. guess_s: as long as its text says, audio_s: as it comes out."""

    audio_s: float
    guess_s: float
    voice: int
    is_adaptive: bool
    """Its first chunk may be smaller while there is little to do."""


class Vocoder:
    """One replica, with the LLM that it draws from."""

    def __init__(
        self,
        env: Environment,
        device: Processor,
        costs: VocoderCosts,
        admission: AdmissionSettings,
        weight: float,
    ) -> None:
        self._env, self._device, self._costs, self._weight = env, device, costs, weight
        learned = self._learned = ServiceCosts()
        learned.decoded(rows := max(costs.chunk_rows), 1, costs.chunks(rows, 1))
        learned.begin()
        places = Places(costs.max_streams, None, costs.queue_size)
        self._gate = AdmissionGate(admission, places, learned, clock=SimulatedClock(env))
        self._states = MemoryTier[bool](costs.kept_voices)
        self._jobs: list[_Job] = []
        self._more = Event(env)
        self._streams = 0
        self.in_work = 0
        """Answers in work and waiting."""
        env.process(self._work())

    def speak(self, speech: Speech, terms: Terms, llm: LanguageModel, heard: Heard) -> Steps:
        """One answer, from the gate to its end. heard: told of audio seconds.

        Raises CapacityError as the gate does.
        """
        is_quiet = self._streams <= self._costs.max_streams * QUIET_SHARE
        sizes = list(self._costs.chunk_rows)
        permit = self._gate.permit(terms, Demand(1, speech.guess_s, tuple(sizes)))
        self.in_work += 1
        try:
            yield from permit.gate.enter(permit.asked).__await__()
            try:
                self._streams += 1
                if is_quiet and speech.is_adaptive:
                    sizes = list(chunk_schedule(tuple(sizes), self._costs.quiet_first_rows))
                yield from self._chunks(speech, sizes, permit, llm, heard)
            finally:
                self._streams -= 1
                permit.release()
        finally:
            self.in_work -= 1

    def _chunks(
        self, speech: Speech, sizes: list[int], permit: Permit, llm: LanguageModel, heard: Heard
    ) -> Steps:
        begun_s, waited_s = self._env.now, 0.0
        total = max(round(speech.audio_s / ROW_S / GROUP_ROWS), 1) * GROUP_ROWS
        tokens = total // GROUP_ROWS * GROUP_TOKENS
        flow = llm.stream(tokens, speech.voice, permit.asked.llm_due_s or 0.0)
        prompt = self._prompt(speech.voice, permit)
        done = pieces = 0
        while done < total:
            size = sizes[0]
            is_last = total - done < size + AHEAD_ROWS
            rows = total - done if is_last else size
            yield from self._drawn(flow, done + rows + AHEAD_ROWS, is_last=is_last)
            if not pieces:
                waited_s = self._env.now - begun_s
                yield prompt
            yield self._submit(_Job(permit, rows, 0.0, not is_last, Event(self._env)))
            if not pieces and not is_last:
                self._learned.led_in(waited_s)
            self._learned.drew(flow.emitted, flow.work_s)
            sounding = rows - (0 if pieces else HELD_ROWS) + (HELD_ROWS if is_last else 0)
            audio_s = max(min(sounding, total) * ROW_S, 0.0)
            permit.listener.heard(audio_s, self._env.now)
            heard(audio_s)
            done, pieces = done + rows, pieces + 1
            if len(sizes) > 1:
                sizes.pop(0)

    def _drawn(self, flow: TokenFlow, rows: int, *, is_last: bool) -> Steps:
        groups = -(-rows // GROUP_ROWS)
        wanted = flow.tokens if is_last else groups * GROUP_TOKENS
        yield flow.reached(self._env, wanted)

    def _prompt(self, voice: int, permit: Permit) -> Event:
        """Of a voice whose state is not kept: it is made while the first tokens are drawn."""
        if self._states.get(str(voice)) is not None:
            return Event(self._env).succeed()
        self._states.put(str(voice), value=True, size_bytes=1)
        return self._submit(_Job(permit, 0, self._costs.prompt_s, False, Event(self._env)))

    def _submit(self, job: _Job) -> Event:
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
            begun_s = self._env.now
            yield self._device.work(seconds, "vocoder", self._weight)
            if rows:
                self._learned.decoded(rows, len(taken), self._env.now - begun_s)
            for job in taken:
                job.done.succeed()

    def _take(self) -> list[_Job]:
        """The job that is wanted first, and those that may run with it."""
        now_s = self._env.now
        first = min(self._jobs, key=lambda job: job.permit.listener.wanted_s(now_s))
        taken = [first]
        if first.may_join and first.rows and self._costs.together > 1:
            alike = [one for one in self._jobs if one.may_join and one.rows == first.rows]
            alike.sort(key=lambda job: job.permit.listener.wanted_s(now_s))
            taken = alike[: self._costs.together]
        self._jobs = [one for one in self._jobs if one not in taken]
        return taken
