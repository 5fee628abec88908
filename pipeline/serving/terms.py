"""How a request is to be served, and by when; carried from the router through every stage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Service(StrEnum):
    """How an answer is taken; the value of the metrics' label `service`."""

    STREAM = "stream"  # played as it comes
    WHOLE = "whole"  # sent when all of it is there
    BATCH = "batch"  # nobody waits for it: it has what others leave


@dataclass(frozen=True, slots=True)
class Terms:
    """Of one request."""

    service: Service = Service.STREAM
    """How its answer is taken."""
    tenant: str = ""
    """Whose it is, as shares are counted."""
    due_s: float | None = None
    """When its first audio is wanted, or all of a whole answer: on the monotonic clock of the
    process that holds it, between processes the seconds that are left. None: nobody said."""
    is_begun: bool = False
    """Its listener hears an earlier part of the same reply: it is not refused for want of speed."""
    is_marked: bool = True
    """Its audio is marked where the service marks audio; False for who may have it without."""
    trace: str = ""
    """What its stages' spans lie below, see pipeline.serving.tracing.Sent; empty where none are."""

    def sent(self, now_s: float) -> Terms:
        """To be sent to another process now."""
        return self if self.due_s is None else replace(self, due_s=self.due_s - now_s)

    def arrived(self, now_s: float) -> Terms:
        """As it came from another process now."""
        return self if self.due_s is None else replace(self, due_s=self.due_s + now_s)


USUAL = Terms()
