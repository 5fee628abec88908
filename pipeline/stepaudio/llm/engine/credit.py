"""A credit window: how many tokens of a stream its consumer is ready to take."""

from __future__ import annotations

import threading
from collections.abc import Callable


class TokenCredit:
    """Thread-safe upper bound of the tokens that a stream may produce; it only grows.

    The engine rounds the limit down to whole groups, so a limit below one group lets nothing
    through.
    """

    def __init__(self, limit: int = 0) -> None:
        """`limit`: tokens allowed from the start."""
        self._lock = threading.Lock()
        self._limit = limit
        self._wake: Callable[[], None] | None = None

    @property
    def limit(self) -> int:
        """Tokens allowed so far, counted from the stream's start."""
        return self._limit

    def grant(self, total_tokens: int) -> None:
        """Raise the limit to `total_tokens`.

        A smaller total, as from a message overtaken, changes nothing.
        """
        with self._lock:
            if total_tokens <= self._limit:
                return
            self._limit = total_tokens
            wake = self._wake
        if wake is not None:
            wake()

    def on_grant(self, wake: Callable[[], None]) -> None:
        """Call `wake` after each rise of the limit, on the granting thread.

        The producer of the stream sets it.
        """
        with self._lock:
            self._wake = wake
