"""The router's ASGI edge: limits, request id, headers of every reply, uncaught errors."""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.config.session_settings import SessionSettings
from deployments.http.bodies.pace import Pace, PacedBody
from deployments.http.bodies.rest import discard
from deployments.http.body_along import with_body_along
from deployments.http.errors import answer_error
from deployments.http.request_id import REQUEST_ID_HEADER, request_id_of
from deployments.http.sessions.flow import with_flow
from deployments.stages.room import Room
from deployments.telemetry.tracing.tracer import NOT_TRACING, Tracer
from pipeline.errors import CapacityError, InputError, TooLargeError, TooSlowError
from pipeline.serving.tracing import UNTRACED, Trace, inside

DISCARD_BODIES = 4  # times the limit that are read and dropped: a client that sends reads no reply
_METHODS_THAT_LOOK = frozenset({"GET", "HEAD", "OPTIONS"})
_DENIAL = "websocket.http.response"  # ASGI's extension for refusing a WebSocket with a reply
_STARTS = frozenset({"http.response.start", f"{_DENIAL}.start"})
_NORMAL_CLOSURE, _FAULT_INSIDE, _TRY_LATER = 1000, 1011, 1013


class Edge:
    """Pure ASGI middleware.

    Adds no task and no buffer, so cancellation and streaming pass through unchanged.
    max_body_bytes: of a request. pace: of its body, as slow as it may be. max_requests: concurrent
    requests; GET, HEAD and OPTIONS do not count and always pass; None: unlimited. sockets: of
    WebSockets, which do not count among them. has_proxy: Serve's proxy is in front, which gives
    every request an id and adds it to the reply itself. tracer: begins the traces of requests that
    count.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_body_bytes: int,
        pace: Pace | None = None,
        max_requests: int | None = None,
        sockets: SessionSettings | None = None,
        has_proxy: bool = False,
        tracer: Tracer = NOT_TRACING,
    ) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._pace = pace or Pace()
        self._room = None if max_requests is None else Room("router", max_requests)
        sockets = sockets or SessionSettings()
        self._socket_room = Room("router's part for WebSockets", sockets.max_sessions)
        self._window_bytes = sockets.window_bytes
        self._has_proxy = has_proxy
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve's proxy buffers a whole body before this limit applies.

        Limit it at the load balancer as well.
        """
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        receive = with_body_along(scope, receive)
        headers = Headers(scope=scope)
        given = headers.get(REQUEST_ID_HEADER)
        request_id = request_id_of(given)
        scope.setdefault("state", {})["request_id"] = request_id
        if scope["type"] == "websocket":
            receive, send = with_flow(scope, receive, send, self._window_bytes)
            await self._converse(scope, receive, _Socket(scope, send, request_id))
            return
        is_echoed = self._has_proxy and given is not None
        reply = _Reply(send, None if is_echoed else request_id)
        trace = self._traced(scope, headers, request_id)
        try:
            with inside(trace):
                await self._answer(scope, headers, receive, reply)
        except BaseException as error:
            trace.ended(error, status=reply.status)
            raise
        trace.ended(status=reply.status)

    def _traced(self, scope: Scope, headers: Headers, request_id: str) -> Trace:
        if scope["method"] in _METHODS_THAT_LOOK:
            return UNTRACED
        told = {"request_id": request_id, "method": scope["method"], "path": scope["path"]}
        return self._tracer.begun("request", headers, **told)

    async def _answer(
        self, scope: Scope, headers: Headers, receive: Receive, reply: _Reply
    ) -> None:
        request_id: str = scope["state"]["request_id"]
        try:
            await self._serve(scope, headers, receive, reply)
        except _BodyTooLargeError:
            await discard(receive, DISCARD_BODIES * self._max_body_bytes)
            limit = f"the request body is over the limit of {self._max_body_bytes} bytes"
            refusal = answer_error(TooLargeError(limit, param="body"), request_id)
            refusal.headers["connection"] = "close"  # a longer body is not read to its end
            await refusal(scope, receive, reply.send)
        except _BodyTooSlowError:
            if reply.has_started:
                raise  # cuts the stream, as any other fault does
            slow = TooSlowError("the request's body was too slow to come", param="body")
            refusal = answer_error(slow, request_id)
            refusal.headers["connection"] = "close"  # what comes of it yet is no request
            await refusal(scope, receive, reply.send)
        except ClientDisconnect:
            return  # nobody is left to read a reply
        except Exception as error:
            if reply.has_started:
                raise  # cuts the stream: its status was sent already
            await answer_error(error, request_id)(scope, receive, reply.send)

    async def _converse(self, scope: Scope, receive: Receive, socket: _Socket) -> None:
        try:
            with self._socket_room.taken():
                await self._app(scope, receive, socket.send)
        except Exception as error:
            if not await socket.refused(error):
                raise  # logged by the server, as what cuts a stream is

    async def _serve(self, scope: Scope, headers: Headers, receive: Receive, reply: _Reply) -> None:
        body = _Body(receive, self._max_body_bytes, self._pace, reply)
        declared = headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > self._max_body_bytes:
            raise _BodyTooLargeError
        if self._room is None or scope["method"] in _METHODS_THAT_LOOK:
            await self._app(scope, body.receive, reply.send)
            return
        with self._room.taken():
            await self._app(scope, body.receive, reply.send)


class _Reply:
    """Adds the common headers to a reply. request_id: None leaves that header out."""

    def __init__(self, send: Send, request_id: str | None) -> None:
        self._send = send
        self._request_id = request_id
        self._started_s = time.perf_counter()
        self.has_started = False
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] in _STARTS:
            self.has_started = True
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            if self._request_id is not None:
                headers[REQUEST_ID_HEADER] = self._request_id
            headers.setdefault("x-cache", "none")
            total_ms = (time.perf_counter() - self._started_s) * 1e3
            headers.setdefault("server-timing", f"total;dur={total_ms:.1f}")
        await self._send(message)


class _Socket:
    """A WebSocket's messages; a refusal before it is accepted is sent as an HTTP reply."""

    def __init__(self, scope: Scope, send: Send, request_id: str) -> None:
        self._scope = scope
        self._send = send
        self._request_id = request_id
        self._is_open = False

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.accept":
            self._is_open = True
            named = (REQUEST_ID_HEADER.encode(), self._request_id.encode())
            message = {**message, "headers": [*message.get("headers", ()), named]}
        if kind != "websocket.close" or self._is_open or not self._can_deny:
            await self._send(message)
            return
        refusal = InputError(message.get("reason") or "no WebSocket is served here")
        is_unknown = message.get("code", _NORMAL_CLOSURE) == _NORMAL_CLOSURE
        await self._deny(refusal, HTTPStatus.NOT_FOUND if is_unknown else HTTPStatus.FORBIDDEN)

    async def refused(self, error: Exception) -> bool:
        """Tell the client of `error`, the end of it all. False once the WebSocket was accepted."""
        if self._is_open:
            await self._send({"type": "websocket.close", "code": _FAULT_INSIDE})
        elif self._can_deny:
            await self._deny(error)
        else:
            code = _TRY_LATER if isinstance(error, CapacityError) else _FAULT_INSIDE
            await self._send({"type": "websocket.close", "code": code})
        return not self._is_open

    @property
    def _can_deny(self) -> bool:
        return _DENIAL in self._scope.get("extensions", {})

    async def _deny(self, error: Exception, status: int | None = None) -> None:
        response = answer_error(error, self._request_id)
        response.status_code = status or response.status_code
        reply = _Reply(self._send, self._request_id)
        await response(self._scope, _nothing_to_receive, reply.send)


async def _nothing_to_receive() -> Message:
    return {"type": "websocket.disconnect"}


class _BodyTooLargeError(BaseException):
    """Unwinds the application while it reads a body without a declared length.

    A BaseException, so that no handler catches it.
    """


class _BodyTooSlowError(BaseException):
    """The same for one that is too slow to come."""


class _Body:
    """A request's body on its way to the application, which must not wait for it for ever."""

    def __init__(self, receive: Receive, limit_bytes: int, pace: Pace, reply: _Reply) -> None:
        self._receive = receive
        self._left_bytes = limit_bytes
        self._paced = PacedBody(pace)
        self._reply = reply
        self._is_whole = False

    async def receive(self) -> Message:
        message = await self._next()
        n_bytes = len(message.get("body", b""))
        self._paced.came(n_bytes)
        self._is_whole = not message.get("more_body", False)
        self._left_bytes -= n_bytes
        if self._left_bytes < 0:
            raise _BodyTooLargeError
        return message

    async def _next(self) -> Message:
        """Of a request that is being answered nothing is waited for but its end."""
        if self._is_whole or self._reply.has_started:
            return await self._receive()
        try:
            async with asyncio.timeout(self._paced.patience_s):
                return await self._receive()
        except TimeoutError:
            if self._reply.has_started:
                return await self._receive()
            raise _BodyTooSlowError from None
