"""Spans on their way to an OpenTelemetry collector: queued, and sent by a thread of their own."""

from __future__ import annotations

import importlib.metadata
import os

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from pipeline.serving.tracing import Span

MOST_WAITING = 8_192  # spans; further ones are dropped: a collector that is away costs no memory
SEND_EVERY_MS = 5_000  # a message costs as much as a hundred spans
SEND_TIMEOUT_S = 5.0

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_FIRST = frozenset({"request", "sentence", "segment"})


class Exporter:
    """Takes spans from any thread and never waits.

    stage: of this process, as the collector shows it. A collector that does not answer is in the
    log; the spans are lost.
    """

    def __init__(self, endpoint: str, stage: str) -> None:
        version = _version()
        told = {"service.name": f"timbre-{stage}", "service.namespace": "timbre"}
        told |= {"service.version": version, "process.pid": str(os.getpid())}
        self._resource = Resource(told)
        self._scope = InstrumentationScope("timbre", version)
        self._queue = BatchSpanProcessor(
            OTLPSpanExporter(endpoint=endpoint, timeout=SEND_TIMEOUT_S),
            max_queue_size=MOST_WAITING,
            schedule_delay_millis=SEND_EVERY_MS,
        )

    def __call__(self, span: Span) -> None:
        """Send it some time soon."""
        parent = self._context(span.trace_id, span.parent_id) if span.parent_id else None
        status = Status(StatusCode.ERROR, span.error) if span.error else Status()
        sent = ReadableSpan(
            span.name,
            self._context(span.trace_id, span.span_id),
            parent,
            self._resource,
            span.attributes,
            kind=SpanKind.SERVER if span.name in _FIRST else SpanKind.INTERNAL,
            status=status,
            start_time=span.began_ns,
            end_time=span.ended_ns,
            instrumentation_scope=self._scope,
        )
        self._queue.on_end(sent)

    def close(self) -> None:
        """Send what waits, and end the thread."""
        self._queue.shutdown()

    def _context(self, trace_id: int, span_id: int) -> SpanContext:
        return SpanContext(trace_id, span_id, is_remote=False, trace_flags=_SAMPLED)


def _version() -> str:
    """Of timbre; empty where it runs from a directory that nobody installed."""
    try:
        return importlib.metadata.version("timbre")
    except importlib.metadata.PackageNotFoundError:
        return ""
