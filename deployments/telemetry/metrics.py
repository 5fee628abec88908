"""Logs and metrics of the replicas: one set-up for loggers, one place that names metrics.

Knows no HTTP and no model.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from ray.serve import metrics

from cache_store.stats import CacheStats
from deployments.telemetry.gauges import keep_published
from deployments.telemetry.refusal_log import ONE_LINE_REFUSALS
from deployments.telemetry.stage_metrics import StageLoad, StageSeconds
from pipeline.continuity import Continuity
from pipeline.contracts import OUTPUT_SAMPLE_RATE_HZ, Quality, StageTimes

OUR_LOGGERS = ("deployments", "pipeline", "cache_store")
SECONDS_BUCKETS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0]
CACHE_SAMPLE_S = 5.0
LOOKUP_TAGS: Any = ("kind", "tier", "result")  # Ray types tag_keys as one tag
QUALITY_TAGS: Any = ("verdict", "retried")
NUMBER_TAGS: Any = ("tier", "number")
UNDERRUN_BUCKETS = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]
OK_TAG: Any = ("ok",)
PART_TAGS: Any = ("part",)
RTF_BUCKETS = [0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0]


def adopt_serve_logging() -> None:
    """Send our loggers where Serve's own go (replica log file and driver), request id included.

    What Serve says of a refused request becomes one line.
    """
    serve_logger = logging.getLogger("ray.serve")
    serve_logger.addFilter(ONE_LINE_REFUSALS)
    for name in OUR_LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = list(serve_logger.handlers)
        logger.setLevel(serve_logger.level or logging.INFO)
        logger.propagate = False


class RequestMetrics:
    """What the router counts per request; names follow those dashboards of peers already use."""

    def __init__(self) -> None:
        self._requests = metrics.Counter(
            "timbre_requests", description="Speech requests by outcome.", tag_keys=("outcome",)
        )
        self._ttfa = metrics.Histogram(
            "timbre_audio_ttfp_s",
            description="Request accepted to first audio, seconds.",
            boundaries=SECONDS_BUCKETS,
        )
        self._rtf = metrics.Histogram(
            "timbre_audio_rtf",
            description="Processing seconds per second of audio.",
            boundaries=RTF_BUCKETS,
        )
        self._audio = metrics.Counter(
            "timbre_audio_seconds", description="Seconds of audio produced."
        )
        self._answers = metrics.Counter(
            "timbre_answers",
            description="Answers of the LLM by the guard's verdict: ok, short, loop, endless.",
            tag_keys=QUALITY_TAGS,
        )
        self._voices = metrics.Counter(
            "timbre_voice_lookups",
            description="Voices resolved, by the tier that answered.",
            tag_keys=("tier",),
        )

        self._streams = StreamMetrics()

    @contextmanager
    def running(self) -> Iterator[Callable[[], None]]:
        """See StreamMetrics.running."""
        with self._streams.running() as heard:
            yield heard

    def finished(
        self, times: StageTimes, continuity: Continuity, outcome: str, quality: Quality
    ) -> None:
        """A speech request ended as `outcome`: ok, error, refused or cancelled."""
        self._streams.finished(times, continuity, outcome)
        self._requests.inc(tags={"outcome": outcome})
        self._voices.inc(tags={"tier": times.tier})
        if times.audio_s:
            self._ttfa.observe(times.ttfa_s)
            self._audio.inc(times.audio_s)
            tags = {"verdict": quality.verdict.value, "retried": str(quality.is_retried).lower()}
            self._answers.inc(tags=tags)
        if outcome == "ok" and times.audio_s:
            self._rtf.observe(times.rtf)


class StreamMetrics:
    """How streams reached their listeners; vLLM-Omni's names with our prefix."""

    def __init__(self) -> None:
        def histogram(name: str, description: str, boundaries: list[float]) -> metrics.Histogram:
            return metrics.Histogram(f"timbre_{name}", description, boundaries)

        def counter(name: str, description: str) -> metrics.Counter:
            return metrics.Counter(f"timbre_{name}", description=description)

        self._duration = histogram(
            "audio_duration_s", "Seconds of audio of one reply.", SECONDS_BUCKETS
        )
        self._underrun = histogram(
            "audio_underrun_s", "Seconds a player ran dry in one reply.", UNDERRUN_BUCKETS
        )
        self._gap = histogram(
            "audio_gap_s", "Longest wait between two pieces of one reply.", SECONDS_BUCKETS
        )
        self._latency = histogram(
            "e2e_request_latency_s", "Request accepted to last byte.", SECONDS_BUCKETS
        )
        self._frames = counter("audio_frames", "Audio frames (24 kHz samples) produced.")
        self._continuous = metrics.Counter(
            "timbre_audio_continuity_ok",
            description="Whole replies by whether they could be played without a pause.",
            tag_keys=OK_TAG,
        )
        self._skipped = counter("audio_skipped_requests", "Requests that ended without audio.")
        self._aborted = counter("speech_stream_aborted", "Streams that ended before their end.")
        self._completed = counter("speech_stream_completed", "Streams that ended as they should.")
        self._load = StageLoad("router")
        self._stages = StageSeconds()

    @contextmanager
    def running(self) -> Iterator[Callable[[], None]]:
        """Count a request for as long as the context lasts.

        Yields what to call when its first audio is there: until then it counts as waiting, too.
        """
        with self._load.counted(running=1), ExitStack() as waiting:
            waiting.enter_context(self._load.counted(waiting=1))
            yield waiting.close

    def finished(self, times: StageTimes, continuity: Continuity, outcome: str) -> None:
        """A request ended as `outcome`."""
        self._stages.finished(times)
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


class StageGauge:
    """A gauge of one replica, set from a callable whenever the value may have changed."""

    def __init__(self, name: str, description: str, read: Callable[[], int]) -> None:
        self._gauge = metrics.Gauge(name, description=description)
        self._read = read
        keep_published(self)

    def publish(self) -> None:
        """Set the gauge to the present value."""
        self._gauge.set(self._read())


class PartsGauge:
    """A gauge of one replica with a value for each of some named parts, as `StageGauge`."""

    def __init__(
        self, name: str, description: str, read: Callable[[], Mapping[str, float]]
    ) -> None:
        self._gauge = metrics.Gauge(name, description=description, tag_keys=PART_TAGS)
        self._read = read
        keep_published(self)

    def publish(self) -> None:
        """Set the gauge to the parts' present values."""
        for part, value in self._read().items():
            self._gauge.set(value, tags={"part": part})


class CacheMetrics:
    """The cache's counters as Prometheus metrics, sampled.

    The cache itself knows no metrics library.
    """

    def __init__(self) -> None:
        self._lookups = metrics.Counter(
            "timbre_cache_requests",
            description="Look-ups by kind, tier and result.",
            tag_keys=LOOKUP_TAGS,
        )
        self._computes = metrics.Counter(
            "timbre_cache_computes", description="Records computed by this router's requests."
        )
        self._saved = metrics.Counter(
            "timbre_cache_saved_encode_seconds", description="What hits would have cost to encode."
        )
        self._bytes = metrics.Gauge(
            "timbre_cache_bytes", description="Bytes held.", tag_keys=("tier",)
        )
        self._tier = metrics.Gauge(
            "timbre_cache_tier",
            description="Numbers of a tier: breaker (1 is open), queued, dropped and others.",
            tag_keys=NUMBER_TAGS,
        )
        self._seen: dict[tuple[str, ...], float] = {}

    async def sample(self, read: Callable[[], CacheStats]) -> None:
        """Publish every few seconds until cancelled."""
        while True:
            self.publish(read())
            await asyncio.sleep(CACHE_SAMPLE_S)

    def publish(self, stats: CacheStats) -> None:
        """Publish what changed since the last time."""
        for (kind, tier, result), count in stats.requests.items():
            tags = {"kind": kind, "tier": tier, "result": result}
            self._count(self._lookups, ("requests", kind, tier, result), count, tags)
        self._count(self._computes, ("computes",), stats.computes, {})
        self._count(self._saved, ("saved",), stats.saved_s, {})
        self._bytes.set(stats.l1.bytes, tags={"tier": "l1"})
        self._bytes.set(stats.alias.bytes, tags={"tier": "alias"})
        for tier, numbers in stats.tiers.items():
            for number, value in numbers.items():
                self._tier.set(value, tags={"tier": tier, "number": number})

    def _count(
        self, counter: metrics.Counter, key: tuple[str, ...], total: float, tags: dict[str, str]
    ) -> None:
        grown = total - self._seen.get(key, 0.0)
        if grown > 0:
            counter.inc(grown, tags=tags)
            self._seen[key] = total
