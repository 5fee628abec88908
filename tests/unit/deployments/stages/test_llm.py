"""The LLM's replica with a fake of its engine: answers go through whole, and are given up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest
from ray.serve import metrics

from deployments.config.settings import Settings
from deployments.liveness.signs import ALIVE, EVERY_S
from deployments.scaling.policy import Work
from deployments.stages import llm
from deployments.stages.llm import LLMReplica
from pipeline.contracts import Int32Array, Sampling, TokenChunk
from pipeline.errors import CapacityError
from pipeline.stepaudio.llm.engine import loading
from pipeline.stepaudio.llm.engine.engine import EngineGauges
from tests.fakes import without_signs
from tests.unit.deployments.stages.test_room import Metric

pytestmark = pytest.mark.unit

PROMPT = np.zeros(3, np.int32)


class Engine:
    """Two groups for every prompt, the second one when the gate is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.open_streams = 0
        self.voices: list[str] = []
        self.due_s: list[float | None] = []

    async def stream(
        self,
        prompt_ids: Int32Array,
        sampling: Sampling,
        voice: str,
        *,
        is_behind: bool,
        due_s: float | None,
    ) -> AsyncGenerator[TokenChunk]:
        del prompt_ids, sampling, is_behind
        self.voices.append(voice)
        self.due_s.append(due_s)
        self.open_streams += 1
        try:
            yield TokenChunk(np.zeros(5, np.int32), last=False)
            await self.gate.wait()
            yield TokenChunk(np.zeros(5, np.int32), last=True)
        finally:
            self.open_streams -= 1

    def check_health(self) -> None:
        """Nothing is wrong with it."""

    def prefix(self, prompt_ids: Int32Array) -> Int32Array:
        """A prompt of this test has none."""
        return prompt_ids[:0]

    def prefix_bytes(self, ids: Int32Array) -> int:
        return 4 * len(ids)

    def gauges(self) -> EngineGauges:
        return EngineGauges(8, self.open_streams, 0, 0.0, 0, 0, 0, 0, 0, 0, 0, 0, 0.0)

    def take_waits(self) -> list[float]:
        return []


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def replica(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> LLMReplica:
    monkeypatch.setattr(loading, "load_engine", lambda *_: engine)
    monkeypatch.setattr(llm, "lm_fingerprint", lambda *_: "fe" * 32)
    for kind in ("Counter", "Gauge", "Histogram"):
        monkeypatch.setattr(metrics, kind, Metric)
    for name in ("adopt_serve_logging", "apply_device_limits", "draw_once", "warm_up"):
        monkeypatch.setattr(llm, name, lambda *_, **__: None)
    return LLMReplica(Settings(), "base")


async def test_an_answer_says_at_its_end_who_drew_it(replica: LLMReplica, engine: Engine) -> None:
    engine.gate.set()
    chunks = [
        sent.value async for sent in without_signs(replica.stream_aloud(PROMPT, Sampling(), ""))
    ]
    assert [(len(chunk.ids), chunk.last) for chunk in chunks] == [(5, False), (5, True)]
    assert [chunk.made_by for chunk in chunks] == ["", await replica.fingerprint()]
    assert engine.voices == [""]
    assert (await replica.status())["slots_active"] == 0


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("method", ["stream", "stream_aloud"])
async def test_only_who_asks_for_signs_of_life_hears_them(
    replica: LLMReplica, engine: Engine, method: str
) -> None:
    """A vocoder of before an update does not know what they are."""
    asyncio.get_running_loop().call_later(3.5 * EVERY_S, engine.gate.set)
    heard = [one async for one in getattr(replica, method)(PROMPT, Sampling(), "")]
    assert heard.count(ALIVE) == (3 if method == "stream_aloud" else 0)
    assert heard[-1].value.last


@pytest.mark.parametrize("is_waiting", [False, True], ids=["between chunks", "while waiting"])
async def test_whoever_leaves_frees_the_slot_at_once(
    replica: LLMReplica, engine: Engine, is_waiting: bool
) -> None:
    stream = without_signs(replica.stream_aloud(PROMPT, Sampling(), ""))
    async with aclosing(stream) as chunks:
        await anext(chunks)
        assert (await replica.status())["slots_active"] == 1
        if is_waiting:
            waiting: asyncio.Future[Any] = asyncio.ensure_future(anext(chunks))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
    assert engine.open_streams == 0


async def test_it_tells_of_its_slots_and_whom_it_refused(
    replica: LLMReplica, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with aclosing(replica.stream_aloud(PROMPT, Sampling(), "")) as chunks:
        await anext(chunks)
        assert replica.work() == Work(1, 8)
        assert replica.in_work == 1

    def full(*_: object, **__: object) -> None:
        raise CapacityError("all slots are busy")

    monkeypatch.setattr(engine, "stream", full)
    with pytest.raises(CapacityError):
        await anext(replica.stream_aloud(PROMPT, Sampling(), ""))
    assert [replica.work().refused for _ in range(2)] == [1, 0]
    assert replica.in_work == 0
