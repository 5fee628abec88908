"""Every number has one definition; calls that fail do not make the others look better."""

from __future__ import annotations

from dataclasses import replace

import pytest

from load_tests.load.answers import Ear, stages_of
from load_tests.load.measures import METRICS, Spent, costs, is_good, spread, summary, uncounted
from load_tests.load.workload import Objective
from tests.unit.load_tests.load.answered import HIT, MISS, failed, ok, refused
from tests.unit.load_tests.load.servers import call

pytestmark = pytest.mark.unit
EASY = Objective(first_audio_s=1.0)


def test_numbers_of_a_run() -> None:
    dry = ok(2, pieces=((0.0, 1.0), (1.5, 1.0)))  # half a second too late
    answers = [ok(0, headers=MISS), ok(1, first_s=0.5), dry, refused(3), failed(4)]
    told = summary(answers, 10.0, EASY)
    assert (told["calls"], told["ok"], told["refused"], told["failed"]) == (5, 3, 1, 1)
    assert told["first_audio_s"]["p50"] == pytest.approx(0.3)
    assert told["dry_share"] == pytest.approx(1 / 3)
    assert told["stall_s"] == pytest.approx(0.5)
    assert told["good"] == 2
    assert told["goodput_hz"] == pytest.approx(0.2)
    assert told["good_share"] == pytest.approx(2 / 5)
    assert told["audio_s"] == pytest.approx(6.0)
    assert told["audio_s_per_s"] == pytest.approx(0.6)
    assert told["voice_hit_share"] == pytest.approx(2 / 3)
    assert told["rtf"]["p50"] == pytest.approx(1.0 / 2, abs=0.1)
    assert told["errors"] == {"cut off": 1}
    assert told["refusals"]["by_status"] == {"503": 1}
    assert uncounted(told) == 0


def test_a_call_that_failed_comes_after_all_others() -> None:
    answers = [*(ok(i) for i in range(9)), failed(9)]
    told = summary(answers, 10.0, EASY)["first_audio_s"]
    assert told["p50"] == pytest.approx(0.3)
    assert told["p95"] is None, "a tenth of the calls was never heard"
    assert told["max"] is None


def test_refusals_are_no_first_audio_and_their_words_are_timed() -> None:
    answers = [ok(0), refused(1), refused(2, retry_after=None), refused(3, retry_after="999")]
    told = summary(answers, 10.0, EASY)
    assert told["first_audio_s"]["max"] == pytest.approx(0.3)
    assert told["refusals"]["first_word_s"]["max"] == pytest.approx(0.01)
    assert told["refusals"]["usable_share"] == pytest.approx(1 / 3)
    assert told["refused_share"] == pytest.approx(3 / 4)


@pytest.mark.parametrize("words", ["0", "-3", "121", "soon", "Fri, 27 Nov 2026 10:00:00 GMT"])
def test_a_retry_after_of_no_use_is_none(words: str) -> None:
    assert not refused(retry_after=words).can_wait
    assert refused(retry_after="1.5").can_wait


def test_a_slow_readers_stalls_are_its_own() -> None:
    slow = replace(ok(pieces=((0.0, 1.0), (3.0, 1.0))), is_slow=True)
    told = summary([slow, ok(1)], 10.0, Objective(first_audio_s=1.0, rtf=0.8))
    assert told["dry_share"] == 0
    assert told["stall_s"] == 0
    assert told["rtf"]["max"] == pytest.approx(0.4, abs=0.05), "of the other one"
    assert told["good"] == 2


def test_the_objective_asks_for_both_first_audio_and_speed() -> None:
    assert is_good(ok(), EASY)
    assert not is_good(ok(first_s=1.2), EASY)
    assert not is_good(ok(), Objective(first_audio_s=1.0, rtf=0.3))
    assert not is_good(failed(), EASY)
    assert not is_good(refused(), EASY)


def test_who_hung_up_counts_for_what_he_heard_alone() -> None:
    early, late = Ear(call(0), 0.0, 0.0), Ear(call(1), 0.0, 0.0)
    late.replied(200, HIT)
    late.heard(48_000, 0.7)
    told = summary([early.left(0.2), late.left(0.9)], 1.0, EASY)
    assert told["left"] == 2
    assert told["first_audio_s"]["max"] == pytest.approx(0.7)
    assert told["good_share"] is None
    assert uncounted(told) == 0


def test_a_session_that_is_refused_is_refused() -> None:
    full = Ear(call(0), 0.0, 0.0).told({"code": "overloaded", "predicted_wait_s": 2.5}, 0.1)
    greedy = Ear(call(1), 0.0, 0.0).told({"code": "rate_limit_exceeded"}, 0.1)
    told = summary([full, greedy], 1.0, EASY)
    assert told["refusals"]["by_status"] == {"503": 1, "429": 1}
    assert told["refusals"]["usable_share"] == 0.5, "one says when to come again"
    fault = Ear(call(2), 0.0, 0.0).told({"code": "stage_failed"}, 0.1)
    assert (fault.outcome, fault.fault) == ("failed", "session: stage_failed")


def test_stage_times_are_read_as_the_service_writes_them() -> None:
    header = 'tokenizer;dur=5.5;desc="speech-l1, l1", llm;dur=20.0, llm_work;dur=7, ttfa;dur=31.2'
    assert stages_of(header) == pytest.approx(
        {"tokenizer": 0.0055, "llm": 0.02, "llm_work": 0.007, "ttfa": 0.0312}
    )
    assert stages_of("") == {}


def test_stages_add_up_to_the_first_audio() -> None:
    told = summary([ok(0, headers=MISS, first_s=0.6), ok(1)], 10.0, EASY)["stages_s"]
    assert told["tokenizer"] == pytest.approx(0.201)
    assert sum(told.values()) == pytest.approx(0.45)
    assert told["rest"] > 0


def test_speech_that_was_spoken_before_has_no_stages_of_its_own() -> None:
    again = ok(headers={**HIT, "X-Cache": "speech-l1, l1"})
    told = summary([again], 10.0, EASY)
    assert (told["speech_hit_share"], told["voice_hit_share"]) == (1, 1)
    assert told["stages_s"] == {}


@pytest.mark.parametrize(
    "change",
    [
        {"calls": 6},
        {"ok": 2},
        {"failed": 2},
        {"errors": {"": 1}},
        {"errors": {}},
        {"refusals": {"by_status": {}}},
    ],
)
def test_what_is_counted_nowhere_is_found(change: dict[str, object]) -> None:
    told = summary([ok(0), ok(1), ok(2), refused(3), failed(4)], 10.0, EASY)
    assert uncounted(told) == 0
    assert uncounted({**told, **change}) > 0


def test_no_answer_is_no_number() -> None:
    told = summary([], 10.0, EASY)
    assert told["calls"] == 0
    assert spread([]) == {"p50": None, "p95": None, "p99": None, "max": None}
    assert uncounted(told) == 0


def test_what_a_run_cost() -> None:
    told = costs(Spent(3.0, 15.0, 40.0), [ok(0), ok(1)], 10.0)
    assert told == pytest.approx({"saved_s": 3.0, "cores_busy": 1.5, "joules_per_audio_s": 10.0})
    assert costs(Spent(None, None, None), [], 0.0) == dict.fromkeys(told)


def test_every_metric_is_in_a_summary() -> None:
    told = {
        **summary([ok(0), refused(1), failed(2)], 10.0, EASY),
        **costs(Spent(3.0, 15.0, 40.0), [ok(0)], 10.0),
    }
    known = {metric.name for metric in METRICS if metric.of(told) is not None}
    never = {"first audio, p95", "first audio, p99"}  # a third failed
    assert known == {metric.name for metric in METRICS} - never
    assert all(metric.means for metric in METRICS)
