"""Logs and metrics of the replicas: one set-up for loggers, one place that names metrics.

Knows no HTTP and no model.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from ray.serve import metrics

from pipeline.contracts import StageTimes

OUR_LOGGERS = ("deployments", "pipeline", "cache_store")
SECONDS_BUCKETS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0]
RTF_BUCKETS = [0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0]


def adopt_serve_logging() -> None:
    """Send our loggers where Serve's own go (replica log file and driver), request id included."""
    serve_logger = logging.getLogger("ray.serve")
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
        self._voices = metrics.Counter(
            "timbre_voice_lookups",
            description="Voices resolved, by the tier that answered.",
            tag_keys=("tier",),
        )

    def finished(self, times: StageTimes, outcome: str) -> None:
        """A speech request ended as `outcome`: ok, error or cancelled."""
        self._requests.inc(tags={"outcome": outcome})
        self._voices.inc(tags={"tier": times.tier})
        if times.audio_s:
            self._ttfa.observe(times.ttfa_s)
            self._audio.inc(times.audio_s)
        if outcome == "ok" and times.audio_s:
            self._rtf.observe(times.rtf)


class StageGauge:
    """A gauge of one replica, set from a callable whenever the value may have changed."""

    def __init__(self, name: str, description: str, read: Callable[[], int]) -> None:
        self._gauge = metrics.Gauge(name, description=description)
        self._read = read
        self.refresh()

    def refresh(self) -> None:
        """Publish the present value."""
        self._gauge.set(self._read())
