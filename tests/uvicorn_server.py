"""A uvicorn of the test's own, as Serve's proxy runs one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from tests.cache_helpers import free_port
from tests.waiting import until


@asynccontextmanager
async def uvicorn_serving(app: ASGIApp, **options: Any) -> AsyncIterator[int]:
    """On this event loop. Yields its port. options: more of uvicorn.Config."""
    port = free_port()
    config = uvicorn.Config(
        lambda: app, factory=True, port=port, lifespan="off", log_config=None, **options
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve())  # without its handlers of signals
    await until(lambda: server.started)
    try:
        yield port
    finally:
        server.should_exit = True
        await task
