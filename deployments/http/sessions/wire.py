"""A session's WebSocket: JSON and audio out, and when either side last said something."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass
from typing import Any

from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketDisconnected

from deployments.http.errors import PublicError
from deployments.http.sessions.flow import room_of


class ClientGoneError(Exception):
    """Nobody is left to send to."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a sentence's audio. start_s, end_s: of what sounds, in its sentence."""

    data: bytes
    number: int
    start_s: float
    end_s: float
    sample_rate_hz: int


class Wire:
    """Every message has the session's request id, or that of the sentence that it is about."""

    def __init__(self, socket: WebSocket, request_id: str) -> None:
        self._socket = socket
        self._request_id = request_id
        self.active_s = time.monotonic()

    async def receive(self) -> Message:
        message = await self._socket.receive()
        self.active_s = time.monotonic()
        return message

    async def say(self, kind: str, **fields: Any) -> None:
        """Send a JSON message. Raises ClientGoneError."""
        body = {"type": kind, "request_id": self._request_id, **fields}
        await self._send({"type": "websocket.send", "text": json.dumps(body)})

    async def refuse(self, error: Exception, **about: Any) -> None:
        """Tell of an error: `message` as vLLM-Omni's clients read it, `error` as OpenAI's do."""
        public = PublicError.of(error, about.get("request_id", self._request_id))
        await self.say("error", message=public.message, **public.body(), **about)

    async def audio(self, piece: Piece, *, is_binary: bool, **about: Any) -> None:
        """Send audio as a binary frame, or within a JSON message, once there is room for it."""
        await room_of(self._socket.scope)
        if is_binary:
            await self._send({"type": "websocket.send", "bytes": piece.data})
            return
        await self.say(
            "audio.chunk",
            chunk_id=piece.number,
            chunk_start_ms=round(piece.start_s * 1e3),
            chunk_end_ms=round(piece.end_s * 1e3),
            sample_rate=piece.sample_rate_hz,
            channels=1,
            audio_b64=base64.b64encode(piece.data).decode(),
            timestamps=None,
            **about,
        )

    async def close(self, code: int, reason: str) -> None:
        """The last message."""
        await self._send({"type": "websocket.close", "code": code, "reason": reason})

    async def _send(self, message: Message) -> None:
        try:
            await self._socket.send(message)
        except (WebSocketDisconnect, WebSocketDisconnected) as error:
            raise ClientGoneError from error
        self.active_s = time.monotonic()
