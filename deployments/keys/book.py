"""The keys as a router knows them: all of them, in its memory, as the store had them a moment ago.

Every POLL_S one listing tells which changed. A key that is not known, or has another secret, is
refused only after a look that began after it came, so that a new one works at every router at once.
While the store does not answer, known keys count for `access.outage_s`; unknown ones get 503.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress

from deployments.access.caller import Caller
from deployments.keys.desk import KeyDesk
from deployments.keys.documents import KeyState
from deployments.keys.secrets import id_of
from pipeline.errors import (
    CapacityError,
    StageUnavailableError,
    TimbreError,
    UnauthenticatedError,
)

logger = logging.getLogger(__name__)

POLL_S = 2.0  # what was revoked is refused after this and a listing, well within 5 s
LOOK_EVERY_S = 0.25  # at most, whatever callers present
FAILED_S = 1.0  # how long a look that failed answers for the next
MAX_WAITING = 32  # requests with keys that are not known
REFUSAL = "this API key is not known, was revoked, or has expired"


class KeyBook:
    """Who holds which key. Use it from one event loop. outage_s: see AccessSettings."""

    def __init__(self, desk: KeyDesk, outage_s: float) -> None:
        self._desk = desk
        self._outage_s = outage_s
        self._numbers: dict[str, int] = {}
        self._states: dict[str, KeyState] = {}
        self._seen_s = self._looked_s = float("-inf")
        self._failure: TimbreError | None = None
        self._failed_s = float("-inf")
        self._turn = asyncio.Lock()
        self._n_waiting = 0

    def known(self, key: str) -> Caller | None:
        """The key's holder, of memory alone."""
        if time.monotonic() - self._seen_s > self._outage_s:
            return None
        key_id = id_of(key)
        state = None if key_id is None else self._states.get(key_id)
        if key_id is None or state is None or not state.opens(key, time.time()):
            return None
        return state.caller(key_id)

    async def caller(self, key: str) -> Caller:
        """The key's holder.

        Raises UnauthenticatedError for a key that does not count, StageUnavailableError when the
        store, which would know, does not answer, CapacityError when too many ask what it knows.
        """
        came_s = time.monotonic()
        if (found := self.known(key)) is not None:
            return found
        if self._may_be_new(key):
            await self._look_since(came_s)
            if (found := self.known(key)) is not None:
                return found
        raise UnauthenticatedError(REFUSAL)

    async def follow(self) -> None:
        """Notice what others changed, until cancelled."""
        while True:
            with suppress(TimbreError):  # the log has it from the look itself
                await self._look_since(time.monotonic())
            await asyncio.sleep(POLL_S)

    async def look(self) -> None:
        """Know at once what was changed here. Raises as Shelf does."""
        await self._look_since(time.monotonic())

    def _may_be_new(self, key: str) -> bool:
        """Whether a look could find that it counts: what is over is so for good."""
        key_id = id_of(key)
        if key_id is None:
            return False
        state = self._states.get(key_id)
        is_stale = time.monotonic() - self._seen_s > self._outage_s
        return state is None or is_stale or not state.is_over(time.time())

    async def _look_since(self, came_s: float) -> None:
        """Return when a look that began after this has ended. Raises what it raised."""
        if self._n_waiting >= MAX_WAITING:
            raise CapacityError("too many unknown keys are being looked up", retry_after_s=1.0)
        self._n_waiting += 1
        try:
            async with self._turn:
                if self._seen_s >= came_s:
                    return
                if self._failure is not None and time.monotonic() - self._failed_s < FAILED_S:
                    raise _told_again(self._failure)
                await asyncio.sleep(max(self._looked_s + LOOK_EVERY_S - time.monotonic(), 0.0))
                await self._look()
        finally:
            self._n_waiting -= 1

    async def _look(self) -> None:
        began_s = self._looked_s = time.monotonic()
        try:
            numbers = await self._desk.numbers()
            changed = {one: n for one, n in numbers.items() if self._numbers.get(one) != n}
            states = await self._desk.states(changed)
        except TimbreError as error:
            if self._failure is None:
                logger.warning("the keys are those of before: %s", error)
            self._failure, self._failed_s = error, time.monotonic()
            raise
        if self._failure is not None:
            logger.info("the keys are known again")
        self._failure = None
        self._states = {
            one: state
            for one in numbers
            if (state := states.get(one, None if one in changed else self._states.get(one)))
            is not None
        }
        self._numbers = {one: n for one, n in numbers.items() if one in self._states}
        self._seen_s = began_s


def _told_again(error: TimbreError) -> StageUnavailableError:
    """A new object, so that one that many are told holds on to none of them."""
    return StageUnavailableError("the keys cannot be looked up just now", detail=str(error))
