"""Bounds the bytes of request bodies that a router holds at a time.

A body counts from its first byte until its clip is resolved to a voice; the stream of audio that
follows does not hold it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.errors import CapacityError


class BodyBudget:
    """A counter of bytes with a limit. Use it from one event loop."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.held_bytes = 0

    @contextmanager
    def hold(self) -> Iterator[Hold]:
        """A share for one request, released at the end of the block at the latest."""
        hold = Hold(self)
        try:
            yield hold
        finally:
            hold.release()

    def take(self, n_bytes: int) -> None:
        """Raises CapacityError when the limit leaves no room for them."""
        if self.held_bytes + n_bytes > self._limit_bytes:
            raise CapacityError(
                f"the bodies being read fill the limit of {self._limit_bytes} bytes; "
                "retry in a moment"
            )
        self.held_bytes += n_bytes

    def give(self, n_bytes: int) -> None:
        self.held_bytes -= n_bytes


class Hold:
    """One request's share of a budget."""

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self._n_bytes = 0

    def cover(self, n_bytes: int) -> None:
        """Grow the share to at least this size. Raises CapacityError."""
        if n_bytes > self._n_bytes:
            self._budget.take(n_bytes - self._n_bytes)
            self._n_bytes = n_bytes

    def release(self) -> None:
        """Release the whole share; may be called again."""
        self._budget.give(self._n_bytes)
        self._n_bytes = 0
