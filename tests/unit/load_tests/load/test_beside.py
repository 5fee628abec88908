"""A workload's job runs during its phase and no longer."""

from __future__ import annotations

import pytest
from aiohttp import web

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


async def test_a_load_without_a_job_has_none() -> None:
    async with JobBeside("http://127.0.0.1:9", plan_of(workloads()["soak"]), Clock()) as job:
        pass
    assert job.told is None
