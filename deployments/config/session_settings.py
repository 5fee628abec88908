"""The section of the settings that describes sessions over WebSockets."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from deployments.config.section import Positive, Seconds, Strict

TELL_BYTES = 32 * 2**10  # that went to a client are told of together: each time is a call


class SessionSettings(Strict):
    """Sessions of `/v1/audio/speech/stream`."""

    max_sessions: Positive = 32
    """Open sessions of one router, beside limits.max_requests; further ones get 503."""
    config_timeout_s: Seconds = 10.0
    """Longest wait for the first session.config."""
    idle_timeout_s: Seconds = 30.0
    """A session is closed when nothing was said for so long by either side; `ping` counts."""
    max_session_s: Seconds = 3_600.0
    """Longest session; what it speaks then is cut off."""
    max_config_bytes: Positive = 4 * 2**20
    """Largest session.config, the reference clip within included."""
    max_message_bytes: Positive = 128 * 2**10
    """Largest other message."""
    max_waiting_chars: Positive = 32_768
    """Text of a session that came and is not spoken yet."""
    max_pieces: Positive = 10_000
    """Pieces of text of one utterance."""
    max_mistakes: Positive = 20
    """Refused messages in a row after which a session is closed."""
    window_bytes: Annotated[int, Field(gt=TELL_BYTES)] = 256 * 2**10
    """Audio on its way to a client that does not take it; further speech waits. The proxy tells of
    32 KiB at a time, so it is more."""
