"""Listens for marks where torch is at hand: on a thread of its own, a few files at a time."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from deployments.config.marks.mark_settings import MarkSettings
from pipeline.audio.encode import from_pcm16
from pipeline.contracts import OUTPUT_SAMPLE_RATE_HZ, Int16Array
from pipeline.errors import CapacityError
from pipeline.marks.finding import Finding

if TYPE_CHECKING:
    from pipeline.marks.detector import Detector


class MarkFinder(Protocol):
    """Finds marks, wherever it runs."""

    async def find(self, samples: Int16Array) -> Finding:
        """samples: (n,), 24 kHz mono. Raises CapacityError, StageError and its kinds."""
        ...


class MarkSearch:
    """A MarkFinder in this process; loads its network when it is first asked.

    Use it from one event loop. Raises ConfigError, too, without the package of the weights.
    """

    def __init__(self, settings: MarkSettings) -> None:
        self._most, self._asked = settings.max_checks, 0
        self._thread: ThreadPoolExecutor | None = None
        self._detector: Detector | None = None

    async def find(self, samples: Int16Array) -> Finding:
        """See MarkFinder. Who goes away meanwhile is searched for to the end."""
        if self._asked >= self._most:
            raise CapacityError(f"{self._most} files are being checked; retry in a moment")
        if self._thread is None:
            from pipeline.marks.detector import alone

            self._thread = ThreadPoolExecutor(1, "marks", alone)
        self._asked += 1
        search = asyncio.get_running_loop().run_in_executor(self._thread, self._find, samples)
        search.add_done_callback(self._done)
        return await asyncio.shield(search)

    def _done(self, search: asyncio.Future[Finding]) -> None:
        self._asked -= 1
        if not search.cancelled():
            search.exception()  # nobody may be left to hear of it

    def _find(self, samples: Int16Array) -> Finding:
        from pipeline.marks.detector import Detector

        if self._detector is None:
            self._detector = Detector.load()
        return self._detector.find(from_pcm16(samples), OUTPUT_SAMPLE_RATE_HZ)
