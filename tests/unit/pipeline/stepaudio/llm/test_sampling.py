"""Drawing: the grammar, the repetition rule, truncation, and that a row depends on itself alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.contracts import Sampling
from pipeline.errors import UnsupportedError
from pipeline.stepaudio.llm.sampling import (
    AudioVocabulary,
    DrawRow,
    DrawState,
    Sampler,
    require_valid,
)

pytestmark = pytest.mark.unit

VOCABULARY = AudioVocabulary(audio_base=100, stop_id=3)
STOP = VOCABULARY.stop
N_CHOICES = 5121
FREE = DrawState(Sampling(grammar=False), VOCABULARY, np.zeros(0, np.int32)).row().mask


@pytest.fixture(scope="module")
def sampler() -> Sampler:
    return Sampler(VOCABULARY, torch.device("cpu"))


def free_row(uniform: float = 0.5, temperature: float = 1.0, **others: float) -> DrawRow:
    row = DrawRow(temperature, top_p=1.0, top_k=0, uniform=uniform, mask=FREE, banned=-1)
    return replace(row, **others)


def logits_of(probabilities: dict[int, float]) -> torch.Tensor:
    logits = torch.full((1, N_CHOICES), -torch.inf)
    for choice, probability in probabilities.items():
        logits[0, choice] = float(np.log(probability))
    return logits


def random_logits(n_rows: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n_rows, N_CHOICES, generator=torch.Generator().manual_seed(seed)) * 3


def state(sampling: Sampling, prompt: list[int] | None = None) -> DrawState:
    return DrawState(sampling, VOCABULARY, np.array(prompt or [], np.int32))


def test_the_grammar_leaves_each_position_its_codebook(sampler: Sampler) -> None:
    draws = state(Sampling(temperature=0))
    allowed = {True: range(1024), False: range(1024, 5120)}
    for position in range(15):
        is_vq02 = position % 5 < 2
        logits = torch.zeros(1, N_CHOICES)
        logits[0, allowed[not is_vq02].start] = 50.0  # the other codebook is far more likely
        logits[0, 7 if is_vq02 else 2000] = 1.0
        if position % 5 or position == 0:
            logits[0, STOP] = 90.0  # a stop inside a group or before the first is not drawn
        choice = sampler.draw(logits, [draws.row()])[0]
        assert choice in allowed[is_vq02]
        draws.accept(position % 1024 if is_vq02 else 1024 + position)


def test_a_stop_is_drawn_at_a_group_end(sampler: Sampler) -> None:
    draws = state(Sampling(temperature=0))
    for choice in (1, 2, 1030, 1031, 1032):
        draws.accept(choice)
    logits = torch.zeros(1, N_CHOICES)
    logits[0, STOP] = 1.0
    assert sampler.draw(logits, [draws.row()]) == [STOP]


def test_without_the_grammar_anything_goes_anywhere(sampler: Sampler) -> None:
    draws = state(Sampling(temperature=0, grammar=False))
    for choice in (STOP, 4000, 5):
        logits = torch.zeros(1, N_CHOICES)
        logits[0, choice] = 1.0
        assert sampler.draw(logits, [draws.row()]) == [choice]


def test_a_token_twice_in_a_full_window_is_banned() -> None:
    draws = state(Sampling(grammar=False), prompt=[50] * 3)
    choices = [1, 2, 3, 4, 5, 6]
    for choice in choices:
        draws.accept(choice)
    assert draws.row().banned == -1  # nine tokens: the window is not full
    draws.accept(3)
    assert draws.row().banned == 3  # 50 50 50 1 2 3 4 5 6 3
    draws.accept(7)
    assert draws.row().banned == -1


def test_the_window_reaches_into_the_prompt() -> None:
    prompt = [50, 51, 52, 53, 54, 55, 56, 57, 109]
    draws = state(Sampling(grammar=False), prompt=prompt)
    draws.accept(9)  # model id 109
    assert draws.row().banned == 9
    text = state(Sampling(grammar=False), prompt=[*prompt, 57, 57])
    assert text.row().banned == -1  # a text token could not be drawn anyway
    short = state(Sampling(grammar=False, repetition_window=3), prompt=[109, 50, 109])
    assert short.row().banned == 9
    off = state(Sampling(grammar=False, repetition_window=0), prompt=[109] * 20)
    assert off.row().banned == -1


def test_a_banned_choice_is_not_drawn(sampler: Sampler) -> None:
    logits = torch.zeros(2, N_CHOICES)
    logits[:, 9] = 5.0
    logits[:, 10] = 4.0
    rows = [free_row(temperature=0.0, banned=9), free_row(temperature=0.0)]
    assert sampler.draw(logits, rows) == [10, 9]


@pytest.mark.slow
def test_draws_follow_the_probabilities(sampler: Sampler) -> None:
    probabilities = {3: 0.5, 1000: 0.3, STOP: 0.2}
    uniforms = np.random.default_rng(0).random(4000)
    logits = logits_of(probabilities).repeat(4000, 1)
    choices = np.array(sampler.draw(logits, [free_row(u) for u in uniforms]))
    for choice, probability in probabilities.items():
        assert (choices == choice).mean() == pytest.approx(probability, abs=0.03)
    assert set(choices.tolist()) == set(probabilities)


def test_the_ends_of_the_unit_interval_never_leave_the_allowed_choices(sampler: Sampler) -> None:
    logits = logits_of({7: 1e-6, 8: 1.0})
    assert sampler.draw(logits.clone(), [free_row(0.0)]) == [7]
    assert sampler.draw(logits.clone(), [free_row(float(np.nextafter(1, 0)))]) == [8]


def test_temperature_sharpens(sampler: Sampler) -> None:
    logits = logits_of({1: 0.6, 2: 0.4}).repeat(2, 1)
    rows = [free_row(0.65, temperature=1.0), free_row(0.65, temperature=0.1)]
    assert sampler.draw(logits, rows) == [2, 1]


def test_top_k_and_top_p_cut_the_tail(sampler: Sampler) -> None:
    logits = logits_of({1: 0.5, 2: 0.3, 3: 0.15, 4: 0.05})
    high = float(np.nextafter(1, 0))
    cases = [
        ({}, 4),
        ({"top_k": 3}, 3),
        ({"top_k": 1}, 1),
        ({"top_p": 0.79}, 2),
        ({"top_p": 0.81}, 3),
    ]
    cases += [({"top_p": 0.01}, 1), ({"top_k": 2, "top_p": 0.99}, 2), ({"top_k": 90000}, 4)]
    for options, expected in cases:
        assert sampler.draw(logits.clone(), [free_row(high, **options)]) == [expected], options
    together = sampler.draw(logits.repeat(len(cases), 1), [free_row(high, **o) for o, _ in cases])
    assert together == [expected for _, expected in cases]


@pytest.mark.slow
def test_unless_told_otherwise_it_draws_as_the_released_code(sampler: Sampler) -> None:
    """Temperature 0.7 and the 50 likeliest, as transformers' warpers leave them."""
    n_draws = 3_000
    logits = random_logits(1)
    best = (logits / 0.7).topk(50)
    expected = torch.zeros(N_CHOICES).scatter_(0, best.indices[0], best.values[0].softmax(0))

    def drawn(sampling: Sampling) -> torch.Tensor:
        draws = state(replace(sampling, grammar=False))
        rows = [draws.row() for _ in range(n_draws)]
        choices = sampler.draw(logits.repeat(n_draws, 1), rows)
        return torch.bincount(torch.tensor(choices), minlength=N_CHOICES)

    counts = drawn(Sampling(seed=7))
    assert not counts[expected == 0].any()
    often = expected * n_draws >= 5  # where the statistic holds
    deviations = (counts - expected * n_draws)[often] ** 2 / (expected * n_draws)[often]
    degrees = int(often.sum()) - 1
    assert deviations.sum() < degrees + 4 * (2 * degrees) ** 0.5
    assert torch.equal(counts, drawn(Sampling(seed=7, temperature=0.7, top_p=1.0, top_k=50)))
    assert drawn(Sampling(seed=7, top_k=0))[expected == 0].any()


def test_a_row_does_not_depend_on_the_rows_beside_it(sampler: Sampler) -> None:
    options = [{}, {"top_k": 40}, {"top_p": 0.7}, {"temperature": 0.0}, {"banned": 5}, {"mask": 1}]
    rows = [free_row(0.1 + 0.15 * i, **option) for i, option in enumerate(options)]
    logits = random_logits(len(rows))
    alone = [sampler.draw(logits[i : i + 1].clone(), [row])[0] for i, row in enumerate(rows)]
    assert sampler.draw(logits.clone(), rows) == alone
    order = [3, 5, 0, 2, 4, 1]
    mixed = sampler.draw(logits[order].clone(), [rows[i] for i in order])
    assert mixed == [alone[i] for i in order]


def test_the_seed_fixes_the_random_numbers_and_greedy_takes_them_too() -> None:
    def uniforms(sampling: Sampling) -> list[float]:
        draws = state(sampling)
        return [draws.row().uniform for _ in range(200)]

    assert uniforms(Sampling(seed=4)) == uniforms(Sampling(seed=4, temperature=0))
    assert uniforms(Sampling(seed=4)) != uniforms(Sampling(seed=5))
    assert uniforms(Sampling(seed=-1)) == uniforms(Sampling(seed=2**64 - 1))
    assert len(set(uniforms(Sampling(seed=4)))) == 200


def test_rows_that_are_not_finite_are_reported(sampler: Sampler) -> None:
    logits = random_logits(3)
    logits[1, 17] = torch.nan
    good = sampler.draw(random_logits(3), [free_row()] * 3)
    assert sampler.draw(logits, [free_row()] * 3) == [good[0], -1, good[2]]


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"max_tokens": 4}, "max_tokens"),
        ({"repetition_window": -1}, "repetition_window"),
    ],
)
def test_sampling_outside_its_limits_is_refused(options: dict[str, float], param: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        require_valid(Sampling(**options))
    assert caught.value.param == param
    assert "allowed" in str(caught.value)
