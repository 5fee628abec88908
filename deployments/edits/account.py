"""What the steps of a chain cost together, and what answered each."""

from __future__ import annotations

from dataclasses import replace

from pipeline.contracts import (
    GOOD,
    NO_TIMES,
    NO_USAGE,
    NOT_REUSED,
    Float32Array,
    SpeechChunk,
    Usage,
)


class Account:
    """Of the answers that ended."""

    def __init__(self) -> None:
        self.quality = GOOD
        self.usage = NO_USAGE
        self._is_made = False  # any of them, rather than found
        self._times = NO_TIMES

    def ended(self, last: SpeechChunk) -> None:
        """An answer is whole. last: its last chunk."""
        whole = self._with_all(last)
        self.quality, self.usage, self._times = whole.quality, whole.usage, whole.times
        self._is_made = whole.times.speech == NOT_REUSED

    def told(self, chunk: SpeechChunk, *, is_end: bool) -> SpeechChunk:
        """A chunk of the answer that is heard, with what all before it took.

        is_end: no answer follows it.
        """
        whole = replace(self._with_all(chunk), last=chunk.last and is_end)
        if chunk.last:
            self.ended(chunk)
        return whole

    def so_far(self, samples: Float32Array, *, last: bool = False) -> SpeechChunk:
        """Samples that are no answer's, (n,), with what all before them took."""
        return SpeechChunk(samples, last, self._times, self.quality, self.usage)

    def _with_all(self, chunk: SpeechChunk) -> SpeechChunk:
        before, now = self._times, chunk.times
        return replace(
            chunk,
            times=replace(
                now,
                llm_s=before.llm_s + now.llm_s,
                llm_work_s=before.llm_work_s + now.llm_work_s,
                vocoder_s=before.vocoder_s + now.vocoder_s,
                speech=NOT_REUSED if self._is_made else now.speech,
            ),
            quality=self.quality.merged(chunk.quality),
            usage=Usage(
                self.usage.input_tokens + chunk.usage.input_tokens,
                self.usage.output_tokens + chunk.usage.output_tokens,
            ),
        )
