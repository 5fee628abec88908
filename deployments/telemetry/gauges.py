"""Re-publishes gauges periodically; Ray drops a gauge that has not been set recently."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Protocol

from deployments.telemetry.metrics import GaugeRow

logger = logging.getLogger(__name__)

PUBLISH_S = 4.0  # Ray's processes report every ten seconds


class Published(Protocol):
    """One or more gauges and their current values."""

    def publish(self) -> None:
        """Set every gauge to its current value; called from a thread of its own."""
        ...


def keep_published(gauge: Published, every_s: float = PUBLISH_S) -> None:
    """Publish now and every few seconds, until `gauge` is garbage-collected."""
    gauge.publish()
    held = weakref.ref(gauge)
    threading.Thread(target=_publish_while_held, args=(held, every_s), daemon=True).start()


def _publish_while_held(held: weakref.ref[Published], every_s: float) -> None:
    while True:
        time.sleep(every_s)
        gauge = held()
        if gauge is None:
            return
        try:
            gauge.publish()
        except Exception:  # a value that cannot be read must not end the thread
            logger.exception("a gauge could not be published")
        del gauge


class StageGauge:
    """A gauge of one replica, set from a callable whenever the value may have changed."""

    def __init__(self, row: GaugeRow, read: Callable[[], int]) -> None:
        self._gauge = row.open()
        self._read = read
        keep_published(self)

    def publish(self) -> None:
        """Set the gauge to its current value."""
        self._gauge.set(self._read())


class PartsGauge:
    """Like `StageGauge`, with a value for each of several named parts."""

    def __init__(self, row: GaugeRow, read: Callable[[], Mapping[str, float]]) -> None:
        self._gauge = row.open()
        self._read = read
        keep_published(self)

    def publish(self) -> None:
        """Set the gauge to the parts' current values."""
        for part, value in self._read().items():
            self._gauge.set(value, tags={"part": part})
