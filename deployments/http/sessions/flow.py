"""Bounds what is on its way from a router to a WebSocket's client.

Serve hands a replica's messages to its proxy as they come, whether the proxy can send them or not:
a client that reads slowly would have all its audio lie there. `SocketFlow`, in the proxy, tells the
router what went to the client's connection; `with_flow`, in the router, counts what is on its way,
so that whoever sends audio can wait for room. Without a proxy in front the server itself keeps
senders waiting.

The proxy's time limit for a request ends no session: sessions have one of their own.
"""

from __future__ import annotations

import asyncio
import sys

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.config.session_settings import TELL_BYTES

FLOW = "timbre.flow"  # key of a scope: nothing that a client sends gets there
ROOM = "timbre.room"  # the same, within the router: waits until more may be sent
_TAKEN = "timbre.taken"  # type of the proxy's own messages to the router
TIMEOUT_HEADER = "x-request-timeout-seconds"  # Serve's own; 0 is none


class SocketFlow:
    """Pure ASGI middleware outside of Serve's proxy."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return
        headers = MutableHeaders(raw=list(scope["headers"]))
        headers[TIMEOUT_HEADER] = "0"
        taken = _Taken(receive, send)
        try:
            await self._app(
                {**scope, "headers": headers.raw, FLOW: True}, taken.receive, taken.send
            )
        finally:
            taken.close()


class _Taken:
    """Counts what the connection took, and tells of it among the client's messages."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._next: asyncio.Future[Message] | None = None
        self._n_bytes = 0
        self._is_due = asyncio.Event()

    async def send(self, message: Message) -> None:
        await self._send(message)
        self._n_bytes += _size(message)
        if self._n_bytes >= TELL_BYTES:
            self._is_due.set()

    async def receive(self) -> Message:
        self._next = self._next or asyncio.ensure_future(self._receive())
        due = asyncio.ensure_future(self._is_due.wait())
        try:
            await asyncio.wait([self._next, due], return_when=asyncio.FIRST_COMPLETED)
        finally:
            due.cancel()
        if self._next.done():
            message, self._next = self._next.result(), None
            return message
        n_bytes, self._n_bytes = self._n_bytes, 0
        self._is_due.clear()
        return {"type": _TAKEN, "n_bytes": n_bytes}

    def close(self) -> None:
        if self._next is not None:
            self._next.cancel()


def with_flow(
    scope: Scope, receive: Receive, send: Send, window_bytes: int
) -> tuple[Receive, Send]:
    """`receive` and `send` of a WebSocket that count; `room_of` then waits for room.

    Somebody receives meanwhile. Whoever has room may send any size at once. Sending without room is
    for messages that are few or small: a client that does not read a window of them is gone
    (OSError, as from a server). window_bytes: more than TELL_BYTES.
    """
    if not scope.pop(FLOW, False):
        return receive, send
    window = _Window(receive, send, window_bytes)
    scope[ROOM] = window.room
    return window.receive, window.send


async def room_of(scope: Scope) -> None:
    """Wait until a window of bytes or less is on its way to the WebSocket's client."""
    if (room := scope.get(ROOM)) is not None:
        await room()


class _Window:
    def __init__(self, receive: Receive, send: Send, window_bytes: int) -> None:
        self._receive, self._send = receive, send
        self._window_bytes = window_bytes
        self._on_way_bytes = 0
        self._unasked_bytes = 0  # sent while there was no room
        self._has_room = asyncio.Event()
        self._has_room.set()

    async def room(self) -> None:
        while not self._has_room.is_set():  # another sender may have taken it meanwhile
            await self._has_room.wait()

    async def receive(self) -> Message:
        while (message := await self._receive())["type"] == _TAKEN:
            self._on_way(-message["n_bytes"])
        if message["type"] == "websocket.disconnect":
            self._window_bytes = sys.maxsize  # nobody takes it: let the sender go on and end
            self._on_way(0)
        return message

    async def send(self, message: Message) -> None:
        if not self._has_room.is_set():
            if self._unasked_bytes >= self._window_bytes:
                raise OSError("the client does not read what is sent")
            self._unasked_bytes += _size(message)
        self._on_way(_size(message))
        await self._send(message)

    def _on_way(self, n_bytes: int) -> None:
        self._on_way_bytes += n_bytes
        if self._on_way_bytes > self._window_bytes:
            self._has_room.clear()
        else:
            self._unasked_bytes = 0
            self._has_room.set()


def _size(message: Message) -> int:
    """Of what a message brings a client."""
    if message["type"] != "websocket.send":
        return 0
    return len(message.get("bytes") or b"") + len(message.get("text") or "")
