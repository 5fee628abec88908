"""What a listener heard of an utterance: how far its sentences' audio takes a player.

A player that starts with the first audio, leaves no pauses, and was stopped at a given time.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.splitting.weights import S_PER_UNIT, weight_of

TOLERANCE_S = 0.002  # clients count whole milliseconds


@dataclass(slots=True)
class Spoken:
    """One sentence of an utterance."""

    text: str
    speed: float = 1.0
    """How much faster than usual it is spoken."""
    audio_s: float = 0.0
    """Seconds of it that went to the client."""
    is_whole: bool = False
    """No more of it follows."""
    failed: bool = False

    @property
    def length_s(self) -> float:
        """How long it sounds; likely, while it is not whole."""
        if self.is_whole:
            return self.audio_s
        return max(self.audio_s, weight_of(self.text) * S_PER_UNIT / self.speed)


@dataclass(frozen=True, slots=True)
class HeardSentence:
    """How much of a sentence was heard. audio_ms: of it that was sent."""

    sentence_index: int
    sentence_text: str
    audio_ms: int
    heard_ms: int
    heard_text: str


@dataclass(frozen=True, slots=True)
class Heard:
    """What was heard of an utterance. sentences: those that were begun."""

    played_ms: int
    heard_text: str
    unheard_text: str
    sentences: Sequence[HeardSentence]

    def report(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


NOTHING_HEARD = Heard(0, "", "", ())


@dataclass(slots=True)
class Playback:
    """The account of one utterance."""

    sentences: list[Spoken] = field(default_factory=list[Spoken])
    first_s: float | None = None
    """When its first audio went to the client, on a clock of its owner's."""

    @property
    def sent_s(self) -> float:
        """Seconds of audio that went to the client."""
        return sum(one.audio_s for one in self.sentences)

    @property
    def dry_s(self) -> float | None:
        """When a player has nothing left of it, on the same clock; None before its first audio."""
        return None if self.first_s is None else self.first_s + self.sent_s

    def heard(self, played_s: float, unspoken: str = "") -> Heard:
        """What a player had played after `played_s` seconds; within a sentence, by proportion.

        unspoken: the text that was not begun. A sentence that failed was not heard.
        """
        played_s = min(played_s, self.sent_s)
        sentences = list(self._heard(played_s))
        said = [one.heard_text for one in sentences]
        rest = "".join(
            one.text[len(heard) :] for one, heard in zip(self.sentences, said, strict=True)
        )
        return Heard(round(played_s * 1e3), "".join(said), rest + unspoken, sentences)

    def _heard(self, played_s: float) -> Iterator[HeardSentence]:
        left_s = played_s
        for index, one in enumerate(self.sentences):
            is_all = one.is_whole and left_s + TOLERANCE_S >= one.audio_s and played_s > 0
            heard_s = min(left_s, one.audio_s)
            left_s -= heard_s
            share = heard_s / one.length_s if one.length_s else 0.0
            n_chars = len(one.text) if is_all else _whole_characters(one.text, share)
            yield HeardSentence(
                sentence_index=index,
                sentence_text=one.text,
                audio_ms=round(one.audio_s * 1e3),
                heard_ms=round(heard_s * 1e3),
                heard_text="" if one.failed else one.text[:n_chars],
            )


def _whole_characters(text: str, share: float) -> int:
    """How many characters a share of a text is; marks stay with the letters before them."""
    n_chars = int(len(text) * share)
    while 0 < n_chars < len(text) and unicodedata.category(text[n_chars])[0] == "M":
        n_chars -= 1
    return n_chars
