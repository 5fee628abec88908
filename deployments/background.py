"""Background loops of a replica: a failure is logged and the loop restarted."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 60.0  # pauses double up to this; a loop that ran longer starts over


def watched(name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
    """Run `work` until it returns or the task is cancelled; restart it after any error."""
    return asyncio.create_task(_run(name, work), name=name)


async def _run(name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    pause_s = FIRST_PAUSE_S
    while True:
        began_s = time.monotonic()
        try:
            await work()
        except Exception:  # no caller awaits this task
            if time.monotonic() - began_s >= LONGEST_PAUSE_S:
                pause_s = FIRST_PAUSE_S
            logger.exception("%s failed; trying again in %g s", name, pause_s)
        else:
            return
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
