"""What a run does to the service and its machine: samples of its caches, processes, energy."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import aiohttp
import psutil

from deployments.local.service import LocalService
from deployments.telemetry.processes import MIB, ProcessUse, growth, service_processes
from load_tests.load.clients import Clock
from load_tests.load.measures import Spent

if TYPE_CHECKING:
    from load_tests.bench.energy import Meter  # its module loads torch

MOST_SAMPLES = 60  # of a run
SHORTEST_S = 2.0  # between two
ASKING_S = 5.0  # a cache that does not answer by then is left out of the sample
FEWEST_SAMPLES = 8  # that say something of growth


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the service."""

    at_s: float
    saved_s: float | None
    """Work that hits saved since the service began; None where it does not answer."""
    uses: Sequence[ProcessUse] = ()
    """Of its processes; none where they are not known."""


class Watch:
    """Samples on the side of a run, and what the machine spent. Use within `async with`."""

    def __init__(
        self,
        url: str,
        clock: Clock,
        lasts_s: float,
        meter: Meter | None = None,
        root_pid: int | None = None,
    ) -> None:
        """lasts_s: about how long the run takes. meter: of energy. root_pid: see `root_of`."""
        self._url, self._clock, self._meter = url.rstrip("/"), clock, meter
        self._root_pid = root_pid
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
        pid = self._root_pid
        uses = [] if pid is None else await asyncio.to_thread(service_processes, pid)
        self.samples.append(Sample(self._clock.now_s(), await self._saved_s(), uses))
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


def memory(samples: Sequence[Sample]) -> dict[str, Any]:
    """What every process takes that was there at the end, and how it came to that.

    `growth`: since the warm-up, which is the first quarter of the run; None of a process that came
    later, and of a run too short to say.
    """
    if not samples:
        return {"at_s": [], "processes": []}
    warm = samples[len(samples) // 4 :]
    grown = growth([one.uses for one in warm]) if len(samples) >= FEWEST_SAMPLES else {}
    seen = [{use.label: use.private_bytes for use in one.uses} for one in samples]
    return {
        "at_s": [round(one.at_s, 1) for one in samples],
        "processes": [
            {
                **asdict(use),
                "growth": grown.get(use.label),
                "private_mib": [
                    round(taken[use.label] / MIB, 1) if use.label in taken else None
                    for taken in seen
                ],
            }
            for use in samples[-1].uses
        ],
    }


def root_of(url: str, state_dir: Path) -> int | None:
    """The process below which the service runs that `timbre up` started from this directory.

    None where it is not the one at the address.
    """
    service = LocalService(state_dir).running()
    return None if service is None or service.port != urlsplit(url).port else service.pid


def _busy_core_s() -> float:
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)
