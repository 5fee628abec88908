"""How slowly a request's body may come: who reads one holds a place and memory for it."""

from __future__ import annotations

import time
from dataclasses import dataclass

START_S = 30.0  # in which any body may come as slowly as it likes, but for its silences


@dataclass(frozen=True, slots=True)
class Pace:
    """silence_s: longest wait for the next piece. slowest_bytes_s: bytes a second, on average."""

    silence_s: float = 10.0
    slowest_bytes_s: int = 4096


class PacedBody:
    """One body, from when it is first waited for."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._n_bytes = 0
        self._began_s = time.monotonic()

    @property
    def patience_s(self) -> float:
        """How long the next piece may take; zero or less when the body is too late already."""
        due_s = self._began_s + START_S + self._n_bytes / self._pace.slowest_bytes_s
        return min(self._pace.silence_s, due_s - time.monotonic())

    def came(self, n_bytes: int) -> None:
        """Another piece did."""
        self._n_bytes += n_bytes
