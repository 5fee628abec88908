"""When calls are to be sent: seconds from the beginning of a run, drawn before it begins."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from load_tests.load.workload import Poisson
from pipeline.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Span:
    """A phase in time."""

    name: str
    begins_s: float
    ends_s: float
    rate_hz: float | None
    """Calls a second that are sent; None of a closed loop, where the answers decide."""

    @property
    def lasts_s(self) -> float:
        return self.ends_s - self.begins_s


def spans_of(arrivals: Poisson, saturation_hz: float) -> tuple[Span, ...]:
    """The phases in time. saturation_hz: calls a second that a saturated service answers."""
    phases = list(zip(arrivals.phases, arrivals.shares, strict=True))
    mean_hz = sum(phase.load * share for phase, share in phases) * saturation_hz
    whole_s = arrivals.duration_s or (arrivals.calls or 0) / mean_hz
    spans: list[Span] = []
    begins_s = 0.0
    for phase, share in phases:
        ends_s = begins_s + share * whole_s
        spans.append(Span(phase.name, begins_s, ends_s, phase.load * saturation_hz))
        begins_s = ends_s
    return tuple(spans)


def poisson(span: Span, dice: np.random.Generator) -> list[float]:
    """Moments of a Poisson process within a span: their number is chance, too."""
    n = int(dice.poisson((span.rate_hz or 0.0) * span.lasts_s))
    return sorted(dice.uniform(span.begins_s, span.ends_s, n).tolist())


def recorded(path: Path) -> list[float]:
    """The moments of a recording, from its first call on.

    Raises ConfigError where lines have no `at_s`.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        moments = sorted(float(json.loads(line)["at_s"]) for line in lines if line.strip())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path.name} is no recording, JSON Lines with at_s: {error}") from error
    if not moments:
        raise ConfigError(f"{path.name} has no calls")
    return [at_s - moments[0] for at_s in moments]
