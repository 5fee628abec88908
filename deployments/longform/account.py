"""What the segments of one reply came to: the guard's verdict on each, and which stayed bad."""

from __future__ import annotations

from typing import Any

from deployments.longform.take import Take
from pipeline.contracts import Quality, Verdict

MOST_TOLD = 100  # bad segments told one by one


class SegmentAccount:
    """Of one reply. qualities: of every segment that was heard, in order."""

    def __init__(self) -> None:
        self.count = 0
        self.qualities: list[Quality] = []
        self._bad: list[dict[str, Any]] = []
        self._n_bad = 0

    def ended(self, take: Take) -> Quality:
        """A segment's turn is over. Returns the guard's verdict on it; lost, if nobody heard it."""
        is_lost = take.refused is not None or not take.is_heard
        quality = Quality(Verdict.LOST, take.quality.is_retried) if is_lost else take.quality
        self.qualities.append(quality)
        if quality.verdict is not Verdict.OK:
            self._tell(take, quality)
        return quality

    def report(self) -> dict[str, Any]:
        """For JSON. count: of the text. ended: as many were heard to their end, or lost."""
        return {
            "count": self.count,
            "ended": len(self.qualities),
            "retried": sum(quality.is_retried for quality in self.qualities),
            "bad_count": self._n_bad,
            "bad": list(self._bad),
        }

    def _tell(self, take: Take, quality: Quality) -> None:
        self._n_bad += 1
        if self._n_bad > MOST_TOLD:
            return
        line = take.line
        told: dict[str, Any] = {
            "index": line.number,
            "verdict": quality.verdict.value,
            "start": line.segment.start,
            "end": line.segment.end,
            "text": line.segment.text,
        }
        if take.refused is not None:
            told["reason"] = take.refused.message
        self._bad.append(told)
