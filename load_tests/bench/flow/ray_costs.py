"""What messages cost and what the death of a reader does, measured with Ray Serve on this machine.

One producer deployment and one consumer, no model: streams and calls as LLM and vocoder use them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from statistics import median
from typing import Any

import psutil
import ray
from ray import serve
from ray._private.internal_api import get_memory_info_reply, get_state_from_address
from ray.exceptions import RayActorError
from ray.serve.handle import DeploymentHandle

PACED_CHUNKS, PACE_S, CHUNK_BYTES = 300, 0.02, 400
FREE_CHUNKS = 2000
UNREAD_CHUNKS = 5000
CALLS, BROADCASTS = 200, 40
REPLICAS = (1, 4)
WATCHED_S = 4.0  # a stream that goes on for so long after its reader's death was not told
WAYS = ("by reference", "connection")
OWN_END = "its own end"

Row = tuple[str, float, str]


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one message: milliseconds of its reader's or caller's CPU, and how long it took."""

    cpu_ms: float
    took_ms: float


class Producer:
    """Yields as it is asked, and remembers how each stream ended."""

    def __init__(self) -> None:
        self._streams: dict[str, tuple[int, float, str]] = {}

    async def stream(self, key: str, n: int, pace_s: float) -> AsyncGenerator[tuple[float, bytes]]:
        made, end = 0, "open"
        try:
            for made in range(1, n + 1):
                await asyncio.sleep(pace_s)
                yield time.time(), bytes(CHUNK_BYTES)
                self._streams[key] = (made, time.time(), end)
            end = OWN_END
        finally:
            self._streams[key] = (made, time.time(), end if end != "open" else "told")

    async def seen(self, key: str) -> tuple[int, float, str] | None:
        return self._streams.get(key)

    async def grant(self, total: int) -> int:
        return total

    async def cpu_s(self) -> float:
        return _cpu_s()


class Consumer:
    """Reads and calls, in both of Serve's ways."""

    def __init__(self, producer: DeploymentHandle) -> None:
        self._producer = producer
        options = zip(WAYS, (True, False), strict=True)
        self._stream = {
            way: producer.options(method_name="stream", stream=True, _by_reference=by_reference)
            for way, by_reference in options
        }
        self._grant = producer.options(method_name="grant")
        self._seen = producer.options(method_name="seen")

    async def pid(self) -> int:
        return os.getpid()

    async def read(self, way: str, key: str, n: int, pace_s: float) -> Cost:
        travelled_s: list[float] = []
        before_s = _cpu_s()
        chunks: Any = self._stream[way].remote(key, n, pace_s)
        async for sent_s, _ in chunks:
            travelled_s.append(time.time() - sent_s)
        return Cost((_cpu_s() - before_s) / n * 1e3, median(travelled_s) * 1e3)

    async def leave(self, way: str, key: str) -> float:
        """→ when the stream was cancelled, after ten chunks."""
        chunks: Any = self._stream[way].remote(key, PACED_CHUNKS, PACE_S)
        for _ in range(10):
            await anext(chunks)
        left_s = time.time()
        chunks.cancel()
        return left_s

    async def leave_unread(self, way: str, key: str, n: int) -> tuple[int, int]:
        """→ by how many bytes this process and the object store grew while a stream was unread."""
        process_bytes, store_bytes = _resident_bytes(), _store_bytes()
        chunks: Any = self._stream[way].remote(key, n, 0.0)
        await anext(chunks)
        while True:
            seen = await self._seen.remote(key)
            if seen is not None and seen[2] == OWN_END:
                break
            await asyncio.sleep(0.1)
        await asyncio.sleep(1.0)  # what is under way arrives
        grown = _resident_bytes() - process_bytes, _store_bytes() - store_bytes
        assert 1 + len([chunk async for chunk in chunks]) == n
        return grown

    async def call(self, n: int) -> Cost:
        async def one() -> None:
            await self._grant.remote(0)

        return await self._timed(one, n)

    async def tell_all(self, n: int) -> Cost:
        async def one() -> None:
            await self._producer.broadcast("grant", 0).results_async(timeout_s=30)

        return await self._timed(one, n)

    async def _timed(self, one: Any, n: int) -> Cost:
        took_s: list[float] = []
        before_s = _cpu_s()
        for _ in range(n):
            started_s = time.time()
            await one()
            took_s.append(time.time() - started_s)
        return Cost((_cpu_s() - before_s) / n * 1e3, median(took_s) * 1e3)


def _cpu_s() -> float:
    times = psutil.Process().cpu_times()
    return times.user + times.system


def _resident_bytes() -> int:
    return psutil.Process().memory_info().rss


def _store_bytes() -> int:
    address = ray.get_runtime_context().gcs_address
    reply = get_memory_info_reply(get_state_from_address(address))
    return reply.store_stats.object_store_bytes_used


def measure() -> list[Row]:
    """Starts a cluster of its own and ends it. Milliseconds, CPU or time, medians."""
    ray.init(
        address="local",
        num_cpus=8,
        include_dashboard=False,
        object_store_memory=100_000_000,
        log_to_driver=False,
    )
    try:
        rows: list[Row] = []
        for replicas in REPLICAS:
            consumer, producer = _deployed(replicas)
            if replicas == 1:
                for way in WAYS:
                    rows += _stream_rows(consumer, producer, way)
                rows += _call_rows(consumer, producer)
            cost: Cost = consumer.tell_all.remote(BROADCASTS).result(timeout_s=120)
            rows.append(
                (f"broadcast to {replicas}: caller's CPU, each", cost.cpu_ms / replicas, "ms")
            )
            rows.append((f"broadcast to {replicas}: answered after", cost.took_ms, "ms"))
        return rows
    finally:
        serve.shutdown()
        ray.shutdown()


def _deployed(replicas: int) -> tuple[DeploymentHandle, DeploymentHandle]:
    light: Any = {"max_ongoing_requests": 100, "ray_actor_options": {"num_cpus": 0.1}}
    producer = serve.deployment(**light, num_replicas=replicas)(Producer).bind()
    consumer = serve.run(
        serve.deployment(**light)(Consumer).bind(producer), name="flow", route_prefix=None
    )
    return consumer, serve.get_deployment_handle("Producer", "flow")


def _stream_rows(consumer: DeploymentHandle, producer: DeploymentHandle, way: str) -> list[Row]:
    rows: list[Row] = []
    for name, n, pace_s in (("paced", PACED_CHUNKS, PACE_S), ("free", FREE_CHUNKS, 0.0)):
        before_s = producer.cpu_s.remote().result(timeout_s=60)
        cost: Cost = consumer.read.remote(way, name + way, n, pace_s).result(timeout_s=120)
        sent_ms = (producer.cpu_s.remote().result(timeout_s=60) - before_s) / n * 1e3
        rows.append((f"{way}, {name} chunk: sender's CPU", sent_ms, "ms"))
        rows.append((f"{way}, {name} chunk: reader's CPU", cost.cpu_ms, "ms"))
        if pace_s:
            rows.append((f"{way}, {name} chunk: on its way", cost.took_ms, "ms"))
    unread: tuple[int, int] = consumer.leave_unread.remote(
        way, f"unread {way}", UNREAD_CHUNKS
    ).result(timeout_s=120)
    for place, n_bytes in zip(("reader's process", "object store"), unread, strict=True):
        what = f"{way}, unread chunk of {CHUNK_BYTES} bytes: in the {place}"
        rows.append((what, n_bytes / UNREAD_CHUNKS, "bytes"))
    told_ms = []
    for index in range(8):
        key = f"leave {way} {index}"
        left_s: float = consumer.leave.remote(way, key).result(timeout_s=60)
        time.sleep(0.3)
        told_ms.append((producer.seen.remote(key).result(timeout_s=60)[1] - left_s) * 1e3)
    rows.append((f"{way}: a cancelled stream was told after, worst of 8", max(told_ms), "ms"))
    return [*rows, _death_row(consumer, producer, way)]


def _call_rows(consumer: DeploymentHandle, producer: DeploymentHandle) -> list[Row]:
    before_s = producer.cpu_s.remote().result(timeout_s=60)
    cost: Cost = consumer.call.remote(CALLS).result(timeout_s=120)
    called_ms = (producer.cpu_s.remote().result(timeout_s=60) - before_s) / CALLS * 1e3
    return [
        ("call of one replica: caller's CPU", cost.cpu_ms, "ms"),
        ("call of one replica: its CPU", called_ms, "ms"),
        ("call of one replica: answered after", cost.took_ms, "ms"),
    ]


def _death_row(consumer: DeploymentHandle, producer: DeploymentHandle, way: str) -> Row:
    """kill -9 of the reader, and how long its stream went on."""
    key = f"death {way}"
    consumer.read.remote(way, key, 1000, PACE_S)
    while producer.seen.remote(key).result(timeout_s=60) is None:
        time.sleep(0.05)
    pid: int = consumer.pid.remote().result(timeout_s=60)
    time.sleep(0.5)
    died_s = time.time()
    os.kill(pid, signal.SIGKILL)
    time.sleep(WATCHED_S)
    _, last_s, end = producer.seen.remote(key).result(timeout_s=60)
    while True:
        try:
            consumer.pid.remote().result(timeout_s=60)
        except RayActorError:
            time.sleep(0.2)
        else:
            break
    said = "ended" if end == "told" else "was never told, went on for all of"
    return (f"{way}: reader killed, its stream {said}", (last_s - died_s) * 1e3, "ms")
