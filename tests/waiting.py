"""Waiting for what must come: a check again and again, with a give-up no slow machine reaches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

GIVE_UP_S = 120.0


def eventually(
    check: Callable[[], bool], timeout_s: float = GIVE_UP_S, every_s: float = 0.05
) -> bool:
    """Poll until `check` holds; False when it did not in time."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        if check():
            return True
        time.sleep(every_s)
    return check()


def wait_until(
    check: Callable[[], bool], give_up_s: float = GIVE_UP_S, every_s: float = 0.02
) -> None:
    """Return when `check` holds; fails when it does not in time."""
    assert eventually(check, give_up_s, every_s), f"did not come true within {give_up_s:g} s"


async def until(check: Callable[[], bool], give_up_s: float = GIVE_UP_S) -> None:
    """`wait_until` for an event loop."""
    async with asyncio.timeout(give_up_s):
        while not check():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.005)
