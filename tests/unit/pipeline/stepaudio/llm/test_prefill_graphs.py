"""Recorded prefill: the same keys and values as computed directly, in any slot and at any place."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.stepaudio.llm.runner import Step1Runner
from pipeline.stepaudio.recording import Replay
from tests.replay import run_again
from tests.unit.pipeline.stepaudio.llm.test_runner import audio_vocabulary, small_model

pytestmark = [pytest.mark.unit, pytest.mark.slow]

CONTEXT_TOKENS = 600  # 768 with whole blocks of keys


@pytest.fixture(name="runners", scope="module")
def _runners() -> tuple[Step1Runner, Step1Runner]:
    """One that runs directly, one that replays, as on a GPU, from a recorder that runs anew."""
    model = small_model("tiny", layers=3)
    direct, recorded = (
        Step1Runner(
            model,
            audio_vocabulary(model),
            slots=3,
            max_context_tokens=CONTEXT_TOKENS,
            prefill_rows=100,
        )
        for _ in range(2)
    )
    recorded.record_steps(run_again)
    return direct, recorded


def prompt(n_tokens: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 700, n_tokens).astype(np.int32)


@pytest.mark.parametrize("chunks", [[1], [32], [33, 7], [100, 100, 64], [90] * 6, [64, 150, 1]])
def test_recorded_chunks_fill_a_slot_as_direct_ones_do(
    runners: tuple[Step1Runner, Step1Runner], chunks: list[int]
) -> None:
    direct, recorded = runners
    ids, start = prompt(sum(chunks)), 0
    for n_tokens in chunks:  # 150 is longer than what is recorded
        for runner in runners:
            runner.prefill(1, ids[start : start + n_tokens], start)
        start += n_tokens
    kept = [runner.saved(1, start) for runner in runners]
    assert (kept[0] - kept[1]).abs().max() < 1e-5
    assert kept[0].abs().max() > 0.1
    logits = direct.step(range(1, 2), [5], [start], start)[0]
    window = recorded.window(1, 1)
    stepped = recorded.step(window, [5] * len(window), [start] * len(window), start)
    assert (logits - stepped[1 - window.start]).abs().max() < 1e-4


def test_a_recorded_chunk_leaves_other_slots_alone(
    runners: tuple[Step1Runner, Step1Runner],
) -> None:
    _, recorded = runners
    recorded.prefill(0, prompt(90), 0)
    recorded.prefill(2, prompt(90, 1), 0)
    before = [recorded.saved(slot, CONTEXT_TOKENS) for slot in (0, 2)]
    recorded.prefill(1, prompt(40, 2), 0)
    recorded.prefill(1, prompt(77, 3), 40)
    after = [recorded.saved(slot, CONTEXT_TOKENS) for slot in (0, 2)]
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


def test_rows_behind_a_chunk_write_nothing_before_it_and_stay_inside_of_the_cache(
    runners: tuple[Step1Runner, Step1Runner],
) -> None:
    """The last chunk before the cache's end: its bucket would reach beyond."""
    ids = prompt(760)
    for start in range(0, 760, 95):
        for runner in runners:
            runner.prefill(2, ids[start : start + 95], start)
    kept = [runner.saved(2, 760) for runner in runners]
    assert (kept[0] - kept[1]).abs().max() < 1e-5


def test_each_bucket_is_recorded_once() -> None:
    model = small_model("tiny", layers=1)
    runner = Step1Runner(
        model,
        audio_vocabulary(model),
        slots=1,
        max_context_tokens=CONTEXT_TOKENS,
        prefill_rows=100,
    )
    runs: list[Replay] = []

    def record(run: Replay) -> Replay:
        runs.append(run)
        return run_again(run)

    runner.record_steps(record)
    n_steps, n_prefill = 3, 3 * 3  # 1, 2, 3 blocks of keys; 32, 64, 100 rows
    assert len(runs) == n_steps + n_prefill
