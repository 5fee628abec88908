"""A client that does not read keeps the router from sending, through Serve's proxy too."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from deployments.http.sessions.flow import TELL_BYTES, SocketFlow, with_flow
from tests.waiting import until

pytestmark = pytest.mark.unit
WINDOW_BYTES = 4 * TELL_BYTES
FRAME: Message = {"type": "websocket.send", "bytes": b"x" * TELL_BYTES}
GONE: Message = {"type": "websocket.disconnect", "code": 1006}


class Proxied:
    """A router behind Serve's proxy, which takes its messages at once."""

    def __init__(self) -> None:
        self.scope: Scope = {}
        self.sent = 0
        self.heard: list[Message] = []
        self.receive: Receive
        self.send: Send

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        buffer: asyncio.Queue[Message] = asyncio.Queue()
        self.receive, self.send = with_flow(dict(scope), receive, buffer.put, WINDOW_BYTES)
        tasks = [asyncio.create_task(work()) for work in (self._talk, self._listen)]

        async def hand_on() -> None:
            while True:
                await send(await buffer.get())

        handing = asyncio.create_task(hand_on())
        await asyncio.wait(tasks)
        handing.cancel()

    async def _talk(self) -> None:
        while GONE not in self.heard:
            await self.send(FRAME)
            self.sent += 1
            await asyncio.sleep(0)

    async def _listen(self) -> None:
        while GONE not in self.heard:
            self.heard.append(await self.receive())


class Client:
    """Takes a frame for each permit."""

    def __init__(self) -> None:
        self.says: asyncio.Queue[Message] = asyncio.Queue()
        self.takes = asyncio.Semaphore(0)

    async def send(self, message: Message) -> None:
        del message
        await self.takes.acquire()


async def test_a_window_of_bytes_is_on_its_way_and_no_more() -> None:
    client, router = Client(), Proxied()
    scope: Scope = {"type": "websocket", "headers": [(b"x-request-timeout-seconds", b"5")]}
    serving = asyncio.create_task(SocketFlow(router)(scope, client.says.get, client.send))
    await until(lambda: router.sent > 0)
    await _settled(router)
    assert router.sent == 5  # a window, and the frame that fills it over
    for _ in range(3):
        client.takes.release()
    await until(lambda: router.sent == 8)
    await _settled(router)
    assert router.sent == 8
    said: Message = {"type": "websocket.receive", "text": "hello"}
    client.says.put_nowait(said)
    await until(lambda: said in router.heard)
    assert router.heard == [said]
    assert dict(router.scope["headers"])[b"x-request-timeout-seconds"] == b"0"
    client.says.put_nowait(GONE)
    async with asyncio.timeout(5.0):
        await serving


async def test_without_our_proxy_the_server_keeps_the_sender_waiting() -> None:
    client, router = Client(), Proxied()
    receive, send = with_flow({"type": "websocket"}, client.says.get, client.send, WINDOW_BYTES)
    assert (receive, send) == (client.says.get, client.send)
    del router


async def test_other_requests_pass_through() -> None:
    seen: list[Any] = []

    async def app(*what: Any) -> None:
        seen.extend(what)

    scope: Scope = {"type": "http", "headers": []}
    client = Client()
    await SocketFlow(app)(scope, client.says.get, client.send)
    assert seen == [scope, client.says.get, client.send]


async def _settled(router: Proxied) -> None:
    before = -1
    while before != router.sent:
        before = router.sent
        await asyncio.sleep(0.02)
