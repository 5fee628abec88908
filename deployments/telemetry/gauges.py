"""Keeps gauges on the metrics page while nothing changes: Ray drops one that is not set again."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from typing import Protocol

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
