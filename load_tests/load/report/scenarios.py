"""The predecessor's scenarios: what its cache saved of them, beside what ours does."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

PREDECESSOR = Path(__file__).parent / "predecessor.yaml"


@dataclass(frozen=True, slots=True)
class Scenario:
    """Mean seconds of a call, as they are and as if no voice had been known."""

    calls: int
    hit_share: float
    with_s: float
    without_s: float
    audio_s: float

    @property
    def saved_share(self) -> float:
        return 1 - self.with_s / self.without_s


def scenario_of(told: Sequence[Mapping[str, Any]]) -> Scenario | None:
    """From whole answers' stage times; None where there is no miss to compare hits with.

    Without the cache a hit would have taken what a miss takes in the tokenizer, on average.
    """
    misses = [one for one in told if is_miss(one)]
    hits = [one for one in told if not is_miss(one)]
    if not misses:
        return None
    miss_s = statistics.fmean(one["tokenizer_s"] for one in misses)
    with_s = [one["total_s"] for one in told]
    spared_s = [max(0.0, miss_s - one["tokenizer_s"]) for one in hits]
    return Scenario(
        len(told),
        len(hits) / len(told),
        statistics.fmean(with_s),
        (sum(with_s) + sum(spared_s)) / len(told),
        statistics.fmean(one["audio_s"] for one in told),
    )


def is_miss(told: Mapping[str, Any]) -> bool:
    """Whether the voice of an answer had to be encoded."""
    return str(told["cache"]).rpartition(",")[2].strip() == "miss"


def predecessor() -> dict[str, Any]:
    """What it reported."""
    return yaml.safe_load(PREDECESSOR.read_text(encoding="utf-8"))
