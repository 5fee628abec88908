"""The section of the settings about texts that are spoken in segments."""

from __future__ import annotations

from deployments.config.section import Positive, Seconds, Strict


class LongTextSettings(Strict):
    """Texts above `limits.max_text_chars`, and those with a target loudness."""

    ahead: Positive = 1
    """Segments that are made ahead of the one that is being sent; one is made at a time."""
    listens: bool = False
    """Have the recogniser (`asr`) hear every segment: one of which it hears several words in a row
    otherwise is bad, and drawn again."""
    lead_s: Seconds = 300.0
    """How far a stream runs ahead of its own playback. What is beyond it is not made before the
    listener gets there, which bounds what waits for a slow reader between here and its socket."""
