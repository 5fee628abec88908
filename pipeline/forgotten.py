"""Names of the voices that a stage was told to forget lately."""

from __future__ import annotations

import threading
import time

HOLD_S = 900.0  # longer than any request waits and speaks


class Forgotten:
    """Names forgotten lately, of which running requests may store nothing.

    Safe from any thread. A voice that is uploaded again works as usual, but stages store nothing of
    it until the name expires.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until_s: dict[str, float] = {}

    def add(self, name: str) -> None:
        """Store nothing of this name for a while."""
        now_s = time.monotonic()
        with self._lock:
            for old in [one for one, until_s in self._until_s.items() if until_s <= now_s]:
                del self._until_s[old]
            self._until_s[name] = now_s + HOLD_S

    def __contains__(self, name: str) -> bool:
        with self._lock:
            return self._until_s.get(name, 0.0) > time.monotonic()
