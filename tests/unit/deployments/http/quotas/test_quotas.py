"""Quotas as callers meet them: what is left on every reply, what is over refused, on every door."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import httpx2
import openai
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.access.caller import Caller
from pipeline.errors import StageUnavailableError
from tests.fakes import SAMPLES_PER_GROUP
from tests.http_app import HttpApp, error_of, http_app, running
from tests.talk import talk
from tests.waiting import until

pytestmark = pytest.mark.unit
SPEECH = "/v1/audio/speech"
REQUESTS, AUDIO = "requests", "audio-seconds"
REPLY_S = 2 * SAMPLES_PER_GROUP / 24_000  # of the fake that speaks


@asynccontextmanager
async def limited(**quota: Any) -> AsyncIterator[HttpApp]:
    async with http_app(quotas={"tenant": quota}) as app:
        yield app


def left(reply: httpx.Response, of: str = REQUESTS) -> tuple[int, int, str]:
    """Limit, what remains, and when all is there again."""
    told = [reply.headers[f"x-ratelimit-{what}-{of}"] for what in ("limit", "remaining", "reset")]
    return int(told[0]), int(told[1]), told[2]


def check_refused(reply: httpx.Response, code: str = "rate_limit_exceeded") -> str:
    """As OpenAI refuses. Returns the message."""
    assert reply.status_code == 429, reply.text
    assert 1 <= int(reply.headers["retry-after"]) <= 120
    error = error_of(reply)
    assert error["code"] == code
    assert (error["type"] == code) == (code == "insufficient_quota")
    return error["message"]


def client_of(app: HttpApp, **rest: Any) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        base_url="http://timbre/v1",
        api_key="unused",
        http_client=httpx2.AsyncClient(transport=httpx2.ASGITransport(app.app)),
        **rest,
    )


async def test_nobody_who_has_no_quota_is_told_of_one():
    async with http_app() as app:
        reply = await app.speak()
        assert reply.status_code == 200
        assert not [name for name in reply.headers if name.startswith("x-ratelimit")]


async def test_what_is_left_is_told_and_what_is_over_refused():
    async with limited(requests_per_minute=3) as app:
        told = [left(await app.speak()) for _ in range(3)]
        assert [(limit, rest) for limit, rest, _ in told] == [(3, 2), (3, 1), (3, 0)]
        resets = [re.fullmatch(r"(?:(1)m)?([0-9.]+)s", reset) for _, _, reset in told]
        assert all(one and 30 < 60 * int(one[1] or 0) + float(one[2]) <= 61 for one in resets)
        refused = await app.speak()
        assert "3 requests a minute" in check_refused(refused)
        assert left(refused)[:2] == (3, 0)
        assert len(app.synthesizer.requests) == 3
        assert app.refused == [("requests", "tenant")]


async def test_openais_client_reads_what_is_left():
    async with limited(requests_per_minute=2) as app, client_of(app, max_retries=0) as client:
        asked = {"input": "Hello.", "voice": "bruno", "model": "tts-1"}
        reply = await client.audio.speech.with_raw_response.create(**asked)
        assert reply.headers["x-ratelimit-limit-requests"] == "2"
        assert reply.headers["x-ratelimit-remaining-requests"] == "1"
        await client.audio.speech.create(**asked)
        with pytest.raises(openai.RateLimitError) as caught:
            await client.audio.speech.create(**asked)
        assert caught.value.code == "rate_limit_exceeded"
        assert caught.value.type == "invalid_request_error"


async def test_openais_client_does_not_repeat_what_waiting_does_not_help():
    async with limited(audio_s_per_day=0.2) as app, client_of(app) as client:
        asked = {"input": "Hello.", "voice": "bruno", "model": "tts-1"}
        await client.audio.speech.create(**asked)
        with pytest.raises(openai.RateLimitError) as caught:
            await client.audio.speech.create(**asked)
        assert caught.value.code == "insufficient_quota"
        assert caught.value.response.headers["retry-after"] == "120"
        assert caught.value.response.headers["x-should-retry"] == "false"
        assert app.refused == [("audio_day", "tenant")], "it asked once"


async def test_who_looks_is_not_counted():
    async with limited(requests_per_minute=1) as app:
        for _ in range(5):
            reply = await app.http.get("/v1/models")
            assert reply.status_code == 200
            assert left(reply)[:2] == (1, 1)
        assert (await app.http.get("/healthz")).status_code == 200
        assert (await app.speak()).status_code == 200


async def test_what_fails_here_is_given_back_and_a_callers_mistake_is_not(
    monkeypatch: pytest.MonkeyPatch,
):
    async with limited(requests_per_minute=2) as app:

        async def broken(*_: Any) -> Any:
            raise StageUnavailableError("no vocoder")

        with monkeypatch.context() as broken_here:
            broken_here.setattr(app.voices, "resolve", broken)
            for _ in range(5):
                assert (await app.speak()).status_code == 503
        assert (await app.speak(input="")).status_code == 422
        assert (await app.speak()).status_code == 200
        check_refused(await app.speak())


async def test_seconds_of_audio_are_charged_as_they_are_sent():
    async with limited(audio_s_per_minute=10) as app:
        reply = await app.speak(input="x" * 20)
        limit, _, _ = left(reply, AUDIO)
        assert limit == 10
        for number in range(1, 4):
            await app.speak(stream_format="sse")
            [page] = app.quotas._ledger._purses.values()
            assert page.remaining(app.quotas._ledger.now()) == pytest.approx(
                10 - (number + 1) * REPLY_S, abs=0.01
            )


async def test_what_is_over_in_the_middle_is_finished_and_waited_for_next():
    async with limited(audio_s_per_minute=REPLY_S / 4) as app:
        reply = await app.speak()
        assert reply.status_code == 200
        assert len(reply.content) > 2 * 2 * SAMPLES_PER_GROUP
        message = check_refused(await app.speak())
        assert "s of audio a minute" in message
        waits = await app.speak()
        assert int(waits.headers["retry-after"]) > 60, "three times over: some minutes"


async def test_audio_of_a_reply_that_broke_off_is_given_back():
    async with limited(audio_s_per_minute=10) as app:

        async def breaks(request: Any, voice: Any) -> Any:
            async with asyncio.timeout(5):
                async for chunk in type(app.synthesizer).speak(app.synthesizer, request, voice):
                    yield chunk
                    raise StageUnavailableError("it died")

        app.synthesizer.speak = breaks
        reply = await app.speak(stream_format="sse")
        assert "speech.audio.error" in reply.text
        [purse] = app.quotas._ledger._purses.values()
        assert purse.remaining(app.quotas._ledger.now()) == pytest.approx(10, abs=1e-6)


async def test_replies_at_a_time_are_freed_however_they_end():
    async with limited(streams=1) as app:
        app.synthesizer.go.clear()
        first = asyncio.create_task(app.speak())
        await until(lambda: bool(app.synthesizer.requests))
        assert "1 replies at a time" in check_refused(await app.speak())
        app.synthesizer.go.set()
        assert (await first).status_code == 200
        assert (await app.speak()).status_code == 200
        app.synthesizer.go.clear()
        left_alone = asyncio.create_task(app.speak())
        await until(lambda: len(app.synthesizer.requests) == 3)
        left_alone.cancel()
        await asyncio.wait([left_alone])
        app.synthesizer.go.set()
        assert (await app.speak()).status_code == 200


class Holder:
    """Pure ASGI: what an edge that knows keys says of a request."""

    def __init__(self, app: ASGIApp, caller: Caller) -> None:
        self._app, self._caller = app, caller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {}).update(caller=self._caller, namespace=self._caller.namespace)
        await self._app(scope, receive, send)


def key(app: HttpApp, namespace: str, key_id: str) -> httpx.AsyncClient:
    holder = Holder(app.app, Caller(namespace, key_id))
    return httpx.AsyncClient(transport=httpx.ASGITransport(holder), base_url="http://timbre")


async def spoken(client: httpx.AsyncClient) -> int:
    body = {"input": "Hello.", "response_format": "wav"}
    return (await client.post(SPEECH, json=body)).status_code


async def test_a_request_needs_room_under_its_tenants_quota_and_its_keys():
    quotas = {
        "tenants": {"acme": {"requests_per_minute": 3}},
        "key": {"requests_per_minute": 2},
        "keys": {"big": {"requests_per_minute": 50}},
    }
    async with http_app(quotas=quotas) as app:
        one, other, big = (key(app, "acme", name) for name in ("one", "other", "big"))
        assert [await spoken(one) for _ in range(3)] == [200, 200, 429]
        assert [await spoken(other) for _ in range(2)] == [200, 429]
        assert await spoken(big) == 429
        assert [of for _, of in app.refused] == ["key", "tenant", "tenant"]
        elsewhere = key(app, "other", "one")
        assert await spoken(elsewhere) == 200, "another tenant's key of the same name"
        assert [await spoken(app.http) for _ in range(3)] == [200] * 3, "no key, no quota"


async def test_every_item_of_a_batch_is_a_request():
    async with limited(requests_per_minute=3) as app:
        items = [{"input": f"Hello {number}."} for number in range(5)]
        reply = await app.http.post("/v1/audio/speech/batch", json={"items": items})
        body = reply.json()
        assert (body["succeeded"], body["failed"]) == (3, 2)
        assert left(reply)[:2] == (3, 0)
        failed = [one["error"] for one in body["results"] if one["status"] == "error"]
        assert all("3 requests a minute" in error for error in failed)


async def test_a_batch_speaks_no_more_at_a_time_than_its_caller_may():
    async with limited(streams=1) as app:
        items = [{"input": f"Hello {number}."} for number in range(4)]
        reply = await app.http.post("/v1/audio/speech/batch", json={"items": items})
        assert reply.json()["succeeded"] == 4


async def test_every_utterance_of_a_session_is_a_request():
    async with limited(requests_per_minute=2) as app:
        async with talk(app.app) as session:
            session.configure(split_granularity="sentence")
            for number in range(3):
                session.say("input.text", text=f"Hello there {number}. ")
                session.say("input.done")
            errors = []
            for _ in range(3):
                said = await session.until("session.done")
                errors.append(
                    [
                        one["error"]
                        for one in said
                        if isinstance(one, dict) and one["type"] == "error"
                    ]
                )
            assert [len(found) for found in errors] == [0, 0, 1]
            assert "rate_limit_exceeded" in json.dumps(errors[2])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/text-to-speech/bruno", {"text": "Hello."}),
        ("/v1/text-to-speech/bruno/stream", {"text": "Hello."}),
        ("/v1/tts", {"text": "Hello.", "reference_id": "bruno"}),
        ("/v1/text-to-dialogue", {"inputs": [{"text": "Hello.", "voice_id": "bruno"}]}),
        ("/v1/audio/speech", {"inputs": [{"text": "Hello.", "voice": "bruno"}]}),
        (
            "/v1/audio/edits",
            {"voice": "bruno", "steps": [{"type": "emotion", "value": "happy"}]},
        ),
    ],
)
async def test_every_door_is_counted_and_charged(path: str, body: dict[str, Any]):
    async with running(
        HttpApp(
            is_telling=True,
            quotas={"tenant": {"requests_per_minute": 1, "audio_s_per_minute": 10, "streams": 1}},
        )
    ) as app:
        reply = await app.http.post(path, json=body)
        assert reply.status_code == 200, reply.text
        limit, rest, _ = left(reply, AUDIO)
        assert (limit, left(reply)[:2]) == (10, (1, 0))
        assert rest < 10
        check_refused(await app.http.post(path, json=body))
