"""The draw in one kernel chooses what the draw in many launches chooses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.stepaudio.llm.sampling import AudioVocabulary, DrawRow, Sampler
from tests.unit.pipeline.stepaudio.llm.kernels.interpreter import DEVICE

pytestmark = [pytest.mark.unit, pytest.mark.slow]

VOCABULARY = AudioVocabulary(audio_base=100, stop_id=3)
STOP = VOCABULARY.stop
N_CHOICES = 5121
PLAIN = DrawRow(0.7, top_p=1.0, top_k=50, uniform=0.5, mask=0, banned=-1)


@pytest.fixture(scope="module")
def fused() -> Sampler:
    return Sampler(VOCABULARY, DEVICE, fused=True)


@pytest.fixture(scope="module")
def plain() -> Sampler:
    return Sampler(VOCABULARY, DEVICE, fused=False)


def random_logits(n_rows: int) -> torch.Tensor:
    return (torch.randn(n_rows, N_CHOICES) * 3).to(DEVICE)


def test_it_chooses_what_the_plain_form_chooses(fused: Sampler, plain: Sampler) -> None:
    rng = np.random.default_rng()
    options = [
        {},
        {"top_k": 0},
        {"top_k": 1},
        {"top_k": 9000},
        {"top_k": 2**40},
        {"top_k": 0, "top_p": 0.6},
        {"top_p": 0.9},
        {"top_p": 0.01},
        {"temperature": 0.0},
        {"temperature": 1.7, "top_k": 300},
    ]
    rows = [
        replace(
            PLAIN, uniform=float(rng.random()), mask=(number + turn) % 4, banned=banned, **option
        )
        for number, option in enumerate(options)
        for turn, banned in enumerate((-1, int(rng.integers(N_CHOICES)), -1))
    ]
    logits = random_logits(len(rows))
    logits[::5] = logits[::5].bfloat16().float()  # many ties
    likeliest = int(logits[3].argmax())
    rows[3] = replace(rows[3], mask=0, banned=likeliest)
    assert fused.draw(logits.clone(), rows) == plain.draw(logits.clone(), rows)
    greedy = [replace(row, temperature=0.0) for row in rows]
    drawn = fused.draw(logits.clone(), greedy)
    assert drawn == plain.draw(logits.clone(), greedy)
    assert drawn[3] != likeliest


def test_rows_may_be_some_of_the_logits(fused: Sampler, plain: Sampler) -> None:
    logits = random_logits(7)
    rows = [replace(PLAIN, uniform=u) for u in (0.2, 0.9, 0.5)]
    expected = plain.draw(logits[[1, 2, 6]], rows)
    for sampler in (fused, plain):
        assert sampler.draw(logits.clone(), rows, [1, 2, 6]) == expected
    assert fused.draw(logits, rows[:1], [1]) == expected[:1]


def test_the_ends_of_the_unit_interval_never_leave_the_allowed_choices(fused: Sampler) -> None:
    for top_k, top_p in ((0, 1.0), (50, 1.0), (0, 0.999999)):
        logits = torch.full((2, N_CHOICES), -torch.inf)
        logits[:, 7], logits[:, 8] = float(np.log(1e-4)), 0.0
        ends = (0.0, float(np.nextafter(1, 0)))
        row = replace(PLAIN, temperature=1.0, top_p=top_p, top_k=top_k)
        rows = [replace(row, uniform=uniform) for uniform in ends]
        assert fused.draw(logits.to(DEVICE), rows) == [7, 8]


def test_equal_logits_are_cut_together(fused: Sampler, plain: Sampler) -> None:
    logits = torch.zeros(1, N_CHOICES, device=DEVICE)
    logits[0, 100:200] = -0.0
    row = replace(PLAIN, top_k=3, uniform=0.999)
    assert fused.draw(logits.clone(), [row]) == plain.draw(logits.clone(), [row])


def test_rows_that_are_not_finite_are_reported(fused: Sampler) -> None:
    logits = random_logits(6)
    good = fused.draw(logits, [PLAIN] * 6)
    logits[1, 17], logits[2, 5000], logits[3], logits[5, STOP] = (
        torch.nan,
        torch.inf,
        -torch.inf,
        torch.nan,  # what the grammar forbids must be finite too
    )
    rows = [PLAIN] * 5 + [replace(PLAIN, mask=1)]
    for temperature in (0.7, 0.0):
        drawn = fused.draw(logits, [replace(row, temperature=temperature) for row in rows])
        assert [choice < 0 for choice in drawn] == [False, True, True, True, False, True]
    assert fused.draw(logits, rows)[::4] == good[::4]


def test_masks_are_read_anew_and_more_rows_than_before_fit(plain: Sampler) -> None:
    sampler = Sampler(VOCABULARY, DEVICE, fused=True)
    logits = torch.zeros(1, N_CHOICES, device=DEVICE)
    logits[0, STOP] = 9.0
    row = replace(PLAIN, temperature=0.0)
    assert sampler.draw(logits, [row]) == [STOP]
    sampler._masks[:, STOP] = -torch.inf
    assert sampler.draw(logits, [row]) == [0]
    many = [replace(PLAIN, uniform=i / 70) for i in range(70)]
    logits = random_logits(70)
    logits[:, STOP] = -torch.inf
    assert sampler.draw(logits, many) == plain.draw(logits, many)
