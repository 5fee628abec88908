"""A reply that its listener waited for too long is counted, and logged with its account."""

from __future__ import annotations

import logging

import pytest

from deployments.telemetry.requests import RequestMetrics
from pipeline.continuity import Continuity
from pipeline.contracts import GOOD, StageTimes
from tests.http_app import HttpApp, running
from tests.unit.deployments.telemetry.conftest import Seen

pytestmark = pytest.mark.unit

HEARD = Continuity(0.5, 0.4, 0.0, 0, 2.0, 3)


@pytest.mark.parametrize(
    ("times", "is_slow"),
    [
        (StageTimes(ttfa_s=0.5, total_s=9.0, audio_s=8.9), False),
        (StageTimes(ttfa_s=2.0, total_s=9.0, audio_s=8.9), True),
        (StageTimes(ttfa_s=0.5, total_s=9.0, audio_s=7.0), True),
        (StageTimes(total_s=3.0), True),
    ],
    ids=["in time", "begun late", "ended late", "nothing but a wait"],
)
def test_slow_is_what_begins_or_ends_late(seen: Seen, times: StageTimes, is_slow: bool) -> None:
    metrics = RequestMetrics(slow_s=2.0)
    metrics.finished(times, HEARD, "ok", GOOD)
    assert metrics.is_slow(times) == is_slow
    assert bool(seen["timbre_slow_requests"]) == is_slow


async def test_a_slow_reply_is_in_the_log_with_its_account(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with running(HttpApp(telemetry={"slow_s": 1e-9})) as app:
        reply = await app.speak_as({"x-request-id": "me"}, input="Hello.", voice="aria")
        assert reply.status_code == 200
    (slow,) = [one for one in caplog.records if one.getMessage().startswith("slow speech")]
    assert slow.levelno == logging.WARNING
    assert slow.getMessage().startswith("slow speech me ok tokenizer=")
    assert " rest=" in slow.getMessage()
    caplog.clear()
    async with running(HttpApp()) as app:
        assert (await app.speak(input="Hello.", voice="aria")).status_code == 200
    assert not [one for one in caplog.records if "slow" in one.getMessage()]
