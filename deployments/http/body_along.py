"""Small bodies go to the router with the head of their request.

Serve's proxy hands a request's head to a replica, which fetches the body in a call of its own: as
long again as all that the router does for speech that it has at hand. What the proxy puts into a
request's scope goes along with the head, though. In the proxy, then, `BodyAlong` reads a small body
first; in the router, `with_body_along` finds it. Without either all is as Serve has it.
"""

from __future__ import annotations

import asyncio
from collections import deque

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY = "timbre.body"  # key of a scope: nothing that a client sends gets there
MOST_BYTES = 64 * 2**10
PATIENCE_S = 1.0  # for a body that is slow to come; then it takes Serve's way


class BodyAlong:
    """Pure ASGI middleware outside of Serve's proxy."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A body whose length is not declared takes Serve's way."""
        if scope["type"] == "http" and 0 < _declared_bytes(scope) <= MOST_BYTES:
            read = _Read(receive)
            content = await read.whole()
            receive = read.receive
            if content is not None:
                scope = {**scope, BODY: content}
        await self._app(scope, receive, send)


class _Read:
    """Messages that were read ahead, to be received again before those that follow."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ahead: deque[Message] = deque()

    async def whole(self) -> bytes | None:
        """The body; None for one that is slow, or whose sender goes away."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not self._ahead or self._ahead[-1].get("more_body", False):
                    self._ahead.append(await self._receive())
        except TimeoutError:
            return None
        if self._ahead[-1]["type"] != "http.request":
            return None
        return b"".join(message.get("body", b"") for message in self._ahead)

    async def receive(self) -> Message:
        return self._ahead.popleft() if self._ahead else await self._receive()


def with_body_along(scope: Scope, receive: Receive) -> Receive:
    """`receive`, whose first message is the body that came along, if one did.

    The scope has it no longer. Serve's own copy of the body is passed over.
    """
    if BODY not in scope:
        return receive
    along: list[Message] = [{"type": "http.request", "body": scope.pop(BODY), "more_body": False}]

    async def receive_once() -> Message:
        if along:
            return along.pop()
        message = await receive()
        while message["type"] == "http.request":
            message = await receive()
        return message

    return receive_once


def _declared_bytes(scope: Scope) -> int:
    declared = Headers(scope=scope).get("content-length", "")
    return int(declared) if declared.isdecimal() else 0
