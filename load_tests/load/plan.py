"""Every call of a run, drawn from a workload and its seed before the first is sent."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from hashlib import blake2b

import numpy as np

from load_tests.load.arrivals import Span, poisson, recorded, spans_of
from load_tests.load.material.texts import KNOWN, text_of
from load_tests.load.workload import DIRECTORY, Closed, Dialect, Poisson, Recorded, Workload
from pipeline.voice_list import load_voices

PURPOSES = ("when", "voices", "texts", "dialects", "repeats", "readers", "cancels", "phrases")
PHRASE_SEED = 7_001  # of the first phrase that is asked for again and again


@dataclass(frozen=True, slots=True)
class Call:
    """One request as it is to be sent."""

    number: int
    at_s: float
    """When it is to be sent, seconds from the beginning; 0 in a closed loop, which decides."""
    dialect: Dialect
    voice: str
    """A listed name; empty where a clip is sent."""
    clip: int | None
    """The number of the clip; None with a listed voice."""
    text: str
    seed: int | None
    """Named by the caller: such speech is kept and found again. None: made anew."""
    format: str
    read_rate: float | None = None
    """Seconds of audio that the client reads a second; None as they come."""
    leaves_after_s: float | None = None
    """The caller hangs up then, from the call on; None never."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A run before it begins."""

    workload: Workload
    calls: tuple[Call, ...]
    spans: tuple[Span, ...]
    """Phases; empty in a closed loop."""
    warm_ups: tuple[Call, ...]
    """Calls before the run, which nobody counts: known voices and phrases."""
    saturation_hz: float
    """What loads are shares of."""

    @property
    def digest(self) -> str:
        """Equal for plans with the same calls, moments and aims: such runs can be compared."""
        workload = self.workload.model_dump(exclude={"about"})
        told = repr((workload, [asdict(call) for call in self.calls]))
        return blake2b(told.encode(), digest_size=8).hexdigest()

    @property
    def lasts_s(self) -> float:
        """From the beginning to the last call, or the last phase's end."""
        ends_s = [span.ends_s for span in self.spans] or [call.at_s for call in self.calls]
        return max(ends_s, default=0.0)


def plan_of(workload: Workload, saturation_hz: float = 1.0) -> Plan:
    """The calls of a workload. Raises ConfigError for a recording that cannot be read."""
    seeds = np.random.SeedSequence(workload.seed).spawn(len(PURPOSES))
    dice = {name: np.random.default_rng(seed) for name, seed in zip(PURPOSES, seeds, strict=True)}
    moments, spans = _moments(workload, saturation_hz, dice["when"])
    draw = _Draw(workload, dice)
    calls = tuple(draw.call(number, at_s) for number, at_s in enumerate(moments))
    return Plan(workload, calls, spans, draw.warm_ups(), saturation_hz)


def _moments(
    workload: Workload, saturation_hz: float, dice: np.random.Generator
) -> tuple[list[float], tuple[Span, ...]]:
    arrivals = workload.arrivals
    if isinstance(arrivals, Closed):
        return [0.0] * arrivals.calls, ()
    if isinstance(arrivals, Recorded):
        moments = recorded(DIRECTORY / arrivals.file)
        lasts_s = max(moments[-1], 1.0)
        return moments, (Span("all", 0.0, lasts_s, len(moments) / lasts_s),)
    assert isinstance(arrivals, Poisson)
    spans = spans_of(arrivals, saturation_hz)
    return [at_s for span in spans for at_s in poisson(span, dice)], spans


def zipf_shares(count: int, exponent: float) -> np.ndarray:
    """Of ranks 1 to `count`, float64; they sum to 1."""
    weights = np.arange(1, count + 1, dtype=np.float64) ** -exponent
    return weights / weights.sum()


def picked(bounds: np.ndarray, dice: np.random.Generator) -> int:
    """An index by its share. bounds: sums of the shares up to each, float64; the last is 1."""
    return min(int(np.searchsorted(bounds, dice.random(), side="right")), len(bounds) - 1)


class _Draw:
    """Draws calls. Every purpose has its own dice: a change of one leaves the others alone."""

    def __init__(self, workload: Workload, dice: dict[str, np.random.Generator]) -> None:
        self._workload, self._dice = workload, dice
        voices, repeats = workload.voices, workload.repeats
        self._names = list(load_voices())
        self._dialects = list(workload.dialects)
        self._bounds = {
            "voices": np.cumsum(zipf_shares(voices.count, voices.zipf)),
            "repeats": np.cumsum(zipf_shares(repeats.phrases, repeats.zipf)),
            "dialects": np.cumsum(list(workload.dialects.values())),
        }
        self._lengths = np.cumsum([one.share for one in workload.texts])
        self._n_fresh = 0
        self._phrases = [
            replace(
                self._said(number, 0.0, dice["phrases"], rank=number % voices.count),
                seed=PHRASE_SEED + number,
            )
            for number in range(repeats.phrases if repeats.share else 0)
        ]

    def call(self, number: int, at_s: float) -> Call:
        made = self._said(number, at_s, self._dice["texts"])
        if self._chance("repeats", self._workload.repeats.share):
            phrase = self._phrases[self._pick("repeats")]
            made = replace(phrase, number=number, at_s=at_s, dialect=made.dialect)
        readers, cancels = self._workload.readers, self._workload.cancels
        is_slow = self._chance("readers", readers.slow)
        leaves = self._chance("cancels", cancels.share)
        after_s = float(self._dice["cancels"].uniform(*cancels.after_s))
        return replace(
            made,
            read_rate=readers.rate if is_slow else None,
            leaves_after_s=after_s if leaves else None,
        )

    def warm_ups(self) -> tuple[Call, ...]:
        """One call for every voice that is to be known, and for every phrase."""
        voices = self._workload.voices
        known = [
            replace(self._said(number, 0.0, self._dice["phrases"], rank=number), text=KNOWN)
            for number in range(voices.count if voices.are_known else 0)
        ]
        return (*known, *self._phrases)

    def _said(
        self, number: int, at_s: float, dice: np.random.Generator, rank: int | None = None
    ) -> Call:
        workload = self._workload
        length = workload.texts[picked(self._lengths, dice)]
        dialect = self._dialects[self._pick("dialects")]
        clip = self._rank(number) if rank is None else rank
        is_clip = workload.voices.kind == "clips" or clip >= workload.voices.count
        return Call(
            number,
            at_s,
            dialect,
            "" if is_clip else self._names[clip % len(self._names)],
            clip if is_clip else None,
            text_of(length.chars, dice),
            None,
            workload.format,
        )

    def _rank(self, number: int) -> int:
        """Of the voice; the ranks behind the last are clips that come once."""
        voices = self._workload.voices
        if voices.order:
            return voices.order[number % len(voices.order)]
        if self._chance("voices", voices.fresh):
            self._n_fresh += 1
            return voices.count + self._n_fresh - 1
        return self._pick("voices")

    def _pick(self, purpose: str) -> int:
        return picked(self._bounds[purpose], self._dice[purpose])

    def _chance(self, purpose: str, share: float) -> bool:
        return bool(self._dice[purpose].random() < share)
