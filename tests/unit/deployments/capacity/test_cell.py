"""The simulated service: one request, one after another, and crowds at the service's own gate."""

from __future__ import annotations

import ast
from dataclasses import replace

import numpy as np
import pytest

from deployments.capacity import language_model
from deployments.capacity.arrivals import Ask, Use, asks_of, moments_of
from deployments.capacity.cell import Cell, Layout
from deployments.capacity.known import Budgets, GivenRates, KeptByTiers
from deployments.capacity.profile import Profile, load_profile
from deployments.config.admission_settings import AdmissionSettings
from tests.conftest import ROOT

pytestmark = pytest.mark.unit
KNOWN = GivenRates(1.0, 0.0)


@pytest.fixture(scope="module")
def cpu() -> Profile:
    return load_profile("cpu")


def ask(number: int = 0, phrase: str | None = None, at_s: float = 0.0) -> Ask:
    return Ask(at_s, 4.8, 4.8, voice=3, clip_s=5.0, phrase=phrase, number=number)


def test_one_request_takes_what_its_parts_take(cpu: Profile):
    """Known voice, a seed: prompt at the front, prefill, tokens of 21 rows, one chunk of 18."""
    (answer,) = Cell(cpu, Layout(), KNOWN).run_open([ask(phrase="a")])
    llm, vocoder, front = cpu.llm, cpu.vocoder, cpu.front
    drawn_s = llm.prefill_new_s + 35 * llm.step(1)
    prompt_s = vocoder.prompt_s  # is made beside
    chunk_s = vocoder.chunks(vocoder.chunk_rows[0], 1) + vocoder.switch_s
    begun_s = front.before_s + front.write_s
    wanted_s = begun_s + max(front.call_s + drawn_s, prompt_s) + chunk_s + front.after_s
    assert answer.first_audio_s == pytest.approx(wanted_s, rel=0.02)
    assert answer.audio_s == pytest.approx(4.8)
    assert answer.underruns == 0


def test_passages_are_spoken_one_after_another_each_from_a_first_chunk(cpu: Profile):
    """A text of more than a passage: each is asked of the LLM by itself, and begins small."""
    llm, front = cpu.llm, cpu.front
    long = replace(ask(phrase="a"), audio_s=9.6, guess_s=9.6)
    (two,) = Cell(cpu, Layout(), KNOWN).run_open([replace(long, passages=(0.5, 0.5))])
    (even,) = Cell(cpu, Layout(), KNOWN).run_open([long])
    (one,) = Cell(cpu, Layout(), KNOWN).run_open([replace(long, passages=(1.0,))])
    assert 1 < long.guess_s / llm.passage_s < 2
    assert two.ended_s == even.ended_s
    assert two.audio_s == pytest.approx(one.audio_s)
    assert two.ended_s - one.ended_s > front.call_s + llm.prefill_s + 35 * llm.step(1)


def test_a_known_voice_waits_its_turn_too(cpu: Profile):
    """Behind the chunk that is being made, and behind the next one that was waiting for it."""
    vocoder = replace(cpu.vocoder, quiet_first_rows=18)
    quick = replace(cpu.llm, step_s=((1, 1e-6), (8, 1e-6)), prefill_s=0.0, prefill_new_s=0.0)
    profile = replace(cpu, vocoder=vocoder, llm=quick)
    long = [replace(ask(i, f"{i}"), audio_s=30.0, guess_s=30.0, passages=(1.0,)) for i in range(2)]
    cell = Cell(profile, Layout(), KNOWN)
    cell.run_open([*long, replace(ask(2, "c"), at_s=1.5)])
    late = next(one for one in cell.answers if one.ask.number == 2)
    chunk_s = vocoder.chunks(64, 1)
    assert late.first_audio_s is not None
    assert chunk_s < late.vocoder_s - vocoder.chunks(18, 1) < 2 * chunk_s + 0.01


def test_speech_is_found_again_and_joined_while_it_is_made(cpu: Profile):
    budgets = Budgets(10**9, 10**9, None)
    cell = Cell(cpu, Layout(), KeptByTiers(budgets, budgets, 1))
    asks = [ask(0, "a"), ask(1, "a", at_s=0.5), ask(2, "a", at_s=20.0), ask(3, "b", at_s=30.0)]
    first, joined, again, other = sorted(cell.run_open(asks), key=lambda one: one.ask.number)
    assert [one.is_speech_hit for one in (first, joined, again, other)] == [
        False,
        True,
        True,
        False,
    ]
    assert [one.voice_tier for one in (first, again, other)] == ["miss", "l1", "l1"]
    assert again.first_audio_s == pytest.approx(cpu.front.hit_s)
    assert {round(one.audio_s, 3) for one in (first, joined, again, other)} == {4.8}


def test_who_joins_speech_shares_its_end_a_refusal_too(cpu: Profile):
    """Each phrase is asked for twice, the second time before the first is at the vocoder."""
    budgets = Budgets(10**9, 10**9, None)
    cell = Cell(cpu, Layout(), KeptByTiers(budgets, budgets, 1))
    asks = [ask(i, f"phrase {i // 2}", at_s=0.01 * (i // 2) + 1e-4 * (i % 2)) for i in range(80)]
    answers = sorted(cell.run_open(asks), key=lambda one: one.ask.number)
    pairs = list(zip(answers[::2], answers[1::2], strict=True))
    joined = [(one, other) for one, other in pairs if other.is_speech_hit]
    assert all(one.outcome == other.outcome for one, other in joined)
    assert {one.outcome for one, _ in joined} == {"ok", "refused"}
    assert all(other.audio_s == 0 for _, other in joined if other.outcome == "refused")


def test_a_crowd_is_let_in_or_refused_and_who_is_let_in_hears_all(cpu: Profile):
    dice = np.random.default_rng(1)
    asks = asks_of(Use(audio_s=5.0, voices=8), moments_of("steady", 5.0, 40.0, dice), dice)
    answers = Cell(cpu, Layout(), KNOWN).run_open(asks)
    served = [one for one in answers if one.outcome == "ok"]
    assert len(answers) == len(asks)
    assert 0.2 < len(served) / len(asks) < 0.9
    assert sum(one.underruns > 0 for one in served) <= 0.05 * len(served)
    assert all(one.retry_after_s for one in answers if one.outcome == "refused")


def test_calls_that_make_several_chunks_carry_more(cpu: Profile):
    """Of a device that a call alone hardly fills."""
    apart = replace(cpu, front_is_apart=True, device_capacity=1.0)
    pace = list[float]()
    for together in (1, 8):
        costs = replace(cpu.vocoder, call_s=0.1, together=together, max_streams=40)
        profile = replace(apart, vocoder=costs)
        cell = Cell(profile, Layout(is_apart=True), KNOWN, AdmissionSettings(enabled=False))
        answers = cell.run_closed([ask(i) for i in range(24)], clients=8)
        pace.append(sum(one.audio_s for one in answers) / cell.env.now)
    assert pace[1] > 1.3 * pace[0]


def test_the_engine_has_the_same_constants():
    """It cannot be imported without torch."""
    found = dict[str, str]()
    for name in ("slot.py", "pace.py", "worker.py"):
        path = ROOT / "pipeline/stepaudio/llm/engine" / name
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                found[node.targets[0].id] = ast.unparse(node.value)
    assert found["_AHEAD_S"] == str(language_model.AHEAD_S)
    assert found["STRETCH"] == str(language_model.STRETCH)
    assert found["_MOST_CHUNKS"] == str(language_model.MOST_CHUNKS)
    assert found["BEGINNING_TOKENS"] == "7 * GROUP_TOKENS"
