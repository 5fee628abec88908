"""How far a stream is ahead of its player, by a clock that stands still until it is moved."""

from __future__ import annotations

import pytest

from deployments.longform import pace
from deployments.longform.pace import Pace

pytestmark = pytest.mark.unit


class Clock:
    """Stands in for `time`."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    return clock


def test_before_the_first_audio_there_is_no_lead(clock: Clock) -> None:
    one = Pace(1.0)
    clock.now_s += 7.0
    assert one.lead_s == 0.0
    one.sent(0.0)
    assert one.lead_s == 0.0


def test_what_is_sent_is_played_at_its_speed(clock: Clock) -> None:
    one = Pace(2.0)
    one.sent(10.0)
    assert one.lead_s == pytest.approx(5.0)
    clock.now_s += 2.0
    one.sent(4.0)
    assert one.lead_s == pytest.approx(5.0)


def test_a_player_that_ran_dry_waits_and_plays_on_from_there(clock: Clock) -> None:
    """The time that it waited is not made up for: no burst follows an underrun."""
    one = Pace(1.0)
    one.sent(3.0)
    clock.now_s += 20.0
    assert one.lead_s <= 0.0
    one.sent(3.0)
    assert one.lead_s == pytest.approx(3.0)
    one.sent(2.0)
    clock.now_s += 1.0
    assert one.lead_s == pytest.approx(4.0)


async def test_who_keeps_within_a_lead_waits_for_the_rest(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(pace.asyncio, "sleep", sleep)
    one = Pace(1.0)
    await one.keep_within(3.0)
    one.sent(2.0)
    clock.now_s += 60.0
    one.sent(10.0)
    await one.keep_within(3.0)
    await one.keep_within(30.0)
    assert slept == [0.0, pytest.approx(7.0), 0.0]
