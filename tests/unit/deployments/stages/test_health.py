"""One look a second for any number of probes; busy is not away; nothing told to strangers."""

from __future__ import annotations

import asyncio
import contextvars
import json
from typing import Any

import pytest

from cache_store.settings import CacheSettings
from deployments.config.settings import Settings
from deployments.config.stages import Stages
from deployments.stages import health as readiness
from deployments.stages.health import Readiness
from deployments.voices.resolver import VoiceLibrary
from tests.fakes import FakeHandle

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("virtual_time")]

INSIDE = "s3://bucket at http://10.0.0.7:9000"


class Replica:
    """Answers, fails or is silent, as told; counts."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.is_silent = False
        self.asked = 0

    async def status(self) -> dict[str, Any]:
        self.asked += 1
        if self.is_silent:
            await asyncio.sleep(1000)
        if self.error is not None:
            raise self.error
        return {"asked": self.asked}


class Cache:
    """What a cache reports."""

    is_broken = False

    async def report(self) -> dict[str, Any]:
        if self.is_broken:
            raise ZeroDivisionError
        return {"set_aside": {}}


class Service:
    def __init__(self, settings: Settings | None = None) -> None:
        self.replicas = {name: Replica() for name in ("tokenizer", "llm", "vocoder", "jobs")}
        self.handles = {name: FakeHandle(replica) for name, replica in self.replicas.items()}
        self.cache = Cache()
        _, *stages = Stages.of(settings or Settings())
        handles = {stage: self.handles[stage.key] for stage in stages}
        self.readiness = Readiness(handles, self.cache.report)  # type: ignore[arg-type]

    async def report(self) -> dict[str, Any]:
        """A report that no earlier one stands for."""
        await asyncio.sleep(readiness.REPORT_S + 0.01)
        return await self.readiness.report()


async def test_all_is_well() -> None:
    report = await Service().report()
    assert report["ready"]
    assert report["stages"]["llm"] == {"state": "ok", "replicas": [{"asked": 1}]}
    assert report["cache"] == {"set_aside": {}}


async def test_probes_share_one_look() -> None:
    service = Service()
    for replica in service.replicas.values():
        replica.is_silent = True  # nobody answers before all have asked
    await asyncio.gather(*(service.readiness.report() for _ in range(50)))
    assert len(service.handles["llm"].calls) == 2  # all of them, and any one
    for replica in service.replicas.values():
        replica.is_silent = False
    ages = []
    await service.report()
    for _ in range(10):
        await asyncio.sleep(0.09)
        ages.append((await service.readiness.report())["age_s"])
    assert ages == sorted(ages)
    assert ages[0] == pytest.approx(0.09, abs=0.01)
    assert service.replicas["llm"].asked == 3
    await asyncio.sleep(0.2)
    assert (await service.readiness.report())["age_s"] < 0.01
    assert service.replicas["llm"].asked == 4


async def test_a_probe_that_leaves_takes_no_other_with_it() -> None:
    service = Service()
    service.replicas["llm"].is_silent = True
    first, second = (asyncio.create_task(service.readiness.report()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    report = await second
    assert first.cancelled()
    assert report["stages"]["llm"]["state"] == "unavailable"


async def test_a_look_belongs_to_no_request() -> None:
    """Serve cancels the calls that a request made when its client leaves."""
    context = contextvars.ContextVar("request", default="nobody")
    seen: list[str] = []

    class Asking(Replica):
        async def status(self) -> dict[str, Any]:
            seen.append(context.get())
            return {}

    service = Service()
    service.handles["llm"].replicas[:] = [Asking()]
    context.set("a request")
    await service.report()
    assert seen == ["nobody"]


@pytest.mark.parametrize("how", ["silent", "gone", "none"])
@pytest.mark.parametrize("stage", ["tokenizer", "llm", "vocoder", "jobs"])
async def test_a_stage_that_does_not_answer(stage: str, how: str) -> None:
    """Cached voices need no tokenizer, once there was one."""
    fresh, serving = Service(), Service()
    await serving.report()
    for service in (fresh, serving):
        replica = service.replicas[stage]
        replica.is_silent = how == "silent"
        replica.error = OSError(INSIDE) if how == "gone" else None
        if how == "none":
            service.handles[stage].replicas.clear()
    assert not (await fresh.report())["ready"]
    report = await serving.report()
    assert report["ready"] == (stage in {"tokenizer", "jobs"})
    said = report["stages"][stage]
    assert said.pop("away_s") >= 0
    why = said.pop("why")
    assert said == {"state": "unavailable", "error": f"no replica of the {stage} answered"}
    assert INSIDE not in why
    assert report["reasons"] == [f"{stage}: {why}, 0 s ago"]
    for service in (fresh, serving):
        service.replicas[stage].is_silent = False
        service.replicas[stage].error = None
        service.handles[stage].replicas[:] = [service.replicas[stage]]
        assert (await service.report())["ready"]


async def test_a_failing_look_is_not_kept() -> None:
    service = Service()
    service.cache.is_broken = True
    with pytest.raises(ZeroDivisionError):
        await service.readiness.report()
    service.cache.is_broken = False
    assert (await service.readiness.report())["ready"]


async def test_a_tier_set_aside_names_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(cache=CacheSettings(url="none"))
    library = VoiceLibrary(settings, None)  # type: ignore[arg-type]
    monkeypatch.setattr(library._cache, "unhealthy_tiers", lambda: {"l3 reading": INSIDE})
    report = await library.cache_report()
    assert set(report["set_aside"]) == {"l3 reading"}
    assert "10.0.0.7" not in json.dumps(report, default=str)


async def test_a_stage_that_sleeps_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    """Also for a router that never saw it awake."""
    asleep = {"tokenizer": {"sleeps": True}}
    service = Service(Settings(scaling=asleep))  # type: ignore[arg-type]
    service.handles["tokenizer"].replicas.clear()
    report = await service.report()
    assert report["ready"]
    assert report["stages"]["tokenizer"] == {"state": "asleep", "replicas": []}
    assert not caplog.messages
    service.handles["tokenizer"].replicas[:] = [silent := Replica()]
    silent.is_silent = True
    report = await service.report()
    assert report["stages"]["tokenizer"]["state"] == "unavailable", "one that hangs is no sleeper"
    assert not report["ready"]
