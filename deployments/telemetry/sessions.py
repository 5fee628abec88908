"""The router's metrics of sessions over WebSockets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from deployments.telemetry import metrics as table
from deployments.telemetry.gauges import StageGauge


class SessionMetrics:
    """Of all sessions of one router. Use it from one event loop."""

    def __init__(self) -> None:
        self.n_open = 0
        self._open = StageGauge(table.SESSIONS, lambda: self.n_open)
        self._ended = table.SESSIONS_ENDED.open()
        self._cancels = table.CANCELS.open()
        self._freeing = table.CANCEL_TIME.open()

    @contextmanager
    def session(self) -> Iterator[None]:
        """Count a session for the duration of the context."""
        self._add(1)
        try:
            yield
        finally:
            self._add(-1)

    def ended(self, reason: str) -> None:
        """A session ended: closed, gone, idle, expired, unconfigured, mistakes or error."""
        self._ended.inc(tags={"reason": reason})

    def cancelled(self, seconds: float) -> None:
        """A client interrupted; seconds: until the stages were told to stop."""
        self._cancels.inc()
        self._freeing.observe(seconds)

    def _add(self, change: int) -> None:
        self.n_open += change
        self._open.publish()
