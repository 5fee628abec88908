"""A cluster of LLM and vocoder replicas in virtual time, under one way of control at a time.

Modelled: an engine's step (fixed part and a part for every stream in it), prefill, the vocoder's
chunks, listeners who play what they hear. Put in, from `ways.COSTS`: what a message costs its
sender and its receiver, how long it travels, and how soon a death is told. A replica's event loop
serves its messages one after another, beside its engine. Not modelled: LLM and vocoder on one
device, other work of the loops, and what a loop at its limit does to its process.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from load_tests.bench.flow.ways import Cluster, Costs, Notice, Outcome, Way
from pipeline.contracts import GROUP_S, GROUP_TOKENS

TOKEN_S = GROUP_S / GROUP_TOKENS
AHEAD_S = 2.0  # of audio in hand, from which on a stream yields its steps
LEASE_S, SIGN_OF_LIFE_S = 10.0, 2.0
CHUNK_TOKENS, BEGINNING_TOKENS, LOOKAHEAD_TOKENS = 15, 30, 5
AUDIO_TOKENS = (25, 40, 80)  # of the first, second and every later piece of audio


class Line:
    """A server that takes one thing at a time, in the order they come."""

    def __init__(self) -> None:
        self.free_at_s = self.busy_s = 0.0

    def take(self, now_s: float, cost_s: float) -> float:
        """→ when it is done."""
        self.busy_s += cost_s
        self.free_at_s = max(now_s, self.free_at_s) + cost_s
        return self.free_at_s


@dataclass(slots=True, eq=False)
class Call:
    """One answer on its way: drawn by `llm`, read by `vocoder`, heard by one listener."""

    llm: Llm
    vocoder: Vocoder
    size_tokens: int
    leaves_after_tokens: int
    asked_s: float
    limit_tokens: float = float("inf")
    drawn_tokens: int = 0
    sent_tokens: int = 0
    begun_s: float | None = None
    life_s: float = 0.0
    is_over: bool = False
    has_left: bool = False
    drawn_at_death: int = 0
    tokens: deque[int] = field(default_factory=deque)
    read_tokens: int = 0
    decoded_tokens: int = 0
    n_audio: int = 0
    is_decoding: bool = False
    heard_s: float | None = None
    played_until_s: float = 0.0

    def is_ahead(self, now_s: float) -> bool:
        """Whether it has more in hand than `AHEAD_S`, by the engine's own clock."""
        if self.begun_s is None:
            return False
        return self.sent_tokens * TOKEN_S - (now_s - self.begun_s) > AHEAD_S

    @property
    def is_paused(self) -> bool:
        return self.drawn_tokens >= self.limit_tokens


@dataclass(slots=True, eq=False)
class Llm:
    loop: Line = field(default_factory=Line)
    joining: deque[Call] = field(default_factory=deque)
    waiting: deque[Call] = field(default_factory=deque)
    running: list[Call] = field(default_factory=list)
    is_stepping: bool = False


@dataclass(slots=True, eq=False)
class Vocoder:
    loop: Line = field(default_factory=Line)
    device: Line = field(default_factory=Line)
    is_dead: bool = False


class Model:
    """Runs one cluster under one way."""

    def __init__(self, way: Way, cluster: Cluster, costs: Costs, seed: int = 0) -> None:
        self._way, self._cluster, self._costs = way, cluster, costs
        self._random = random.Random(seed)  # noqa: S311 - a load, no secret
        self._now_s = 0.0
        self._order = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._llms = [Llm() for _ in range(cluster.llms)]
        self._vocoders = [Vocoder() for _ in range(cluster.vocoders)]
        self._orphans: list[Call] = []
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Listeners come one after another over the first answer's length; some vocoders die."""
        cluster = self._cluster
        for index in range(cluster.streams):
            self._at(self._random.random() * cluster.ramp_s, lambda i=index: self._ask(i))
        self._at(cluster.dies_s, self._kill)
        while self._events and self._events[0][0] <= cluster.ends_s:
            self._now_s, _, event = heapq.heappop(self._events)
            event()
        self.outcome.llm_loop_share = max(one.loop.busy_s for one in self._llms) / cluster.ends_s
        self.outcome.vocoder_loop_share = (
            max(one.loop.busy_s for one in self._vocoders) / cluster.ends_s
        )
        self.outcome.orphan_tokens = sum(
            call.drawn_tokens - call.drawn_at_death for call in self._orphans
        )
        self.outcome.held = sum(not call.is_over for call in self._orphans)
        return self.outcome

    def _at(self, when_s: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when_s, next(self._order), event))

    def _after(self, wait_s: float, event: Callable[[], None]) -> None:
        self._at(self._now_s + wait_s, event)

    # A listener.

    def _ask(self, listener: int) -> None:
        """The next answer, of the LLM with the fewest; always through the same vocoder."""
        vocoder = self._vocoders[listener % len(self._vocoders)]
        llm = min(
            self._random.sample(self._llms, 2),
            key=lambda one: len(one.running) + len(one.joining) + len(one.waiting),
        )
        n = self._random.randint(*self._cluster.answer_tokens)
        n -= n % GROUP_TOKENS
        leaves = self._random.random() < self._cluster.leaving
        after = self._random.randint(0, n) if leaves else n
        if vocoder.is_dead:
            return
        call = Call(llm, vocoder, n, after, self._now_s, life_s=self._now_s)
        if self._way.window_tokens:
            call.limit_tokens = self._way.window_tokens
            self._after(SIGN_OF_LIFE_S, lambda: self._sign_of_life(call))
        self._after(self._costs.hop_s, lambda: self._admit(call))

    def _hear(self, call: Call, n_tokens: int, *, last: bool) -> None:
        if call.vocoder.is_dead or call.has_left:
            return
        if call.heard_s is None:
            call.heard_s = call.played_until_s = self._now_s
            self.outcome.first_audio_s.append(self._now_s - call.asked_s)
            if call.leaves_after_tokens < call.size_tokens:
                self._after(call.leaves_after_tokens * TOKEN_S, lambda: self._leave(call))
        elif self._now_s > call.played_until_s + 1e-9:
            self.outcome.underruns += 1
            call.played_until_s = self._now_s
        call.played_until_s += n_tokens * TOKEN_S
        if last and call.leaves_after_tokens == call.size_tokens:
            wait_s = call.played_until_s - self._now_s
            self._after(wait_s, lambda: self._ask(self._vocoders.index(call.vocoder)))

    def _leave(self, call: Call) -> None:
        """The router is told, then the vocoder, then the engine."""
        call.has_left = True
        self._after(0.0, lambda: self._ask(self._vocoders.index(call.vocoder)))

        def told() -> None:
            self.outcome.abandoned += 1
            heard_tokens = min(call.leaves_after_tokens, call.drawn_tokens)
            self.outcome.wasted_tokens += call.drawn_tokens - heard_tokens
            self._end(call)

        self._after(2 * self._costs.hop_s, told)

    # An LLM replica.

    def _admit(self, call: Call) -> None:
        call.llm.waiting.append(call)
        self._next_step(call.llm)

    def _next_step(self, llm: Llm) -> None:
        """One prompt if somebody joins, and a step of everyone who does not pause or yield."""
        if llm.is_stepping:
            return
        while llm.waiting and len(llm.running) + len(llm.joining) < self._cluster.slots:
            llm.joining.append(llm.waiting.popleft())
        took_s = self._cluster.prefill_s if llm.joining else 0.0
        ready = self._ready(llm)
        if ready:
            took_s += self._cluster.step_s + self._cluster.row_s * len(ready)
        if not took_s:
            return
        llm.is_stepping = True
        self.outcome.engine_s += took_s
        joined = llm.joining.popleft() if llm.joining else None

        def done() -> None:
            llm.is_stepping = False
            if joined is not None and not joined.is_over:
                llm.running.append(joined)
            for call in ready:
                if not call.is_over:
                    self._draw(call)
            self._next_step(llm)

        self._after(took_s, done)

    def _ready(self, llm: Llm) -> list[Call]:
        ready = [call for call in llm.running if not call.is_paused]
        if not self._way.yields:
            return ready
        behind = [call for call in ready if not call.is_ahead(self._now_s)]
        return behind if llm.joining or behind else ready

    def _draw(self, call: Call) -> None:
        call.drawn_tokens += 1
        self.outcome.drawn_tokens += 1
        last = call.drawn_tokens >= call.size_tokens
        size = GROUP_TOKENS if call.sent_tokens < BEGINNING_TOKENS else CHUNK_TOKENS
        n_due = call.drawn_tokens - call.sent_tokens
        if not last and n_due < size and not call.is_paused:
            return
        n_tokens = n_due - n_due % GROUP_TOKENS
        call.sent_tokens += n_tokens
        if call.begun_s is None:
            call.begun_s = self._now_s
        if last:
            self._end(call)
        sent_s = call.llm.loop.take(self._now_s, self._costs.chunk_sender_s)
        self.outcome.chunk_cpu_s += self._costs.chunk_sender_s + self._costs.chunk_receiver_s
        if not call.vocoder.is_dead:
            self._at(sent_s + self._costs.hop_s, lambda: self._arrive(call, n_tokens))

    def _end(self, call: Call) -> None:
        """The answer's slot becomes free."""
        if call.is_over:
            return
        call.is_over = True
        for queue in (call.llm.running, call.llm.joining, call.llm.waiting):
            if call in queue:
                queue.remove(call)
        if call.vocoder.is_dead:
            self.outcome.freed_s.append(self._now_s - self._cluster.dies_s)
        self._after(0.0, lambda: self._next_step(call.llm))

    # A vocoder replica.

    def _arrive(self, call: Call, n_tokens: int) -> None:
        read_s = call.vocoder.loop.take(self._now_s, self._costs.chunk_receiver_s)

        def read() -> None:
            call.tokens.append(n_tokens)
            self._pull(call)

        self._at(read_s, read)

    def _pull(self, call: Call) -> None:
        """Read until the next piece has its tokens; what is not needed yet stays unread."""
        if call.is_decoding or call.has_left or call.vocoder.is_dead:
            return
        size = AUDIO_TOKENS[min(call.n_audio, len(AUDIO_TOKENS) - 1)]
        target = min(call.decoded_tokens + size + LOOKAHEAD_TOKENS, call.size_tokens)
        while call.read_tokens < target and call.tokens:
            call.read_tokens += call.tokens.popleft()
            self._grant_if_due(call)
        if call.read_tokens < target or call.decoded_tokens >= call.size_tokens:
            return
        last = call.read_tokens >= call.size_tokens and target == call.size_tokens
        n_tokens = call.size_tokens - call.decoded_tokens if last else size
        call.is_decoding = True
        cost_s = self._cluster.audio_fixed_s + n_tokens * TOKEN_S * self._cluster.audio_rtf
        done_s = call.vocoder.device.take(self._now_s, cost_s)

        def decoded() -> None:
            call.is_decoding = False
            call.decoded_tokens += n_tokens
            call.n_audio += 1
            sent_s = call.vocoder.loop.take(self._now_s, self._costs.chunk_sender_s)
            self._at(sent_s + 2 * self._costs.hop_s, lambda: self._hear(call, n_tokens, last=last))
            self._pull(call)

        self._at(done_s, decoded)

    # Control.

    def _grant_if_due(self, call: Call) -> None:
        window = self._way.window_tokens
        if window and call.limit_tokens - call.read_tokens <= window // 2 and not call.is_over:
            self._grant(call, call.read_tokens + window)

    def _sign_of_life(self, call: Call) -> None:
        if not call.is_over and not call.vocoder.is_dead:
            self._grant(call, call.limit_tokens)
            self._after(SIGN_OF_LIFE_S, lambda: self._sign_of_life(call))

    def _grant(self, call: Call, limit_tokens: float) -> None:
        """One message to the owner, or to everyone."""
        told = self._llms if self._way.is_broadcast else [call.llm]
        self.outcome.control_calls += len(told)
        sender_s, receiver_s = self._costs.call_sender_s, self._costs.call_receiver_s
        self.outcome.control_cpu_s += len(told) * (sender_s + receiver_s)
        sent_s = call.vocoder.loop.take(self._now_s, len(told) * sender_s)

        def received() -> None:
            for llm in told:
                done_s = llm.loop.take(self._now_s, receiver_s)
                if llm is call.llm:
                    self._at(done_s, allowed)

        def allowed() -> None:
            call.limit_tokens = max(call.limit_tokens, limit_tokens)
            call.life_s = self._now_s
            self._next_step(call.llm)

        self._at(sent_s + self._costs.hop_s, received)

    def _kill(self) -> None:
        """Some vocoders die; how its streams' slots get free is the way's own."""
        for vocoder in self._vocoders[: self._cluster.dying]:
            vocoder.is_dead = True
        self._orphans = [
            call
            for llm in self._llms
            for call in (*llm.running, *llm.joining, *llm.waiting)
            if call.vocoder.is_dead
        ]
        for call in self._orphans:
            call.drawn_at_death = call.drawn_tokens
            if self._way.notice is Notice.CONNECTION:
                self._after(self._costs.broken_s, lambda call=call: self._end(call))
            elif self._way.notice is Notice.LEASE:
                self._watch(call)

    def _watch(self, call: Call) -> None:
        def expired() -> None:
            if self._now_s - call.life_s >= LEASE_S - 1e-9:
                self._end(call)
            elif not call.is_over:
                self._watch(call)

        self._at(max(call.life_s + LEASE_S, self._now_s + 1e-3), expired)
