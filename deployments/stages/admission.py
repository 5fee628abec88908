"""FIFO admission: limits concurrent streams and their total cache bytes."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from pipeline.errors import CapacityError, TooLargeError


class StreamAdmission:
    """Hands out permits for streams. Use it from one event loop.

    max_bytes: of all admitted streams together; None: unlimited. max_waiting: streams that may
    wait; None: unlimited.
    """

    def __init__(
        self, max_streams: int, max_bytes: int | None = None, max_waiting: int | None = None
    ) -> None:
        self._free_streams = max_streams
        self._max_waiting = max_waiting
        self._max_bytes = max_bytes
        self._used_bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def used_bytes(self) -> int:
        """Bytes that the streams admitted now may take."""
        return self._used_bytes

    def permit(self, size_bytes: int) -> StreamPermit:
        """A permit, not yet acquired, for a stream of this many bytes.

        Raises TooLargeError for a stream that would not fit even alone.
        """
        if not self.can_hold(size_bytes):
            raise TooLargeError(
                f"the stream would take {size_bytes} bytes of the device and {self._max_bytes} are "
                "there for streams; a shorter reference clip and a lower "
                "initial_codec_chunk_frames take fewer"
            )
        return StreamPermit(self, size_bytes)

    def can_hold(self, size_bytes: int) -> bool:
        """Whether a stream of this many bytes fits at least alone."""
        return self._max_bytes is None or size_bytes <= self._max_bytes

    async def acquire(self, size_bytes: int) -> None:
        """Wait for admission, in order of arrival. See `permit`.

        Raises CapacityError at once when `max_waiting` streams wait already.
        """
        if not self._waiting and self._has_room(size_bytes):
            self._enter(size_bytes)
            return
        n_waiting = sum(not admitted.cancelled() for _, admitted in self._waiting)
        if self._max_waiting is not None and n_waiting >= self._max_waiting:
            raise CapacityError(f"{n_waiting} streams wait already; retry in a moment")
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size_bytes, admitted))
        try:
            await admitted
        except asyncio.CancelledError:
            if admitted.cancelled():
                self._admit_waiting()
            else:  # admitted at the same moment
                self.release(size_bytes)
            raise

    def release(self, size_bytes: int) -> None:
        """Free the stream's room and admit waiting streams that fit."""
        self._free_streams += 1
        self._used_bytes -= size_bytes
        self._admit_waiting()

    def _admit_waiting(self) -> None:
        self._waiting = deque(waiting for waiting in self._waiting if not waiting[1].cancelled())
        while self._waiting and self._has_room(self._waiting[0][0]):
            size_bytes, admitted = self._waiting.popleft()
            self._enter(size_bytes)
            admitted.set_result(None)

    def _has_room(self, size_bytes: int) -> bool:
        fits = self._max_bytes is None or self._used_bytes + size_bytes <= self._max_bytes
        return self._free_streams > 0 and fits

    def _enter(self, size_bytes: int) -> None:
        self._free_streams -= 1
        self._used_bytes += size_bytes


@dataclass(frozen=True, slots=True)
class StreamPermit:
    """One stream's permit; `acquire` and `release` work like a lock's."""

    admission: StreamAdmission
    size_bytes: int

    async def acquire(self) -> None:
        """Wait for admission."""
        await self.admission.acquire(self.size_bytes)

    def release(self) -> None:
        """Free the room."""
        self.admission.release(self.size_bytes)
