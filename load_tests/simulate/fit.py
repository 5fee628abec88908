"""Scales the profile of two cores to the machine that a few loads were run on.

How many times longer the vocoder, its changes of stream, the language model, the router and new
voices take, and what of the cores is left to them: six numbers. The loads that they are found by
are not those that the simulator is then compared with.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from scipy.optimize import minimize

from deployments.capacity.profile import Profile
from load_tests.load.plan import Plan
from load_tests.simulate.played import Lengths, played, told

MOST_TRIES = 200
LESS = 0.75  # of the cores, where the search begins
FIRST, WHOLE, PACE = ("first_audio_s", "p50"), ("whole_s", "p50"), ("audio_s_per_s",)
LLM, VOCODER = ("stages_s", "llm"), ("stages_s", "vocoder")  # as replies tell them
# What of each load the numbers are found by.
BY: Mapping[str, Sequence[tuple[str, ...]]] = {
    "fit_alone": (FIRST, WHOLE, PACE, LLM, VOCODER),
    "fit_crowd": (FIRST, WHOLE, PACE, LLM, VOCODER),
    "fit_misses": (FIRST, WHOLE, LLM, VOCODER),
    "fit_again": (FIRST, WHOLE),
}


@dataclass(frozen=True, slots=True)
class Scales:
    """How many times longer than in the benchmarks."""

    vocoder: float = 1.0
    llm: float = 1.0
    front: float = 1.0
    new_voice: float = 1.0
    """Tokenizer, the voice's prefix in the LLM, and its prompt in the vocoder."""
    switch: float = 1.0
    """The vocoder's call for another stream than the last."""
    cores: float = 1.0
    """What of them is left to the stages, by whatever else runs and shares their memory."""

    def of(self, profile: Profile) -> Profile:
        llm, vocoder, front = profile.llm, profile.vocoder, profile.front
        prefill_s = llm.prefill_s * self.llm
        prefix_s = (llm.prefill_new_s - llm.prefill_s) * self.new_voice
        steps = tuple((n, seconds * self.llm) for n, seconds in llm.step_s)
        return replace(
            profile,
            device_capacity=profile.device_capacity * self.cores,
            llm=replace(llm, step_s=steps, prefill_s=prefill_s, prefill_new_s=prefill_s + prefix_s),
            vocoder=replace(
                vocoder,
                call_s=vocoder.call_s * self.vocoder,
                row_s=vocoder.row_s * self.vocoder,
                switch_s=vocoder.switch_s * self.switch,
                prompt_s=vocoder.prompt_s * self.new_voice,
            ),
            tokenizer=replace(
                profile.tokenizer,
                clip_s=profile.tokenizer.clip_s * self.new_voice,
                audio_s_s=profile.tokenizer.audio_s_s * self.new_voice,
            ),
            front=replace(
                front,
                before_s=front.before_s * self.front,
                after_s=front.after_s * self.front,
                piece_s=front.piece_s * self.front,
                hit_s=front.hit_s * self.front,
                look_up_s=front.look_up_s * self.front,
                write_s=front.write_s * self.front,
                call_s=front.call_s * self.front,
            ),
        )


@dataclass(frozen=True, slots=True)
class Run:
    """A load that was run: its plan, and the summary of its calls."""

    plan: Plan
    measured: Mapping[str, Any]


def value(summary: Mapping[str, Any], path: Sequence[str]) -> float | None:
    """A number of a summary by its keys."""
    found: Any = summary
    for key in path:
        found = None if found is None else found.get(key)
    return found


def fitted(profile: Profile, lengths: Lengths, runs: Mapping[str, Run]) -> tuple[Scales, float]:
    """The scales, and how far off the simulator stays: root mean square of the logarithm."""

    def off(logs: np.ndarray) -> float:
        scaled = Scales(*map(float, np.exp(logs))).of(profile)
        errors = [
            error
            for name, run in runs.items()
            for error in _errors(told(played(scaled, run.plan, lengths), run.plan), run, name)
        ]
        return math.sqrt(sum(error**2 for error in errors) / len(errors))

    n = len(fields(Scales))
    corners = np.vstack([np.zeros(n), 0.4 * np.eye(n)])
    corners[n, n - 1] = math.log(LESS)  # cores do not grow
    found = minimize(
        off,
        np.zeros(n),
        method="Nelder-Mead",
        options={
            "maxfev": MOST_TRIES,
            "initial_simplex": corners,
            "xatol": 0.01,
            "fatol": 1e-3,
        },
    )
    return Scales(*(round(float(one), 4) for one in np.exp(found.x))), float(found.fun)


def _errors(simulated: Mapping[str, Any], run: Run, name: str) -> list[float]:
    errors: list[float] = []
    for path in BY[name]:
        here, there = value(run.measured, path), value(simulated, path)
        if here and there:
            errors.append(math.log(there / here))
    return errors
