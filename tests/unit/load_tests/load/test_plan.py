"""What a run sends is drawn before it begins: when, in whose voice, what, in which dialect."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from load_tests.load.arrivals import Span, poisson, recorded, spans_of
from load_tests.load.plan import Plan, plan_of, zipf_shares
from load_tests.load.workload import (
    DIRECTORY,
    Cancels,
    Phase,
    Poisson,
    Readers,
    Repeats,
    Workload,
    load_workload,
    workloads,
)
from pipeline.errors import ConfigError

pytestmark = pytest.mark.unit
NAMES = sorted(path.stem for path in DIRECTORY.glob("*.yaml"))


def workload(**fields: object) -> Workload:
    """Open, some 400 calls in 100 s."""
    usual = {
        "name": "some",
        "about": "Some calls.",
        "arrivals": {
            "kind": "poisson",
            "duration_s": 100,
            "phases": [{"name": "steady", "load": 0.8}],
        },
        "texts": [{"chars": [20, 60], "share": 0.5}, {"chars": [100, 200], "share": 0.5}],
        "dialects": {"openai": 0.5, "fish": 0.3, "websocket": 0.2},
    }
    return Workload.model_validate({**usual, **fields})


def drawn(**fields: object) -> Plan:
    return plan_of(workload(**fields), saturation_hz=5.0)


@pytest.mark.parametrize("name", NAMES)
def test_every_workload_can_be_read_and_drawn(name: str) -> None:
    read = load_workload(DIRECTORY / f"{name}.yaml")
    assert read.name == name
    plan = plan_of(read.scaled(0.02, None), saturation_hz=1.0)
    assert plan.calls
    assert {call.dialect for call in plan.calls} <= set(read.dialects)


def test_the_named_loads_are_there() -> None:
    named = {
        "segments", "day", "switching", "soak", "spike", "hot_voice", "all_miss", "slow_readers",
        "cancels", "outbound_calls", "jobs_beside", "staircase",
    }  # fmt: skip
    assert named <= set(workloads())
    assert list(workloads()) == NAMES
    closed = {name for name, one in workloads().items() if one.arrivals.kind == "closed"}
    assert closed == {"segments", "switching"}, "every other loop is open"


def test_the_same_seed_draws_the_same_calls_and_another_one_others() -> None:
    assert drawn().digest == drawn().digest
    assert drawn(seed=2).digest != drawn().digest


def test_runs_with_other_aims_are_other_plans() -> None:
    """What is good of one is not good of the other, though the calls are the same."""
    assert drawn(objective={"first_audio_s": 2.0}).digest != drawn().digest
    assert drawn(about="The same in other words.").digest == drawn().digest
    one, two = (
        plan_of(workload(arrivals={"kind": "closed", "clients": n, "calls": 4})) for n in (1, 2)
    )
    assert one.calls == two.calls
    assert one.digest != two.digest


def test_a_change_of_one_thing_leaves_the_others_alone() -> None:
    plain, hung_up = drawn(), drawn(cancels={"share": 0.5, "after_s": [1, 2]})
    kept = ("at_s", "dialect", "voice", "text")
    for name in kept:
        assert [getattr(c, name) for c in plain.calls] == [getattr(c, name) for c in hung_up.calls]
    left = [call.leaves_after_s for call in hung_up.calls if call.leaves_after_s is not None]
    assert 0.4 < len(left) / len(hung_up.calls) < 0.6
    assert all(1 <= after_s <= 2 for after_s in left)


def test_poisson_arrivals_have_the_rate_and_the_spread_of_chance() -> None:
    span = Span("steady", 10.0, 2_010.0, 3.0)
    moments = poisson(span, np.random.default_rng(1))
    gaps_s = np.diff(moments)
    assert moments == sorted(moments)
    assert span.begins_s <= moments[0]
    assert moments[-1] < span.ends_s
    assert len(moments) / span.lasts_s == pytest.approx(3.0, rel=0.05)
    assert gaps_s.std() / gaps_s.mean() == pytest.approx(1.0, abs=0.05)  # exponential


def test_phases_follow_one_another_at_their_own_rates() -> None:
    arrivals = Poisson(
        kind="poisson",
        duration_s=1_000,
        phases=(Phase(name="low", load=0.5, share=0.75), Phase(name="high", load=4, share=0.25)),
    )
    low, high = spans_of(arrivals, saturation_hz=2.0)
    assert (low.begins_s, low.ends_s, low.rate_hz) == (0, 750, 1.0)
    assert (high.begins_s, high.ends_s, high.rate_hz) == (750, 1_000, 8.0)


def test_a_number_of_calls_takes_as_long_as_the_load_lets_it() -> None:
    arrivals = Poisson(kind="poisson", calls=300, phases=(Phase(name="steady", load=0.5),))
    (span,) = spans_of(arrivals, saturation_hz=2.0)
    assert span.lasts_s == pytest.approx(300)


def test_recorded_arrivals_come_when_they_came(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_text('{"at_s": 7.5, "text": "x"}\n{"at_s": 5.0}\n\n{"at_s": 5.25}\n')
    assert recorded(path) == [0.0, 0.25, 2.5]


@pytest.mark.parametrize("content", ["", "no json\n", '{"when": 3}\n', '{"at_s": null}\n'])
def test_what_is_no_recording_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"calls\.jsonl"):
        recorded(path)


def test_zipf_is_zipf() -> None:
    shares = zipf_shares(4, 1.0)
    assert shares.sum() == pytest.approx(1)
    assert shares[0] / shares == pytest.approx([1, 2, 3, 4])
    assert zipf_shares(5, 0.0) == pytest.approx([0.2] * 5)


def test_voices_are_asked_for_by_their_rank() -> None:
    plan = plan_of(workload(voices={"count": 4, "zipf": 1.0}), saturation_hz=40.0)
    asked = [n for _, n in Counter(call.voice for call in plan.calls).most_common()]
    expected = zipf_shares(4, 1.0) * len(plan.calls)
    assert asked == pytest.approx(expected, rel=0.15)


def test_fresh_clips_come_once_and_the_others_are_known_before() -> None:
    plan = drawn(voices={"kind": "clips", "count": 6, "fresh": 0.3})
    clips = Counter(call.clip for call in plan.calls)
    fresh = {clip: n for clip, n in clips.items() if clip is not None and clip >= 6}
    assert set(fresh.values()) == {1}
    assert len(fresh) / len(plan.calls) == pytest.approx(0.3, abs=0.08)
    assert {call.clip for call in plan.warm_ups} == set(range(6))


def test_an_order_of_voices_is_kept() -> None:
    plan = plan_of(workloads()["switching"])
    assert [call.clip for call in plan.calls] == [0, 1, 2, 0, 1]
    assert not plan.warm_ups, "the first of each is to be a miss"


def test_repeats_ask_for_a_phrase_with_its_seed_and_others_have_none() -> None:
    plan = drawn(repeats={"share": 0.4, "phrases": 3})
    repeated = [call for call in plan.calls if call.seed is not None]
    assert len(repeated) / len(plan.calls) == pytest.approx(0.4, abs=0.08)
    assert len({(call.seed, call.text, call.voice) for call in repeated}) == 3
    asked_before = {(call.seed, call.text, call.voice) for call in plan.warm_ups if call.seed}
    assert {(call.seed, call.text, call.voice) for call in repeated} == asked_before


def test_dialects_and_lengths_are_mixed_as_said() -> None:
    plan = plan_of(workload(readers={"slow": 0.25, "rate": 0.5}), saturation_hz=20.0)
    n = len(plan.calls)
    asked = Counter(call.dialect for call in plan.calls)
    assert asked["openai"] / n == pytest.approx(0.5, abs=0.05)
    assert asked["websocket"] / n == pytest.approx(0.2, abs=0.05)
    short = sum(len(call.text) < 100 for call in plan.calls)
    assert short / n == pytest.approx(0.5, abs=0.06)
    assert sum(call.read_rate == 0.5 for call in plan.calls) / n == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"dialects": {"openai": 0.5}}, "dialects must sum to 1"),
        ({"texts": [{"chars": [1, 2], "share": 0.5}]}, "texts must sum to 1"),
        ({"dialects": {"elevenlabs": 1.0}, "voices": {"kind": "clips"}}, "takes no clips"),
        ({"dialects": {"elevenlabs": 1.0}, "voices": {"fresh": 0.1}}, "takes no clips"),
        ({"dialects": {"fish": 1.0}, "format": "pcmu"}, "no pcmu"),
        ({"job": {"segments": 5, "phase": "night"}}, "none of the phases"),
        ({"arrivals": {"kind": "poisson", "phases": [{"name": "a", "load": 1}]}}, "either"),
        ({"voice": "aria"}, "Extra inputs"),
    ],
)
def test_a_document_that_makes_no_sense_is_refused(fields: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        workload(**fields)


def test_a_file_with_a_mistake_is_named(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text("name: wrong\n")
    with pytest.raises(ConfigError, match=r"wrong\.yaml"):
        load_workload(path)


def test_scaling_shrinks_the_work_and_not_the_rates() -> None:
    day = workloads()["day"]
    small = plan_of(day.scaled(0.01, None), saturation_hz=2.0)
    brief = plan_of(day.scaled(1.0, 60.0), saturation_hz=2.0)
    assert len(small.calls) == pytest.approx(100, abs=35)
    assert brief.lasts_s == pytest.approx(60.0)
    assert [span.rate_hz for span in small.spans] == [span.rate_hz for span in brief.spans]
    assert len(plan_of(workloads()["segments"].scaled(0.1, None)).calls) == 10
    assert len(plan_of(workloads()["switching"].scaled(0.1, None)).calls) == 5, "one whole round"
    with pytest.raises(ConfigError, match="--scale"):
        workloads()["segments"].scaled(1.0, 60.0)


def test_usual_callers_read_as_it_comes_and_stay() -> None:
    assert (Readers().slow, Cancels().share, Repeats().share) == (0, 0, 0)
    assert all(c.read_rate is None and c.leaves_after_s is None for c in drawn().calls)
