"""Work that nobody awaits: out of reach of the request that started it, never failing unseen."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")


def spawn(name: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Run `work` in a task with an empty context; what it raises is logged with its traceback.

    Ray cancels whatever it finds in the context of a request that went away.
    """
    loop = asyncio.get_running_loop()
    task = loop.create_task(work, name=name, context=contextvars.Context())
    task.add_done_callback(_report)
    return task


def _report(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("%s failed", task.get_name(), exc_info=error)
