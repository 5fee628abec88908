"""The engine on a small random Step1: determinism, grammar, limits, failures, its end."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest
import torch

from pipeline.contracts import Sampling
from pipeline.errors import (
    ConfigError,
    StageError,
    StageUnavailableError,
    TextError,
    UnsupportedError,
)
from pipeline.stepaudio.llm.runner import Step1Runner
from pipeline.stepaudio.llm.step1 import Step1ForCausalLM
from pipeline.stepaudio.tokens import deinterleave
from tests.unit.pipeline.stepaudio.llm.engines import (
    POISON,
    VOCAB_SIZE,
    VOCABULARY,
    MakeEngine,
    collect,
    prompt,
    request,
)
from tests.waiting import GIVE_UP_S, until

pytestmark = pytest.mark.unit


@pytest.mark.slow
async def test_a_stream_is_the_same_alone_interleaved_and_in_any_slot(
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(slots=6)
    serial = [await collect(engine.stream(*request(seed))) for seed in range(12)]
    together = await asyncio.gather(*(collect(engine.stream(*request(s))) for s in range(12)))
    backwards = await asyncio.gather(
        *(collect(engine.stream(*request(s))) for s in reversed(range(12)))
    )
    small = make_engine(slots=2)
    pairs = await asyncio.gather(*(collect(small.stream(*request(s))) for s in range(12)))
    assert together == serial
    assert backwards[::-1] == serial
    assert pairs == serial
    assert len({tuple(ids) for ids in serial}) == 12


@pytest.mark.slow
async def test_same_seed_same_tokens_other_seed_other_tokens(make_engine: MakeEngine) -> None:
    engine = make_engine()
    ids = prompt(40, 0)
    first, again, other = [
        await collect(engine.stream(ids, Sampling(seed=seed, max_tokens=50))) for seed in (5, 5, 6)
    ]
    assert first == again != other


@pytest.mark.slow
async def test_answers_follow_the_grammar_at_a_high_temperature(make_engine: MakeEngine) -> None:
    engine = make_engine()
    sampling = Sampling(temperature=50.0, seed=1, max_tokens=400)
    ids = await collect(engine.stream(prompt(20, 1), sampling))
    vq02, vq06 = deinterleave(np.array(ids, np.int32))
    assert len(vq02) * 3 == len(vq06) * 2 > 0


@pytest.mark.slow
async def test_prefill_chunk_size_does_not_change_a_greedy_answer(make_engine: MakeEngine) -> None:
    sampling = Sampling(temperature=0, max_tokens=60)
    answers = [
        await collect(make_engine(prefill_chunk_tokens=n).stream(prompt(301, 3), sampling))
        for n in (7, 100, 1024)
    ]
    assert answers[0] == answers[1] == answers[2]


async def test_chunks_are_groups_at_the_start_then_of_the_configured_size(
    make_engine: MakeEngine,
) -> None:
    engine = make_engine(chunk_tokens=10)
    chunks = [c async for c in engine.stream(prompt(5, 2), Sampling(seed=3, max_tokens=60))]
    assert [len(c.ids) for c in chunks] == [5] * 7 + [10, 10, 5]
    assert [c.last for c in chunks] == [False] * 9 + [True]


async def test_max_tokens_ends_at_a_group_border(make_engine: MakeEngine) -> None:
    ids = await collect(make_engine().stream(prompt(5, 2), Sampling(seed=3, max_tokens=44)))
    assert len(ids) == 40


async def test_the_context_bounds_the_answer(make_engine: MakeEngine) -> None:
    engine = make_engine(max_context_tokens=100)
    ids = await collect(engine.stream(prompt(78, 2), Sampling(seed=3)))
    assert len(ids) == 20
    with pytest.raises(TextError, match="96 tokens, allowed: 1 to 95"):
        await collect(engine.stream(prompt(96, 2), Sampling()))


async def test_ids_that_the_model_does_not_have_are_refused(make_engine: MakeEngine) -> None:
    engine = make_engine()
    for token in (-1, VOCAB_SIZE):
        with pytest.raises(StageError, match="token ids that the model does not have"):
            await collect(engine.stream(np.array([1, token], np.int32), Sampling()))
    engine.check_health()


async def test_sampling_outside_its_limits_is_refused(make_engine: MakeEngine) -> None:
    engine = make_engine()
    with pytest.raises(UnsupportedError, match="max_tokens is 4"):
        await collect(engine.stream(prompt(5, 2), Sampling(max_tokens=4)))
    assert engine.gauges().slots_active == 0


async def test_a_stop_ends_the_stream(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Step1Runner.step

    def with_likely_stop(*args: object, **kwargs: object) -> torch.Tensor:
        logits = plain(*args, **kwargs).clone()
        logits[:, VOCABULARY.stop] += 100.0
        return logits

    monkeypatch.setattr(Step1Runner, "step", with_likely_stop)
    engine = make_engine()
    chunks = [c async for c in engine.stream(prompt(5, 2), Sampling(seed=3))]
    assert [(len(c.ids), c.last) for c in chunks] == [(5, False), (0, True)]
    free = [c async for c in engine.stream(prompt(5, 2), Sampling(seed=3, grammar=False))]
    assert [(len(c.ids), c.last) for c in free] == [(0, True)]


@pytest.mark.slow
async def test_a_failing_step_reaches_its_caller_alone(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()
    expected = [await collect(engine.stream(*request(seed))) for seed in range(3)]
    plain = Step1Runner.step

    def poisoned(
        self: Step1Runner, window: range, tokens: list[int], *others: object
    ) -> torch.Tensor:
        if POISON in tokens:
            raise RuntimeError("poisoned")
        return plain(self, window, tokens, *others)

    monkeypatch.setattr(Step1Runner, "step", poisoned)
    bad = np.append(prompt(20, 8), POISON)
    streams = [engine.stream(*request(seed)) for seed in range(3)]
    streams.insert(1, engine.stream(bad, Sampling()))
    results = await asyncio.gather(*map(collect, streams), return_exceptions=True)
    failure = results.pop(1)
    assert isinstance(failure, StageError)
    assert "poisoned" in str(failure)
    assert results == expected
    assert engine.gauges().slots_active == 0
    engine.check_health()


async def test_a_failing_prefill_reaches_its_caller_alone(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()
    expected = await collect(engine.stream(*request(2)))
    plain = Step1Runner.prefill

    def poisoned(self: Step1Runner, slot: int, ids: np.ndarray, start: int) -> None:
        if POISON in ids:
            raise MemoryError("no room")
        plain(self, slot, ids, start)

    monkeypatch.setattr(Step1Runner, "prefill", poisoned)
    bad = np.append(POISON, prompt(20, 8)).astype(np.int32)
    failure, ids = await asyncio.gather(
        collect(engine.stream(bad, Sampling())),
        collect(engine.stream(*request(2))),
        return_exceptions=True,
    )
    assert isinstance(failure, StageError)
    assert ids == expected


async def test_numbers_that_are_not_finite_fail_one_stream_and_leave_the_slot_usable(
    model: Step1ForCausalLM, make_engine: MakeEngine
) -> None:
    engine = make_engine(slots=2)
    expected = [await collect(engine.stream(*request(seed))) for seed in (1, 2)]
    embedding = model.model.embed_tokens.weight
    saved = embedding[POISON].clone()
    embedding[POISON] = torch.nan
    try:
        bad = np.insert(prompt(20, 8), 4, POISON).astype(np.int32)
        failure, ids = await asyncio.gather(
            collect(engine.stream(bad, Sampling())),
            collect(engine.stream(*request(1))),
            return_exceptions=True,
        )
    finally:
        embedding[POISON] = saved
    assert isinstance(failure, StageError)
    assert "not finite" in str(failure)
    assert ids == expected[0]
    both = await asyncio.gather(*(collect(engine.stream(*request(seed))) for seed in (1, 2)))
    assert both == expected


async def test_an_engine_that_only_fails_is_unhealthy(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()

    def broken(*_: object, **__: object) -> torch.Tensor:
        raise RuntimeError("device lost")

    with monkeypatch.context() as patch:
        patch.setattr(Step1Runner, "step", broken)
        for _ in range(3):
            engine.check_health()
            with pytest.raises(StageError, match="device lost"):
                await collect(engine.stream(*request(1)))
        with pytest.raises(StageError, match="3 times in a row"):
            engine.check_health()
    await collect(engine.stream(*request(1)))
    engine.check_health()


async def test_an_engine_whose_device_is_lost_is_unhealthy_at_once(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()

    def broken(*_: object, **__: object) -> torch.Tensor:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    with monkeypatch.context() as patch:
        patch.setattr(Step1Runner, "step", broken)
        with pytest.raises(StageError, match="the language model failed") as caught:
            await collect(engine.stream(*request(1)))
        assert "CUDA" not in caught.value.message
    with pytest.raises(StageError, match="lost its device"):
        engine.check_health()


async def test_the_event_loop_stays_free_during_a_slow_step(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step waits for something that only the event loop does."""
    plain = Step1Runner.step
    may_go_on, was_let_go = threading.Event(), []

    def slow(*args: object, **kwargs: object) -> torch.Tensor:
        was_let_go.append(may_go_on.wait(GIVE_UP_S))
        return plain(*args, **kwargs)

    engine = make_engine()
    monkeypatch.setattr(Step1Runner, "step", slow)
    ids = prompt(4, 1)
    task = asyncio.create_task(collect(engine.stream(ids, Sampling(max_tokens=5))))
    await until(lambda: engine.gauges().slots_active == 1)
    for _ in range(10):
        await asyncio.sleep(0.001)
    assert not was_let_go
    may_go_on.set()
    assert len(await task) == 5
    assert all(was_let_go)


async def test_close_ends_open_streams_and_refuses_new_ones(
    make_engine: MakeEngine, may_step: threading.Event
) -> None:
    engine = make_engine(slots=1)
    may_step.clear()
    held = asyncio.create_task(collect(engine.stream(prompt(4, 1), Sampling())))
    waiting = asyncio.create_task(collect(engine.stream(prompt(4, 2), Sampling())))
    await until(lambda: engine.gauges().queued == 1)
    may_step.set()
    engine.close()
    for task in (held, waiting):
        with pytest.raises(StageUnavailableError):
            await task
    with pytest.raises(StageUnavailableError):
        await collect(engine.stream(prompt(4, 1), Sampling()))
    with pytest.raises(StageUnavailableError):
        engine.check_health()
    engine.close()


@pytest.mark.parametrize(
    "options", [{"chunk_tokens": 12}, {"chunk_tokens": 0}, {"slots": 0}, {"queue_size": -1}]
)
def test_settings_that_make_no_sense_are_refused(
    make_engine: MakeEngine, options: dict[str, int]
) -> None:
    with pytest.raises(ConfigError):
        make_engine(**options)
