"""Small services on loopback: what they answer is a function of the request."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from aiohttp import web

from load_tests.load.plan import Call

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
SECOND = b"\0" * 48_000  # of pcm
PATH = "/v1/audio/speech"


def call(number: int = 0, at_s: float = 0.0, **fields: Any) -> Call:
    """To OpenAI's route."""
    usual = {
        "dialect": "openai",
        "voice": "aria",
        "clip": None,
        "text": "Hello.",
        "seed": None,
        "format": "pcm",
    }
    return Call(number, at_s, **{**usual, **fields})


async def audio(request: web.Request, *pieces: bytes, pause_s: float = 0.0) -> web.StreamResponse:
    """A reply of pieces of audio."""
    reply = web.StreamResponse(headers={"X-Cache": "l1", "X-Request-Id": "r-1"})
    await reply.prepare(request)
    for index, piece in enumerate(pieces):
        await asyncio.sleep(pause_s if index else 0.0)
        await reply.write(piece)
    await reply.write_eof()
    return reply


@asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[str]:
    """Its address, while it serves every path in this loop."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return await handler(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@contextmanager
def served_by_a_thread(handler: Handler) -> Iterator[str]:
    """The same in a loop of its own, which may stall without its clients."""
    started: threading.Event = threading.Event()
    address: list[str] = []
    loop = asyncio.new_event_loop()
    over = asyncio.Event()

    async def serve() -> None:
        async with served(handler) as url:
            address.append(url)
            started.set()
            await over.wait()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(serve())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert started.wait(10)
        yield address[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
