"""The size of prefill chunks beside running streams follows what steps and chunks took."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.stepaudio.llm.engine.pace import STRETCH, PrefillPace

pytestmark = pytest.mark.unit

STEP_S = 1e-3


def started(most_tokens: int = 256) -> PrefillPace:
    pace = PrefillPace(most_tokens)
    for _ in range(10):
        pace.step_took(STEP_S)
    return pace


def chunk_s(n_tokens: int, position: int) -> float:
    """A chunk's cost: a call, each token, and attention over what is before it."""
    return 2e-4 + n_tokens * (2e-5 + 6e-8 * position)


def test_a_chunk_that_nobody_waits_for_is_the_largest() -> None:
    pace = started()
    assert pace.tokens(has_waiting=False) == 256
    pace.chunk_took(256, 10.0)
    assert pace.tokens(has_waiting=False) == 256


def test_without_measurements_a_chunk_beside_streams_is_small() -> None:
    assert PrefillPace(256).tokens(has_waiting=True) < 10
    assert PrefillPace(2).tokens(has_waiting=True) == 2


def test_chunks_keep_to_the_budget_while_tokens_become_dearer() -> None:
    pace, rng = started(), np.random.default_rng(0)
    position, sizes, took_s = 0, [], []
    while position < 1500:
        n_tokens = pace.tokens(has_waiting=True)
        took_s.append(chunk_s(n_tokens, position) * rng.uniform(0.9, 1.1))
        pace.chunk_took(n_tokens, took_s[-1])
        sizes.append(n_tokens)
        position += n_tokens
    assert max(took_s) < 2 * STEP_S
    assert np.mean(took_s[5:]) == pytest.approx(STRETCH * STEP_S, rel=0.15)
    assert np.mean(sizes[10:15]) > 2 * np.mean(sizes[-5:])


def test_one_slow_chunk_does_not_starve_the_prefill() -> None:
    pace = started()
    for _ in range(10):
        n_tokens = pace.tokens(has_waiting=True)
        pace.chunk_took(n_tokens, chunk_s(n_tokens, 0))
    usual = pace.tokens(has_waiting=True)
    pace.chunk_took(usual, 1.0)
    assert pace.tokens(has_waiting=True) >= usual // 2
    for _ in range(4):
        n_tokens = pace.tokens(has_waiting=True)
        pace.chunk_took(n_tokens, chunk_s(n_tokens, 0))
    assert pace.tokens(has_waiting=True) > 0.8 * usual


def test_a_prefill_moves_on_whatever_it_takes() -> None:
    pace = started()
    pace.chunk_took(1, 5.0)
    assert pace.tokens(has_waiting=True) >= 1
