"""How far a stream is ahead of a player that began with its first audio."""

from __future__ import annotations

import asyncio
import time

from pipeline.continuity import PlaybackMeter


class Pace:
    """Of one stream. speed: at which its audio is played. A player that ran dry waits for more."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._playback = PlaybackMeter(time.monotonic())

    def sent(self, audio_s: float) -> None:
        """Audio left, seconds as it was made."""
        self._playback.sent(audio_s / self._speed, time.monotonic())

    @property
    def lead_s(self) -> float:
        """Seconds until the player has nothing left."""
        dry_at_s = self._playback.dry_at_s
        return 0.0 if dry_at_s is None else dry_at_s - time.monotonic()

    async def keep_within(self, lead_s: float) -> None:
        """Return once the player is at most so far behind."""
        await asyncio.sleep(max(self.lead_s - lead_s, 0.0))
