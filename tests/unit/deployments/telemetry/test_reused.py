"""Finished speech is counted as such, and as no work of LLM and vocoder."""

from __future__ import annotations

import pytest

from deployments.telemetry.requests import RequestMetrics
from pipeline.continuity import Continuity
from pipeline.contracts import GOOD, Quality, StageTimes, Verdict
from tests.unit.deployments.telemetry.conftest import Seen

pytestmark = pytest.mark.unit
HEARD = Continuity(0.5, 0.4, 0.0, 0, 2.0, 3)
WORK = ("timbre_llm_work_s", "timbre_answers", "timbre_audio_rtf")


@pytest.mark.parametrize(("source", "is_made"), [("none", True), ("joined", False), ("l2", False)])
def test_only_what_was_made_counts_as_work(seen: Seen, source: str, is_made: bool) -> None:
    times = StageTimes(tier="l1", audio_s=2.0, total_s=1.0, speech=source)
    RequestMetrics().finished(times, HEARD, "ok", GOOD)
    assert seen["timbre_speech_lookups"] == [(1, source)]
    assert [bool(seen[name]) for name in WORK] == [is_made] * len(WORK)
    stages = {stage for _, stage in seen["timbre_stage_s"]}
    assert stages == ({"tokenizer", "llm", "vocoder"} if is_made else {"tokenizer"})


@pytest.mark.parametrize("source", ["none", "l2"])
def test_corrupted_replies_are_counted_by_their_worst_verdict(seen: Seen, source: str) -> None:
    times = StageTimes(tier="l1", audio_s=2.0, total_s=1.0, speech=source)
    metrics = RequestMetrics()
    metrics.finished(times, HEARD, "ok", Quality(is_retried=True))
    assert not seen["timbre_corrupted_replies"]
    metrics.finished(times, HEARD, "ok", Quality(Verdict.BUZZ))
    assert seen["timbre_corrupted_replies"] == [(1, "buzz")]
    nothing = StageTimes(tier="l1")
    metrics.finished(nothing, HEARD, "error", Quality(Verdict.SHORT))
    assert len(seen["timbre_corrupted_replies"]) == 1


def test_each_answer_of_a_long_reply_is_counted(seen: Seen) -> None:
    times = StageTimes(tier="l1", audio_s=2.0, total_s=1.0)
    answers = [GOOD, Quality(Verdict.LOST), Quality(is_retried=True)]
    RequestMetrics().finished(times, HEARD, "ok", Quality(Verdict.LOST, is_retried=True), answers)
    told = seen["timbre_answers"]
    assert told == [(1, "ok", "false"), (1, "lost", "false"), (1, "ok", "true")]
    assert seen["timbre_corrupted_replies"] == [(1, "lost")]
