"""The simulator's profiles and page are the results', and a load is told alike, real or played."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from deployments.capacity.profile import load_profile
from load_tests.load.answers import Answer
from load_tests.simulate import fit, page, profiles, validate
from load_tests.simulate.fit import Run, Scales, fitted
from load_tests.simulate.played import Lengths, played, told
from load_tests.simulate.plots import PLOTS
from load_tests.simulate.validate import BAR, FIT, UNSEEN, State, compared, mix_plan
from pipeline.errors import ConfigError
from tests.unit.load_tests.load.servers import SECOND, audio, served

pytestmark = pytest.mark.unit
LENGTHS = Lengths(0.06, 0.5, 0.1)
PLOT_BYTES = 60_000


def test_the_profiles_are_what_the_results_give():
    for name, text in profiles.generated().items():
        assert (profiles.PROFILES / f"{name}.json").read_text(encoding="utf-8") == text, name


def test_the_page_is_what_the_results_give():
    assert page.PAGE.read_text(encoding="utf-8") == page.generated()
    for name in PLOTS:
        plot = page.PLOT_DIRECTORY / f"{name}.svg"
        assert 1_000 < plot.stat().st_size <= PLOT_BYTES


def test_a_played_load_is_told_as_a_real_one():
    plan = mix_plan("burst", saturation_hz=1.5)
    answers = played(load_profile("cpu"), plan, LENGTHS)
    assert sorted(one.number for one in answers) == list(range(len(plan.calls)))
    summary = told(answers, plan)
    assert summary["ok"] + summary["refused"] == len(plan.calls)
    assert summary["refused"] > 0
    assert summary["voice_hit_share"] == 1.0
    n_repeated = sum(call.seed is not None for call in plan.calls)
    assert summary["speech_hit_share"] == pytest.approx(n_repeated / summary["ok"], abs=0.03)
    assert told(played(load_profile("cpu"), plan, LENGTHS), plan) == summary


def test_the_loads_that_are_compared_are_not_those_it_is_fitted_to():
    plans = [mix_plan(name, 1.0) for name in (*FIT, *UNSEEN)]
    assert len({plan.digest for plan in plans}) == len(FIT) + len(UNSEEN) == 7
    assert set(fit.BY) == set(FIT)
    fresh = [call for call in mix_plan("new_voices", 2.0).calls if (call.clip or 0) >= 8]
    assert fresh


def test_a_planted_machine_is_found(monkeypatch: pytest.MonkeyPatch):
    """Twice as slow a vocoder: fitted to one load, what is said of another is nearer by far."""
    cpu, unseen = load_profile("cpu"), mix_plan("mixed_lengths", 1.0)
    machine = Scales(vocoder=2.0).of(cpu)
    runs = {
        name: Run(plan := mix_plan(name, 1.0), told(played(machine, plan, LENGTHS), plan))
        for name in ("fit_alone",)
    }
    monkeypatch.setattr(fit, "MOST_TRIES", 60)
    scales, left = fitted(cpu, LENGTHS, runs)
    assert left < 0.1
    measured = told(played(machine, unseen, LENGTHS), unseen)
    before = told(played(cpu, unseen, LENGTHS), unseen)
    after = told(played(scales.of(cpu), unseen, LENGTHS), unseen)
    assert all(row.is_near for row in compared("x", measured, after)), scales
    assert not all(row.is_near for row in compared("x", measured, before))


async def test_a_load_is_run_after_its_warm_up_and_counted():
    plan = mix_plan("fit_again", 1.0)
    short, asked = replace(plan, calls=plan.calls[:4]), list[str]()

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.append((await request.json())["input"])
        if len(asked) == 2:
            return web.Response(status=503, headers={"Retry-After": "0.01"})
        return await audio(request, SECOND, SECOND)

    async with served(handler) as url:
        heard = await validate.run(short, url, nonce=1)
    assert len(asked) == len(plan.warm_ups) + 1 + 4
    assert asked[-4:] == [call.text for call in short.calls]
    assert told(heard.answers, short)["audio_s"] == pytest.approx(8.0)


async def test_a_service_that_is_not_well_is_not_measured(monkeypatch: pytest.MonkeyPatch):
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=500)

    monkeypatch.setattr(validate, "WARM_UPS", 2)

    async with served(handler) as url:
        with pytest.raises(ConfigError, match="calls of the warm-up failed"):
            await validate.run(mix_plan("fit_again", 1.0), url, nonce=1)


def test_numbers_are_judged_by_their_share_and_hits_by_their_difference():
    summary = told(played(load_profile("cpu"), plan := mix_plan("fit_again", 1.0), LENGTHS), plan)
    worse = {**summary, "audio_s_per_s": summary["audio_s_per_s"] * 1.2, "voice_hit_share": 0.9}
    rows = {row.what: row for row in compared("again", summary, worse)}
    assert rows["audio_s_per_s"].off == pytest.approx(0.2)
    assert not rows["audio_s_per_s"].is_near
    assert rows["voice_hit_share"].off == pytest.approx(0.1)
    assert rows["voice_hit_share"].off < BAR
    assert rows["first_audio_s, p95"].off is None
    assert rows["first_audio_s, p95"].is_near


@pytest.mark.parametrize(("here", "there"), [(None, 0.3), (0.3, None), (0.0, 0.3)])
def test_a_judged_number_that_one_side_lacks_is_not_met(here: float | None, there: float | None):
    """As of a service that answered nobody."""
    summary = told(played(load_profile("cpu"), plan := mix_plan("fit_again", 1.0), LENGTHS), plan)
    measured, simulated = ({**summary, "audio_s_per_s": one} for one in (here, there))
    rows = {row.what: row for row in compared("again", measured, simulated)}
    assert not rows["audio_s_per_s"].is_near
    assert page.judgement(asdict(rows["audio_s_per_s"])) == "**missed**"
    alike = {row.what: row for row in compared("again", measured, measured)}
    assert alike["audio_s_per_s"].is_near


def test_what_was_run_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    plan, ran = mix_plan("fit_again", 1.0), list[str]()

    async def run(plan: Any, url: str, nonce: int) -> validate.Heard:
        ran.append(plan.workload.name)
        await asyncio.sleep(0)
        answers = [replace(one, stages_s={}) for one in played(load_profile("cpu"), plan, LENGTHS)]
        return validate.Heard(plan, answers, {validate.CONTROLLER: 0.05}, 6)

    monkeypatch.setattr(validate, "run", run)
    first = State(tmp_path, is_fresh=False).of(plan, "")
    again = State(tmp_path, is_fresh=False).of(plan, "")
    assert ran == ["fit_again"]
    assert [one.number for one in again.answers] == sorted(one.number for one in first.answers)
    assert isinstance(again.answers[0], Answer)
    assert again.cores == first.cores
    State(tmp_path, is_fresh=False).of(replace(plan, calls=plan.calls[1:]), "")
    State(tmp_path, is_fresh=True).of(plan, "")
    assert len(ran) == 3
    assert json.loads((tmp_path / "fit_again.json").read_text())["replicas"] == 6
