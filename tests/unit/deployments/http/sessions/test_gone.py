"""A client that is gone ends its session, whoever notices first."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from deployments.http.sessions.speaker import Speaker, Utterance, Work
from deployments.http.sessions.wire import ClientGoneError, Wire
from deployments.telemetry.sessions import SessionMetrics
from tests.http_app import HttpApp, http_app
from tests.talk import talk

pytestmark = pytest.mark.unit
SOON_S = 5.0  # idle sessions last longer


class Line:
    """The application behind a server whose sending fails once the line is cut."""

    def __init__(self, app: HttpApp) -> None:
        self._app = app.app
        self.is_cut = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_or_fail(message: Message) -> None:
            if self.is_cut:
                raise OSError("the line is cut")
            await send(message)

        await self._app(scope, receive, send_or_fail)


async def test_who_is_gone_while_the_session_speaks_ends_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No message says so: the server has not noticed yet."""
    reasons: list[str] = []
    monkeypatch.setattr(SessionMetrics, "ended", lambda _, reason: reasons.append(reason))
    async with http_app(is_telling=True) as app:
        speaker: Any = app.speaker
        speaker.step = asyncio.Semaphore(1)
        line = Line(app)
        async with talk(line) as one:
            one.configure()
            one.say("input.text", text="Hello there.")
            one.say("input.done")
            await one.until("audio.start")
            line.is_cut = True
            speaker.step.release()
            async with asyncio.timeout(SOON_S):
                await asyncio.wait([one.serving])
    assert reasons == ["gone"]
    assert speaker.open_streams == 0
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_whoever_says_something_to_a_client_that_is_gone_is_told_so_each_time() -> None:
    async def receive() -> Message:
        return {"type": "websocket.connect"}

    sent: list[Message] = []

    async def send(message: Message) -> None:
        if sent:
            raise OSError("the line is cut")
        sent.append(message)

    socket = WebSocket({"type": "websocket", "path": "/", "headers": []}, receive, send)
    await socket.accept()
    wire = Wire(socket, "me")
    for _ in range(2):
        with pytest.raises(ClientGoneError):
            await wire.say("pong")


async def test_more_work_does_not_hide_that_the_client_is_gone() -> None:
    class Cut:
        async def say(self, kind: str, **fields: Any) -> None:
            raise ClientGoneError

    def refuse(*_: object) -> Any:
        raise AssertionError("nothing is to be spoken")

    wire: Any = Cut()
    setup: Any = None
    speaker = Speaker(wire, refuse, "me")
    speaker.append(Work(Utterance(0), setup, None))
    failed = speaker.task
    assert failed is not None
    await asyncio.wait([failed])
    speaker.append(Work(Utterance(1), setup, None))
    assert speaker.task is failed
    with pytest.raises(ClientGoneError):
        failed.result()
