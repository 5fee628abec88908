"""Whether a stream can be played as it comes: first audio, gaps, and the pauses a listener hears.

Pure arithmetic on given times.
"""

from __future__ import annotations

from dataclasses import dataclass

TOLERANCE_S = 0.01  # shorter pauses come from the operating system's scheduler


@dataclass(frozen=True, slots=True)
class Continuity:
    """Continuity of one stream, seconds."""

    ttfa_s: float | None
    """Request accepted to first audio; None when no audio came."""
    longest_gap_s: float
    """Longest time between two pieces."""
    underrun_s: float
    """How long a player that starts with the first piece ran dry."""
    underruns: int
    """How often it ran dry."""
    audio_s: float
    """Playing time sent."""
    pieces: int
    """Number of pieces."""

    @property
    def is_ok(self) -> bool:
        """Audio came and never ran dry."""
        return self.pieces > 0 and self.underruns == 0


class PlaybackMeter:
    """Follows one stream with a player that starts at the first piece and never skips.

    accepted_s: when the request was accepted, on the clock of `sent`.
    """

    def __init__(self, accepted_s: float) -> None:
        self._accepted_s = accepted_s
        self._first_s: float | None = None
        self._last_s = 0.0
        self._dry_at_s = 0.0
        self._longest_gap_s = 0.0
        self._underrun_s = 0.0
        self._underruns = 0
        self._audio_s = 0.0
        self._pieces = 0

    @property
    def dry_at_s(self) -> float | None:
        """When the player has nothing more to play, on the same clock; None before it starts."""
        return None if self._first_s is None else self._dry_at_s

    def sent(self, audio_s: float, at_s: float) -> None:
        """A piece of `audio_s` seconds was sent at `at_s`; empty pieces are ignored.

        A player that ran dry pauses and continues with this piece.
        """
        if audio_s <= 0:
            return
        if self._first_s is None:
            self._first_s = self._dry_at_s = at_s
        else:
            self._longest_gap_s = max(self._longest_gap_s, at_s - self._last_s)
            pause_s = at_s - self._dry_at_s
            if pause_s > TOLERANCE_S:
                self._underruns += 1
                self._underrun_s += pause_s
        self._dry_at_s = max(self._dry_at_s, at_s) + audio_s
        self._last_s = at_s
        self._audio_s += audio_s
        self._pieces += 1

    def continuity(self) -> Continuity:
        """The measurements so far."""
        return Continuity(
            ttfa_s=None if self._first_s is None else self._first_s - self._accepted_s,
            longest_gap_s=self._longest_gap_s,
            underrun_s=self._underrun_s,
            underruns=self._underruns,
            audio_s=self._audio_s,
            pieces=self._pieces,
        )
