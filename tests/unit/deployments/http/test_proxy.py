"""Serve's proxy reads requests that offer an upgrade: on uvicorn itself, as the proxy runs it."""

from __future__ import annotations

import asyncio
import importlib
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import yaml
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send
from uvicorn.config import HTTP_PROTOCOLS

from deployments.config.settings import Limits
from deployments.http.body_along import BodyAlong
from deployments.http.inlet.controls import WithoutControls
from deployments.http.inlet.pages import WithoutRoutes
from deployments.http.inlet.room import BodyRoom
from deployments.http.liveness.signs import HearsSigns
from deployments.http.proxy import LONGEST_REPLY_S, LongReplies, set_up_proxy
from deployments.http.request_id import CleanRequestId
from deployments.http.sessions.flow import TIMEOUT_HEADER, SocketFlow
from pipeline.audio.speed import MIN_SPEED
from tests.conftest import ROOT
from tests.http_app import http_app
from tests.uvicorn_server import uvicorn_serving
from tests.waiting import GIVE_UP_S

pytestmark = pytest.mark.unit
OFFERS = {
    "none": "",
    "h2c, as Java's client": (
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n"
    ),
    "TLS": "Connection: upgrade\r\nUpgrade: TLS/1.2\r\n",
    "nonsense": "Connection: Upgrade\r\nUpgrade: x/1, y\r\n",
    "without its connection header": "Upgrade: h2c\r\n",
}


async def echo(scope: Any, receive: Any, send: Any) -> None:
    body, is_more = b"", True
    while is_more:
        message = await receive()
        body, is_more = body + message["body"], message["more_body"]
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def serving() -> AbstractAsyncContextManager[int]:
    """A server made as Ray's proxy makes its own: its port."""
    return uvicorn_serving(echo)


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
@pytest.mark.parametrize("size", [0, 20, 300_000])
async def test_an_offer_to_upgrade_is_passed_over(monkeypatch, offer: str, size: int):
    monkeypatch.setitem(HTTP_PROTOCOLS, "auto", HTTP_PROTOCOLS["auto"])
    ours = [middleware.cls for middleware in set_up_proxy()]
    assert ours == [
        SocketFlow, BodyAlong, LongReplies, HearsSigns, BodyRoom, CleanRequestId,
        WithoutRoutes, WithoutControls,
    ]  # fmt: skip
    body = b"x" * size
    head = f"POST / HTTP/1.1\r\nHost: a\r\n{offer}Content-Length: {size}\r\n\r\n".encode()
    async with serving() as port, asyncio.timeout(GIVE_UP_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):  # the connection is good for another request
            writer.write(head)
            await asyncio.sleep(0)
            writer.write(body)
            reply = await reader.readuntil(b"\r\n\r\n")
            assert reply.startswith(b"HTTP/1.1 200 ")
            assert await reader.readexactly(size) == body
        writer.close()


async def seen_behind(path: str, kind: str = "http", **headers: str) -> Headers:
    """The headers that Serve's proxy gets."""
    seen: list[Scope] = []

    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        del receive, send
        seen.append(scope)

    async def unused(*_: object) -> Any:
        raise AssertionError("nothing is received or sent")

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope: Scope = {"type": kind, "path": path, "headers": raw}
    await LongReplies(proxy)(scope, unused, unused)
    assert scope["headers"] == raw, "the server's own are left alone"
    return Headers(raw=seen[0]["headers"])


async def test_every_route_of_long_texts_may_take_as_long_as_they_are_heard():
    async with http_app() as app:
        routes = [one for one in app.app.routes if isinstance(one, APIRoute)]
    posts = [one for one in routes if one.methods == {"POST"}]
    speaking = {one.path for one in posts if "audio/wav" in one.responses[200].get("content", {})}
    assert {"/v1/audio/speech", "/v1/tts", "/v1/text-to-dialogue/stream"} < speaking
    speaking.remove("/v1/audio/edits")  # whose texts are short
    for path in (*speaking, "/v1/audio/speech/batch"):
        seen = await seen_behind(path, x_request_timeout_seconds="5", x_request_id="me")
        assert seen.getlist(TIMEOUT_HEADER) == [str(LONGEST_REPLY_S)], path
        assert seen["x-request-id"] == "me"


@pytest.mark.parametrize(
    "path", ["/v1/audio/jobs", "/v1/audio/edits", "/v1/voices/add", "/health", "/", "/v1/audio"]
)
async def test_other_requests_keep_the_time_that_they_have(path: str):
    assert TIMEOUT_HEADER not in await seen_behind(path)


async def test_a_socket_keeps_the_time_that_it_has():
    assert TIMEOUT_HEADER not in await seen_behind("/v1/audio/speech/stream", "websocket")


@pytest.mark.parametrize(("chars_a_second", "speed"), [(15.0, 1.0), (15.0, MIN_SPEED), (4.0, 1.0)])
def test_the_longest_text_may_be_heard_to_its_end(chars_a_second: float, speed: float):
    """Of English, at the slowest too, and of Chinese."""
    longest_s = Limits().max_long_text_chars / chars_a_second / speed
    assert longest_s <= LONGEST_REPLY_S


@pytest.mark.parametrize("name", ["serve_config.cpu.yaml", "serve_config.yaml"])
def test_the_shipped_configs_tell_the_proxy(name: str):
    config = yaml.safe_load((ROOT / name).read_text())
    variables = config["controller_options"]["runtime_env"]["env_vars"]
    path = variables["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"]
    module, _, name = path.partition(":")
    assert getattr(importlib.import_module(module), name) is set_up_proxy
