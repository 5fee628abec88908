"""The service in simulated time: routers in front, and cards with replicas of the stages.

A request's way is that of `pipeline.synthesis`: kept speech, the voice, admission, LLM and vocoder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from simpy import AllOf, Environment, Event

from deployments.admission.memory import Told
from deployments.capacity.arrivals import Ask
from deployments.capacity.known import SPEECH_BYTES_S, VOICE_BYTES_S, Knowledge
from deployments.capacity.language_model import LanguageModel
from deployments.capacity.processor import Processor
from deployments.capacity.profile import Profile
from deployments.capacity.vocoder import Piece, Speech, Vocoder
from deployments.config.admission_settings import AdmissionSettings
from pipeline.continuity import PlaybackMeter
from pipeline.errors import CapacityError
from pipeline.serving.terms import Terms

Steps = Generator[Event, Any, None]
Outcome = Literal["ok", "refused"]

REST_S = 1.0  # of a client in a closed loop that was refused


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of a request. Moments in seconds from the beginning."""

    ask: Ask
    at_s: float
    """When it came; of a closed loop, when it was sent."""
    outcome: Outcome
    ended_s: float
    first_audio_s: float | None = None
    """From `at_s`; None where none came."""
    audio_s: float = 0.0
    underruns: int = 0
    stall_s: float = 0.0
    voice_tier: str = ""
    """l1, l2, l3, or miss."""
    is_speech_hit: bool = False
    llm_s: float = 0.0
    """Until its first audio, as a reply tells it; so is vocoder_s."""
    vocoder_s: float = 0.0
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """The cell's replicas. Where stages are apart each replica of LLM and vocoder has a device.

    Tokenizers share those of the vocoders. Not apart: each device has one of both.
    """

    vocoders: int = 1
    llms: int = 1
    tokenizers: int = 1
    routers: int = 1
    is_apart: bool = False

    @property
    def devices(self) -> int:
        return self.vocoders + self.llms if self.is_apart else max(self.vocoders, self.llms)


@dataclass(slots=True)
class _Live:
    """Speech that is being made, which others may join."""

    first: Event
    end: Event
    audio_s: float = 0.0
    refusal: CapacityError | None = None


@dataclass(slots=True)
class _Way:
    """One request under way."""

    ask: Ask
    at_s: float
    meter: PlaybackMeter = field(init=False)
    first_audio_s: float | None = None
    audio_s: float = 0.0
    voice_tier: str = ""
    is_speech_hit: bool = False
    first: Piece | None = None

    def __post_init__(self) -> None:
        self.meter = PlaybackMeter(self.at_s)

    def hear(self, audio_s: float, now_s: float) -> None:
        if audio_s <= 0:
            return
        if self.first_audio_s is None:
            self.first_audio_s = now_s - self.at_s
        self.audio_s += audio_s
        self.meter.sent(audio_s, now_s)

    def answered(self, outcome: Outcome, ended_s: float, **more: Any) -> Answered:
        told = self.meter.continuity()
        return Answered(
            self.ask,
            self.at_s,
            outcome,
            ended_s,
            self.first_audio_s,
            self.audio_s,
            told.underruns,
            told.underrun_s,
            self.voice_tier,
            self.is_speech_hit,
            0.0 if self.first is None else self.first.llm_s,
            0.0 if self.first is None else self.first.vocoder_s,
            **more,
        )


def _nobody(answer: Answered) -> None:
    del answer


class Cell:
    """A part of the service that is like all others, or all of it."""

    def __init__(
        self,
        profile: Profile,
        layout: Layout,
        knowledge: Knowledge,
        admission: AdmissionSettings | None = None,
        seed: int = 0,
    ) -> None:
        self.env = env = Environment()
        self.profile, self._knowledge, self._layout = profile, knowledge, layout
        self._dice = np.random.default_rng(seed)
        weight, settings = profile.engine_weight, admission or AdmissionSettings()
        self.devices = [Processor(env, profile.device_capacity) for _ in range(layout.devices)]
        speaking = self.devices[: layout.vocoders]
        drawing = self.devices[-layout.llms :] if layout.is_apart else self.devices[: layout.llms]
        self._llms = [LanguageModel(env, one, profile.llm, weight) for one in drawing]
        self.front = Processor(env, math.inf) if profile.front_is_apart else self.devices[0]
        self._vocoders = [Vocoder(env, one, self.front, profile, settings) for one in speaking]
        self._tokenizers = [
            _Tokenizer(env, one, profile) for one in speaking[: max(layout.tokenizers, 1)]
        ]
        self._told = [Told() for _ in range(layout.routers)]
        self._encoding: dict[int, Event] = {}
        self._live: dict[str, _Live] = {}
        self.answers: list[Answered] = []
        self.enough = Event(env)
        """Ends the run; for `heard`, who is told of each answer."""
        self.heard: Callable[[Answered], None] = _nobody

    def run_open(self, asks: Sequence[Ask], until_s: float | None = None) -> list[Answered]:
        """Requests come when they come. until_s: what is not answered by then is left out."""
        return self._run([self.env.process(self._comes(one)) for one in asks], until_s)

    def run_closed(
        self, asks: Sequence[Ask], clients: int, until_s: float | None = None
    ) -> list[Answered]:
        """Each client sends its next request when it has the answer to the last."""
        left = iter(asks)

        def client() -> Steps:
            for ask in left:
                yield from self.asked(ask)
                last = self.answers[-1]
                if last.outcome == "refused":
                    yield self.env.timeout(min(last.retry_after_s or REST_S, 5.0))

        return self._run([self.env.process(client()) for _ in range(clients)], until_s)

    def _run(self, processes: Sequence[Event], until_s: float | None) -> list[Answered]:
        if processes:
            over = AllOf(self.env, processes) | self.enough
            self.env.run(over if until_s is None else over | self.env.timeout(until_s))
        return self.answers

    def _comes(self, ask: Ask) -> Steps:
        yield self.env.timeout(ask.at_s)
        yield from self.asked(ask)

    def asked(self, ask: Ask) -> Steps:
        """One request, from its coming to its end."""
        way = _Way(ask, self.env.now)
        router = ask.number % self._layout.routers
        try:
            yield from self._answer(way, router)
        except CapacityError as error:
            self._ended(way.answered("refused", self.env.now, retry_after_s=error.retry_after_s))
            return
        self._ended(way.answered("ok", self.env.now))

    def _ended(self, answer: Answered) -> None:
        self.answers.append(answer)
        self.heard(answer)

    def _answer(self, way: _Way, router: int) -> Steps:
        phrase = way.ask.phrase
        yield from self._voice(way, router)
        if phrase is None:
            yield from self._spoken(way, router, None)
            return
        tier, live = self._knowledge.find("speech", phrase, router), self._live.get(phrase)
        if tier is not None or live is not None:
            way.is_speech_hit = True
            yield from self._found(way, live if tier is None else None)
            return
        live = self._live[phrase] = _Live(Event(self.env), Event(self.env))
        try:
            yield from self._spoken(way, router, live)
            size_bytes = int(way.ask.audio_s * SPEECH_BYTES_S)
            self._knowledge.keep("speech", phrase, size_bytes, router)
        except CapacityError as error:
            live.refusal = error
            raise
        finally:
            del self._live[phrase]
            for event in (live.first, live.end):
                if not event.triggered:
                    event.succeed()

    def _found(self, way: _Way, live: _Live | None) -> Steps:
        yield self.front.work(self.profile.front.hit_s, "front")
        if live is None:
            way.hear(way.ask.audio_s, self.env.now)
            return
        yield live.first
        way.hear(live.audio_s, self.env.now)
        yield live.end
        if live.refusal is not None:
            raise live.refusal
        way.hear(way.ask.audio_s - way.audio_s, self.env.now)

    def _voice(self, way: _Way, router: int) -> Steps:
        """Known, or encoded once for all who wait for it."""
        ask = way.ask
        tier = self._knowledge.find("voice", str(ask.voice), router)
        way.voice_tier = tier or "miss"
        if tier is not None:
            if tier != "l1":
                yield self.front.work(self.profile.front.look_up_s, "front")
            return
        flight = self._encoding.get(ask.voice)
        if flight is not None:
            yield flight
            return
        flight = self._encoding[ask.voice] = Event(self.env)
        tokenizer = min(self._tokenizers, key=lambda one: one.in_work)
        yield tokenizer.encode(ask.clip_s)
        del self._encoding[ask.voice]
        size_bytes = int(ask.clip_s * VOICE_BYTES_S)
        self._knowledge.keep("voice", str(ask.voice), size_bytes, router)
        flight.succeed()

    def _spoken(self, way: _Way, router: int, live: _Live | None) -> Steps:
        """Made for the request, and for those who join. Raises CapacityError."""
        yield self.front.work(self.profile.front.before_s, "front")
        ask, terms, now_s = way.ask, Terms(), self.env.now
        if (error := self._told[router].holding(terms, now_s)) is not None:
            raise error
        is_new = ask.phrase is None
        speech = Speech(ask.audio_s, ask.guess_s, ask.voice, is_new, ask.passages)
        sent: list[Event] = []

        def heard(piece: Piece) -> None:
            way.first = way.first or piece
            sent.append(self.env.process(self._sent(way, piece.audio_s, not sent, live)))

        vocoder, llm = self._less_busy(self._vocoders), self._less_busy(self._llms)
        try:
            yield from vocoder.speak(speech, terms, llm, heard)
        except CapacityError as error:
            self._told[router].remember(terms, error, self.env.now)
            raise
        yield AllOf(self.env, sent)

    def _sent(self, way: _Way, audio_s: float, is_first: bool, live: _Live | None) -> Steps:
        front = self.profile.front
        yield self.front.work(front.after_s if is_first else front.piece_s, "front")
        way.hear(audio_s, self.env.now)
        if live is not None:
            live.audio_s = way.audio_s
            if not live.first.triggered:
                live.first.succeed()

    def _less_busy(self, replicas: Sequence[Any]) -> Any:
        """As Serve does it: of two by chance the one with less in work."""
        if len(replicas) == 1:
            return replicas[0]
        one, other = self._dice.choice(len(replicas), 2, replace=False)
        return min(replicas[one], replicas[other], key=lambda replica: replica.in_work)

    def busy_share(self, lasts_s: float) -> dict[str, float]:
        """Of all the cell's devices, by stage."""
        whole_s = lasts_s * sum(self.profile.device_capacity for _ in self.devices)
        names = {name for device in self.devices for name in device.busy_s}
        return {
            name: sum(device.busy_s[name] for device in self.devices) / whole_s
            for name in sorted(names)
        }


class _Tokenizer:
    """One replica: a clip at a time."""

    def __init__(self, env: Environment, device: Processor, profile: Profile) -> None:
        self._env, self._device, self._profile = env, device, profile
        self._last: Event = Event(env).succeed()
        self.in_work = 0

    def encode(self, clip_s: float) -> Event:
        """Comes when the clip is encoded, behind those that came before."""
        self.in_work += 1
        self._last = self._env.process(self._one(self._last, clip_s))
        return self._last

    def _one(self, before: Event, clip_s: float) -> Steps:
        if not before.processed:
            yield before
        seconds = self._profile.tokenizer.encode(clip_s)
        yield self._device.work(seconds, "tokenizer", self._profile.engine_weight)
        self.in_work -= 1


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of them do not exceed; infinite of none."""
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)] if ordered else math.inf
