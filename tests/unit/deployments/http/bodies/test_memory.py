"""Large bodies: off the event loop, within a budget, and gone once their voice is made."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import threading
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import Request

from deployments.config.settings import load_settings
from deployments.http.bodies.budget import BodyBudget
from deployments.http.bodies.read import INLINE_BYTES, receive_body
from deployments.http.routes import speech as routes
from pipeline.contracts import VoiceReference
from pipeline.errors import CapacityError, ConfigError, InputError
from tests.http_app import CLIP, SAID, HttpApp, error_of, http_app
from tests.waiting import GIVE_UP_S, until

pytestmark = pytest.mark.unit
PADDED = CLIP + bytes(2**20)  # decoders pass over what follows the data of a wav
MIB = 2**20


def speech(clip: bytes) -> bytes:
    encoded = base64.b64encode(clip).decode()
    return json.dumps({"input": "Hello.", "ref_audio": encoded, "ref_text": SAID}).encode()


def upload(clip: bytes) -> bytes:
    payload = json.dumps({"input": "Hello.", "ref_text": SAID})
    part = '--B\r\nContent-Disposition: form-data; name="{}"{}\r\n\r\n'
    head = part.format("payload", "") + payload + "\r\n" + part.format("file", '; filename="c"')
    return head.encode() + clip + b"\r\n--B--\r\n"


BODIES = {
    "json": (speech, "application/json"),
    "form": (upload, "multipart/form-data; boundary=B"),
}


class Call:
    """One request to an ASGI application, by hand: its body is nobody else's."""

    def __init__(self, app: HttpApp, content: bytes, label: str) -> None:
        self.status = 0
        self.body = bytearray()
        self._messages = [{"type": "http.request", "body": content, "more_body": False}]
        self._gone = asyncio.Event()
        headers = [(b"content-type", label.encode()), (b"content-length", b"%d" % len(content))]
        scope = {
            "type": "http", "method": "POST", "path": "/v1/audio/speech", "headers": headers,
            "query_string": b"", "root_path": "", "http_version": "1.1", "scheme": "http",
        }  # fmt: skip
        self.task = asyncio.create_task(app.app(scope, self._receive, self._send))

    async def _receive(self) -> Any:
        if self._messages:
            return self._messages.pop()
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.status = message.get("status", self.status)
        self.body += message.get("body", b"")


@pytest.fixture
async def app():
    async with http_app() as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("kind", BODIES)
async def test_an_open_stream_holds_nothing_of_its_body(app: HttpApp, kind: str):
    make, label = BODIES[kind]
    await Call(app, make(CLIP), label).task  # what a first request loads is here to stay
    app.synthesizer.go.clear()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        call = Call(app, make(PADDED), label)
        await until(lambda: bool(call.body))
        gc.collect()
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert app.routes.budget.held_bytes == 0
    assert not call.task.done()
    assert held < MIB // 4, f"{held} bytes of a body of {len(PADDED)} live on"
    app.synthesizer.go.set()
    await call.task
    assert call.status == httpx.codes.OK


async def test_a_body_counts_until_its_voice_is_made(app: HttpApp, monkeypatch):
    content, gate = speech(CLIP), asyncio.Event()
    resolve = app.voices.resolve

    async def wait(reference: VoiceReference):
        await gate.wait()
        return await resolve(reference)

    monkeypatch.setattr(app.voices, "resolve", wait)
    app.synthesizer.go.clear()
    call = Call(app, content, "application/json")
    await until(lambda: app.routes.budget.held_bytes == len(content))
    gate.set()
    await until(lambda: bool(app.synthesizer.requests))
    assert app.routes.budget.held_bytes == 0
    app.synthesizer.go.set()
    await call.task


async def test_beyond_the_budget_a_body_is_told_to_come_again(monkeypatch):
    limits = {"max_body_bytes": 2 * MIB, "max_inflight_body_bytes": 2 * MIB}
    async with http_app(limits=limits) as app:
        app.routes.budget.take(2 * MIB - 1000)
        reply = await app.post(speech(CLIP), "application/json")
        assert (reply.status_code, error_of(reply)["code"]) == (503, "overloaded")
        assert int(reply.headers["retry-after"]) > 0
        warming = await app.post(CLIP, "audio/wav", "/v1/cache/warm")
        assert warming.status_code == 503
        assert (await app.speak(voice="aria")).status_code == httpx.codes.OK
        app.routes.budget.give(2 * MIB - 1000)
        assert (await app.post(speech(CLIP), "application/json")).status_code == httpx.codes.OK
        assert app.routes.budget.held_bytes == 0


@pytest.mark.parametrize(
    "content",
    [b"{", b'{"input": ""}', speech(b"RIFF but not"), speech(CLIP).replace(SAID[:9].encode(), b"")],
)
async def test_refused_bodies_are_counted_off(app: HttpApp, content: bytes):
    await app.post(content, "application/json")
    assert app.routes.budget.held_bytes == 0


async def test_undeclared_bytes_are_counted_as_they_come():
    budget, read = BodyBudget(100), []

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(10):
            read.append(budget.held_bytes)
            yield bytes(30)

    with pytest.raises(CapacityError), budget.hold() as hold:
        await receive_body(request(pieces()), hold)
    assert read == [0, 30, 60, 90]
    assert budget.held_bytes == 0


async def test_declared_bytes_are_counted_before_any_comes():
    budget = BodyBudget(100)
    with pytest.raises(CapacityError), budget.hold() as hold:
        await receive_body(request(none_may_be_read(), {"content-length": "101"}), hold)


async def test_a_cut_connection_is_the_callers_affair():
    async def receive() -> Any:
        return {"type": "http.disconnect"}

    with pytest.raises(InputError, match="closed"), BodyBudget(9).hold() as hold:
        await receive_body(Request({"type": "http", "headers": []}, receive), hold)


async def none_may_be_read() -> AsyncIterator[bytes]:
    raise AssertionError("the body was read")
    yield b""


def request(pieces: AsyncIterator[bytes], headers: dict[str, str] | None = None) -> Request:
    async def receive() -> Any:
        piece = await anext(pieces, None)
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    raw = [(k.encode(), v.encode()) for k, v in (headers or {}).items()]
    return Request({"type": "http", "headers": raw}, receive)


def test_one_body_must_fit():
    with pytest.raises(ConfigError, match="max_inflight_body_bytes"):
        load_settings({"limits": {"max_inflight_body_bytes": MIB}})


@pytest.mark.parametrize("kind", BODIES)
async def test_a_large_body_is_read_beside_the_event_loop(app: HttpApp, monkeypatch, kind: str):
    """The reader waits for the loop: on the loop itself it would wait for ever."""
    make, label = BODIES[kind]
    loop, read = asyncio.get_running_loop(), routes.read_speech
    turned: list[bool] = []

    def wait_for_the_loop(raw: Any) -> Any:
        turn = threading.Event()
        loop.call_soon_threadsafe(turn.set)
        turned.append(turn.wait(GIVE_UP_S if len(raw.content) > INLINE_BYTES else 0))
        return read(raw)

    monkeypatch.setattr(routes, "read_speech", wait_for_the_loop)
    content = make(CLIP)
    assert len(content) > INLINE_BYTES
    assert (await app.post(content, label)).status_code == httpx.codes.OK
    assert (await app.speak(voice="aria")).status_code == httpx.codes.OK
    assert turned == [True, False], "a small body is read where it is"
