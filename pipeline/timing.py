"""A request's timings, and their one form in logs, headers, events and commands."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from typing import Any

from pipeline.contracts import (
    GOOD,
    NO_TIMES,
    NO_USAGE,
    OUTPUT_SAMPLE_RATE_HZ,
    SpeechChunk,
    StageTimes,
)

UNIT = "_s"
DESCRIPTION = ';desc="{}"'


class Timings:
    """Timings of one request, from acceptance to the last byte. Lives in the request's frame."""

    def __init__(self) -> None:
        self._accepted_s = time.perf_counter()
        self._times = NO_TIMES
        self._samples = 0
        self.quality = GOOD
        self.usage = NO_USAGE
        self.warnings: tuple[str, ...] = ()

    def voice_resolved(self, tier: str, warnings: tuple[str, ...] = ()) -> None:
        """The voice is resolved; `tier` answered. warnings: of its clip."""
        self._times = replace(self._times, tier=tier, tokenizer_s=self._elapsed_s())
        self.warnings = warnings

    def audio_made(self, chunk: SpeechChunk) -> None:
        """A chunk arrived from the synthesizer."""
        known = self._times
        is_first = not self._samples and len(chunk.samples)
        self._times = replace(
            chunk.times,
            tier=known.tier,
            tokenizer_s=known.tokenizer_s,
            ttfa_s=self._elapsed_s() if is_first else known.ttfa_s,
        )
        self._samples += len(chunk.samples)
        self.quality = chunk.quality
        self.usage = chunk.usage

    def times(self) -> StageTimes:
        """The times so far."""
        audio_s = self._samples / OUTPUT_SAMPLE_RATE_HZ
        return replace(self._times, total_s=self._elapsed_s(), audio_s=audio_s)

    def _elapsed_s(self) -> float:
        return time.perf_counter() - self._accepted_s


def stage_line(times: StageTimes) -> str:
    """The times on one line, seconds."""
    words = [f"{name}={seconds:.3f}{_from(times, name)}" for name, seconds in _seconds(times)]
    return " ".join([*words, f"rtf={times.rtf:.2f}"])


def account_line(times: StageTimes) -> str:
    """The same with what no stage was at: queues, the way between processes, a slow client."""
    rest_s = times.total_s - times.tokenizer_s - times.llm_s - times.vocoder_s
    return f"{stage_line(times)} rest={max(rest_s, 0.0):.3f}"


def stage_report(times: StageTimes) -> dict[str, Any]:
    """The times for JSON, seconds."""
    return {**asdict(times), "rtf": times.rtf, "line": stage_line(times)}


def server_timing(times: StageTimes) -> str:
    """A Server-Timing header, milliseconds."""
    return ", ".join(
        f"{name};dur={seconds * 1e3:.1f}{_from(times, name, DESCRIPTION)}"
        for name, seconds in _seconds(times)
        if name != "audio"
    )


def _seconds(times: StageTimes) -> list[tuple[str, float]]:
    """Every time by its name, in the order of the record's fields."""
    values = asdict(times).items()
    return [(name.removesuffix(UNIT), value) for name, value in values if name.endswith(UNIT)]


def _from(times: StageTimes, name: str, form: str = " ({})") -> str:
    """The tier, behind the time that belongs to it."""
    return form.format(times.tier) if name == "tokenizer" else ""
