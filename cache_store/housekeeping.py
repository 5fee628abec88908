"""Keeps a local directory within its budget while a service runs."""

from __future__ import annotations

import asyncio
import logging
import random

from cache_store.background import spawn
from cache_store.maintenance import GcPolicy, collect, plan_collection
from cache_store.store import BlobStore

logger = logging.getLogger(__name__)


class Housekeeper:
    """Collects garbage periodically, in a thread.

    Several processes may collect in one directory: an object that is already gone is skipped.
    """

    def __init__(self, store: BlobStore, policy: GcPolicy, interval_s: float) -> None:
        self._store = store
        self._policy = policy
        self._interval_s = interval_s
        self._task: asyncio.Task[None] | None = None
        self.deleted = 0

    def start(self) -> None:
        """Start on the running loop; the first round comes after one interval."""
        if self._task is None:
            self._task = spawn("looking after the cache's directory", self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            share = random.uniform(0.5, 1.0)  # noqa: S311 - keeps processes out of step
            await asyncio.sleep(share * self._interval_s)
            try:
                self.deleted += await asyncio.to_thread(self._tidy)
            except Exception:  # a failed round must not end the task
                logger.exception("could not look after the cache's directory")

    def _tidy(self) -> int:
        candidates = plan_collection(self._store, self._policy)
        count, size_bytes, failed = collect(self._store, candidates)
        if count or failed:
            logger.info("deleted %d objects, %d bytes; %d stayed", count, size_bytes, failed)
        return count
