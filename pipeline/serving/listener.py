"""When more of an answer is wanted by whoever takes it. Pure arithmetic on given times."""

from __future__ import annotations

from pipeline.continuity import PlaybackMeter
from pipeline.serving.terms import USUAL, Service, Terms

BEGIN_S = 0.4  # how long a listener who hears nothing yet lets those wait whose sound ends
WHOLE_S = 30.0  # that a whole answer may take of which nobody said when it is wanted
BEHIND_S = 20.0  # what nobody plays waits behind others for its next chunk, but no longer


class Listener:
    """Of one answer, of which audio is told as it is handed out.

    speed: at which it is played. now_s: monotonic clock, as of every method.
    """

    def __init__(self, now_s: float, terms: Terms = USUAL, speed: float = 1.0) -> None:
        self._terms, self._speed = terms, speed
        self._playback = PlaybackMeter(now_s)
        self._begun_s = self._last_s = now_s
        self.pieces = 0
        self.audio_s = 0.0
        """Handed out, as it was made."""

    @property
    def underruns(self) -> int:
        """How often a player ran dry; of an answer that is not played, 0."""
        is_played = self._terms.service is Service.STREAM and not self._terms.is_begun
        return self._playback.continuity().underruns if is_played else 0

    @property
    def dry_at_s(self) -> float | None:
        """When a player has nothing more; None before it has any of this answer."""
        return self._playback.dry_at_s

    def heard(self, audio_s: float, now_s: float) -> None:
        """Audio was handed out."""
        if audio_s <= 0:
            return
        at_s, due_s = now_s, self._terms.due_s
        if not self.pieces and self._terms.is_begun and due_s is not None:
            at_s = max(due_s, now_s)  # until then it plays what came before
        self._playback.sent(audio_s / self._speed, at_s)
        self._last_s = now_s
        self.pieces += 1
        self.audio_s += audio_s

    def wanted_s(self, now_s: float) -> float:
        """When more is wanted: as what was heard ends; at the beginning, soon.

        Of a whole answer when all is wanted, of a batch behind all others; of both now and then.
        """
        terms = self._terms
        if terms.service is Service.BATCH:
            return self._last_s + BEHIND_S
        if terms.service is Service.WHOLE:
            due_s = self._begun_s + WHOLE_S if terms.due_s is None else terms.due_s
            return min(due_s, self._last_s + BEHIND_S)
        dry_at_s = self.dry_at_s
        if dry_at_s is not None:
            return dry_at_s
        return terms.due_s if terms.is_begun and terms.due_s is not None else now_s + BEGIN_S
