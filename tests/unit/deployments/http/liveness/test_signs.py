"""A proxy and a router with signs of life between them: silence ends a request, a wait does not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from deployments.http.liveness.signs import SILENCE_S, UPDATE_S, HearsSigns, TellsSigns

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("virtual_time")]
Script = Callable[[Send], Awaitable[None]]
START: Message = {"type": "http.response.start", "status": 200, "headers": []}


def body(content: bytes, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}


async def ok(send: Send) -> None:
    await send(START)
    await send(body(b"ok"))


async def late(send: Send) -> None:
    await asyncio.sleep(3 * SILENCE_S)
    await send(START)
    await send(body(b"one", more=True))
    await asyncio.sleep(3 * SILENCE_S)
    await send(body(b"two"))


async def dead(send: Send) -> None:
    """The way to its machine is gone."""
    del send
    await asyncio.sleep(1e6)


async def dead_after_audio(send: Send) -> None:
    await send(START)
    await send(body(b"one", more=True))
    await asyncio.sleep(1e6)


async def refused(send: Send) -> None:
    await send({"type": "http.response.start", "status": 503, "headers": []})
    await send(body(b"ours"))


async def not_found(send: Send) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send(body(b"no such path"))


async def gone(send: Send) -> None:
    """Serve ends a request of whose reply it believes that it has begun."""
    del send


class Cluster:
    """A proxy, and what answers it.

    is_old: a router that knows no signs. is_lost: from then on nothing that a router says arrives.
    """

    def __init__(self, *, is_old: bool = False) -> None:
        self.script: Script = ok
        self.is_lost = False
        self.cancelled = 0
        self.asked: list[Scope] = []
        self.is_old = is_old
        self.proxy = HearsSigns(self._serve)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        self.asked.append(scope)
        await self.script(send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if not self.is_lost:
                await send(message)

        try:
            router = self._route if self.is_old else TellsSigns(self._route)
            await router(dict(scope), receive, sent)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def get(self, path: str = "/v1/models") -> tuple[list[Message], float]:
        """What the server gets to send, and how long it took."""
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        began_s = asyncio.get_running_loop().time()
        scope: Any = {"type": "http", "method": "GET", "path": path, "headers": []}
        await self.proxy(scope, receive, send)
        return sent, asyncio.get_running_loop().time() - began_s


async def test_a_reply_goes_through_as_it_is() -> None:
    cluster = Cluster()
    assert await cluster.get() == ([START, body(b"ok")], 0.0)
    assert all(not key.startswith("timbre.") for key in cluster.asked[0])


async def test_a_router_that_gives_signs_is_waited_for() -> None:
    cluster = Cluster()
    for script in (ok, late):
        cluster.script = script
        sent, _ = await cluster.get()
    assert sent == [START, body(b"one", more=True), body(b"two")]


async def test_a_router_that_says_nothing_is_a_503_in_seconds() -> None:
    cluster = Cluster()
    await cluster.get()
    cluster.script, cluster.is_lost = dead, True
    (start, content), took_s = await cluster.get()
    assert took_s == pytest.approx(SILENCE_S)
    assert start["status"] == httpx.codes.SERVICE_UNAVAILABLE
    assert dict(start["headers"])[b"retry-after"]
    assert b"no router answers" in content["body"]
    assert cluster.cancelled == 1


async def test_silence_after_audio_breaks_the_connection_off() -> None:
    cluster = Cluster()
    await cluster.get()
    cluster.script = dead_after_audio

    async def lose() -> None:
        await asyncio.sleep(1.0)
        cluster.is_lost = True

    losing = asyncio.ensure_future(lose())
    sent, took_s = await cluster.get()
    await losing
    assert sent == [START, body(b"one", more=True)]  # no end: a server closes the connection
    assert took_s < SILENCE_S + 2
    assert cluster.cancelled == 1


async def test_a_request_that_nobody_answers_is_answered() -> None:
    cluster = Cluster()
    cluster.script = gone
    (start, _), _ = await cluster.get()
    assert start["status"] == httpx.codes.SERVICE_UNAVAILABLE


async def test_a_routers_own_503_goes_through() -> None:
    cluster = Cluster()
    cluster.script = refused
    assert (await cluster.get())[0][1] == body(b"ours")


@pytest.mark.parametrize("path", ["/v1/models", "/-/healthz"])
async def test_serves_own_503_gets_our_shape_where_it_is_no_probes(path: str) -> None:
    cluster = Cluster(is_old=True)  # as Serve's proxy: it marks nothing
    cluster.script = refused
    (start, content), _ = await cluster.get(path)
    is_probe = path == "/-/healthz"
    assert (content == body(b"ours")) is is_probe
    assert (b"retry-after" in dict(start["headers"])) is not is_probe


async def test_a_router_of_before_an_update_is_waited_for() -> None:
    cluster = Cluster(is_old=True)
    for script in (ok, late):
        cluster.script = script
        sent, _ = await cluster.get()
    assert sent[-1] == body(b"two")


@pytest.mark.parametrize("is_lasting", [True, False], ids=["rolled back", "updating"])
async def test_a_router_without_signs_is_waited_for_though_others_gave_some(
    is_lasting: bool,
) -> None:
    cluster = Cluster()
    await cluster.get()
    for is_old in (True, is_lasting):
        cluster.is_old = is_old
        assert await cluster.get() == ([START, body(b"ok")], 0.0)
    cluster.is_old, cluster.script = True, late
    sent, _ = await cluster.get()
    assert sent[-1] == body(b"two")


async def test_a_while_after_the_last_of_them_silence_is_minded_again() -> None:
    cluster = Cluster()
    for is_old in (True, False):
        cluster.is_old = is_old
        await cluster.get()
    await asyncio.sleep(UPDATE_S)
    cluster.script, cluster.is_lost = dead, True
    _, took_s = await cluster.get()
    assert took_s == pytest.approx(SILENCE_S)


async def test_what_serve_itself_replies_is_no_router_without_signs() -> None:
    cluster = Cluster()
    await cluster.get()
    cluster.is_old = True  # as Serve's proxy: it marks nothing
    await cluster.get("/-/healthz")
    cluster.script = not_found
    await cluster.get()
    cluster.script, cluster.is_lost = dead, True
    _, took_s = await cluster.get()
    assert took_s == pytest.approx(SILENCE_S)
