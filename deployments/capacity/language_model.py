"""A replica of the LLM in simulated time: slots, prompts that join, a token a step for each."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, field

from simpy import Environment, Event

from cache_store.memory import MemoryTier
from deployments.capacity.processor import Processor
from deployments.capacity.profile import LanguageModelCosts
from pipeline.contracts import GROUP_S, GROUP_TOKENS

# As the engine has them (pipeline/stepaudio/llm/engine), which cannot be imported without torch.
BEGINNING_TOKENS = 7 * GROUP_TOKENS
AHEAD_S = 0.3
STRETCH = 1.4
MOST_CHUNKS = 8
STEPS = 3  # that are simulated as one while nobody joins

Steps = Generator[Event, None, None]


@dataclass(slots=True, eq=False)
class TokenFlow:
    """The tokens of one answer: how many were handed out, and whether all were."""

    tokens: int
    voice: int
    due_s: float
    emitted: int = 0
    produced: int = 0
    prefill_s: float = 0.0
    admitted_s: float = 0.0
    begun_s: float | None = None
    is_over: bool = False
    handed: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    """Tokens that were handed out by then, and seconds from its slot until then."""
    _waits: list[tuple[int, Event]] = field(default_factory=list[tuple[int, Event]])

    def reached(self, env: Environment, tokens: int) -> Event:
        """Comes when so many were handed out, or all."""
        event = Event(env)
        if self.is_over or self.emitted >= tokens:
            return event.succeed()
        self._waits.append((tokens, event))
        return event

    def hand_out(self, now_s: float) -> None:
        """What was drawn, where enough of it was, or nothing follows."""
        self.is_over = self.produced >= self.tokens
        if self.begun_s is None:
            self.begun_s = now_s
        self.emitted = self.produced
        self.handed.append((self.emitted, now_s - self.admitted_s))
        over = [event for tokens, event in self._waits if self.is_over or self.emitted >= tokens]
        self._waits = [one for one in self._waits if one[1] not in over]
        for event in over:
            event.succeed()

    def drawn(self, tokens: int) -> tuple[int, float]:
        """With what so many were there: tokens handed out, and seconds from its slot until then."""
        return next((one for one in self.handed if one[0] >= tokens), self.handed[-1])

    def can_wait(self, now_s: float) -> bool:
        """Whether its listener would not hear a step that comes later."""
        if self.begun_s is None:
            return True
        return self.emitted / GROUP_TOKENS * GROUP_S - (now_s - self.begun_s) > AHEAD_S

    def until_due(self, chunk_tokens: int) -> int:
        """Tokens until something is handed out."""
        size = GROUP_TOKENS if self.emitted < BEGINNING_TOKENS else chunk_tokens
        return min(size, self.tokens - self.emitted) - (self.produced - self.emitted)


class LanguageModel:
    """One replica."""

    def __init__(
        self, env: Environment, device: Processor, costs: LanguageModelCosts, weight: float
    ) -> None:
        self._env, self._device, self._costs, self._weight = env, device, costs, weight
        self._waiting: list[TokenFlow] = []
        self._joining: list[TokenFlow] = []
        self._ready: list[TokenFlow] = []
        self._prefixes = MemoryTier[bool](costs.kept_voices)
        self._wake = Event(env)
        env.process(self._work())

    @property
    def passage_s(self) -> float:
        """See LanguageModelCosts."""
        return self._costs.passage_s

    @property
    def in_work(self) -> int:
        """Answers that have a slot or wait for one."""
        return len(self._waiting) + len(self._joining) + len(self._ready)

    def stream(self, tokens: int, voice: int, due_s: float = math.inf) -> TokenFlow:
        """An answer of so many tokens. voice: whose prefix may be kept."""
        flow = TokenFlow(max(tokens, GROUP_TOKENS), voice, due_s)
        self._waiting.append(flow)
        if not self._wake.triggered:
            self._wake.succeed()
        return flow

    def _work(self) -> Steps:
        while True:
            self._admit()
            if not self._joining and not self._ready:
                self._wake = Event(self._env)
                yield self._wake
                continue
            yield from self._join()
            yield from self._step()

    def _admit(self) -> None:
        while self._waiting and len(self._joining) + len(self._ready) < self._costs.slots:
            flow = min(self._waiting, key=lambda one: one.due_s)
            self._waiting.remove(flow)
            is_kept = self._prefixes.get(str(flow.voice)) is not None
            flow.prefill_s = self._costs.prefill_s if is_kept else self._costs.prefill_new_s
            flow.admitted_s = self._env.now
            self._joining.append(flow)

    def _join(self) -> Steps:
        """A chunk of the oldest prompt; of several, if all who listen can wait."""
        can_wait = all(one.can_wait(self._env.now) for one in self._ready)
        for _ in range(min(len(self._joining), MOST_CHUNKS if can_wait else 1)):
            flow = self._joining[0]
            most_s = math.inf
            if self._ready:
                most_s = STRETCH * self._costs.step(len(self._ready))
            part_s = min(flow.prefill_s, most_s)
            yield self._device.work(part_s, "llm", self._weight)
            flow.prefill_s -= part_s
            if flow.prefill_s <= 0:
                self._joining.remove(flow)
                self._ready.append(flow)
                self._prefixes.put(str(flow.voice), value=True, size_bytes=1)

    def _step(self) -> Steps:
        if not self._ready:
            return
        ready = list(self._ready)
        due = min(one.until_due(self._costs.chunk_tokens) for one in ready)
        steps = 1 if self._joining else max(min(due, STEPS), 1)
        step_s = self._costs.step(len(ready))
        yield self._device.work(steps * step_s, "llm", self._weight)
        for flow in ready:
            flow.produced += steps
            if flow.until_due(self._costs.chunk_tokens) <= 0:
                flow.hand_out(self._env.now)
        self._ready = [one for one in self._ready if not one.is_over]
