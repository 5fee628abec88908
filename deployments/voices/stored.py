"""How much of a tenant is kept, against what its quota and its key's let it keep."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

from deployments.quotas.spending import Spending
from deployments.voices.shelf import JOBS_ROOT, ROOT, Shelf
from deployments.voices.states import VoiceStates
from pipeline.errors import QuotaSpentError

TOPS = (ROOT, JOBS_ROOT)  # where what a tenant has kept lies, by its namespace
VOICES, BYTES = "voices", "stored_bytes"


class StoredRoom:
    """Of every namespace. Raises as Shelf does."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._states = VoiceStates(shelf)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def turn(self, namespace: str) -> asyncio.Lock:
        """Held by who keeps a voice and checks that it may stay.

        Without, one whose id is earlier may be kept behind the check of a later one: both stay.
        """
        return self._turns.setdefault(namespace, asyncio.Lock())

    async def check(
        self, namespace: str, spending: Spending, more_bytes: int = 0, *, voices: int = 0
    ) -> None:
        """Whether so many voices and bytes more may be kept. Raises QuotaSpentError."""
        if voices:
            await self._check_voices(namespace, spending, voices)
        limits = _limits(spending, BYTES)
        kept = 0
        for top in TOPS if limits else ():
            kept += await self._shelf.size_bytes(f"{top}/{namespace}")
        for of, limit in limits:
            if kept + more_bytes > limit:
                message = (
                    f"{kept} bytes are kept, {more_bytes} more would be over the {limit} of this "
                    f"{of}: delete voices or jobs first"
                )
                raise spending.full(BYTES, of, message)

    async def check_kept(self, namespace: str, spending: Spending, voice: str) -> None:
        """Whether a voice may stay that was just kept. Raises QuotaSpentError.

        Of several that came at one time each found room before: the later ones go. In this router
        they have turns.
        """
        await self.check(namespace, spending)
        if limits := _limits(spending, VOICES):
            n_before = (await self._live(namespace)).index(voice)
            for of, limit in limits:
                if n_before >= limit:
                    raise _too_many_voices(spending, of, limit)

    async def _check_voices(self, namespace: str, spending: Spending, more: int) -> None:
        limits = _limits(spending, VOICES)
        n_live = len(await self._live(namespace)) if limits else 0
        for of, limit in limits:
            if n_live + more > limit:
                raise _too_many_voices(spending, of, limit)

    async def _live(self, namespace: str) -> list[str]:
        """Ids of the live voices, in the order they were made."""
        standings = await self._states.all(namespace)
        return sorted(voice for voice, standing in standings.items() if standing.is_live)


def _limits(spending: Spending, field: str) -> list[tuple[str, int]]:
    """Whom one field of a quota limits, and to what."""
    limits = [(of, getattr(quota, field)) for of, quota in spending.quotas]
    return [(of, limit) for of, limit in limits if limit is not None]


def _too_many_voices(spending: Spending, of: str, limit: int) -> QuotaSpentError:
    message = f"{limit} voices may be kept by this {of}, and are: delete one first"
    return spending.full(VOICES, of, message)
