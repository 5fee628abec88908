"""The book of quotas as routers reach it: one detached actor for the whole cluster.

No request waits for it longer than a quarter of a second; without it routers go on alone.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from ray.exceptions import ActorDiedError, RayError

from cache_store.background import spawn
from deployments.config.tenants.quota_settings import QuotaSettings
from deployments.detached import detached_actor
from deployments.quotas.accounts import BookAwayError, Told, Word
from deployments.quotas.book import QuotaBook
from deployments.quotas.gate import QuotaGate
from deployments.quotas.ledger import Ledger

RAY_NAMESPACE = "timbre-quotas"
# Of the actor's methods and their words: raised with them, since it outlives releases.
INTERFACE = 1
DEADLINE_S = 0.25


class ClusterBook:
    """See accounts.Book. Use from one event loop.

    name: of the service; services of one name on one cluster share a book.
    """

    def __init__(self, name: str) -> None:
        self._name = f"{name}-quotas-i{INTERFACE}"
        self._connecting: asyncio.Task[Any] | None = None

    async def sync(self, router: str, words: Sequence[Word]) -> Told:
        """See Book."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                actor = await self._connected()
                return await actor.sync.remote(router, words)
        except TimeoutError as error:
            raise BookAwayError(f"no answer within {DEADLINE_S} s") from error
        except ActorDiedError as error:
            self._connecting = None  # gone for good: the next call makes another
            raise BookAwayError(str(error)) from error
        except (RayError, ValueError) as error:
            raise BookAwayError(str(error)) from error

    async def _connected(self) -> Any:
        """The actor. Making it may take longer than a call may: it goes on by itself."""
        task = self._connecting
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            work = asyncio.to_thread(detached_actor, QuotaBook, self._name, RAY_NAMESPACE)
            task = self._connecting = spawn("making the book of quotas", work)
        return await asyncio.shield(task)


def open_gate(
    settings: QuotaSettings,
    name: str,
    refused: Callable[[str, str], None],
) -> QuotaGate:
    """The gate of one process; see ClusterBook and QuotaGate."""
    ledger = Ledger(ClusterBook(name), uuid.uuid4().hex, settings.alone_s)
    return QuotaGate(settings, ledger, refused)
