"""A load's plan played by the simulator, and told as clients of a real service tell theirs.

Both go through the same summary, so that every number means the same of either.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from deployments.capacity.arrivals import Ask
from deployments.capacity.cell import Answered, Cell, Layout
from deployments.capacity.known import Budgets, KeptByTiers
from deployments.capacity.profile import Profile
from load_tests.load.answers import OK, Answer
from load_tests.load.measures import summary
from load_tests.load.plan import Call, Plan
from load_tests.load.workload import Closed
from load_tests.simulate.expected import clip_seconds, expected_of
from pipeline.voice_list import load_voices

MIB = 2**20
ROUTER_CACHES = Budgets(256 * MIB, 512 * MIB, 20_000 * MIB), Budgets(256 * MIB, 1024 * MIB, None)
LEAST_S = 0.6
REFUSED = 503
GUESS_SEED = 5
FEWEST = 4  # answers of a voice that say how slow it is


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long a text sounds: seconds a letter and beside them, times how slow its voice is.

    spread: how far answers are off it, of their logarithm.
    """

    letter_s: float
    beside_s: float
    spread: float
    voices: tuple[float, ...] = ()
    """Of each listed voice; 1 for all where empty."""

    @classmethod
    def fitted(cls, calls: Sequence[Call], answers: Sequence[Answer]) -> Lengths:
        """By least squares, of answers that are whole."""
        call_of = {call.number: call for call in calls}
        heard = [(call_of[one.number], one.audio_s) for one in answers if one.outcome == "ok"]
        letters = np.array([len(call.text) for call, _ in heard], dtype=np.float64)
        audio_s = np.array([seconds for _, seconds in heard])
        letter_s, beside_s = np.polyfit(letters, audio_s, 1)
        off = np.log(audio_s / np.maximum(letters * letter_s + beside_s, LEAST_S))
        voices = np.array([voice_of(call) % len(load_voices()) for call, _ in heard])
        slow = [float(off[voices == one].mean()) if (voices == one).sum() >= FEWEST else 0.0
                for one in range(len(load_voices()))]  # fmt: skip
        spread = float((off - np.array(slow)[voices]).std())
        return cls(float(letter_s), float(beside_s), spread, tuple(map(math.exp, slow)))

    def of(self, call: Call) -> float:
        """Seconds, about."""
        slow = self.voices[voice_of(call) % len(self.voices)] if self.voices else 1.0
        return max((len(call.text) * self.letter_s + self.beside_s) * slow, LEAST_S)


def voice_of(call: Call) -> int:
    """A listed voice's place; those of sent clips come behind, and sound like one of the listed."""
    names = list(load_voices())
    return names.index(call.voice) if call.clip is None else len(names) * 1_000 + call.clip


def asks(calls: Sequence[Call], lengths: Lengths, passage_s: float) -> list[Ask]:
    """The calls as the simulator takes them. Nobody tells it how long answers came out."""
    return [_ask(call, lengths, passage_s) for call in calls]


def _ask(call: Call, lengths: Lengths, passage_s: float) -> Ask:
    expected = expected_of(call, passage_s)
    dice = np.random.default_rng((GUESS_SEED, call.number if call.seed is None else call.seed))
    audio_s = max(lengths.of(call) * math.exp(dice.normal(0.0, lengths.spread)), LEAST_S)
    voice = voice_of(call)
    return Ask(
        at_s=call.at_s,
        audio_s=audio_s,
        guess_s=expected.audio_s,
        voice=voice,
        clip_s=clip_seconds()[voice % len(clip_seconds())],
        phrase=None if call.seed is None else f"{voice} {call.seed} {call.text}",
        number=call.number,
        passages=expected.passages,
    )


def played(profile: Profile, plan: Plan, lengths: Lengths) -> list[Answer]:
    """What becomes of the plan's calls, after its warm-up."""
    cell = Cell(profile, Layout(), KeptByTiers(*ROUTER_CACHES, routers=1), seed=1)
    passage_s = profile.llm.passage_s
    first = asks(plan.warm_ups, lengths, passage_s)
    cell.run_closed([replace(one, number=-1 - one.number) for one in first], 1)
    cell.answers.clear()
    begun_s = cell.env.now
    arrivals = plan.workload.arrivals
    if isinstance(arrivals, Closed):
        answers = cell.run_closed(asks(plan.calls, lengths, passage_s), arrivals.clients)
    else:
        answers = cell.run_open(asks(plan.calls, lengths, passage_s))
    return [_answer(one, begun_s) for one in answers]


def _answer(one: Answered, begun_s: float) -> Answer:
    return Answer(
        number=one.ask.number,
        dialect="openai",
        voice=str(one.ask.voice),
        at_s=one.at_s - begun_s,
        sent_s=one.at_s - begun_s,
        ended_s=one.ended_s - begun_s,
        outcome="ok" if one.outcome == "ok" else "refused",
        status=OK if one.outcome == "ok" else REFUSED,
        retry_after_s=one.retry_after_s,
        first_audio_s=one.first_audio_s,
        audio_s=one.audio_s,
        underruns=one.underruns,
        stall_s=one.stall_s,
        cache=_told_tiers(one),
        stages_s={"llm": one.llm_s, "vocoder": one.vocoder_s},
    )


def _told_tiers(one: Answered) -> str:
    """A refusal does not say."""
    if one.outcome != "ok":
        return ""
    return f"speech-l1, {one.voice_tier}" if one.is_speech_hit else one.voice_tier


def told(answers: Sequence[Answer], plan: Plan) -> dict[str, Any]:
    """The numbers of a run, real or simulated."""
    lasts_s = max([plan.lasts_s, *(one.ended_s for one in answers)])
    return summary(answers, lasts_s, plan.workload.objective)
