"""Who is prefilled when: several that join at once, beside streams that can wait or cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from pipeline.contracts import GROUP_S, GROUP_TOKENS, Sampling
from pipeline.stepaudio.llm.engine.engine import Engine
from pipeline.stepaudio.llm.engine.slot import EngineRequest, Slot
from pipeline.stepaudio.llm.runner import Step1Runner
from tests.unit.pipeline.stepaudio.llm.test_runner import audio_vocabulary, small_model

pytestmark = [pytest.mark.unit, pytest.mark.slow]

N_JOINING = 4
TURN_END = 3  # the model's id that ends a prompt's first turn


@pytest.fixture(name="calls")
def _calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the model is asked, in order: p0 for a chunk of slot 0's prompt, r0, s for a step."""
    calls: list[str] = []
    prefill, restore, step = Step1Runner.prefill, Step1Runner.restore, Step1Runner.step

    def prefilled(self: Step1Runner, slot: int, *rest: Any) -> None:
        calls.append(f"p{slot}")
        prefill(self, slot, *rest)

    def restored(self: Step1Runner, slot: int, *rest: Any) -> None:
        calls.append(f"r{slot}")
        restore(self, slot, *rest)

    def stepped(self: Step1Runner, *rest: Any) -> Any:
        calls.append("s")
        return step(self, *rest)

    monkeypatch.setattr(Step1Runner, "prefill", prefilled)
    monkeypatch.setattr(Step1Runner, "restore", restored)
    monkeypatch.setattr(Step1Runner, "step", stepped)
    return calls


@pytest.fixture(name="engine")
def _engine(calls: list[str]) -> Iterator[Engine]:
    model = small_model("tiny", layers=1)
    engine = Engine(
        model,
        audio_vocabulary(model),
        slots=N_JOINING + 1,
        max_context_tokens=900,
        queue_size=8,
        queue_timeout_s=60,
        prefill_chunk_tokens=64,
        prefix_cache_bytes=2**24,
    )
    calls.clear()  # what the start measured
    yield engine
    engine.close()


def prompt(n_tokens: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(20, 700, n_tokens).astype(np.int32)


async def draw(engine: Engine, ids: np.ndarray, n_tokens: int = GROUP_TOKENS) -> int:
    sampling = Sampling(seed=1, max_tokens=n_tokens, grammar=False)
    chunks = [chunk async for chunk in engine.stream(ids, sampling)]
    return sum(len(chunk.ids) for chunk in chunks)


async def test_those_that_join_together_step_together(engine: Engine, calls: list[str]) -> None:
    """A crowd's first tokens come when its last prompt is read, not one step later for each."""
    with engine._scheduler.changed:  # all are there before the worker looks
        drawn = [asyncio.ensure_future(draw(engine, prompt(30, i))) for i in range(N_JOINING)]
        await asyncio.sleep(0.05)
    await asyncio.gather(*drawn)
    assert calls[:N_JOINING] == [f"p{i}" for i in range(N_JOINING)]
    assert "p" not in "".join(calls[N_JOINING:])


async def test_the_oldest_prompt_is_read_to_its_end_first(engine: Engine, calls: list[str]) -> None:
    with engine._scheduler.changed:
        drawn = [asyncio.ensure_future(draw(engine, prompt(129, i))) for i in range(3)]
        await asyncio.sleep(0.05)
    await asyncio.gather(*drawn)
    order = [call for call in calls if call != "s"]
    assert order == sorted(order)


async def test_a_kept_prefix_and_the_text_behind_it_are_one_turn(
    engine: Engine, calls: list[str]
) -> None:
    prefix = np.append(prompt(90, 0), np.int32(TURN_END))
    await draw(engine, np.concatenate([prefix, prompt(20, 1)]))
    calls.clear()
    await draw(engine, np.concatenate([prefix, prompt(20, 2)]))
    assert calls[:3] == ["r0", "p0", "s"]


async def test_a_stream_that_is_behind_waits_for_one_chunk_at_most(
    engine: Engine, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Slot, "can_wait", lambda *_: False)
    running = asyncio.ensure_future(draw(engine, prompt(5, 9), 400))
    while calls.count("s") < 10:  # noqa: ASYNC110  # the worker fills it
        await asyncio.sleep(0.001)
    with engine._scheduler.changed:
        drawn = [asyncio.ensure_future(draw(engine, prompt(30, i))) for i in range(N_JOINING)]
        await asyncio.sleep(0.05)
    await asyncio.gather(*drawn)
    running.cancel()
    joined = "".join(call[0] for call in calls[10:])
    assert "p" in joined
    assert "pp" not in joined


def slot_after(begun_s: float | None, emitted_tokens: int) -> Slot:
    request = object.__new__(EngineRequest)
    return Slot(0, 1, request, emitted_tokens=emitted_tokens, begun_s=begun_s)


def test_a_stream_can_wait_while_it_is_ahead_of_its_listener() -> None:
    ten_s = round(10 / GROUP_S) * GROUP_TOKENS
    assert slot_after(None, 0).can_wait(100.0)
    assert slot_after(100.0, ten_s).can_wait(100.0)
    assert slot_after(100.0, ten_s).can_wait(109.5)
    assert not slot_after(100.0, ten_s).can_wait(109.8)
    assert not slot_after(100.0, GROUP_TOKENS).can_wait(100.0)
