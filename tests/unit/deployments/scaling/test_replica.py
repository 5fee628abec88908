"""What every replica tells Serve, and what it answers to a health check."""

from __future__ import annotations

import pytest

from deployments.config.scaling_settings import MemorySettings, StageScaling
from deployments.scaling import peers, replica
from deployments.scaling.memory import LOOKS, MemoryState
from deployments.scaling.policy import Work
from deployments.scaling.replica import ScaledReplica
from pipeline.errors import StageError
from tests.fakes import FakeHandle

pytestmark = pytest.mark.unit


class One(ScaledReplica):
    """A replica at some work."""

    in_work = 3
    is_broken = False

    def __init__(self, memory: MemorySettings | None = None) -> None:
        scaling = StageScaling(busy=0.6, queue_age_s=2, spare=1)
        self.begin_telling("vocoder", scaling, memory or MemorySettings())

    def work(self) -> Work:
        return Work(3, 8, 0.5, 1, 20, 100)

    def check_parts(self) -> None:
        if self.is_broken:
            raise StageError("it broke")


async def test_it_tells_its_work_and_what_its_stage_aims_at() -> None:
    assert await One().record_autoscaling_stats() == {
        "busy": 3,
        "slots": 8,
        "queue_age_s": 0.5,
        "refused": 1,
        "cache_bytes": 20,
        "cache_limit_bytes": 100,
        "is_spent": 0.0,
        "aim_busy": 0.6,
        "aim_queue_age_s": 2,
        "aim_cache": 0.85,
        "aim_spare": 1,
    }


async def test_a_broken_part_is_a_failed_check() -> None:
    one = One()
    await one.check_health()
    one.is_broken = True
    with pytest.raises(StageError, match="it broke"):
        await one.check_health()


async def test_one_that_outgrew_its_memory_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fresh() -> list[MemoryState]:
        return [MemoryState("b", is_spent=False, is_leaving=False)]

    monkeypatch.setattr(replica, "memory_of_others", fresh)
    monkeypatch.setattr(replica, "own_name", lambda: "a")
    one = One(MemorySettings(vocoder={"rss_gib": 50}))  # type: ignore[arg-type]
    bound = one._memory._bound
    one._memory._bound = bound.model_copy(update={"rss_gib": 1e-6})
    for _ in range(LOOKS - 1):
        await one.check_health()
    with pytest.raises(StageError, match="outgrew its memory"):
        await one.check_health()
    assert (await one.record_autoscaling_stats())["is_spent"] == 1.0
    assert await one.memory_state() == MemoryState("a", is_spent=True, is_leaving=True)


async def test_replicas_of_a_stage_ask_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    class Told:
        def __init__(self, name: str) -> None:
            self.state = MemoryState(name, is_spent=False, is_leaving=False)

        async def memory_state(self) -> MemoryState:
            if self.state.replica == "silent":
                raise ZeroDivisionError
            return self.state

    class Context:
        deployment, app_name = "LLM", "timbre"

        class replica_id:
            unique_id = "me"

    peers._handle.cache_clear()
    handle = FakeHandle(Told("me"), Told("another"), Told("silent"))
    monkeypatch.setattr(peers.serve, "get_replica_context", Context)
    monkeypatch.setattr(peers.serve, "get_deployment_handle", lambda *_: handle)
    assert [one.replica for one in await peers.memory_of_others()] == ["another"]
    handle.replicas.clear()
    assert await peers.memory_of_others() == []
