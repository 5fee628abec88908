"""Background tasks: independent of the request that started them, with failures logged."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")


def spawn(name: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Run `work` in a task with an empty context; errors are logged with their traceback.

    Ray cancels everything in the context of a request whose caller disconnected.
    """
    loop = asyncio.get_running_loop()
    task = loop.create_task(work, name=name, context=contextvars.Context())
    task.add_done_callback(_report)
    return task


def _report(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("%s failed", task.get_name(), exc_info=error)
