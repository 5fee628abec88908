"""Clients that play what they hear: over HTTP and WebSockets, fast and slow, to the end or not.

Each times every piece when it comes; none waits for another.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp.connector import AddrInfoType
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from load_tests.load.answers import OK, Answer, Ear
from load_tests.load.asks import BYTES_S, Ask
from load_tests.load.plan import Call

SLOW_BUFFER_BYTES = 8_192  # what a slow reader's connection holds for it
SLOW_PIECE_S = 0.1  # of audio that it takes at a time
FAULTS: tuple[tuple[type[BaseException], str], ...] = (
    (aiohttp.ClientPayloadError, "cut off"),
    (aiohttp.ServerDisconnectedError, "disconnected"),
    (aiohttp.ClientConnectorError, "not connected"),
    (ConnectionRefusedError, "not connected"),
    (ConnectionError, "reset"),
    (WebSocketException, "session closed"),
)


class Clock:
    """Seconds since a run began."""

    def __init__(self) -> None:
        self._origin_s = time.perf_counter()

    def now_s(self) -> float:
        return time.perf_counter() - self._origin_s

    async def reach(self, at_s: float) -> None:
        """Wait until then; not at all when it is past."""
        wait_s = at_s - self.now_s()
        if wait_s > 0:
            await asyncio.sleep(wait_s)


class Clients:
    """All clients of a run. Use within `async with`."""

    def __init__(self, url: str, clock: Clock, timeout_s: float) -> None:
        """timeout_s: a call has failed without its last byte, so long after its moment."""
        self._url, self._clock, self._timeout_s = url.rstrip("/"), clock, timeout_s

    async def __aenter__(self) -> Self:
        no_limit = aiohttp.ClientTimeout(total=None, sock_connect=self._timeout_s)
        self._fast = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=no_limit
        )
        self._slow = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, force_close=True, socket_factory=_with_small_buffer
            ),
            timeout=no_limit,
            read_bufsize=SLOW_BUFFER_BYTES // 2,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._fast.close()
        await self._slow.close()

    async def speak(self, call: Call, ask: Ask, at_s: float) -> Answer:
        """One call from its sending to its end, however it ends. at_s: when it was to be sent."""
        ear = Ear(call, at_s, self._clock.now_s())
        listen = self._session if ask.messages else self._reply
        try:
            async with asyncio.timeout(at_s + self._timeout_s - self._clock.now_s()):
                patience = asyncio.timeout(call.leaves_after_s)
                try:
                    async with patience:
                        return await listen(call, ask, ear)
                except TimeoutError:
                    if not patience.expired():
                        raise
                    return ear.left(self._clock.now_s())
        except TimeoutError:
            return ear.failed("timeout", self._clock.now_s())
        except (aiohttp.ClientError, OSError, WebSocketException) as error:
            return ear.failed(fault_of(error), self._clock.now_s())

    async def _reply(self, call: Call, ask: Ask, ear: Ear) -> Answer:
        client = self._fast if call.read_rate is None else self._slow
        async with client.post(self._url + ask.path, data=ask.body, headers=ask.headers) as reply:
            ear.replied(reply.status, reply.headers)
            if not ear.is_audio:
                return ear.ended(self._clock.now_s(), await reply.read())
            try:
                if call.read_rate is None:
                    async for piece in reply.content.iter_any():
                        ear.heard(len(piece), self._clock.now_s())
                else:
                    await self._read_slowly(reply.content, call, ear)
            except BaseException:
                reply.close()  # whoever hangs up takes nothing more
                raise
            return ear.ended(self._clock.now_s())

    async def _read_slowly(self, body: aiohttp.StreamReader, call: Call, ear: Ear) -> None:
        assert call.read_rate is not None
        n_bytes = int(BYTES_S[call.format] * SLOW_PIECE_S)
        while piece := await body.read(n_bytes):
            ear.heard(len(piece), self._clock.now_s())
            await asyncio.sleep(len(piece) / BYTES_S[call.format] / call.read_rate)

    async def _session(self, call: Call, ask: Ask, ear: Ear) -> Answer:
        url = self._url.replace("http", "ws", 1) + ask.path
        try:
            async with connect(
                url, proxy=None, compression=None, max_size=None, open_timeout=None
            ) as talk:
                head = talk.response
                ear.replied(OK, {} if head is None else dict(head.headers.raw_items()))
                for message in ask.messages:
                    await talk.send(message)
                return await self._conversation(talk, call, ear)
        except InvalidStatus as error:
            refusal = error.response
            ear.replied(refusal.status_code, dict(refusal.headers.raw_items()))
            return ear.ended(self._clock.now_s(), bytes(refusal.body))

    async def _conversation(self, talk: ClientConnection, call: Call, ear: Ear) -> Answer:
        async for message in talk:
            if isinstance(message, bytes):
                ear.heard(len(message), self._clock.now_s())
                if call.read_rate is not None:
                    await asyncio.sleep(len(message) / BYTES_S[call.format] / call.read_rate)
                continue
            said: dict[str, Any] = json.loads(message)
            if said["type"] == "error":
                return ear.told(said["error"], self._clock.now_s())
            if said["type"] == "session.done":
                return ear.ended(self._clock.now_s())
        return ear.failed("session closed", self._clock.now_s())


def fault_of(error: BaseException) -> str:
    """The kind of an error of the connection."""
    return next((kind for cls, kind in FAULTS if isinstance(error, cls)), type(error).__name__)


def _with_small_buffer(address: AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BUFFER_BYTES)
    return made
