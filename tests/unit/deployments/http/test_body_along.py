"""A small body goes with its request's head, a large or slow one as Serve hands it over."""

from __future__ import annotations

import asyncio
import pickle
from collections import deque
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from deployments.http import body_along
from deployments.http.body_along import BODY, MOST_BYTES, BodyAlong, with_body_along
from tests.http_app import http_app

pytestmark = pytest.mark.unit
GONE: Message = {"type": "http.disconnect"}


def head(declared: str | None, kind: str = "http") -> Scope:
    headers = [] if declared is None else [(b"content-length", declared.encode())]
    return {"type": kind, "headers": headers, "method": "POST", "path": "/"}


def pieces(*contents: bytes) -> list[Message]:
    last = len(contents) - 1
    return [
        {"type": "http.request", "body": content, "more_body": index < last}
        for index, content in enumerate(contents)
    ]


class Sender:
    """A client's messages; asked: how many were taken. What comes after the last is never sent."""

    def __init__(self, *messages: Message) -> None:
        self._messages = deque(messages)
        self.asked = 0

    async def receive(self) -> Message:
        self.asked += 1
        if not self._messages:
            await asyncio.Event().wait()
        return self._messages.popleft()


class Serve:
    """The proxy behind the middleware: what it would hand to a router."""

    def __init__(self) -> None:
        self.scope: Scope = {}
        self.receive: Receive

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del send
        self.scope, self.receive = pickle.loads(pickle.dumps(scope)), receive  # noqa: S301 - our own bytes


async def send(_message: Message) -> None:
    raise AssertionError("nothing is to be sent")


async def through_proxy(scope: Scope, sender: Sender) -> Serve:
    serve = Serve()
    await BodyAlong(serve)(scope, sender.receive, send)
    return serve


@pytest.mark.parametrize("contents", [(b"ab",), (b"a", b"", b"b"), (b"", b"ab")])
async def test_a_small_body_comes_along_and_once(contents: tuple[bytes, ...]):
    sender = Sender(*pieces(*contents), GONE)
    serve = await through_proxy(head("2"), sender)
    receive = with_body_along(serve.scope, serve.receive)
    asked = sender.asked
    assert await receive() == pieces(b"ab")[0]
    assert sender.asked == asked, "the router asks the proxy for nothing"
    assert BODY not in serve.scope
    assert await receive() == GONE, "Serve's copy of the body is passed over"


@pytest.mark.parametrize(
    ("declared", "kind"),
    [
        (None, "http"),
        ("0", "http"),
        ("nonsense", "http"),
        (str(MOST_BYTES + 1), "http"),
        ("2", "websocket"),
        ("2", "lifespan"),
    ],
)
async def test_others_take_serves_way(declared: str | None, kind: str):
    sender = Sender(*pieces(b"ab"), GONE)
    serve = await through_proxy(head(declared, kind), sender)
    assert (sender.asked, BODY in serve.scope) == (0, False)
    receive = with_body_along(serve.scope, serve.receive)
    assert [await receive(), await receive()] == [*pieces(b"ab"), GONE]


async def test_a_slow_body_takes_serves_way_from_where_it_is(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(body_along, "PATIENCE_S", 0.05)
    first, second = pieces(b"a", b"b")
    sender = Sender(first)
    serve = await through_proxy(head("2"), sender)
    assert BODY not in serve.scope
    sender._messages.append(second)
    receive = with_body_along(serve.scope, serve.receive)
    assert [await receive(), await receive()] == [first, second]


@pytest.mark.parametrize("contents", [(), (b"a", b"")])
async def test_a_client_that_goes_away_is_known_to_have_gone(contents: tuple[bytes, ...]):
    sent = pieces(*contents)[:1]
    serve = await through_proxy(head("2"), Sender(*sent, GONE))
    assert BODY not in serve.scope
    receive = with_body_along(serve.scope, serve.receive)
    assert [await receive() for _ in range(len(sent) + 1)] == [*sent, GONE]


async def test_replies_are_the_same_either_way():
    async with http_app() as app:
        transport: Any = httpx.ASGITransport(BodyAlong(app.app), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://timbre") as along:
            for body in ({"input": "Hello.", "response_format": "wav", "seed": 7}, {}, []):
                ours = await along.post("/v1/audio/speech", json=body)
                usual = await app.http.post("/v1/audio/speech", json=body)
                assert (ours.status_code, ours.content) == (usual.status_code, usual.content)
            large = await along.post("/v1/audio/speech", content=b"{" + b" " * 2 * MOST_BYTES)
            assert large.status_code == httpx.codes.BAD_REQUEST
