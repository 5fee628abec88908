"""Finished speech is counted as such, and as no work of LLM and vocoder."""

from __future__ import annotations

import pytest

from deployments.telemetry.requests import RequestMetrics
from pipeline.continuity import Continuity
from pipeline.contracts import GOOD, StageTimes
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
