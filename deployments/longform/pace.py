"""How far a stream is ahead of a player that began with its first audio."""

from __future__ import annotations

import asyncio
import time


class Pace:
    """Of one stream. speed: at which its audio is played."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._first_s: float | None = None
        self._sent_s = 0.0

    def sent(self, audio_s: float) -> None:
        """Audio left, seconds as it was made."""
        if audio_s and self._first_s is None:
            self._first_s = time.monotonic()
        self._sent_s += audio_s / self._speed

    @property
    def lead_s(self) -> float:
        """Seconds until the player has nothing left."""
        if self._first_s is None:
            return 0.0
        return self._sent_s - (time.monotonic() - self._first_s)

    async def keep_within(self, lead_s: float) -> None:
        """Return once the player is at most so far behind."""
        await asyncio.sleep(max(self.lead_s - lead_s, 0.0))
