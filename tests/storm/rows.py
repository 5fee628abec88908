"""What came of a case, and what must hold of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

MOST_STALL_S = 10.0
MOST_RECOVERY_S = 30.0


@dataclass(frozen=True, slots=True)
class Row:
    """What a case came to. failed: how many with what. lost: ids of what was taken and is gone."""

    case: str
    setting: str
    requests: int = 0
    failed: dict[str, int] | None = None
    longest_stall_s: float = 0.0
    stalled: str = ""
    recovered_after_s: float | None = None
    acknowledged: int = 0
    lost: tuple[str, ...] = ()
    skipped: str = ""

    @property
    def faults(self) -> list[str]:
        """What does not hold."""
        found: list[str] = []
        if self.longest_stall_s > MOST_STALL_S:
            found.append(f"a {self.stalled} request stood for {self.longest_stall_s:.1f} s")
        if self.recovered_after_s is None or self.recovered_after_s > MOST_RECOVERY_S:
            found.append(f"not well within {MOST_RECOVERY_S:g} s")
        if self.lost:
            found.append(f"lost: {', '.join(self.lost)}")
        return [] if self.skipped else found

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "lost": list(self.lost), "holds": not self.faults}
