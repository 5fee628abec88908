"""What Serve's proxy lets in: no orders of callers, no heads without an end, no bodies without."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any

import pytest
from ray.serve._private.http_util import _apply_middlewares
from ray.serve._private.proxy_request_response import ASGIProxyRequest
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.config import HTTP_PROTOCOLS

from deployments.http.bodies import pace as paces
from deployments.http.bodies.pace import Pace
from deployments.http.edge import Edge
from deployments.http.inlet import patience
from deployments.http.inlet.controls import OBEYED, SESSION_HEADER_VARIABLE, WithoutControls
from deployments.http.inlet.pages import WithoutRoutes
from deployments.http.inlet.patience import PatientProtocol
from deployments.http.inlet.room import BodyRoom
from deployments.http.proxy import LONGEST_REPLY_S, set_up_proxy
from deployments.http.request_id import REQUEST_ID_HEADER
from deployments.http.sessions.flow import TIMEOUT_HEADER
from tests.uvicorn_server import uvicorn_serving
from tests.waiting import GIVE_UP_S, until

pytestmark = pytest.mark.unit
HEAD = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"


async def nothing(*_: Any) -> Any:
    raise AssertionError("nothing is received or sent")


async def names_behind(app: Callable[[ASGIApp], ASGIApp], kind: str, *names: str) -> list[str]:
    seen: list[Scope] = []

    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    raw = [(name.encode(), b"?1") for name in names]
    await app(proxy)({"type": kind, "path": "/v1/tts", "headers": raw}, nothing, nothing)
    assert [name for name, _ in raw] == [name.encode() for name in names]
    return [name.decode() for name, _ in seen[0]["headers"]]


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_what_the_proxy_obeys_is_taken_from_callers(kind: str):
    spelt = [name.replace("-", "_") for name in OBEYED] + [name.title() for name in OBEYED]
    sent = (*OBEYED, *spelt, "x-serve-router-replica", "x-request-id", "accept", "x-session")
    left = ["x-request-id", "accept", "x-session"]
    assert await names_behind(WithoutControls, kind, *sent) == left


async def test_the_header_of_sessions_may_have_another_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(SESSION_HEADER_VARIABLE, "X_Sticky")
    assert await names_behind(WithoutControls, "http", "x-sticky", "x-session-id", "a") == ["a"]


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("root", ["", "/speech"])
async def test_the_proxys_page_of_applications_is_nobodys(kind: str, root: str):
    """By Serve's own opinion of what such a request is."""
    seen: list[ASGIProxyRequest] = []

    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(ASGIProxyRequest(scope, receive, send))

    app = WithoutRoutes(proxy)
    for path in ("/-/routes", "/-/healthz", "/v1/tts"):
        asked = {"type": kind, "path": root + path, "root_path": root}
        is_page = ASGIProxyRequest(dict(asked), nothing, nothing).is_route_request
        assert is_page == (path == "/-/routes")
        await app(asked, nothing, nothing)
    assert not any(one.is_route_request for one in seen)
    assert [one.is_health_request for one in seen] == [False, True, False]
    assert [one.route_path for one in seen] == ["/-/routes/", "/-/healthz", "/v1/tts"]


@pytest.mark.parametrize("header", ["x-request-timeout-seconds", "x_request_timeout_seconds"])
async def test_only_our_own_word_on_time_reaches_the_proxy(
    monkeypatch: pytest.MonkeyPatch, header: str
):
    """By all of our middlewares, as Serve itself puts them around its proxy."""
    monkeypatch.setitem(HTTP_PROTOCOLS, "auto", HTTP_PROTOCOLS["auto"])
    seen: list[Scope] = []

    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    app = _apply_middlewares(proxy, set_up_proxy())

    async def send(_: Message) -> None:
        return

    raw = [(header.encode(), b"7"), (b"x-request-disconnect-disabled", b"?1")]
    for kind, path in (("http", "speech"), ("http", "jobs"), ("websocket", "speech/stream")):
        scope = {"type": kind, "path": f"/v1/audio/{path}", "headers": raw}
        await app(scope, nothing, send)
    speech, jobs, session = (
        {name: value for name, value in one["headers"] if name != REQUEST_ID_HEADER.encode()}
        for one in seen
    )
    assert speech == {TIMEOUT_HEADER.encode(): str(LONGEST_REPLY_S).encode()}
    assert not jobs
    assert session == {TIMEOUT_HEADER.encode(): b"0"}


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body, is_more = b"", True
    while is_more:
        message = await receive()
        body, is_more = body + message.get("body", b""), message.get("more_body", False)
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def early(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers before it has read anything."""
    headers = [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def serving(app: ASGIApp) -> AbstractAsyncContextManager[int]:
    """A server made as Ray's proxy makes its own: its port."""
    return uvicorn_serving(app, http=PatientProtocol, timeout_keep_alive=90)


@asynccontextmanager
async def connected(
    port: int,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def dribble(writer: asyncio.StreamWriter, text: bytes, every_s: float) -> None:
    for byte in text:
        writer.write(bytes([byte]))
        await asyncio.sleep(every_s)


async def said_to(
    port: int, first: bytes, drops: bytes = b"", every_s: float = 0.02
) -> tuple[bytes, float]:
    """All that the server says until it closes, and after how long."""
    began_s = time.monotonic()
    async with asyncio.timeout(GIVE_UP_S), connected(port) as (reader, writer):
        writer.write(first)
        drip = asyncio.create_task(dribble(writer, drops, every_s))
        said = await all_of(reader)
        drip.cancel()
        await asyncio.gather(drip, return_exceptions=True)
    return said, time.monotonic() - began_s


async def all_of(reader: asyncio.StreamReader) -> bytes:
    """What comes until the end, or until the connection is reset: there were bytes on their way."""
    said = b""
    with suppress(ConnectionError):
        while piece := await reader.read(65_536):
            said += piece
    return said


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "HEAD_S", 0.2)
    monkeypatch.setattr(patience, "REST_S", 0.2)
    monkeypatch.setattr(paces, "START_S", 0.5)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    ("first", "drops", "says"),
    [
        (b"", b"", b""),
        (b"GET / HT", b"", b"408"),
        (b"GET / HTTP/1.1\r\n", b"a: b\r\n" * 99, b"408"),
    ],
    ids=["nothing", "a part", "a byte now and then"],
)
async def test_a_head_that_does_not_come_is_given_up(first: bytes, drops: bytes, says: bytes):
    async with serving(echo) as port:
        said, took_s = await said_to(port, first, drops)
    assert said[9:12] == says
    assert 0.15 < took_s < 2


@pytest.mark.usefixtures("hasty")
async def test_a_head_after_another_request_is_given_up_too():
    ok = HEAD % 2 + b"ab"
    async with serving(echo) as port:
        said, took_s = await said_to(port, ok, b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 99)
    assert said.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 408 " in said
    assert took_s < 2


@pytest.mark.usefixtures("hasty")
async def test_the_rest_of_an_answered_body_is_not_waited_for():
    async with serving(early) as port:
        said, took_s = await said_to(port, HEAD % 1000, b"x" * 900)
    assert said.startswith(b"HTTP/1.1 200 ")
    assert took_s < 2


@pytest.mark.usefixtures("hasty")
async def test_a_connection_between_requests_is_kept():
    """Idle for longer than a head may take, and then good for another request."""
    async with serving(echo) as port, connected(port) as (reader, writer):
        for _ in range(3):
            writer.write(HEAD % 2 + b"ab")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            assert await reader.readexactly(2) == b"ab"
            await asyncio.sleep(0.3)


@pytest.mark.usefixtures("hasty")
async def test_a_body_that_takes_longer_than_a_head_is_read():
    edge = Edge(echo, max_body_bytes=1000, pace=Pace(silence_s=0.3, slowest_bytes_s=20))
    async with serving(edge) as port, connected(port) as (reader, writer):
        writer.write(HEAD % 30)
        await dribble(writer, b"x" * 30, 0.02)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    ("drops", "slowest_bytes_s"), [(b"", 1), (b"x" * 900, 1000)], ids=["silence", "drops"]
)
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_body_that_is_too_slow_is_a_408(
    drops: bytes, slowest_bytes_s: int, is_chunked: bool
):
    edge = Edge(echo, max_body_bytes=1000, pace=Pace(0.3, slowest_bytes_s))
    first = HEAD % 1000
    if is_chunked:
        first = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3e7\r\n"
    async with serving(edge) as port:
        said, took_s = await said_to(port, first, drops)
    assert said.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"request_timeout"' in said
    assert b"x-request-id" in said
    assert took_s < 3


async def test_a_stream_is_not_cut_for_what_its_client_does_not_send():
    """A client that has sent its body says nothing more while it listens."""

    async def long(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        gone = asyncio.ensure_future(receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(5):
            await asyncio.sleep(0.05)
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
        assert not gone.done()
        gone.cancel()
        await send({"type": "http.response.body", "body": b""})

    edge = Edge(long, max_body_bytes=1000, pace=Pace(0.05, 1_000_000))
    head = b"POST /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1\r\n\r\na"
    async with serving(edge) as port:
        said, _ = await said_to(port, head)
    assert said.count(b"1\r\na\r\n") == 5
    assert said.endswith(b"0\r\n\r\n")


@pytest.mark.slow
async def test_who_takes_nothing_of_a_reply_is_given_up(monkeypatch: pytest.MonkeyPatch):
    """Who takes it slowly is not, and gets all of it."""
    monkeypatch.setattr(patience, "TAKE_S", 0.4)
    piece, n_pieces = b"x" * 100_000, 300
    ended = asyncio.Event()

    async def audio(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(n_pieces):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        ended.set()

    async with serving(audio) as port:
        async with asyncio.timeout(GIVE_UP_S), connected(port) as (_, writer):
            writer.transport.pause_reading()
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await ended.wait()  # what is sent to nobody is thrown away
        async with asyncio.timeout(GIVE_UP_S), connected(port) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            n_bytes = 0
            while taken := await reader.read(500_000):
                n_bytes += len(taken)
                await asyncio.sleep(0.01)
            assert n_bytes > n_pieces * len(piece)


class Client:
    """Sends bodies piece by piece; keeps what it is told."""

    def __init__(self, *pieces: int) -> None:
        self._left = [b"x" * n for n in pieces]
        self.told: list[Message] = []

    async def receive(self) -> Message:
        if not self._left:
            return {"type": "http.disconnect"}
        body = self._left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(self._left)}

    async def send(self, message: Message) -> None:
        self.told.append(message)

    @property
    def status(self) -> int:
        return self.told[0]["status"]

    async def ask(self, app: Callable[..., Awaitable[None]]) -> int:
        await app({"type": "http", "headers": [], "path": "/"}, self.receive, self.send)
        return self.status


async def test_bodies_on_their_way_have_a_room_together():
    waiting: list[asyncio.Event] = []

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        """As Serve's proxy: reads whatever comes, and ends when the client went away."""
        while (message := await receive())["type"] != "http.disconnect":
            if not message["more_body"]:
                waiting.append(asyncio.Event())
                await waiting[-1].wait()
                await early(scope, receive, send)
                return

    room = BodyRoom(slow, most_bytes=1000)
    first = asyncio.create_task(Client(200, 250).ask(room))
    second = asyncio.create_task(Client(450).ask(room))
    await until(lambda: len(waiting) == 2)
    assert room.held_bytes == 900
    over = Client(50, 60, 70)
    assert await over.ask(room) == 503
    assert dict(over.told[0]["headers"])[b"retry-after"] == b"1"
    assert await Client(400, 101).ask(room) in {413, 503}
    assert room.held_bytes == 900, "who was refused holds nothing"
    for event in waiting:
        event.set()
    assert (await first, await second, room.held_bytes) == (200, 200, 0)
    assert await Client(501).ask(room) == 413, "more than half is nobody's"


async def test_what_was_answered_is_held_no_longer():
    held: list[int] = []

    async def streams(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        held.append(room.held_bytes)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        held.append(room.held_bytes)
        await send({"type": "http.response.body", "body": b"x"})

    room = BodyRoom(streams, most_bytes=1000)
    assert await Client(300).ask(room) == 200
    assert held == [300, 0]
