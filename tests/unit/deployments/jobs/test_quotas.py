"""A job speaks as much as its tenant's quota lets it, waits for the rest, and keeps nobody else."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from deployments.config.tenants.quota_settings import Quota, QuotaSettings
from deployments.jobs import run
from deployments.quotas.accounts import Account, Measure
from deployments.quotas.gate import QuotaGate
from tests.job_runners import Replica, Tally, add_job, job_done, replicas
from tests.quota_fleet import Fleet
from tests.waiting import until

pytestmark = [pytest.mark.unit, pytest.mark.slow]
LINES = [f"Line {number}, and a few words." for number in range(3)]


async def test_a_job_waits_for_its_tenants_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run, "AFFORD_S", 0.02)
    fleet, tally = Fleet(1), Tally()
    settings = QuotaSettings(tenant=Quota(audio_s_per_minute=0.1), tenants={"rich": Quota()})
    gate = QuotaGate(settings, fleet.routers[0], lambda *_: None)
    one = Replica(tmp_path, tally, quotas=gate, jobs={"concurrency": 1})
    async with replicas(one):
        job = await add_job(one, LINES)
        await until(lambda: len(tally.ended) == 1)
        [(running, _)] = one.runner._runs.values()
        await until(lambda: running._note().doing == "waiting")
        assert one.runner.in_work == 0, "it holds nobody's place meanwhile"
        assert tally.ended == LINES[:1]
        account = Account(f"tenant/{one.voices.namespace}", Measure.AUDIO_MINUTE)
        assert fleet.routers[0].purse(account, 0.1).remaining(fleet.now()) == 0
        async with asyncio.timeout(20):
            while len(tally.ended) < len(LINES):
                await fleet.pass_s(60)
                await asyncio.sleep(0.05)
        assert (await job_done(one, job)).n_failed == 0
        assert tally.ended == LINES
