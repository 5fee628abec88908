"""A TCP proxy with faults that are set while it runs: latency, resets, black hole, refusal."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from dataclasses import dataclass

from tests.waiting import GIVE_UP_S


@dataclass
class Faults:
    """delay_s: before each piece of a reply. reset_after_bytes: RST once so many were passed back.

    black_hole: accept, then neither pass nor answer anything. refuse: RST at accept.
    """

    delay_s: float = 0.0
    reset_after_bytes: int | None = None
    black_hole: bool = False
    refuse: bool = False


class FaultProxy:
    """Runs on a loop of its own in a thread, between clients and `target_port` on loopback."""

    def __init__(self, target_port: int, host: str = "127.0.0.1") -> None:
        """host: the address to listen at."""
        self.faults = Faults()
        self._target_port = target_port
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._serve, host, 0))
        self.port = self._server.sockets[0].getsockname()[1]
        self.connections = 0

    def set(self, **faults) -> None:
        """Replace the faults and cut every connection, so that the new ones apply at once."""
        self.faults = Faults(**faults)
        self._call(self._cut())

    def close(self) -> None:
        self._server.close()
        self._call(self._cut())
        self._call(self._finish())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(GIVE_UP_S)

    async def _cut(self) -> None:
        for writer in list(self._writers):
            _reset(writer)

    async def _finish(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader, writer) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        self._writers.add(writer)
        try:
            if self.faults.refuse:
                _reset(writer)
                return
            if self.faults.black_hole:
                with contextlib.suppress(OSError):  # until set() cuts the connection
                    while await reader.read(16_384):
                        pass
                return
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
            self._writers.add(up_writer)
            await asyncio.gather(
                self._pump(reader, up_writer, is_reply=False),
                self._pump(up_reader, writer, is_reply=True),
            )
        except OSError:
            pass  # one of the ends is gone, as ordered
        finally:
            self._writers.discard(writer)
            with contextlib.suppress(OSError):
                writer.close()

    async def _pump(self, reader, writer, *, is_reply: bool) -> None:
        passed = 0
        while data := await reader.read(16_384):
            if is_reply:
                limit = self.faults.reset_after_bytes
                await asyncio.sleep(self.faults.delay_s)
                if limit is not None and passed + len(data) > limit:
                    _reset(writer)
                    return
            passed += len(data)
            writer.write(data)
            await writer.drain()
        writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        linger = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()
