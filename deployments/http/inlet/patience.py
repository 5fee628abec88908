"""How long Serve's proxy waits for a request that is slow to come, or a reply that is not taken.

uvicorn waits for ever, for a request's head as for its body: clients that send a byte now and then
take all its file descriptors, and who does not read a reply has all of its audio lie here. Whoever
reads a body bounds its pace (`deployments/http/bodies/pace.py`); here is what nobody reads.
"""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 15.0  # for a request's head, from its first byte; of a new connection, from its beginning
REST_S = 15.0  # for the rest of a body that was answered before it had come
TAKE_S = 300.0  # for a client to take some 48 KiB of what waits for it; a player may be paused
SLOW = (
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-type: text/plain\r\n"
    b"content-length: 34\r\n\r\nthe request's head did not arrive\r\n"
)


class PatientProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 by h11, that gives up on heads and on the rest of answered bodies."""

    _deadline: asyncio.TimerHandle | None = None
    _not_taken: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait(HEAD_S)

    def data_received(self, data: bytes) -> None:
        """A byte more begins no new wait: a head is due as a whole, so is the rest of a body."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            if self._deadline is None:
                self._wait(HEAD_S)
        elif self.cycle is None or not self.cycle.response_complete:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        """See H11Protocol. Its own timer, for idle connections, starts anew with every byte."""
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self._wait(REST_S)

    def pause_writing(self) -> None:
        """As much waits for the client as the transport takes."""
        super().pause_writing()
        if self._not_taken is None:
            self._not_taken = self.loop.call_later(TAKE_S, self.transport.abort)

    def resume_writing(self) -> None:
        """The client took most of it."""
        self._is_taken()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._is_taken()
        super().connection_lost(exc)

    def _is_taken(self) -> None:
        if self._not_taken is not None:
            self._not_taken.cancel()
            self._not_taken = None

    def _wait(self, for_s: float) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(for_s, self._give_up)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if self.transport.is_closing():
            return
        has_begun = self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])
        if has_begun:
            self.transport.write(SLOW)
        self.transport.close()
