"""Step1, its engine and the prompts against golden data of the reference implementation."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.contracts import Sampling
from pipeline.stepaudio.llm.engine.engine import Engine
from pipeline.stepaudio.llm.sampling import AudioVocabulary
from pipeline.stepaudio.parity.lm import check_lm, check_prompts, golden_model
from tests.conftest import ROOT

pytestmark = pytest.mark.parity


def golden(golden_dir: Path, pattern: str) -> list[Path]:
    paths = sorted(golden_dir.glob(pattern))
    assert paths
    return paths


@pytest.fixture(scope="module")
def lm_golden() -> Path:
    """The one golden language model: both sets hold the same file."""
    return ROOT / "tests" / "golden" / "lm_public.json"


def test_logits_and_greedy_answer(golden_dir: Path) -> None:
    for path in golden(golden_dir, "lm_*.json"):
        for check in check_lm(path, "cpu"):
            assert check.ok, check


def test_prompts(golden_dir: Path) -> None:
    for path in golden(golden_dir, "prompts*.json"):
        checks = check_prompts(path)
        assert len(checks) == 2 + len(json.loads(path.read_text())["cases"])
        for check in checks:
            assert check.ok, check


def test_checks_can_fail(lm_golden: Path, tmp_path: Path) -> None:
    source = lm_golden
    fields = json.loads(source.read_text())
    broken = tmp_path / "lm_broken.json"
    broken.write_text(json.dumps({**fields, "seed": fields["seed"] + 1}))
    broken.with_suffix(".npz").write_bytes(source.with_suffix(".npz").read_bytes())
    assert not any(check.ok for check in check_lm(broken, "cpu"))


@pytest.mark.parametrize("prefill_chunk_tokens", [17, 1000])
async def test_greedy_answer_alone_and_in_a_full_batch(
    lm_golden: Path, prefill_chunk_tokens: int
) -> None:
    path = lm_golden
    with np.load(path.with_suffix(".npz")) as arrays:
        ids, expected = arrays["input_ids"].astype(np.int32), arrays["greedy"].tolist()
    model = golden_model(path, "cpu")
    size = model.config.vocab_size
    # Every token of the small vocabulary counts as audio: the reference's answer has all of them.
    engine = Engine(
        model,
        AudioVocabulary(0, 3, size),
        slots=6,
        max_context_tokens=700,
        queue_size=8,
        queue_timeout_s=30,
        prefill_chunk_tokens=prefill_chunk_tokens,
    )
    greedy = Sampling(temperature=0, grammar=False, max_tokens=len(expected))

    async def answer(prompt: np.ndarray, sampling: Sampling) -> list[int]:
        return [
            token async for chunk in engine.stream(prompt, sampling) for token in chunk.ids.tolist()
        ]

    try:
        assert await answer(ids, greedy) == expected
        rng = np.random.default_rng(0)
        others = [
            answer(
                rng.integers(0, size, 40 * i + 1).astype(np.int32),
                Sampling(temperature=1.0, seed=i, grammar=False, max_tokens=120),
            )
            for i in range(4)
        ]
        results = await asyncio.gather(answer(ids, greedy), *others, answer(ids, greedy))
        assert results[0] == results[-1] == expected
    finally:
        engine.close()


async def test_greedy_answer_after_a_copied_prefix(lm_golden: Path) -> None:
    path = lm_golden
    with np.load(path.with_suffix(".npz")) as arrays:
        ids, expected = arrays["input_ids"].astype(np.int32), arrays["greedy"].tolist()
    model = golden_model(path, "cpu")
    first_seen = {token: ids.tolist().index(token) for token in ids[:-1].tolist()}
    end = max((t for t in first_seen if t not in expected), key=lambda t: first_seen[t])
    engine = Engine(
        model,
        AudioVocabulary(0, end, model.config.vocab_size),
        slots=3,
        max_context_tokens=700,
        queue_size=8,
        queue_timeout_s=30,
        prefill_chunk_tokens=17,
        prefix_cache_bytes=2**24,
    )
    greedy = Sampling(temperature=0, grammar=False, max_tokens=len(expected))
    try:
        for n_hits in range(3):
            chunks = [chunk.ids async for chunk in engine.stream(ids, greedy)]
            assert np.concatenate(chunks).tolist() == expected
            assert engine.gauges().prefix_hits_total == n_hits
        assert first_seen[end] > 20
    finally:
        engine.close()
