"""A collector of traces: takes OTLP over HTTP as any other, and keeps what came."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True, slots=True)
class SeenSpan:
    """As a collector has it. service: the resource's name, such as timbre-router."""

    service: str
    pid: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    began_ns: int
    ended_ns: int
    attributes: dict[str, Any]
    is_error: bool
    is_entry: bool  # of the kind that collectors list a service's work by


class Collector:
    """Keeps spans by trace; see `collecting`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: list[SeenSpan] = []
        self.endpoint = ""

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            about = {one.key: one.value.string_value for one in resource.resource.attributes}
            with self._lock:
                self._spans += [
                    _seen(about, span) for scope in resource.scope_spans for span in scope.spans
                ]

    def traces(self) -> dict[str, list[SeenSpan]]:
        """Spans by their trace, in the order of their beginnings."""
        with self._lock:
            found = sorted(self._spans, key=lambda span: span.began_ns)
        by_trace: dict[str, list[SeenSpan]] = defaultdict(list)
        for span in found:
            by_trace[span.trace_id].append(span)
        return by_trace


def _seen(about: dict[str, str], span: Any) -> SeenSpan:
    return SeenSpan(
        about["service.name"],
        about["process.pid"],
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes},
        span.status.code == 2,  # STATUS_CODE_ERROR
        span.kind == 2,  # SPAN_KIND_SERVER
    )


def coverage(spans: list[SeenSpan], root: SeenSpan) -> float:
    """What share of the root's time lies in spans that have none below them."""
    parents = {span.parent_id for span in spans}
    leaves = [span for span in spans if span.span_id not in parents and span is not root]
    covered_ns, at_ns = 0, root.began_ns
    for span in sorted(leaves, key=lambda span: span.began_ns):
        end_ns = min(span.ended_ns, root.ended_ns)
        covered_ns += max(end_ns - max(span.began_ns, at_ns), 0)
        at_ns = max(at_ns, end_ns)
    return covered_ns / (root.ended_ns - root.began_ns)


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector at an address of its own."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.take(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing is logged."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    collector.endpoint = f"http://127.0.0.1:{server.server_port}/v1/traces"
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
