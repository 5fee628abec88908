"""Signs of life of a router to Serve's proxy, which waits for it as long as it gives them.

A request may take minutes, and a router whose machine lost its power or its network closes no
connection: the proxy, and with it the client, would wait for `request_timeout_s`. So in the router
`TellsSigns` sends a message of its own among those of a reply, every second of a wait; in the proxy
`HearsSigns` takes them out. A router that says nothing for SILENCE_S has lost the request: its
client gets 503 with Retry-After, or, after audio, a broken connection.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.http.errors import answer_error
from deployments.http.request_id import REQUEST_ID_HEADER
from deployments.liveness.signs import EVERY_S
from pipeline.errors import StageUnavailableError

SILENCE_S = 5.0
UPDATE_S = 620.0  # a router that is replaced may go on: the shipped graceful_shutdown_timeout_s
_HEARD = "timbre.signs"  # key of a scope, and of a reply's first message; no client's get there
_NO_STATUS = 999  # of a message that is no reply's first
_ALIVE = "timbre.alive"  # type of the router's own messages to the proxy


class HearsSigns:
    """Pure ASGI middleware outside of Serve's proxy.

    It minds silence once a router has shown that it gives signs, and for UPDATE_S after a reply of
    one that does not, of before an update or after its rollback, it minds none.
    What the proxy itself says of a router that died, or of none that there is, becomes a 503 in our
    shape, with Retry-After.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._hears_signs = False
        self._older_s = -math.inf  # when a router without signs replied last

    @property
    def _minds(self) -> bool:
        return self._hears_signs and time.monotonic() - self._older_s >= UPDATE_S

    def _learn(self, *, gives_signs: bool) -> None:
        """A router has begun its reply."""
        if gives_signs:
            self._hears_signs = True
        else:
            self._older_s = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        reply = _Reply(send, self._learn, is_probe=scope["path"].startswith("/-/"))
        work = asyncio.ensure_future(self._app({**scope, _HEARD: True}, receive, reply.send))
        try:
            while not work.done() and not (self._minds and reply.silent_s >= SILENCE_S):
                left_s = SILENCE_S - reply.silent_s if self._minds else SILENCE_S
                await asyncio.wait([work], timeout=left_s)
        finally:
            reply.is_closed = not work.done()
            if reply.is_closed:
                work.cancel()
                await asyncio.wait([work])
        if not reply.is_closed:
            work.result()
        if not reply.has_started:
            lost = StageUnavailableError("no router answers")
            request_id = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
            await answer_error(lost, request_id)(scope, receive, send)


class _Reply:
    """What a router says. is_closed: nothing of it goes to the client any more.

    learn: told whether the router gives signs. is_probe: the request is for the proxy itself.
    """

    def __init__(self, send: Send, learn: Callable[..., None], *, is_probe: bool) -> None:
        self._send, self._learn = send, learn
        self._is_probe = is_probe
        self._heard_s = time.monotonic()
        self._is_sending = self._is_serves = False
        self.has_started = self.is_closed = False

    @property
    def silent_s(self) -> float:
        """Time since anything was heard; a client that takes its time is not the router's."""
        return 0.0 if self._is_sending else time.monotonic() - self._heard_s

    async def send(self, message: Message) -> None:
        self._heard_s = time.monotonic()
        is_routers = message.pop(_HEARD, False)
        if is_routers:
            self._learn(gives_signs=True)
        elif not self._is_probe and message.get("status", _NO_STATUS) < HTTPStatus.BAD_REQUEST:
            self._learn(gives_signs=False)  # the proxy alone says only what went wrong
        is_unavailable = message.get("status") == HTTPStatus.SERVICE_UNAVAILABLE
        self._is_serves = self._is_serves or (
            is_unavailable and not is_routers and not self._is_probe
        )
        if self.is_closed or self._is_serves or message["type"] == _ALIVE:
            return
        self.has_started = True
        self._is_sending = True
        try:
            await self._send(message)
        finally:
            self._is_sending = False
            self._heard_s = time.monotonic()


class TellsSigns:
    """Pure ASGI middleware around the router's application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not scope.pop(_HEARD, False):
            await self._app(scope, receive, send)
            return

        async def signed(message: Message) -> None:
            is_start = message["type"] == "http.response.start"
            await send({**message, _HEARD: True} if is_start else message)

        telling = asyncio.ensure_future(_tell(send))
        try:
            await self._app(scope, receive, signed)
        finally:
            telling.cancel()


async def _tell(send: Send) -> None:
    while True:
        await asyncio.sleep(EVERY_S)
        await send({"type": _ALIVE, _HEARD: True})
