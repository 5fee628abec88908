"""The storm tier's load: what it counts, against proxies that are functions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest

from tests.storm import load
from tests.storm.load import FALL, LOOK_EVERY_S, Load, failures, told_to_come_again

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("virtual_time")]
Answer = Callable[[httpx.Request], Awaitable[httpx.Response]]
UP, DOWN = "http://up", "http://down"


async def good(request: httpx.Request) -> httpx.Response:
    if request.url.path == "/v1/audio/voices":
        return httpx.Response(200, json={"voice": {"id": "voice_1"}})
    if request.url.path == "/v1/audio/jobs":
        return httpx.Response(200, json={"id": "job_1"})
    return httpx.Response(200, content=b"audio")


class Proxies:
    """Each answers as it is told to; what has no answer cannot be connected to."""

    def __init__(self, **answers: Answer) -> None:
        self.answers = {f"http://{name}": answer for name, answer in answers.items()}

    async def handle(self, request: httpx.Request) -> httpx.Response:
        answer = self.answers.get(f"http://{request.url.host}")
        if answer is None:
            raise httpx.ConnectError("refused")
        return await answer(request)


@pytest.fixture
async def begun(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Awaitable[Load]]]:
    made: list[Load] = []
    monkeypatch.setattr(load, "PER_S", 5.0)

    async def begin(proxies: Proxies, *urls: str) -> Load:
        one = Load(lambda: list(urls), 7)
        await one._client.aclose()
        one._client = httpx.AsyncClient(transport=httpx.MockTransport(proxies.handle))
        await one.warm_up()
        made.append(one)
        return one

    yield begin
    for one in made:
        await one.close()


async def test_what_was_taken_is_kept_and_all_are_served(begun) -> None:
    one = await begun(Proxies(up=good), UP)
    async with one.going():
        await asyncio.sleep(20.0)
    assert len(one.calls) == pytest.approx(100, rel=0.3)
    assert {call.kind for call in one.calls} == set(load.MIX)
    assert failures(one.calls) == {}
    assert set(one.ledger.voices) == {"voice_1"}
    assert set(one.ledger.jobs) == {"job_1"}


async def test_a_proxy_that_cannot_be_reached_costs_nobody_anything(begun) -> None:
    one = await begun(Proxies(up=good), DOWN, UP)
    async with one.going():
        await asyncio.sleep(10.0)
    assert failures(one.calls) == {}


async def test_a_slow_service_makes_nobody_come_later(begun) -> None:
    proxies = Proxies(up=good)
    one = await begun(proxies, UP)

    async def slow(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            await asyncio.sleep(7.0)
        return await good(request)

    proxies.answers[UP] = slow
    async with one.going():
        await asyncio.sleep(20.0)
    assert len(one.calls) == pytest.approx(100, rel=0.3)
    assert {round(call.stall_s) for call in one.calls} == {7}


async def test_refusals_are_named_and_so_is_what_they_lack(begun) -> None:
    proxies = Proxies(up=good)
    one = await begun(proxies, UP)
    error = {"error": {"code": "capacity"}}
    replies = [
        httpx.Response(503, json=error, headers={"Retry-After": "1"}),
        httpx.Response(500, text="Internal Server Error"),
        httpx.Response(200),
    ]

    async def refuse(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/audio/speech":
            reply = replies[len(one.calls) % 3]
            return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)
        return await good(request)

    proxies.answers[UP] = refuse
    async with one.going():
        await asyncio.sleep(20.0)
    assert set(failures(one.calls)) == {
        "503 capacity",
        "500 Internal Server Error, no Retry-After",
        "no audio",
    }


async def test_who_is_told_to_come_again_does_and_is_served(begun) -> None:
    proxies = Proxies(up=good)
    one = await begun(proxies, UP)
    one._patience_s = 60.0
    busy_s = asyncio.get_running_loop().time() + 10.0

    async def busy(request: httpx.Request) -> httpx.Response:
        if "healthz" in request.url.path or asyncio.get_running_loop().time() > busy_s:
            return await good(request)
        error = {"error": {"code": "capacity"}}
        return httpx.Response(503, json=error, headers={"Retry-After": "3"})

    proxies.answers[UP] = busy
    async with one.going():
        await asyncio.sleep(20.0)
    assert failures(one.calls) == {}
    assert 1 < max(len(call.told) for call in one.calls) <= 4
    assert set(told_to_come_again(one.calls)) == {"503 capacity"}
    assert max(call.stall_s for call in one.calls) < 1.0  # what it was told to wait is none


async def test_what_goes_through_a_silent_proxy_is_cut(begun) -> None:
    proxies = Proxies(up=good)
    one = await begun(proxies, UP)

    async def silent(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            raise httpx.ReadTimeout("silent")
        await asyncio.sleep(1e6)
        return httpx.Response(200)

    proxies.answers[UP] = silent
    async with one.going():
        await asyncio.sleep(10.0)
    assert set(failures(one.calls)) == {"cut by the balancer"}
    assert max(call.stall_s for call in one.calls) < (FALL + 1) * LOOK_EVERY_S
