"""What those are told who are not served: why, and when it is worth asking again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from deployments.admission.clock import Clock
from deployments.admission.line import Asked, Shares
from pipeline.errors import CapacityError, OverShareError
from pipeline.serving.terms import Service

LEAST_S = 1.0  # HTTP's Retry-After counts whole seconds
HOLDS_S = 0.5  # at most: then a router asks again


class Refusals:
    """Makes them. Use it from one event loop.

    Whoever is refused is given a time of his own: all at once would be refused again.
    told: of every one, with the kind of service and the reason.
    """

    def __init__(
        self,
        max_retry_after_s: float,
        shares: Shares,
        told: Callable[[Service, str], None],
        clock: Clock,
    ) -> None:
        self._most_s, self._shares, self._told = max_retry_after_s, shares, told
        self._clock = clock
        self._promised: deque[float] = deque()

    def too_late(
        self, asked: Asked, wait_s: float, beyond_s: float, every_s: float
    ) -> CapacityError:
        """It would come `beyond_s` after it is wanted. every_s: about as often one is let in."""
        what = "its last" if asked.is_whole else "its first"
        message = (
            f"the service is busy: in some {wait_s:.1f} s this could begin, and {what} audio would "
            "come too late"
        )
        return self._error(CapacityError, message, "late", asked, wait_s, every_s, beyond_s / 2)

    def line_is_full(
        self, asked: Asked, n_waiting: int, wait_s: float, every_s: float
    ) -> CapacityError:
        """As many wait as may."""
        message = f"{n_waiting} streams wait already; retry in a moment"
        return self._error(CapacityError, message, "full", asked, wait_s, every_s, 0.0)

    def over_share(self, asked: Asked, wait_s: float, every_s: float) -> CapacityError:
        """Others want some, too."""
        message = (
            "the service is busy and you have your share of it: wait until one of your requests "
            "has ended"
        )
        return self._error(OverShareError, message, "share", asked, wait_s, every_s, HOLDS_S / 2)

    def over_limit(self, asked: Asked, limit: int) -> CapacityError:
        """The tenant has what it may have at most."""
        message = f"{limit} of your requests are being answered, as many as may be at a time"
        return self._error(OverShareError, message, "limit", asked, LEAST_S, 0.0, 0.0)

    def _error(
        self,
        kind: type[CapacityError],
        message: str,
        reason: str,
        asked: Asked,
        wait_s: float,
        every_s: float,
        holds_s: float,
    ) -> CapacityError:
        self._told(asked.terms.service, reason)
        now_s = self._clock.now_s()
        while self._promised and self._promised[0] <= now_s:
            self._promised.popleft()
        turn_s = max(wait_s, LEAST_S) + every_s * len(self._promised)
        after_s = min(turn_s, self._most_s)
        if after_s == turn_s:
            self._promised.append(now_s + turn_s)
        if kind is CapacityError and not asked.is_batch:
            self._shares.claim(asked.tenant, now_s + after_s)
        return kind(
            message, wait_s=wait_s, retry_after_s=after_s, holds_s=min(max(holds_s, 0.0), HOLDS_S)
        )
