"""The router's metrics of speech requests and of the streams that answer them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from deployments.config.stages import Kind
from deployments.telemetry import metrics as table
from deployments.telemetry.load import StageLoad
from pipeline.continuity import Continuity
from pipeline.contracts import NOT_REUSED, OUTPUT_SAMPLE_RATE_HZ, Quality, StageTimes, Verdict


class RequestMetrics:
    """The router's metrics of each request."""

    def __init__(self, slow_s: float = math.inf) -> None:
        """slow_s: a reply that came later is slow, see `lateness_s`."""
        self._slow_s, self._slow = slow_s, table.SLOW.open()
        self._requests = table.REQUESTS.open()
        self._ttfa = table.TTFA.open()
        self._rtf = table.RTF_OF_REPLIES.open()
        self._audio = table.AUDIO.open()
        self._answers = table.ANSWERS.open()
        self._corrupted = table.CORRUPTED.open()
        self._voices = table.VOICES.open()
        self._speech = table.SPEECH.open()
        self._llm_work = table.LLM_WORK.open()
        self._streams = StreamMetrics()

    @property
    def load(self) -> StageLoad:
        """Requests that this router is at."""
        return self._streams.load

    @contextmanager
    def running(self) -> Iterator[Callable[[], None]]:
        """See StreamMetrics.running."""
        with self._streams.running() as heard:
            yield heard

    def finished(
        self,
        times: StageTimes,
        continuity: Continuity,
        outcome: str,
        quality: Quality,
        answers: Sequence[Quality] | None = None,
    ) -> None:
        """A speech request ended as `outcome`: ok, error, refused or cancelled.

        quality: of the reply. answers: of each answer in it, where there are several.
        """
        self._streams.finished(times, continuity, outcome)
        if self.is_slow(times):
            self._slow.inc()
        self._requests.inc(tags={"outcome": outcome})
        self._voices.inc(tags={"tier": times.tier})
        if times.audio_s:
            self._ttfa.observe(times.ttfa_s)
            self._audio.inc(times.audio_s)
            self._speech.inc(tags={"source": times.speech})
        if times.audio_s and times.speech == NOT_REUSED:
            self._made(times, outcome, [quality] if answers is None else answers)
        if times.audio_s and quality.verdict is not Verdict.OK:
            self._corrupted.inc(tags={"verdict": quality.verdict.value})

    def is_slow(self, times: StageTimes) -> bool:
        """Whether its listener waited too long."""
        return lateness_s(times) >= self._slow_s

    def _made(self, times: StageTimes, outcome: str, answers: Sequence[Quality]) -> None:
        """What LLM and vocoder were at; finished speech says nothing about them."""
        self._llm_work.observe(times.llm_work_s)
        for quality in answers:
            tags = {"verdict": quality.verdict.value, "retried": str(quality.is_retried).lower()}
            self._answers.inc(tags=tags)
        if outcome == "ok":
            self._rtf.observe(times.rtf)


def lateness_s(times: StageTimes) -> float:
    """How long its listener waited: for first audio, or at the end for more than was played."""
    return max(times.ttfa_s, times.total_s - times.audio_s)


class StreamMetrics:
    """Metrics of streams as their listeners heard them."""

    def __init__(self) -> None:
        self._duration = table.DURATION.open()
        self._underrun = table.UNDERRUNS.open()
        self._gap = table.GAP.open()
        self._latency = table.LATENCY.open()
        self._frames = table.FRAMES.open()
        self._continuous = table.CONTINUITY.open()
        self._skipped = table.SKIPPED.open()
        self._aborted = table.ABORTED.open()
        self._completed = table.COMPLETED.open()
        self._stage_times = table.STAGE_TIME.open()
        self.load = StageLoad(Kind.ROUTER)

    @contextmanager
    def running(self) -> Iterator[Callable[[], None]]:
        """Count a request for the duration of the context.

        Yields a function to call at first audio: until then the request counts as waiting, too.
        """
        with self.load.counted(running=1), ExitStack() as waiting:
            waiting.enter_context(self.load.counted(waiting=1))
            yield waiting.close

    def finished(self, times: StageTimes, continuity: Continuity, outcome: str) -> None:
        """A request ended as `outcome`."""
        for stage, seconds in times.stages.items():
            self._stage_times.observe(seconds, tags={"stage": stage})
        self._latency.observe(times.total_s)
        if not continuity.pieces:
            self._skipped.inc()
            return
        self._frames.inc(max(round(continuity.audio_s * OUTPUT_SAMPLE_RATE_HZ), 1))
        if outcome != "ok":
            self._aborted.inc()
            return
        self._completed.inc()
        self._duration.observe(continuity.audio_s)
        self._underrun.observe(continuity.underrun_s)
        self._gap.observe(continuity.longest_gap_s)
        self._continuous.inc(tags={"ok": str(continuity.is_ok).lower()})
