"""What a check says: how bad it is, what was found, what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    """How bad it is."""

    GOOD = "good"
    UNKNOWN = "unknown"
    """It could not be found out, or there is nothing to look at."""
    WARNING = "warning"
    """It works, and may cost or surprise somebody."""
    FAULT = "fault"
    """It does not work, or strangers can do what they must not."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Of one check. found: a sentence. remedy: what to do; empty where there is nothing to."""

    level: Level
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """A finding, and the check that it is of."""

    check: str
    finding: Finding

    @property
    def line(self) -> str:
        """For people."""
        remedy = f"; {self.finding.remedy}" if self.finding.remedy else ""
        return f"{self.finding.level:8} {self.check:16} {self.finding.found}{remedy}"

    @property
    def document(self) -> dict[str, Any]:
        """For programs."""
        return {"check": self.check, **asdict(self.finding)}


def good(found: str) -> Finding:
    return Finding(Level.GOOD, found)


def unknown(found: str) -> Finding:
    return Finding(Level.UNKNOWN, found)


def warning(found: str, remedy: str) -> Finding:
    return Finding(Level.WARNING, found, remedy)


def fault(found: str, remedy: str) -> Finding:
    return Finding(Level.FAULT, found, remedy)


def has_fault(results: Sequence[Result]) -> bool:
    """Whether anything must be done."""
    return any(result.finding.level is Level.FAULT for result in results)
