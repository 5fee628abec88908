"""What a run does to the service and its machine: samples of its caches, processes, energy."""

from __future__ import annotations

import asyncio
import contextlib
import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

import aiohttp
import psutil

from deployments.telemetry.processes import ProcessUse, use_of
from load_tests.load.clients import Clock
from load_tests.load.measures import Spent

if TYPE_CHECKING:
    from load_tests.bench.energy import Meter  # its module loads torch

MOST_SAMPLES = 60  # of a run
SHORTEST_S = 2.0  # between two
ASKING_S = 5.0  # a cache that does not answer by then is left out of the sample
PARTS = re.compile(r"ray::ServeReplica:[^:]+:(\w+)|ray::(\w+)|(gcs_server|raylet)\b")
IDLE = "IDLE"  # workers that Ray keeps for whoever comes next
NAMES = {"ProxyActor": "proxy", "ServeController": "controller", "gcs_server": "GCS"}


@dataclass(frozen=True, slots=True)
class Held:
    """What processes of one part hold, together."""

    rss_bytes: int = 0
    descriptors: int = 0
    threads: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the service."""

    at_s: float
    saved_s: float | None
    """Work that hits saved since the service began; None where it does not answer."""
    held: Mapping[str, Held] = field(default_factory=dict[str, Held])

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Watch:
    """Samples on the side of a run, and what the machine spent. Use within `async with`."""

    def __init__(self, url: str, clock: Clock, lasts_s: float, meter: Meter | None = None) -> None:
        """lasts_s: about how long the run takes. meter: of energy, if there is one."""
        self._url, self._clock, self._meter = url.rstrip("/"), clock, meter
        self._every_s = max(SHORTEST_S, lasts_s / MOST_SAMPLES)
        self.samples: list[Sample] = []
        self.spent = Spent(None, None, None)

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ASKING_S))
        self._before_j = None if self._meter is None else self._meter()
        self._before_core_s = _busy_core_s()
        await self._look()
        self._task = asyncio.create_task(self._go_on())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        await self._look()
        joules = None
        if self._meter is not None and self._before_j is not None:
            joules = self._meter() - self._before_j
        core_s = _busy_core_s() - self._before_core_s
        self.spent = Spent(saved_during(self.samples), core_s, joules)
        await self._session.close()

    async def _go_on(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            await self._look()

    async def _look(self) -> None:
        held = await asyncio.to_thread(_held)
        self.samples.append(Sample(self._clock.now_s(), await self._saved_s(), held))
        if self._meter is not None:
            self._meter()  # counters go round, and have to be read before they do so twice

    async def _saved_s(self) -> float | None:
        try:
            async with self._session.get(f"{self._url}/v1/cache") as reply:
                told = await reply.json() if reply.ok else {}
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None
        return saved_of(told)


def saved_of(told: Mapping[str, Any]) -> float | None:
    """Encodings and speech that hits saved, as `/v1/cache` tells it."""
    if "saved_s" not in told:
        return None
    return float(told["saved_s"]) + float(told.get("speech", {}).get("saved_s", 0.0))


def saved_during(samples: Sequence[Sample]) -> float | None:
    """From the first sample to the last.

    None where the counts do not belong together: they fell, so several routers answered.
    """
    counts = [one.saved_s for one in samples if one.saved_s is not None]
    return counts[-1] - counts[0] if counts and counts == sorted(counts) else None


def part_of(command: str) -> str | None:
    """The part of the service that a process is; None of others."""
    found = PARTS.search(command)
    if found is None:
        return None
    name = next(one for one in found.groups() if one)
    return None if name == IDLE else NAMES.get(name, name)


def growth(samples: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """How much more each part holds at the end than after the warm-up, as a share.

    Medians of the last quarter over those of the second one: the first is the warm-up. Parts that
    were not there all the time are left out; none below eight samples.
    """
    quarter = len(samples) // 4
    if quarter < 2:
        return {}
    second, last = samples[quarter : 2 * quarter], samples[-quarter:]
    before, after = _medians(second), _medians(last)
    return {part: after[part] / before[part] - 1 for part in before if part in after}


def _medians(samples: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    parts = set.intersection(*(set(one["held"]) for one in samples))
    return {
        part: statistics.median(one["held"][part]["rss_bytes"] for one in samples)
        for part in sorted(parts)
    }


def _held(
    processes: Callable[[], Iterable[psutil.Process]] = psutil.process_iter,
) -> dict[str, Held]:
    found: dict[str, list[ProcessUse]] = defaultdict(list)
    for process in processes():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            part = part_of(" ".join(process.cmdline()))
            use = None if part is None else use_of(process.pid, part)
            if use is not None:
                found[use.name].append(use)
    return {
        part: Held(
            sum(one.rss_bytes for one in many),
            sum(one.files for one in many),
            sum(one.threads for one in many),
        )
        for part, many in found.items()
    }


def _busy_core_s() -> float:
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)
