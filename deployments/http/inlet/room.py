"""Bounds the bytes of request bodies that Serve's proxy holds for all of its routers.

The proxy takes whatever a connection brings into a queue without an end, however slowly the router
behind it reads, and before any limit of the router. A body counts from its first byte until its
reply begins, for what has come of it: who announces much and sends little takes little.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.http.bodies.rest import discard
from deployments.http.errors import answer_error
from deployments.http.request_id import REQUEST_ID_HEADER, request_id_of
from pipeline.errors import CapacityError, TimbreError, TooLargeError

IN_FLIGHT_BYTES = 512 * 2**20  # twice what a router holds (limits.max_inflight_body_bytes)


class BodyRoom:
    """Pure ASGI middleware outside of Serve's proxy. most_bytes: of all bodies; one has half."""

    def __init__(self, app: ASGIApp, most_bytes: int = IN_FLIGHT_BYTES) -> None:
        self._app = app
        self.most_bytes = most_bytes
        self.held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        share = _Share(self, receive, send)
        try:
            await self._app(scope, share.receive, share.send)
        finally:
            share.release()
        if share.refusal is not None and not share.has_started:
            await discard(receive, self.most_bytes // 2)
            request_id = request_id_of(Headers(scope=scope).get(REQUEST_ID_HEADER))
            reply = answer_error(share.refusal, request_id)
            reply.headers["connection"] = "close"
            reply.headers[REQUEST_ID_HEADER] = request_id
            await reply(scope, receive, send)


class _Share:
    """One request's. Behind a refusal the application sees a client that went away."""

    def __init__(self, room: BodyRoom, receive: Receive, send: Send) -> None:
        self._room = room
        self._receive = receive
        self._send = send
        self._n_bytes = 0
        self.refusal: TimbreError | None = None
        self.has_started = False

    async def receive(self) -> Message:
        if self.refusal is not None:
            return {"type": "http.disconnect"}
        message = await self._receive()
        n_bytes = len(message.get("body", b""))
        self.refusal = self._refusal(n_bytes)
        if self.refusal is not None:
            self.release()
            return {"type": "http.disconnect"}
        self._n_bytes += n_bytes
        self._room.held_bytes += n_bytes
        return message

    async def send(self, message: Message) -> None:
        if self.refusal is not None and not self.has_started:
            return  # said of a client that is still there
        if message["type"] == "http.response.start":
            self.has_started = True
            self.release()  # the router has read it, or will not
        await self._send(message)

    def release(self) -> None:
        self._room.held_bytes -= self._n_bytes
        self._n_bytes = 0

    def _refusal(self, n_bytes: int) -> TimbreError | None:
        most_bytes = self._room.most_bytes
        if n_bytes and self._n_bytes + n_bytes > most_bytes // 2:
            limit = f"the request body is over the limit of {most_bytes // 2} bytes"
            return TooLargeError(limit, param="body")
        if n_bytes and self._room.held_bytes + n_bytes > most_bytes:
            return CapacityError("the bodies on their way fill the proxy; retry in a moment")
        return None
