"""Bounds the work that a replica takes at a time, so that control calls always find room.

Nothing waits here: work beyond the limit is refused. The lint of the serve config keeps the limit
below `max_ongoing_requests`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.errors import CapacityError


class Room:
    """At most `limit` pieces of work. Use it from one event loop. stage: its name in messages."""

    def __init__(self, stage: str, limit: int) -> None:
        self._stage = stage
        self._limit = limit
        self._taken = 0

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Takes one for the duration of the context. Raises CapacityError when none is left."""
        if self._taken >= self._limit:
            raise CapacityError(
                f"the {self._stage} is at work on {self._taken} requests, allowed: {self._limit}; "
                "retry in a moment"
            )
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1
