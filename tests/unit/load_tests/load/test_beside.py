"""A workload's job runs during its phase and no longer."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from aiohttp import web

from load_tests.bench import jobs_beside
from load_tests.load.beside import JobBeside
from load_tests.load.clients import Clock
from load_tests.load.plan import Plan, plan_of
from load_tests.load.workload import workloads
from tests.unit.load_tests.load.servers import served

pytestmark = pytest.mark.unit


def brief() -> Plan:
    """Phases: alone until 0.35 s, with a job until 0.7 s, then alone again."""
    return plan_of(workloads()["jobs_beside"].scaled(1.0, 1.0), saturation_hz=1.0)


async def test_the_job_begins_and_ends_with_its_phase() -> None:
    clock, seen = Clock(), list[tuple[str, float]]()

    async def reply(request: web.Request) -> web.StreamResponse:
        seen.append((f"{request.method} {request.path}", clock.now_s()))
        if request.method == "GET":
            return web.json_response({"progress": {"done": len(seen)}})
        return web.json_response({"id": "j1"})

    async with served(reply) as url:
        async with JobBeside(url, brief(), clock) as job:
            pass
    asked = [what for what, _ in seen]
    assert asked[0] == "POST /v1/audio/jobs"
    assert asked[-1] == "POST /v1/audio/jobs/j1/cancel"
    assert seen[0][1] >= 0.35
    assert seen[-1][1] >= 0.7
    assert job.told is not None
    assert job.told["segments"] > 0
    assert job.told["segments_per_min"] > 0


async def test_a_job_that_is_refused_costs_the_run_nothing() -> None:
    async def reply(_: web.Request) -> web.StreamResponse:
        return web.Response(status=503)

    async with served(reply) as url:
        async with JobBeside(url, brief(), Clock()) as job:
            pass
    assert job.told is not None
    assert "503" in job.told["fault"]


async def test_a_job_that_does_not_begin_costs_the_run_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jobs_beside, "BEGIN_S", 0.1)

    async def reply(request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            return web.json_response({"progress": {"done": 0}})
        return web.json_response({"id": "j1"})

    async with served(reply) as url:
        async with JobBeside(url, brief(), Clock()) as job:
            await asyncio.sleep(1.0)  # the run is not broken off meanwhile
    assert job.told == {"fault": "the job does not begin"}


async def test_a_run_that_breaks_off_takes_its_job_with_it() -> None:
    asked, has_begun = list[str](), asyncio.Event()

    async def reply(request: web.Request) -> web.StreamResponse:
        asked.append(f"{request.method} {request.path}")
        if request.method == "GET":
            has_begun.set()
            return web.json_response({"progress": {"done": 1}})
        return web.json_response({"id": "j1"})

    async def breaks_off(url: str) -> None:
        async with JobBeside(url, soon, clock):
            await has_begun.wait()
            raise RuntimeError("the run broke off")

    clock = Clock()
    plan = plan_of(workloads()["jobs_beside"].scaled(1.0, 20.0), saturation_hz=1.0)
    soon = replace(plan, spans=(replace(plan.spans[1], begins_s=0.0, ends_s=20.0),))
    async with served(reply) as url:
        with pytest.raises(RuntimeError, match="the run broke off"):
            await breaks_off(url)
    assert asked[-1] == "POST /v1/audio/jobs/j1/cancel"
    assert clock.now_s() < 10.0, "well before its phase ends"


async def test_a_load_without_a_job_has_none() -> None:
    async with JobBeside("http://127.0.0.1:9", plan_of(workloads()["soak"]), Clock()) as job:
        pass
    assert job.told is None
