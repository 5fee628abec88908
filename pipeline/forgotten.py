"""Names of the voices that a stage was told to forget lately."""

from __future__ import annotations

import threading
import time

HOLD_S = 900.0  # a request that began before is over by then, however long it waited and spoke


class Forgotten:
    """Names told to be forgotten lately: requests under way bring nothing of theirs back.

    From any thread. A voice that is uploaded anew is spoken all the same; what a stage would keep
    of it is computed again until the name is let go.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until_s: dict[str, float] = {}

    def add(self, name: str) -> None:
        """Keep nothing of this name for a while."""
        now_s = time.monotonic()
        with self._lock:
            for old in [one for one, until_s in self._until_s.items() if until_s <= now_s]:
                del self._until_s[old]
            self._until_s[name] = now_s + HOLD_S

    def __contains__(self, name: str) -> bool:
        with self._lock:
            return self._until_s.get(name, 0.0) > time.monotonic()
