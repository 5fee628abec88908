"""A client that does not read keeps the router from sending, through Serve's proxy too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.http.sessions.flow import FLOW, TELL_BYTES, SocketFlow, room_of, with_flow
from tests.http_app import HttpApp, http_app, running
from tests.talk import kinds, talk
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
        buffer: asyncio.Queue[Message] = asyncio.Queue()
        self.scope = {**scope}
        self.receive, self.send = with_flow(self.scope, receive, buffer.put, WINDOW_BYTES)
        tasks = [asyncio.create_task(work()) for work in (self._talk, self._listen)]

        async def hand_on() -> None:
            while True:
                await send(await buffer.get())

        handing = asyncio.create_task(hand_on())
        await asyncio.wait(tasks)
        handing.cancel()

    async def _talk(self) -> None:
        while GONE not in self.heard:
            await room_of(self.scope)
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
    await _steady(lambda: router.sent)
    assert router.sent == 5  # a window, and the frame that fills it over
    for _ in range(3):
        client.takes.release()
    await until(lambda: router.sent == 8)
    await _steady(lambda: router.sent)
    assert router.sent == 8
    said: Message = {"type": "websocket.receive", "text": "hello"}
    client.says.put_nowait(said)
    await until(lambda: said in router.heard)
    assert router.heard == [said]
    assert dict(router.scope["headers"])[b"x-request-timeout-seconds"] == b"0"
    client.says.put_nowait(GONE)
    async with asyncio.timeout(5.0):
        await serving


async def test_what_waits_for_no_room_is_bounded_too() -> None:
    """Answers to a client that asks on and on and reads nothing."""
    scope: Scope = {"type": "websocket", FLOW: True}
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    _, counted = with_flow(scope, Client().says.get, send, WINDOW_BYTES)
    assert FLOW not in scope
    for _ in range(9):
        await counted(FRAME)
    with pytest.raises(OSError, match="does not read"):
        await counted(FRAME)
    assert len(sent) == 9


async def test_who_has_room_may_send_a_frame_of_many_windows_and_say_so_afterwards() -> None:
    says: asyncio.Queue[Message] = asyncio.Queue()
    scope: Scope = {"type": "websocket", FLOW: True}
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    receive, counted = with_flow(scope, says.get, send, WINDOW_BYTES)
    big: Message = {"type": "websocket.send", "bytes": b"x" * (3 * WINDOW_BYTES)}
    small: Message = {"type": "websocket.send", "text": "y" * (WINDOW_BYTES // 4)}
    for number in range(2):
        async with asyncio.timeout(5.0):
            await room_of(scope)
        for message in (big, small, small, small, small):
            await counted(message)
        assert len(sent) == 5 * (number + 1)
        with pytest.raises(OSError, match="does not read"):
            await counted(small)
        says.put_nowait({"type": "timbre.taken", "n_bytes": 4 * WINDOW_BYTES})
        says.put_nowait(GONE if number else {"type": "websocket.receive", "text": "go on"})
        await receive()


async def test_one_long_account_passes_without_room() -> None:
    """As of an interruption: what was heard of a long text, while its audio is on its way."""
    scope: Scope = {"type": "websocket", FLOW: True}
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    _, counted = with_flow(scope, Client().says.get, send, WINDOW_BYTES)
    long: Message = {"type": "websocket.send", "text": "y" * (2 * WINDOW_BYTES)}
    await counted(long)
    await counted(long)
    with pytest.raises(OSError, match="does not read"):
        await counted(long)
    assert len(sent) == 2


async def test_who_waits_for_room_that_another_takes_waits_on() -> None:
    says: asyncio.Queue[Message] = asyncio.Queue()
    scope: Scope = {"type": "websocket", FLOW: True}

    async def send(message: Message) -> None:
        del message

    receive, counted = with_flow(scope, says.get, send, TELL_BYTES)
    await counted(FRAME)
    await counted(FRAME)
    waiting = asyncio.create_task(room_of(scope))
    await asyncio.sleep(0)
    for _ in range(2):
        says.put_nowait({"type": "timbre.taken", "n_bytes": TELL_BYTES})
        says.put_nowait({"type": "websocket.receive", "text": "ping"})
        await receive()
        await counted(FRAME)
        for _ in range(3):
            await asyncio.sleep(0)
        assert not waiting.done()
    says.put_nowait({"type": "timbre.taken", "n_bytes": TELL_BYTES})
    says.put_nowait(GONE)
    await receive()
    async with asyncio.timeout(5.0):
        await waiting


async def test_without_our_proxy_the_server_keeps_the_sender_waiting() -> None:
    client = Client()
    scope: Scope = {"type": "websocket"}
    receive, send = with_flow(scope, client.says.get, client.send, WINDOW_BYTES)
    assert (receive, send) == (client.says.get, client.send)
    await room_of(scope)


class Serve:
    """What lies between proxy and router: the router's messages wait there, however many."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        buffer: asyncio.Queue[Message] = asyncio.Queue()

        async def hand_on() -> None:
            while True:
                await send(await buffer.get())

        handing = asyncio.create_task(hand_on())
        await self._app(scope, receive, buffer.put)
        handing.cancel()


async def test_a_session_speaks_no_further_than_its_client_reads_and_still_listens() -> None:
    settings = {"window_bytes": TELL_BYTES + 1}
    async with http_app(sessions=settings) as app:
        takes = asyncio.Semaphore(1)  # the handshake

        async def slowly(scope: Scope, receive: Receive, send: Send) -> None:
            async def send_slowly(message: Message) -> None:
                await takes.acquire()
                await send(message)

            await SocketFlow(Serve(app.app))(scope, receive, send_slowly)

        async with talk(slowly) as one:
            one.configure(split_granularity="sentence")
            one.say("input.text", text="Hello there. " * 100)
            requests = app.synthesizer.requests
            await until(lambda: len(requests) > 1)
            await _steady(lambda: len(requests))
            assert 2 <= len(requests) <= 5
            one.say("ping", id=1)
            one.say("ping", id=2)
            one.say("input.cancel", played_ms=0)
            await asyncio.sleep(0.05)
            for _ in range(500):
                takes.release()
            said = await one.until("session.done")
            assert [m["id"] for m in said if isinstance(m, dict) and "id" in m] == [1, 2]
            assert kinds(said)[-2:] == ["input.cancelled", "session.done"]
            one.say("input.text", text="Go on. Yes")
            assert kinds(await one.until("audio.done"))[-1] == "audio.done"
            assert len(requests) <= 6


async def test_a_session_goes_on_after_a_sentence_of_many_windows() -> None:
    made = HttpApp(is_telling=True, sessions={"window_bytes": TELL_BYTES + 1})
    speaker: Any = made.speaker
    speaker.n_chunks = 16
    async with running(made) as app, talk(SocketFlow(Serve(app.app))) as one:
        one.configure(response_format="wav")
        for _ in range(2):
            one.say("input.text", text="Hello there.")
            one.say("input.done")
            said = await one.until("session.done")
            assert kinds(said) == ["audio.start", "audio", "audio.done", "session.done"]
            assert len(said[1]) > 2 * TELL_BYTES + 2


async def test_other_requests_pass_through() -> None:
    seen: list[Any] = []

    async def app(*what: Any) -> None:
        seen.extend(what)

    scope: Scope = {"type": "http", "headers": []}
    client = Client()
    await SocketFlow(app)(scope, client.says.get, client.send)
    assert seen == [scope, client.says.get, client.send]


async def _steady(read: Callable[[], int]) -> None:
    """Return when what `read` gives changes no more."""
    before = -1
    while before != (now := read()):
        before = now
        await asyncio.sleep(0.05)
