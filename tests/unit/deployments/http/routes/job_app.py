"""The application with jobs that run, as the tests of their routes ask it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from deployments.jobs.runner import JobRunner
from deployments.jobs.speaking import SegmentSpeaker
from deployments.jobs.store import JobStore
from tests.http_app import HttpApp, running
from tests.job_runners import FreeRoad

JOBS = "/v1/audio/jobs"
KINDS = ("states", "plans", "runs", "parts", "audio", "results")


class JobApp(HttpApp):
    """The application, with somebody who runs its jobs."""

    def __init__(self, directory: Path, **args: Any) -> None:
        jobs = {"lease_s": 0.3, "concurrency": 2, **args.pop("jobs", {})}
        cache = {"url": str(directory), "l2": "off"}
        super().__init__(is_telling=True, cache=cache, jobs=jobs, **args)
        assert self.voices.shelf is not None
        store = JobStore(self.voices.shelf, self.settings.jobs.max_kept)
        self.road = FreeRoad()
        speaker = SegmentSpeaker(self.settings, self.voices, self.speech)
        self.runner = JobRunner(self.settings.jobs, store, speaker, self.road)

    async def _told(self, job: str) -> None:
        self.runner.poke(job)

    async def made(self, content: Any = None, kind: str = "", **params: Any) -> dict[str, Any]:
        """A job that is accepted."""
        reply = await self.asked(content, kind, **params)
        assert reply.status_code == httpx.codes.OK, reply.text
        return reply.json()

    async def asked(self, content: Any, kind: str = "", **params: Any) -> httpx.Response:
        if isinstance(content, dict):
            return await self.http.post(JOBS, json=content, params=params)
        headers = {"content-type": kind} if kind else {}
        return await self.http.post(JOBS, content=content, headers=headers, params=params)

    async def ended(self, job: str, give_up_s: float = 60.0) -> dict[str, Any]:
        async with asyncio.timeout(give_up_s):
            while True:
                told = (await self.http.get(f"{JOBS}/{job}")).json()
                if told["status"] in {"completed", "failed", "cancelled"}:
                    return told
                await asyncio.sleep(0.02)

    async def segments(self, job: str) -> list[dict[str, Any]]:
        return (await self.http.get(f"{JOBS}/{job}/segments")).json()["data"]


@asynccontextmanager
async def job_app(directory: Path, **args: Any) -> AsyncIterator[JobApp]:
    app = JobApp(directory, **args)
    async with running(app):
        task = asyncio.create_task(app.runner.run())
        try:
            yield app
        finally:
            task.cancel()
            await asyncio.wait([task])


def files(directory: Path, pattern: str) -> list[Path]:
    found = directory.glob(f"jobs/v1/{pattern}")
    return [path for path in found if path.is_file()]
