"""Which requests are traced, in this process; a router decides, every other process follows."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from deployments.config.telemetry.telemetry_settings import TelemetrySettings
from pipeline.errors import SetupError
from pipeline.serving.tracing import (
    UNTRACED,
    Attribute,
    Parent,
    Sent,
    Sink,
    Trace,
    inside,
    new_id,
    now_ns,
)

PARENT_HEADER = "traceparent"


class Tracer:
    """Begins traces, or goes on with them. sink: None traces nothing."""

    def __init__(self, settings: TelemetrySettings, sink: Sink | None) -> None:
        self._share, self._follows = settings.sampled_share, settings.follows_callers
        self._sink = sink

    @classmethod
    def of(cls, settings: TelemetrySettings, stage: str) -> Tracer:
        """For a process that hosts `stage`. Raises SetupError where the exporter is missing."""
        if settings.otlp_endpoint is None:
            return NOT_TRACING
        check_exporter(settings)
        from deployments.telemetry.tracing.exporting import Exporter

        return cls(settings, Exporter(settings.otlp_endpoint, stage))

    def begun(self, name: str, headers: Mapping[str, str], **attributes: Attribute) -> Trace:
        """The trace of a request from outside, which begins now."""
        if self._sink is None:
            return UNTRACED
        parent = Parent.read(headers.get(PARENT_HEADER)) if self._follows else None
        is_sampled = random.random() < self._share if parent is None else parent.is_sampled  # noqa: S311
        if not is_sampled:
            return UNTRACED
        trace_id = new_id(128) if parent is None else parent.trace_id
        above = 0 if parent is None else parent.span_id
        return Trace(self._sink, trace_id, new_id(64), above, name, now_ns(), attributes)

    @contextmanager
    def traced(self, name: str, **attributes: Attribute) -> Iterator[Trace]:
        """A trace of what no request of its own asks for, for the duration of the context."""
        trace = self.begun(name, {}, **attributes)
        try:
            with inside(trace):
                yield trace
        except BaseException as error:
            trace.ended(error)
            raise
        trace.ended()

    def followed(self, text: str | None) -> Trace:
        """The span of another process of ours, by what it sent; the way here is noted below it."""
        sent = Sent.read(text) if self._sink is not None else None
        if sent is None:
            return UNTRACED
        trace = Trace(self._sink, sent.parent.trace_id, sent.parent.span_id)
        trace.noted("way", sent.at_ns)
        return trace


NOT_TRACING = Tracer(TelemetrySettings(), None)


def check_exporter(settings: TelemetrySettings) -> None:
    """Raises SetupError where traces are asked for and what sends them is not installed."""
    if settings.otlp_endpoint is None:
        return
    try:
        import opentelemetry.exporter.otlp.proto.http.trace_exporter as _exporter
    except ImportError as error:
        raise SetupError(
            "telemetry.otlp_endpoint needs what sends traces: pip install 'timbre[tracing]'"
        ) from error
    del _exporter
