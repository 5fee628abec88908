"""Prefix reuse: what is kept, for whom, how much of it; and that a copy changes no bit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from pipeline.contracts import Sampling
from pipeline.stepaudio.llm.engine.engine import Engine
from pipeline.stepaudio.llm.engine.prefix import PrefixCache, prefix_length
from pipeline.stepaudio.llm.runner import Step1Runner
from pipeline.stepaudio.llm.sampling import AudioVocabulary
from pipeline.stepaudio.llm.step1 import Step1Config, Step1ForCausalLM
from pipeline.stepaudio.parity.golden import fill

pytestmark = pytest.mark.unit

STOP = 3
VOCABULARY = AudioVocabulary(audio_base=9, stop_id=STOP)
VOICE_A, VOICE_B = (
    np.append(np.random.default_rng(seed).integers(9, 5000, 151), STOP).astype(np.int32)
    for seed in (1, 2)
)


@pytest.fixture(scope="module")
def model() -> Iterator[Step1ForCausalLM]:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    config = Step1Config(
        hidden_size=48,
        intermediate_size=64,
        num_attention_heads=6,
        num_attention_groups=2,
        num_hidden_layers=2,
        vocab_size=9 + 5120,
        max_seq_len=1024,
    )
    model = Step1ForCausalLM(config).eval().requires_grad_(False)
    fill(model, 11)
    yield model
    torch.set_num_threads(n_threads)


def make_engine(model: Step1ForCausalLM, prefix_cache_bytes: int) -> Engine:
    return Engine(
        model,
        VOCABULARY,
        slots=3,
        max_context_tokens=600,
        queue_size=8,
        queue_timeout_s=30.0,
        prefill_chunk_tokens=64,
        prefix_cache_bytes=prefix_cache_bytes,
    )


def prompt(voice: np.ndarray, text_seed: int) -> np.ndarray:
    text = np.random.default_rng(text_seed).integers(9, 5000, 20 + text_seed)
    return np.concatenate([voice, text]).astype(np.int32)


async def answer(engine: Engine, ids: np.ndarray, seed: int = 0) -> list[int]:
    sampling = Sampling(temperature=1.2, seed=seed, max_tokens=40)
    return [t async for chunk in engine.stream(ids, sampling) for t in chunk.ids.tolist()]


def watched_logits(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    seen: list[torch.Tensor] = []
    plain = Step1Runner.step

    def step(*args: object, **kwargs: object) -> torch.Tensor:
        logits = plain(*args, **kwargs)
        seen.append(logits.clone())
        return logits

    monkeypatch.setattr(Step1Runner, "step", step)
    return seen


@pytest.mark.slow
async def test_logits_after_a_copied_prefix_are_bitwise_those_of_a_full_prefill(
    model: Step1ForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    off, on = make_engine(model, 0), make_engine(model, 2**24)
    try:
        await answer(on, prompt(VOICE_A, 1))
        seen = watched_logits(monkeypatch)
        expected = await answer(off, prompt(VOICE_A, 2))
        full = [logits[:1] for logits in seen]
        seen.clear()
        assert await answer(on, prompt(VOICE_A, 2)) == expected
        assert len(full) == len(seen) == 40
        assert all(torch.equal(a, b[:1]) for a, b in zip(full, seen, strict=True))
        assert on.gauges().prefix_hits_total == 1
        assert off.gauges().prefix_bytes == 0
    finally:
        off.close()
        on.close()


@pytest.mark.slow
async def test_a_copied_prefix_is_not_computed_again(
    model: Step1ForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(model, 2**24)
    starts: list[int] = []
    plain = Step1Runner.prefill

    def prefill(self: Step1Runner, slot: int, ids: np.ndarray, start: int) -> None:
        starts.append(start)
        plain(self, slot, ids, start)

    monkeypatch.setattr(Step1Runner, "prefill", prefill)
    try:
        await answer(engine, prompt(VOICE_A, 1))
        assert starts == [0, 64, 128, len(VOICE_A)]
        starts.clear()
        await answer(engine, prompt(VOICE_A, 2))
        assert starts == [len(VOICE_A)]
        await answer(engine, prompt(VOICE_B, 2))
        assert engine.gauges().prefix_misses_total == 2
    finally:
        engine.close()


async def test_numbers_that_are_not_finite_are_not_kept(model: Step1ForCausalLM) -> None:
    engine = make_engine(model, 2**24)
    embedding = model.model.embed_tokens.weight
    saved = embedding[VOICE_A[5]].clone()
    try:
        embedding[VOICE_A[5]] = torch.nan
        with pytest.raises(Exception, match="not finite"):
            await answer(engine, prompt(VOICE_A, 1))
        assert engine.gauges().prefix_bytes == 0
        embedding[VOICE_A[5]] = saved
        assert len(await answer(engine, prompt(VOICE_A, 1))) == 40
    finally:
        embedding[VOICE_A[5]] = saved
        engine.close()


async def test_the_budget_holds_and_the_least_recently_used_goes(model: Step1ForCausalLM) -> None:
    one_voice = 2 * 2 * 2 * 8 * 4 * len(VOICE_A)  # layers · (key, value) · groups · head · bytes
    engine = make_engine(model, one_voice)
    try:
        await answer(engine, prompt(VOICE_A, 1))
        assert engine.gauges().prefix_bytes == one_voice
        await answer(engine, prompt(VOICE_B, 1))
        assert engine.gauges().prefix_bytes == one_voice
        await answer(engine, prompt(VOICE_A, 2))
        assert engine.gauges().prefix_hits_total == 0
    finally:
        engine.close()


def test_lru_order_and_refusal_of_what_is_too_large() -> None:
    cache = PrefixCache(100)
    ids = [np.array([i], np.int32) for i in range(4)]
    for i in range(2):
        cache.put(ids[i], torch.zeros(40, dtype=torch.uint8))
    assert cache.get(ids[0]) is not None
    cache.put(ids[2], torch.zeros(40, dtype=torch.uint8))
    assert cache.get(ids[1]) is None
    assert cache.get(ids[0]) is not None
    cache.put(ids[3], torch.zeros(101, dtype=torch.uint8))
    assert cache.get(ids[3]) is None
    assert cache.n_bytes == 80
    assert (cache.hits_total, cache.misses_total) == (2, 2)


def test_tenants_share_no_prefix_of_a_clip_that_both_have() -> None:
    """That the second one's is there already would tell it that the first has the clip."""
    cache, ids, clip = PrefixCache(100), np.array([1], np.int32), "ab" * 32
    cache.put(ids, torch.zeros(40, dtype=torch.uint8), f"acme:{clip}")
    assert cache.get(ids, f"acme:{clip}") is not None
    for other in (clip, f"other:{clip}", ""):
        assert cache.get(ids, other) is None
        assert cache.held(ids, other) is None
        assert cache.wants(ids, 40, other)
    cache.put(ids, torch.ones(40, dtype=torch.uint8), f"other:{clip}")
    cache.forget(f"acme:{clip}")
    assert cache.get(ids, f"acme:{clip}") is None
    kept = cache.get(ids, f"other:{clip}")
    assert kept is not None
    assert bool(kept.all())


@pytest.mark.parametrize(
    ("ids", "length"), [([5, 3, 7, 3, 8], 2), ([5, 6], 0), ([5, 3], 0), ([3, 3, 3], 1)]
)
def test_a_prefix_is_the_first_turn(ids: list[int], length: int) -> None:
    assert prefix_length(np.array(ids, np.int32), STOP) == length


@pytest.mark.slow
async def test_a_forgotten_voice_leaves_no_prefix_and_others_keep_theirs(
    model: Step1ForCausalLM,
) -> None:
    engine = make_engine(model, 2**24)
    sampling = Sampling(temperature=1.2, max_tokens=40)
    try:

        async def speak(voice: np.ndarray, name: str, forget: bool = False) -> None:
            async for _ in engine.stream(prompt(voice, 1), sampling, voice=name):
                if forget:
                    engine.forget(name)

        await speak(VOICE_A, "clone_a")
        await speak(VOICE_B, "clone_b")
        both = engine.gauges().prefix_bytes
        engine.forget("clone_a")
        assert engine.gauges().prefix_bytes == both // 2
        await speak(VOICE_A, "clone_a")  # was under way, for all that the engine can tell
        await speak(VOICE_B, "clone_b")
        gauges = engine.gauges()
        assert (gauges.prefix_bytes, gauges.prefix_hits_total) == (both // 2, 1)
        await speak(VOICE_B, "clone_b", forget=True)
        assert engine.gauges().prefix_bytes == 0
    finally:
        engine.close()


async def test_a_voice_is_kept_again_once_requests_of_before_are_over(
    model: Step1ForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.forgotten.HOLD_S", 0.0)
    cache, ids = PrefixCache(100), np.array([1], np.int32)
    cache.forget("clone_a")
    cache.put(ids, torch.zeros(40, dtype=torch.uint8), "clone_a")
    assert cache.n_bytes == 40
