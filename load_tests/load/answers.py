"""One call as its client lived through it, by the client's own clock; no input or output.

Clients of any kind (asyncio, locust) tell an `Ear` what came and when.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from load_tests.load.asks import BYTES_S
from load_tests.load.plan import Call
from pipeline.continuity import PlaybackMeter

OK = 200
REFUSALS = frozenset({429, 503})
SESSION_REFUSALS = {"overloaded": 503, "rate_limit_exceeded": 429}  # codes, as HTTP has them
LONGEST_WAIT_S = 120.0  # OpenAI's client takes a longer Retry-After as a no
NO_AUDIO = "no audio"
SPEECH = "speech-"  # X-Cache of what was spoken before
_TIMED = re.compile(r'\s*([\w-]+)\s*;\s*dur=([\d.]+)(?:\s*;\s*desc="([^"]*)")?')

Outcome = Literal["ok", "refused", "failed", "left"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a call. Moments in seconds from the run's beginning."""

    number: int
    dialect: str
    voice: str
    at_s: float
    """When it was to be sent: all waiting counts from here, in a closed loop from the sending."""
    sent_s: float
    ended_s: float
    outcome: Outcome
    """left: the caller hung up, as planned."""
    fault: str = ""
    """Of what failed: its kind."""
    status: int | None = None
    """HTTP; None without a reply."""
    retry_after_s: float | None = None
    first_audio_s: float | None = None
    """From `at_s` to the first byte of audio; None when none came."""
    audio_s: float = 0.0
    underruns: int = 0
    stall_s: float = 0.0
    """How long a player that began with the first byte ran dry."""
    longest_gap_s: float = 0.0
    is_slow: bool = False
    """The client read slower than the audio came: its stalls are its own."""
    cache: str = ""
    """X-Cache: what answered for the speech, if it was spoken before, and for the voice."""
    stages_s: Mapping[str, float] = field(default_factory=dict[str, float])
    """Server-Timing of the reply: until its first audio, where it is streamed."""
    request_id: str = ""

    @property
    def whole_s(self) -> float:
        """From `at_s` to the last byte."""
        return self.ended_s - self.at_s

    @property
    def voice_hit(self) -> bool | None:
        """Whether the voice was known; None where nobody told."""
        tier = self.cache.rpartition(",")[2].strip()
        return None if tier in {"", "none"} else tier != "miss"

    @property
    def is_speech_hit(self) -> bool:
        """Whether it was spoken before."""
        return self.cache.startswith(SPEECH)

    @property
    def can_wait(self) -> bool:
        """Of a refusal: whether it says when to come again, and a client can do so."""
        return self.retry_after_s is not None and 0 < self.retry_after_s <= LONGEST_WAIT_S


class Ear:
    """Hears one call to its end. Times are seconds of the run's clock."""

    def __init__(self, call: Call, at_s: float, sent_s: float) -> None:
        """at_s: when it was to be sent."""
        self._call, self._at_s, self._sent_s = call, at_s, sent_s
        self._meter = PlaybackMeter(at_s)
        self._bytes_s = BYTES_S[call.format]
        self._status: int | None = None
        self._headers: Mapping[str, str] = {}

    @property
    def is_audio(self) -> bool:
        """Whether the reply's bytes are audio."""
        return self._status == OK

    def replied(self, status: int, headers: Mapping[str, str]) -> None:
        """The reply's head is there."""
        self._status = status
        self._headers = {name.lower(): value for name, value in headers.items()}

    def heard(self, n_bytes: int, at_s: float) -> None:
        """Bytes of audio came."""
        self._meter.sent(n_bytes / self._bytes_s, at_s)

    def ended(self, at_s: float, body: bytes = b"") -> Answer:
        """The reply is over, as its end says. body: of a reply that is no audio."""
        if self._status in REFUSALS:
            return self._answer("refused", at_s)
        if self._status is not None and self._status != OK:
            return self._answer("failed", at_s, f"http {self._status} {code_of(body)}".strip())
        if not self._meter.continuity().pieces:
            return self._answer("failed", at_s, NO_AUDIO)
        return self._answer("ok", at_s)

    def failed(self, fault: str, at_s: float) -> Answer:
        """It broke off."""
        return self._answer("failed", at_s, fault)

    def told(self, error: Mapping[str, Any], at_s: float) -> Answer:
        """A session told of an error, in OpenAI's shape."""
        if error["code"] not in SESSION_REFUSALS:
            return self._answer("failed", at_s, f"session: {error['code']}")
        self._status = SESSION_REFUSALS[error["code"]]
        return replace(self._answer("refused", at_s), retry_after_s=error.get("predicted_wait_s"))

    def left(self, at_s: float) -> Answer:
        """The caller hung up."""
        return self._answer("left", at_s)

    def _answer(self, outcome: Outcome, at_s: float, fault: str = "") -> Answer:
        heard, call = self._meter.continuity(), self._call
        return Answer(
            number=call.number,
            dialect=call.dialect,
            voice=call.voice or f"clip {call.clip}",
            at_s=self._at_s,
            sent_s=self._sent_s,
            ended_s=at_s,
            outcome=outcome,
            fault=fault,
            status=self._status,
            retry_after_s=_seconds(self._headers.get("retry-after")),
            first_audio_s=heard.ttfa_s,
            audio_s=heard.audio_s,
            underruns=heard.underruns,
            stall_s=heard.underrun_s,
            longest_gap_s=heard.longest_gap_s,
            is_slow=call.read_rate is not None,
            cache=self._headers.get("x-cache", ""),
            stages_s=stages_of(self._headers.get("server-timing", "")),
            request_id=self._headers.get("x-request-id", ""),
        )


def code_of(body: bytes) -> str:
    """Of an error in OpenAI's shape; empty of anything else."""
    try:
        return str(json.loads(body)["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return ""


def stages_of(server_timing: str) -> dict[str, float]:
    """Seconds by name, of a Server-Timing header."""
    return {name: float(dur) / 1e3 for name, dur, _ in _TIMED.findall(server_timing)}


def _seconds(retry_after: str | None) -> float | None:
    """A number of seconds; dates and words are of no use to a client that has to wait."""
    try:
        return None if retry_after is None else float(retry_after)
    except ValueError:
        return None
