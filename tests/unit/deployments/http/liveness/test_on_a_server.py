"""What a client of uvicorn, which Serve's proxy runs on, sees of a router that falls silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from deployments.http.liveness import signs
from deployments.http.liveness.signs import HearsSigns, TellsSigns
from tests.uvicorn_server import uvicorn_serving

pytestmark = pytest.mark.unit


async def falls_silent(scope: Scope, receive: Receive, send: Send) -> None:
    """After audio, or before, by its path; signs of a router end with its machine."""
    if scope["path"] == "/well":
        await TellsSigns(_well)(scope, receive, send)
        return
    if scope["path"] == "/audio":
        marked = {signs._HEARD: True}  # it gave signs until then
        await send({"type": "http.response.start", "status": 200, "headers": [], **marked})
        await send({"type": "http.response.body", "body": b"audio", "more_body": True})
    await asyncio.sleep(1e6)


async def _well(scope: Scope, receive: Receive, send: Send) -> None:
    del scope, receive
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"well"})


@pytest.fixture
async def client(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    monkeypatch.setattr(signs, "SILENCE_S", 0.2)
    async with (
        uvicorn_serving(HearsSigns(falls_silent)) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as one,
    ):
        assert (await one.get("/well")).content == b"well"
        yield one


async def test_before_audio_it_is_a_503_to_be_retried(client: httpx.AsyncClient) -> None:
    reply = await client.get("/nothing")
    assert reply.status_code == httpx.codes.SERVICE_UNAVAILABLE
    assert int(reply.headers["retry-after"]) > 0
    assert reply.json()["error"]["code"]


async def test_after_audio_the_connection_breaks_off(client: httpx.AsyncClient) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        await client.get("/audio")
