"""Plans: more is never less, what cannot be had is said, and the command tells it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from deployments.capacity import plan
from deployments.capacity.arrivals import Use, moments_of
from deployments.capacity.cell import Layout
from deployments.capacity.limits import Load, around
from deployments.capacity.plan import Question, cells_for
from deployments.capacity.profile import Profile, load_profile, profile_of
from deployments.cli import app
from deployments.commands import plan as command
from pipeline.errors import ConfigError

pytestmark = pytest.mark.unit
USE = Use(audio_s=4.0, voices=20)
SHARED, PAIR, FOUR = Layout(), Layout(is_apart=True), Layout(3, 1, is_apart=True)


@pytest.fixture(scope="module")
def quick() -> Iterator[Profile]:
    """A card with answers short enough for a unit test, and few of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "REQUESTS", 30)
        patch.setattr(plan, "WARM_S", 5.0)
        patch.setattr(plan, "CELLS", (SHARED, PAIR))
        patch.setattr(plan, "SCHEDULES", ((30, 24, 30, 48),))
        yield load_profile("l40s")


def cards(profile: Profile, **changes: object) -> int:
    asked = Question(20.0, 0.5, 0.2, 1.6, USE)
    return plan.plan(profile, replace(asked, **changes)).cards  # type: ignore[arg-type]


def test_more_requests_take_no_fewer_cards_and_hits_no_more(quick: Profile):
    by_rate = [cards(quick, rps=rps) for rps in (1e-6, 0.01, 0.1, 1, 10, 100, 1_000, 10_000)]
    assert by_rate == sorted(by_rate)
    assert by_rate[-1] > 100 * by_rate[2]
    by_hits = [cards(quick, speech_hits=share) for share in (0.0, 0.3, 0.6, 0.9)]
    assert by_hits == sorted(by_hits, reverse=True)
    assert cards(quick, first_audio_s=3.0) <= cards(quick)


def test_a_target_out_of_reach_is_refused_with_what_can_be_had(quick: Profile):
    with pytest.raises(ConfigError, match=r"within 0\.2 s is out of reach of L40S.* takes \d\.\d"):
        cards(quick, first_audio_s=0.2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rps": 0.0},
        {"rps": -1.0},
        {"first_audio_s": 0.0},
        {"voice_hits": 1.1},
        {"speech_hits": 1.0},
        {"use": Use(audio_s=0.0)},
        {"use": Use(clip_s=-1.0)},
        {"use": Use(kept_share=1.1)},
    ],
)
def test_questions_without_an_answer_are_refused(quick: Profile, wrong: dict[str, object]):
    with pytest.raises(ConfigError):
        cards(quick, **wrong)


def test_cells_are_filled_and_the_rest_has_the_least_that_does():
    carried = {SHARED: 0.1, PAIR: 0.5, FOUR: 1.4}
    assert cells_for(0.05, carried) == {SHARED: 1}
    assert cells_for(0.3, carried) == {PAIR: 1}
    assert cells_for(2.85, carried) == {FOUR: 2, SHARED: 1}
    assert cells_for(14.0, carried) == {FOUR: 10}
    totals = [plan._cards(cells_for(rps / 50, carried)) for rps in range(1, 400)]
    assert totals == sorted(totals)
    assert cells_for(1.0, {**carried, FOUR: 0.0}) == {PAIR: 2}


def test_what_is_around_saturates_where_its_measured_share_says():
    profile = load_profile("l40s")
    load = Load(100.0, 10.0, voice_hits=0.5, speech_hits=0.0, kept_share=0.0, replicas=300)
    found = {one.what: one for one in around(profile, load)}
    router = next(one for one in profile.limits if (one.what, one.per) == ("router", "audio_s"))
    assert found["router"].busy == pytest.approx(1_000 * router.core_s)
    assert found["router"].saturates_rps == pytest.approx(100 / found["router"].busy)
    flooded = replace(load, rps=100_000.0, kept_share=1.0)
    index = next(one for one in around(profile, flooded) if one.what == "index")
    assert not index.is_enough
    assert index.needed > 64


@pytest.mark.parametrize("pattern", ["steady", "bursts", "day"])
def test_patterns_have_the_mean_that_was_asked_for(pattern: str):
    moments = moments_of(pattern, 20.0, 1_200.0, np.random.default_rng(2))  # type: ignore[arg-type]
    assert len(moments) == pytest.approx(24_000, rel=0.03)
    assert (np.diff(moments) >= 0).all()


def test_the_command_tells_people_and_programs(quick: Profile):
    words = ["plan", "--rps", "5", "--ttfa", "1.6", "--audio-s", "4", "--when", "day"]
    said = CliRunner().invoke(app, words)
    assert said.exit_code == 0, said.output
    for part in ("× L40S", "projected from", "first audio", "vocoder.chunk_rows", "$", "router"):
        assert part in said.output
    document = json.loads(CliRunner().invoke(app, [*words, "--json"]).output)
    told = document["plan"]
    assert sum(told["cards_of"].values()) == told["cards"] > 0
    assert told["first_audio_s"]["p95"] <= 1.6
    assert told["usd_month"] < told["usd_h"] * plan.HOURS_MONTH
    assert document["hardware"]["price_usd_h"] == quick.price_usd_h


def test_the_command_says_what_is_missing(monkeypatch: pytest.MonkeyPatch):
    refused = CliRunner().invoke(app, ["plan", "--rps", "1", "--card", "abacus"])
    assert refused.exit_code == 2
    assert "no profile is named 'abacus'; there are cpu, h100, l40s" in refused.output
    monkeypatch.setattr(command, "find_spec", lambda _: None)
    refused = CliRunner().invoke(app, ["plan", "--rps", "1"])
    assert refused.exit_code == 2
    assert "pip install 'timbre[plan]'" in refused.output


def test_what_is_no_profile_is_refused():
    with pytest.raises(ConfigError, match="no profile"):
        profile_of({"name": "x"})
