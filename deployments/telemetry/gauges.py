"""Gauges of one replica, published again and again: Ray drops one that was not set recently."""

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
    """A gauge, or several, with present values."""

    def publish(self) -> None:
        """Set every gauge to its present value; called from a thread of its own."""
        ...


def keep_published(gauge: Published, every_s: float = PUBLISH_S) -> None:
    """Publish now and then again every few seconds, until nobody holds `gauge` any more."""
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
        except Exception:  # one value that cannot be read must not end all that follow
            logger.exception("a gauge could not be published")
        del gauge


class StageGauge:
    """A gauge of one replica, set from a callable whenever the value may have changed."""

    def __init__(self, row: GaugeRow, read: Callable[[], int]) -> None:
        self._gauge = row.open()
        self._read = read
        keep_published(self)

    def publish(self) -> None:
        """Set the gauge to the present value."""
        self._gauge.set(self._read())


class PartsGauge:
    """A gauge of one replica with a value for each of some named parts, as `StageGauge`."""

    def __init__(self, row: GaugeRow, read: Callable[[], Mapping[str, float]]) -> None:
        self._gauge = row.open()
        self._read = read
        keep_published(self)

    def publish(self) -> None:
        """Set the gauge to the parts' present values."""
        for part, value in self._read().items():
            self._gauge.set(value, tags={"part": part})
