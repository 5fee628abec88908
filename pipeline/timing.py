"""A request's clock, and how its stage times read.

Knows no model, Ray or HTTP.
"""

from __future__ import annotations

import time

from pipeline.contracts import GOOD, OUTPUT_SAMPLE_RATE_HZ, SpeechChunk, StageTimes


class StopWatch:
    """One request's clock, from acceptance to the last byte. Lives in the request's own frame."""

    def __init__(self) -> None:
        self._accepted_s = time.perf_counter()
        self._tokenizer_s = 0.0
        self._tier = "none"
        self._ttfa_s = 0.0
        self._llm_s = 0.0
        self._vocoder_s = 0.0
        self._samples = 0
        self.quality = GOOD
        self.warnings: tuple[str, ...] = ()

    def voice_resolved(self, tier: str, warnings: tuple[str, ...] = ()) -> None:
        """The voice prompt is at hand; `tier` answered. warnings: of its clip."""
        self._tier = tier
        self.warnings = warnings
        self._tokenizer_s = self._elapsed_s()

    def audio_made(self, chunk: SpeechChunk) -> None:
        """A chunk arrived from the speaker."""
        if not self._samples and len(chunk.samples):
            self._ttfa_s = self._elapsed_s()
        self._samples += len(chunk.samples)
        self._llm_s, self._vocoder_s = chunk.llm_s, chunk.vocoder_s
        self.quality = chunk.quality

    def times(self) -> StageTimes:
        """The account so far."""
        return StageTimes(
            tokenizer_s=self._tokenizer_s,
            tier=self._tier,
            llm_s=self._llm_s,
            vocoder_s=self._vocoder_s,
            ttfa_s=self._ttfa_s,
            total_s=self._elapsed_s(),
            audio_s=self._samples / OUTPUT_SAMPLE_RATE_HZ,
        )

    def _elapsed_s(self) -> float:
        return time.perf_counter() - self._accepted_s


def stage_line(times: StageTimes) -> str:
    """The account on one line, seconds: the form that logs, the demo and `timbre say` print."""
    return (
        f"tokenizer={times.tokenizer_s:.3f} ({times.tier}) llm={times.llm_s:.2f} "
        f"ttfa={times.ttfa_s:.2f} vocoder={times.vocoder_s:.2f} total={times.total_s:.2f} "
        f"audio={times.audio_s:.2f} rtf={times.rtf:.2f}"
    )
