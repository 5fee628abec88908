"""What was heard of a mark. Knows no network: it crosses processes."""

from __future__ import annotations

from dataclasses import dataclass

THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class Heard:
    """A stretch of the audio."""

    begin_s: float
    end_s: float
    score: float
    """0 to 1: how surely it is marked."""

    @property
    def is_marked(self) -> bool:
        return self.score >= THRESHOLD


@dataclass(frozen=True, slots=True)
class Finding:
    """What was heard of a mark, stretch by stretch."""

    stretches: tuple[Heard, ...]

    @property
    def score(self) -> float:
        """Of the stretch that is marked the most surely."""
        return max((one.score for one in self.stretches), default=0.0)

    @property
    def is_marked(self) -> bool:
        """Some of it is."""
        return self.score >= THRESHOLD

    @property
    def heard_s(self) -> float:
        """How much was listened to."""
        return sum(one.end_s - one.begin_s for one in self.stretches)

    @property
    def marked_s(self) -> float:
        """How much of it is in stretches that are marked."""
        return sum(one.end_s - one.begin_s for one in self.stretches if one.is_marked)
