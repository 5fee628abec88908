"""The headers of every reply, whatever happens inside, and what the edge keeps out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse
from starlette.types import Message, Scope

from deployments.http.edge import Edge
from deployments.http.ingress import add_error_handlers
from deployments.http.request_id import CleanRequestId, request_id_of
from pipeline.errors import CapacityError, StageError, TextError

pytestmark = pytest.mark.unit

HEADERS = ("x-request-id", "server-timing", "x-cache")
LIMIT_BYTES = 1000


class Door:
    """Requests to /held wait here."""

    def __init__(self) -> None:
        self.entered = asyncio.Semaphore(0)
        self.open = asyncio.Event()


def make_app(door: Door | None = None, **options: Any) -> FastAPI:
    app = FastAPI()
    app.add_middleware(Edge, max_body_bytes=LIMIT_BYTES, **options)
    add_error_handlers(app)

    @app.get("/ok")
    async def ok(request: Request) -> str:
        return request.state.request_id

    @app.post("/echo")
    async def echo(request: Request) -> int:
        return len(await request.body())

    @app.get("/fails/{how}")
    async def fails(how: str) -> None:
        raise {
            "input": TextError("empty", param="input"),
            "full": CapacityError("full"),
            "stage": StageError("the LLM failed", detail="secret"),
            "bug": ZeroDivisionError("secret"),
        }[how]

    @app.get("/validated")
    async def validated(number: int) -> int:
        return number

    @app.get("/cut")
    async def cut() -> StreamingResponse:
        async def pieces() -> AsyncGenerator[bytes]:
            yield b"first"
            raise ZeroDivisionError("secret")

        return StreamingResponse(pieces())

    @app.api_route("/held", methods=["GET", "POST"])
    async def held() -> str:
        if door is not None:
            door.entered.release()
            await door.open.wait()
        return "held"

    return app


def client_of(app: FastAPI, **options: Any) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, **options)
    return httpx.AsyncClient(transport=transport, base_url="http://router")


REPLIES = [
    ("GET", "/ok", 200),
    ("GET", "/nothing", 404),
    ("DELETE", "/ok", 405),
    ("HEAD", "/ok", 405),
    ("OPTIONS", "/ok", 405),
    ("GET", "/validated?number=x", 400),
    ("GET", "/fails/input", 422),
    ("GET", "/fails/full", 503),
    ("GET", "/fails/stage", 500),
    ("GET", "/fails/bug", 500),
]


@pytest.mark.parametrize(("method", "path", "status"), REPLIES)
async def test_every_reply_has_the_headers(method: str, path: str, status: int) -> None:
    async with client_of(make_app()) as client:
        reply = await client.request(method, path)
    assert reply.status_code == status
    for header in HEADERS:
        assert len(reply.headers.get_list(header)) == 1, header


async def test_a_body_over_the_limit_has_them_too() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * (LIMIT_BYTES // 2)

    async with client_of(make_app()) as client:
        declared = await client.post("/echo", content=b"x" * (LIMIT_BYTES + 1))
        chunked = await client.post("/echo", content=pieces())
        fits = await client.post("/echo", content=b"x" * LIMIT_BYTES)
    assert fits.json() == LIMIT_BYTES
    for reply in (declared, chunked):
        assert reply.status_code == 413
        assert reply.json()["error"]["param"] == "body"
        assert all(header in reply.headers for header in HEADERS)


@pytest.mark.parametrize("is_declared", [True, False])
@pytest.mark.parametrize(("n_pieces", "n_read"), [(6, 6), (100, 9)])
async def test_a_client_may_finish_sending_what_is_refused(
    is_declared: bool, n_pieces: int, n_read: int
) -> None:
    """Cut off while it sends, it would see a broken connection and no reason."""
    piece, read, sent = b"x" * (LIMIT_BYTES // 2), [0], []

    async def receive() -> Message:
        read[0] += 1
        return {"type": "http.request", "body": piece, "more_body": read[0] < n_pieces}

    async def send(message: Message) -> None:
        sent.append(message)

    length = str(len(piece) * n_pieces).encode()
    scope: Scope = {
        "type": "http",
        "method": "POST",
        "path": "/echo",
        "raw_path": b"/echo",
        "query_string": b"",
        "headers": [(b"content-length", length)] if is_declared else [],
    }
    await make_app()(scope, receive, send)
    assert sent[0]["status"] == 413
    assert n_read - 1 <= read[0] <= n_read + 2


async def test_what_nobody_foresaw_is_hidden_logged_and_does_not_escape(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with client_of(make_app(), raise_app_exceptions=True) as client:
        reply = await client.get("/fails/bug", headers={"x-request-id": "caller-1"})
    assert reply.headers["x-request-id"] == "caller-1"
    error = reply.json()["error"]
    assert error["code"] == "internal_error"
    assert "caller-1" in error["message"]
    assert "secret" not in reply.text
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "caller-1" in record.getMessage()
    assert record.exc_info is not None


async def test_a_stream_that_breaks_is_cut() -> None:
    async with client_of(make_app()) as client:
        with pytest.raises(ZeroDivisionError):
            await client.get("/cut")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("caller-4711", "caller-4711"),
        ("a1B2:/+=@._-", "a1B2:/+=@._-"),
        ("x" * 1000, "x" * 128),
        ("two words\x1b[31m\r\nFORGED line", "twowords31mFORGEDline"),
        ("Ünïcode☃", "ncode"),
    ],
)
def test_callers_ids_are_bounded_and_clean(given: str, kept: str) -> None:
    assert request_id_of(given) == kept


@pytest.mark.parametrize("given", [None, "", "☃☃", "\x00\x1b"])
def test_where_nothing_is_left_there_is_a_new_id(given: str | None) -> None:
    ids = {request_id_of(given) for _ in range(2)}
    assert len(ids) == 2
    assert all(len(one) == 32 for one in ids)


async def test_a_proxy_hears_of_clean_ids_only() -> None:
    """CleanRequestId outside of what echoes ids as they came, as Serve's proxy does."""
    echo = CleanRequestId(make_app())
    transport = httpx.ASGITransport(echo)
    async with httpx.AsyncClient(transport=transport, base_url="http://proxy") as client:
        odd = await client.get("/ok", headers={"X-Request-ID": "an id; " + "y" * 999})
        none = await client.get("/ok")
    assert odd.headers["x-request-id"] == odd.json() == "anid" + "y" * 124
    assert len(none.headers["x-request-id"]) == 32


async def test_serves_proxy_echoes_the_id_itself() -> None:
    async with client_of(make_app(has_proxy=True)) as client:
        reply = await client.get("/ok", headers={"x-request-id": "proxied"})
        bare = await client.get("/ok")
    assert reply.json() == "proxied"
    assert "x-request-id" not in reply.headers
    assert bare.headers["x-request-id"] == bare.json()


async def test_a_full_router_refuses_work_and_still_answers_probes() -> None:
    door = Door()
    async with client_of(make_app(door, max_requests=2)) as client:
        held = [asyncio.create_task(client.post("/held")) for _ in range(2)]
        for _ in held:
            await door.entered.acquire()
        refused = await client.post("/held")
        probe = await client.get("/ok")
        door.open.set()
        served = await asyncio.gather(*held)
        after = await client.post("/held")
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["error"]["code"] == "overloaded"
    assert all(header in refused.headers for header in HEADERS)
    assert [reply.status_code for reply in (probe, *served, after)] == [200] * 4


async def socket_messages(app: FastAPI, path: str, *, can_deny: bool) -> list[Message]:
    sent: list[Message] = []
    scope: Scope = {
        "type": "websocket",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
        "extensions": {"websocket.http.response": {}} if can_deny else {},
    }
    waiting = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}]

    async def receive() -> Message:
        return waiting.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


async def test_a_websocket_nobody_serves_gets_a_reply_with_the_headers() -> None:
    start, body = await socket_messages(make_app(), "/nothing", can_deny=True)
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 404)
    named = {name.decode() for name, _ in start["headers"]}
    assert set(HEADERS) <= named
    assert b"no WebSocket is served here" in body["body"]
    [plain] = await socket_messages(make_app(), "/nothing", can_deny=False)
    assert plain["type"] == "websocket.close"


async def test_a_websocket_that_is_served_is_left_alone() -> None:
    app = make_app()

    @app.websocket("/talk")
    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(socket.state.request_id)
        await socket.close()

    accepted, said, closed = await socket_messages(app, "/talk", can_deny=True)
    assert accepted["type"] == "websocket.accept"
    assert dict(accepted["headers"])[b"x-request-id"].decode() == said["text"]
    assert closed["type"] == "websocket.close"
