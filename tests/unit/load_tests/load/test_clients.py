"""What clients make of replies, by their own clocks; what a stalling service cannot hide."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest
from aiohttp import web

from load_tests.load.answers import Answer
from load_tests.load.asks import ask_of
from load_tests.load.clients import Clients, Clock
from load_tests.load.measures import summary
from load_tests.load.plan import Call
from load_tests.load.run import closed_loop, open_loop, saturated_hz
from load_tests.load.workload import Objective
from tests.unit.load_tests.load.servers import (
    SECOND,
    Handler,
    audio,
    call,
    served,
    served_by_a_thread,
)

pytestmark = pytest.mark.unit
LONG_S = 10.0


async def answered(handler: Handler, one: Call | None = None, timeout_s: float = LONG_S) -> Answer:
    one = one or call()
    async with served(handler) as url:
        async with Clients(url, clock := Clock(), timeout_s) as clients:
            return await clients.speak(one, ask_of(one, 0), clock.now_s())


async def test_every_piece_is_timed_when_it_comes() -> None:
    async def reply(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.05)
        return await audio(request, SECOND[:4_800], SECOND[:4_800], pause_s=0.2)

    answer = await answered(reply)
    assert answer.outcome == "ok"
    assert answer.first_audio_s is not None
    assert 0.05 <= answer.first_audio_s < 0.2
    assert answer.audio_s == pytest.approx(0.2)
    assert answer.underruns == 1, "a tenth of a second was played, and the next came after two"
    assert answer.stall_s == pytest.approx(0.1, abs=0.08)
    assert answer.whole_s >= 0.25
    assert (answer.cache, answer.request_id, answer.voice_hit) == ("l1", "r-1", True)


async def test_a_refusal_is_told_with_when_to_come_again() -> None:
    async def reply(_: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {}}, status=503, headers={"Retry-After": "2"})

    answer = await answered(reply)
    assert (answer.outcome, answer.status, answer.retry_after_s) == ("refused", 503, 2.0)
    assert answer.can_wait


async def test_a_fault_is_told_by_its_status_and_code() -> None:
    async def reply(_: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"code": "stage_failed"}}, status=500)

    answer = await answered(reply)
    assert (answer.outcome, answer.fault) == ("failed", "http 500 stage_failed")


async def test_a_reply_that_breaks_off_has_failed_whatever_came_before() -> None:
    async def reply(request: web.Request) -> web.StreamResponse:
        begun = web.StreamResponse()
        await begun.prepare(request)
        await begun.write(SECOND)
        await asyncio.sleep(0.02)
        assert request.transport is not None
        request.transport.abort()
        return begun

    answer = await answered(reply)
    assert (answer.outcome, answer.fault) == ("failed", "cut off")
    assert answer.audio_s == pytest.approx(1.0)


async def test_an_answer_without_audio_has_failed() -> None:
    answer = await answered(audio)
    assert (answer.outcome, answer.fault) == ("failed", "no audio")


async def test_nobody_there_is_a_failure_too() -> None:
    async with Clients("http://127.0.0.1:9", clock := Clock(), LONG_S) as clients:
        answer = await clients.speak(call(), ask_of(call(), 0), clock.now_s())
        spoken = call(dialect="websocket")
        session = await clients.speak(spoken, ask_of(spoken, 0), clock.now_s())
    assert (answer.outcome, answer.fault) == ("failed", "not connected")
    assert session.outcome == "failed"
    assert session.fault


async def test_an_answer_that_does_not_end_in_time_has_failed() -> None:
    async def reply(request: web.Request) -> web.StreamResponse:
        return await audio(request, SECOND, SECOND, pause_s=5.0)

    answer = await answered(reply, timeout_s=0.1)
    assert (answer.outcome, answer.fault) == ("failed", "timeout")


async def test_who_hangs_up_is_no_failure_and_takes_nothing_more() -> None:
    gone = asyncio.Event()

    async def reply(request: web.Request) -> web.StreamResponse:
        begun = web.StreamResponse()
        await begun.prepare(request)
        try:
            while True:
                await begun.write(SECOND[:480])
                await asyncio.sleep(0.01)
        except (ConnectionError, asyncio.CancelledError):
            gone.set()
            raise

    one = call(leaves_after_s=0.1)
    async with served(reply) as url:
        async with Clients(url, clock := Clock(), LONG_S) as clients:
            answer = await clients.speak(one, ask_of(one, 0), clock.now_s())
        async with asyncio.timeout(5):
            await gone.wait()
    assert answer.outcome == "left"
    assert answer.whole_s == pytest.approx(0.1, abs=0.09)
    assert answer.first_audio_s is not None


async def test_a_slow_reader_takes_its_time() -> None:
    one = call(read_rate=2.0)  # within the bounds of a workload it is at most 1
    answer = await answered(lambda request: audio(request, SECOND), one)
    assert answer.outcome == "ok"
    assert answer.is_slow
    assert answer.whole_s >= 0.4


async def test_who_was_refused_rests_in_a_closed_loop() -> None:
    replies = iter([503, 200])

    async def reply(request: web.Request) -> web.StreamResponse:
        if next(replies) == 503:
            return web.Response(status=503, headers={"Retry-After": "0.2"})
        return await audio(request, SECOND)

    async with served(reply) as url:
        async with Clients(url, clock := Clock(), LONG_S) as clients:
            first, second = await closed_loop([call(0), call(1)], 1, clients, clock, 0)
    assert (first.outcome, second.outcome) == ("refused", "ok")
    assert second.at_s >= first.ended_s + 0.2


async def test_saturation_is_measured_while_every_client_is_busy() -> None:
    """Two clients, four calls, the last of which is long: one of them waits alone."""
    lasts_s = iter([0.1, 0.1, 0.1, 0.8])

    async def reply(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(next(lasts_s))
        return await audio(request, SECOND)

    async with served(reply) as url:
        async with Clients(url, clock := Clock(), LONG_S) as clients:
            calls = [call(number) for number in range(4)]
            rate_hz = await saturated_hz(calls, 2, clients, clock, 0)
    assert rate_hz > 10, "two in a tenth of a second, not four in nine tenths"


def under_stall(stall_s: float, rate_hz: int, *, is_open: bool) -> list[Answer]:
    """Answers of a service that answers at once, but for one stall, which half of the load meets.

    A closed loop of one client meets it once, however long it is.
    """
    n = int(2 * stall_s * rate_hz)
    calls = [call(number, number / rate_hz) for number in range(n)]
    n_begun = 0

    async def reply(request: web.Request) -> web.StreamResponse:
        nonlocal n_begun
        n_begun += 1
        if n_begun == n // 4:
            time.sleep(stall_s)  # noqa: ASYNC251 - the whole service is to stall
        return await audio(request, SECOND)

    async def load(url: str) -> list[Answer]:
        async with Clients(url, clock := Clock(), LONG_S) as clients:
            if is_open:
                return await open_loop(calls, clients, clock, 0)
            return await closed_loop(calls, 1, clients, clock, 0)

    with served_by_a_thread(reply) as url:
        return asyncio.run(load(url))


@pytest.mark.parametrize(
    ("stall_s", "rate_hz"), [(0.2, 100), pytest.param(2.0, 25, marks=pytest.mark.slow)]
)
def test_a_stall_shows_in_the_percentiles(stall_s: float, rate_hz: int) -> None:
    answers = under_stall(stall_s, rate_hz, is_open=True)
    told = summary(answers, 2 * stall_s, Objective())["first_audio_s"]
    assert told["max"] >= 0.9 * stall_s
    assert told["p95"] >= 0.7 * stall_s
    late = sum((answer.first_audio_s or 0) > stall_s / 2 for answer in answers)
    assert late >= len(answers) / 6


@pytest.mark.slow
def test_a_closed_loop_hides_the_same_stall() -> None:
    """Which is why latency is not measured so."""
    answers = under_stall(2.0, 25, is_open=False)
    late = sum((answer.first_audio_s or 0) > 1.0 for answer in answers)
    assert 1 <= late < len(answers) / 6


async def test_late_sending_counts_as_waiting() -> None:
    """The load generator itself may stall: what it sends late is late for the caller."""
    async with served(lambda request: audio(request, SECOND)) as url:
        async with Clients(url, clock := Clock(), LONG_S) as clients:
            calls = [call(number, 0.01 * number) for number in range(5)]
            stalled = asyncio.get_running_loop().call_later(0.015, time.sleep, 0.3)
            answers = await open_loop(calls, clients, clock, 0)
            stalled.cancel()
    late = [answer for answer in answers if answer.sent_s - answer.at_s > 0.2]
    assert late
    assert all((one.first_audio_s or 0) >= one.sent_s - one.at_s for one in answers)
    told = summary(answers, 1.0, Objective())
    assert told["late_sends_s"]["max"] > 0.2
    assert told["first_audio_s"]["max"] > 0.2


async def test_an_open_loop_waits_for_no_answer() -> None:
    most = 0
    here = 0

    async def reply(request: web.Request) -> web.StreamResponse:
        nonlocal most, here
        here += 1
        most = max(most, here)
        await asyncio.sleep(0.3)
        here -= 1
        return await audio(request, SECOND)

    async with served(reply) as url:
        async with Clients(url, clock := Clock(), LONG_S) as clients:
            calls = [replace(call(number), at_s=0.01 * number) for number in range(10)]
            answers = await open_loop(calls, clients, clock, 0)
    assert most == len(answers) == 10
    assert [answer.number for answer in answers] == list(range(10))
