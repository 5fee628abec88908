"""A job of many segments that runs during one phase of a load."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

import httpx

from load_tests.bench.jobs_beside import begun, done, posted
from load_tests.load.clients import Clock
from load_tests.load.plan import Plan

ANSWER_S = 30.0


class JobBeside:
    """Posts the workload's job when its phase begins, and cancels it when it ends.

    Use within `async with`; does nothing where the workload has none. A job that fails is told of
    as its fault, and costs the run nothing else; a run that breaks off cancels it at once.
    """

    def __init__(self, url: str, plan: Plan, clock: Clock) -> None:
        self._url, self._plan, self._clock = url, plan, clock
        self.told: dict[str, Any] | None = None
        self._task: asyncio.Task[dict[str, Any]] | None = None

    async def __aenter__(self) -> Self:
        if self._plan.workload.job is not None:
            self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is None:
            return
        if error is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            return
        try:
            self.told = await self._task
        except (httpx.HTTPError, TimeoutError) as fault:
            self.told = {"fault": str(fault).partition("\n")[0] or type(fault).__name__}

    async def _run(self) -> dict[str, Any]:
        job = self._plan.workload.job
        assert job is not None
        span = next(one for one in self._plan.spans if one.name == job.phase)
        with httpx.Client(base_url=self._url, timeout=ANSWER_S, trust_env=False) as client:
            await self._clock.reach(span.begins_s)
            address = await asyncio.to_thread(posted, client, job.segments)
            try:
                before = await asyncio.to_thread(begun, client, address)
                begun_s = self._clock.now_s()
                await self._clock.reach(span.ends_s)
                made = await asyncio.to_thread(done, client, address) - before
                took_s = self._clock.now_s() - begun_s
            finally:
                cancelled = await asyncio.to_thread(client.post, f"{address}/cancel")
            cancelled.raise_for_status()
        return {"segments": made, "took_s": took_s, "segments_per_min": 60 * made / took_s}
