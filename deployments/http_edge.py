"""The ASGI edge of the router: body limit, request id, and the headers that every reply carries.

Knows no route.
"""

from __future__ import annotations

import json
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.http_errors import error_body

REQUEST_ID_HEADER = "x-request-id"


class Edge:
    """Pure ASGI middleware.

    Adds no task and no buffer, so cancellation and streaming pass through untouched.
    """

    def __init__(self, app: ASGIApp, *, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve's proxy buffers a whole body before it gets here.

        Cap it at the load balancer as well.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        proxied_id = headers.get(REQUEST_ID_HEADER)  # Serve's proxy makes one and echoes it itself
        request_id = proxied_id or uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        started_s = time.perf_counter()

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                reply = MutableHeaders(scope=message)
                if proxied_id is None:
                    reply[REQUEST_ID_HEADER] = request_id
                reply.setdefault("x-cache", "none")
                total_ms = (time.perf_counter() - started_s) * 1e3
                reply.setdefault("server-timing", f"total;dur={total_ms:.1f}")
            await send(message)

        body = _CountedBody(receive, self._max_body_bytes)
        declared = headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > self._max_body_bytes:
            await _refuse(send_with_headers, self._max_body_bytes)
            return
        try:
            await self._app(scope, body.receive, send_with_headers)
        except _BodyTooLargeError:
            await _refuse(send_with_headers, self._max_body_bytes)


class _BodyTooLargeError(BaseException):
    """Unwinds the application while it reads a body without a declared length.

    BaseException: no handler may eat it.
    """


class _CountedBody:
    def __init__(self, receive: Receive, limit_bytes: int) -> None:
        self._receive = receive
        self._left_bytes = limit_bytes

    async def receive(self) -> Message:
        message = await self._receive()
        self._left_bytes -= len(message.get("body", b""))
        if self._left_bytes < 0:
            raise _BodyTooLargeError
        return message


async def _refuse(send: Send, limit_bytes: int) -> None:
    status = 413
    body = error_body(
        f"the request body is over the limit of {limit_bytes} bytes",
        status,
        code="too_large",
        param="body",
    )
    payload = json.dumps(body).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(payload)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": payload})
