"""When requests come, and what each asks for; drawn before the simulation begins."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from deployments.capacity.known import popularity

Pattern = Literal["steady", "bursts", "day"]

# Share of the busiest hour, hour by hour: the day of load_tests/load/workloads/day.yaml.
DAY = (
    *(0.125, 0.0875, 0.0625, 0.0625, 0.075, 0.125, 0.25, 0.4375, 0.6875, 0.875, 1.0, 0.9375),
    *(0.75, 0.8125, 0.875, 0.875, 0.8125, 0.75, 0.6875, 0.625, 0.5625, 0.4375, 0.3125, 0.1875),
)
BURST_FACTOR, BURST_SHARE, BURST_S = 3.0, 0.1, 10.0  # of the mean rate, of the time, at a time
SPREAD = 0.5  # of the answers' lengths: standard deviation of their logarithm
GUESS_SPREAD = 0.15  # of what a text's length says, about what comes out
LEAST_S, MOST_S = 0.6, 120.0  # of an answer


@dataclass(frozen=True, slots=True)
class Ask:
    """One request."""

    at_s: float
    audio_s: float
    """Of its answer."""
    guess_s: float
    """As its text says before it is made."""
    voice: int
    clip_s: float
    """Of the voice's reference."""
    phrase: str | None = None
    """Of speech that is kept, because its seed is named: what is asked for."""
    number: int = 0
    passages: tuple[float, ...] = ()
    """Shares of the answer that are spoken one by one, where the text is known; even ones else."""


@dataclass(frozen=True, slots=True)
class Use:
    """What is usually asked for."""

    audio_s: float = 9.6
    """Mean, of an answer."""
    clip_s: float = 6.0
    voices: int = 10_000
    """That are asked for."""
    zipf: float = 0.9
    """Their popularity: the voice of rank r in proportion to r to the power of minus this."""
    kept_share: float = 0.0
    """Requests whose speech is looked for and kept."""


def poisson(
    rate_hz: Callable[[float], float], most_hz: float, lasts_s: float, dice: np.random.Generator
) -> np.ndarray:
    """Moments in seconds, float64 (n,), ascending. rate_hz: at a moment; most_hz: its largest."""
    n = dice.poisson(most_hz * lasts_s)
    moments = np.sort(dice.uniform(0.0, lasts_s, n))
    kept = dice.random(n) * most_hz < np.array([rate_hz(at_s) for at_s in moments])
    return moments[kept]


def moments_of(
    pattern: Pattern, mean_hz: float, lasts_s: float, dice: np.random.Generator
) -> np.ndarray:
    """Of a pattern with this mean rate; a day is as long as the whole."""
    if pattern == "steady":
        return poisson(lambda _: mean_hz, mean_hz, lasts_s, dice)
    if pattern == "day":
        peak_hz = mean_hz * len(DAY) / sum(DAY)
        hour_s = lasts_s / len(DAY)
        return poisson(
            lambda at_s: peak_hz * DAY[min(int(at_s / hour_s), len(DAY) - 1)],
            peak_hz,
            lasts_s,
            dice,
        )
    quiet_hz = mean_hz * (1 - BURST_SHARE * BURST_FACTOR) / (1 - BURST_SHARE)
    burst_hz, every_s = mean_hz * BURST_FACTOR, BURST_S / BURST_SHARE
    begins_s = dice.uniform(0.0, every_s - BURST_S, math.ceil(lasts_s / every_s))

    def rate_hz(at_s: float) -> float:
        turn, within_s = divmod(at_s, every_s)
        begin_s = begins_s[int(turn)]
        return burst_hz if begin_s <= within_s < begin_s + BURST_S else quiet_hz

    return poisson(rate_hz, burst_hz, lasts_s, dice)


def asks_of(use: Use, moments: np.ndarray, dice: np.random.Generator) -> list[Ask]:
    """A request at each moment."""
    n = len(moments)
    bounds = np.cumsum(popularity(use.voices, use.zipf))
    voices = np.searchsorted(bounds, dice.random(n), side="right")
    lengths_s = use.audio_s * np.exp(dice.normal(-(SPREAD**2) / 2, SPREAD, n))
    lengths_s = np.clip(lengths_s, LEAST_S, MOST_S)
    guesses_s = lengths_s * np.exp(dice.normal(0.0, GUESS_SPREAD, n))
    is_kept = dice.random(n) < use.kept_share
    return [
        Ask(
            at_s=float(moments[i]),
            audio_s=float(lengths_s[i]),
            guess_s=float(guesses_s[i]),
            voice=min(int(voices[i]), use.voices - 1),
            clip_s=use.clip_s,
            phrase=f"phrase {i}" if is_kept[i] else None,
            number=i,
        )
        for i in range(n)
    ]
