"""A client of `/v1/audio/speech/stream` in this process: ASGI's messages, without a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from starlette.types import ASGIApp, Message, Scope

from deployments.http.routes.websocket import STREAM

GIVE_UP_S = 20.0
CONFIG = {"type": "session.config", "voice": "bruno", "response_format": "pcm"}


class Talk:
    """One session. accepted: what the handshake was answered with."""

    def __init__(
        self,
        app: ASGIApp,
        headers: dict[str, str],
        *,
        can_deny: bool = True,
        subprotocols: Sequence[str] = (),
    ) -> None:
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._from_app: asyncio.Queue[Message] = asyncio.Queue()
        self.accepted: Message = {}
        scope: Scope = {
            "type": "websocket",
            "path": STREAM,
            "raw_path": STREAM.encode(),
            "query_string": b"",
            "subprotocols": list(subprotocols),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "extensions": {"websocket.http.response": {}} if can_deny else {},
        }
        self._to_app.put_nowait({"type": "websocket.connect"})
        self.serving = asyncio.create_task(self._served(app, scope))

    async def _served(self, app: ASGIApp, scope: Scope) -> None:
        await app(scope, self._to_app.get, self._from_app.put)

    async def begin(self) -> None:
        self.accepted = await self.raw()

    async def raw(self) -> Message:
        async with asyncio.timeout(GIVE_UP_S):
            return await self._from_app.get()

    def send(self, text: str | None = None, data: bytes | None = None) -> None:
        """A message as it stands."""
        self._to_app.put_nowait({"type": "websocket.receive", "text": text, "bytes": data})

    def say(self, kind: str, **fields: Any) -> None:
        self.send(json.dumps({"type": kind, **fields}))

    def configure(self, **fields: Any) -> None:
        self.send(json.dumps({**CONFIG, **fields}))

    def leave(self, code: int = 1006) -> None:
        """Close the connection."""
        self._to_app.put_nowait({"type": "websocket.disconnect", "code": code})

    async def next(self) -> Any:
        """The next message: JSON, bytes, or the code of the closing."""
        message = await self.raw()
        if message["type"] == "websocket.close":
            return message["code"]
        text = message.get("text")
        return message["bytes"] if text is None else json.loads(text)

    async def until(self, kind: str) -> list[Any]:
        """All messages up to the first of a kind."""
        found = [await self.next()]
        while not (isinstance(found[-1], dict) and found[-1]["type"] == kind):
            found.append(await self.next())
        return found

    async def closed(self) -> int:
        """The code of the closing, whatever comes before."""
        while not isinstance(found := await self.next(), int):
            pass
        async with asyncio.timeout(GIVE_UP_S):
            await self.serving
        return found

    def is_silent(self) -> bool:
        return self._from_app.empty()


@asynccontextmanager
async def talk(app: ASGIApp, *, can_deny: bool = True, **headers: str) -> AsyncIterator[Talk]:
    """A session that is left at the end of the block, and then is over."""
    one = Talk(app, headers, can_deny=can_deny)
    try:
        await one.begin()
        yield one
    finally:
        one.leave()
        async with asyncio.timeout(GIVE_UP_S):
            await one.serving


def kinds(messages: list[Any]) -> list[str]:
    """What sort of message each is."""
    return ["audio" if isinstance(one, bytes) else one["type"] for one in messages]
