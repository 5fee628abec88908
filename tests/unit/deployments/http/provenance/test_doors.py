"""Whatever door audio leaves by, its mark is found, and it is told; without one, only by right."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.access.caller import Caller
from deployments.access.caller import Scope as KeyScope
from tests.http_app import HttpApp, error_of, http_app
from tests.marked import MarkedSpeaker, score
from tests.talk import talk

pytestmark = pytest.mark.unit

MARKED, UNMARKED = "synthetic, watermark=resemble-perth", "synthetic, watermark=none"
SAID = {"input": "Hello there.", "voice": "aria", "seed": 7}
OFF = {"X-Mark": "off"}
Door = Callable[[HttpApp, dict[str, str]], Awaitable[tuple[bytes, str, str]]]


@pytest.fixture
async def app(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HttpApp]:
    monkeypatch.setattr("tests.http_app.TellingSpeaker", MarkedSpeaker)
    async with http_app(is_telling=True) as made:
        yield made


def told(reply: httpx.Response) -> str:
    assert reply.status_code == httpx.codes.OK, reply.text
    return reply.headers["X-Provenance"]


def speech(path: str = "/v1/audio/speech", audio_format: str = "", **body: Any) -> Door:
    """A door that answers with the audio itself."""

    async def ask(app: HttpApp, headers: dict[str, str]) -> tuple[bytes, str, str]:
        reply = await app.http.post(path, json=body, headers=headers)
        return reply.content, audio_format, told(reply)

    return ask


async def events(app: HttpApp, headers: dict[str, str]) -> tuple[bytes, str, str]:
    body = {**SAID, "stream_format": "sse"}
    reply = await app.http.post("/v1/audio/speech", json=body, headers=headers)
    lines = [line[6:] for line in reply.text.splitlines() if line.startswith("data: ")]
    deltas = [json.loads(line).get("audio", "") for line in lines]
    return b"".join(map(base64.b64decode, deltas)), "", told(reply)


async def batch(app: HttpApp, headers: dict[str, str]) -> tuple[bytes, str, str]:
    reply = await app.http.post("/v1/audio/speech/batch", json={"items": [SAID]}, headers=headers)
    (result,) = reply.json()["results"]
    return base64.b64decode(result["audio_data"]), "", result["provenance"]


async def session(app: HttpApp, headers: dict[str, str]) -> tuple[bytes, str, str]:
    async with talk(app.app, **{name.lower(): value for name, value in headers.items()}) as one:
        one.configure(voice="aria", seed=7)
        one.say("input.text", text="Hello there. ")
        one.say("input.done")
        said = await one.until("session.done")
    head = dict(one.accepted["headers"])
    audio = b"".join(message for message in said if isinstance(message, bytes))
    begun = next(message for message in said if isinstance(message, dict))
    while begun["type"] != "audio.start":
        begun = next(m for m in said if isinstance(m, dict) and m["type"] == "audio.start")
    provenance = head[b"x-provenance"].decode()
    assert begun.get("provenance", MARKED) == provenance
    return audio, "pcm", provenance


async def step_audio(app: HttpApp, headers: dict[str, str]) -> tuple[bytes, str, str]:
    made = await app.http.post("/v1/audio/edits", json=EDIT)
    assert made.status_code == httpx.codes.OK, made.text
    path = f"/v1/audio/edits/{made.headers['X-Edit-Id']}/steps/1/audio"
    reply = await app.http.get(path, params={"response_format": "flac"}, headers=headers)
    return reply.content, "", told(reply)


EDIT = {"voice": "aria", "type": "emotion", "value": "happy", "seed": 3}
TURNS = [{"text": "Hello.", "voice_id": "aria"}, {"text": "Goodbye.", "voice_id": "bruno"}]
DOORS: dict[str, Door] = {
    "speech": speech(**SAID),
    "speech, whole": speech(**SAID, stream=False, response_format="flac"),
    "speech, mu-law": speech(audio_format="pcmu", **SAID, response_format="pcmu"),
    "speech, opus, slow": speech(**SAID, response_format="opus", speed=0.8),
    "speech, pcm, fast": speech(audio_format="pcm", **SAID, response_format="pcm", speed=1.25),
    "events": events,
    "batch": batch,
    "session": session,
    "dialogue": speech("/v1/text-to-dialogue", inputs=TURNS),
    "dialogue, streamed": speech("/v1/text-to-dialogue/stream", inputs=TURNS),
    "long text": speech(**SAID, target_lufs=-20),
    "fish": speech("/v1/tts", text="Hello there.", reference_id="aria", format="mp3"),
    "ElevenLabs": speech("/v1/text-to-speech/aria", text="Hello there."),
    "ElevenLabs, streamed": speech("/v1/text-to-speech/aria/stream", text="Hello there."),
    "edit": speech("/v1/audio/edits", **EDIT),
    "step of an edit": step_audio,
}
KEEPING = {"step of an edit"}  # needs a store


@pytest.fixture
async def keeping(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HttpApp]:
    monkeypatch.setattr("tests.http_app.TellingSpeaker", MarkedSpeaker)
    cache = {"url": str(tmp_path), "l2": "off"}
    async with http_app(is_telling=True, cache=cache) as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS)
async def test_the_mark_leaves_by_every_door(door: str, keeping: HttpApp) -> None:
    audio, audio_format, provenance = await DOORS[door](keeping, {})
    assert provenance == MARKED
    assert score(audio, audio_format) > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS)
async def test_who_may_gets_audio_without_it_by_every_door(
    door: str, keeping: HttpApp, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        audio, audio_format, provenance = await DOORS[door](keeping, OFF)
    assert provenance == UNMARKED
    assert score(audio, audio_format) < 0.3
    assert any("audio without a mark" in record.message for record in caplog.records)


@pytest.mark.parametrize("path", ["/v1/audio/speech", "/v1/audio/edits", "/v1/audio/speech/batch"])
async def test_the_body_can_say_so_too(path: str, app: HttpApp) -> None:
    body: dict[str, Any] = EDIT if path.endswith("edits") else SAID
    if path.endswith("batch"):
        body = {"items": [SAID, {**SAID, "mark": True}], "mark": False}
    else:
        body = {**body, "mark": False}
    reply = await app.http.post(path, json=body)
    if path.endswith("batch"):
        assert [one["provenance"] for one in reply.json()["results"]] == [UNMARKED, MARKED]
    else:
        assert told(reply) == UNMARKED


async def test_one_is_never_answered_with_the_other(app: HttpApp) -> None:
    """Kept speech is the marked or the unmarked one, by its key."""
    for headers, is_marked in (({}, True), (OFF, False), ({}, True), (OFF, False)):
        audio, audio_format, _ = await DOORS["speech, whole"](app, headers)
        assert (score(audio, audio_format) > 0.5) == is_marked
    speaker: Any = app.speaker
    assert [one.terms.is_marked for one in speaker.requests] == [True, False]


async def test_the_same_request_has_the_same_bytes(app: HttpApp) -> None:
    first, _, _ = await DOORS["speech"](app, {})
    again, _, _ = await DOORS["speech"](app, {})
    assert first == again


class Key:
    """Pure ASGI: what a guard says of a request's key."""

    def __init__(self, app: ASGIApp, *scopes: KeyScope) -> None:
        self._app, self._caller = app, Caller("default", "key_1", frozenset(scopes))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["caller"] = self._caller
        await self._app(scope, receive, send)


@pytest.mark.slow
@pytest.mark.parametrize("door", [name for name in DOORS if name not in {"session", *KEEPING}])
async def test_a_key_without_the_scope_is_refused(door: str, app: HttpApp) -> None:
    """Not even one that may do all else."""
    scopes = (KeyScope.ADMIN, KeyScope.SPEAK, KeyScope.EDITS)
    transport = httpx.ASGITransport(Key(app.app, *scopes), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://timbre") as client:
        mine = app.http
        app.http = client
        try:
            _, _, provenance = await DOORS[door](app, {})
            assert provenance == MARKED
            with pytest.raises((AssertionError, KeyError), match=r"unmarked|audio_data"):
                await DOORS[door](app, OFF)
        finally:
            app.http = mine


async def test_a_refusal_says_what_is_missing(app: HttpApp) -> None:
    transport = httpx.ASGITransport(Key(app.app, KeyScope.SPEAK), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://timbre") as client:
        by_head = await client.post("/v1/audio/speech", json=SAID, headers=OFF)
        by_body = await client.post("/v1/audio/speech", json={**SAID, "mark": False})
    for reply, param in ((by_head, "X-Mark"), (by_body, "mark")):
        assert reply.status_code == httpx.codes.FORBIDDEN
        assert error_of(reply)["param"] == param
        assert "unmarked" in error_of(reply)["message"]


async def test_a_session_without_the_scope_is_not_begun(app: HttpApp) -> None:
    async with talk(Key(app.app, KeyScope.SPEAK), **{"x-mark": "off"}) as one:
        assert one.accepted["type"] == "websocket.http.response.start"
        assert one.accepted["status"] == httpx.codes.FORBIDDEN


async def test_a_key_with_the_scope_is_named_in_the_log(
    app: HttpApp, caplog: pytest.LogCaptureFixture
) -> None:
    key = Key(app.app, KeyScope.SPEAK, KeyScope.UNMARKED)
    transport = httpx.ASGITransport(key, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://timbre") as client:
        headers = {**OFF, "X-Request-Id": "me-4711"}
        reply = await client.post("/v1/audio/speech", json=SAID, headers=headers)
    assert told(reply) == UNMARKED
    line = next(r.message for r in caplog.records if "without a mark" in r.message)
    assert "me-4711" in line
    assert "key_1" in line


async def test_other_words_in_the_header_are_refused(app: HttpApp) -> None:
    reply = await app.http.post("/v1/audio/speech", json=SAID, headers={"X-Mark": "maybe"})
    assert reply.status_code == httpx.codes.BAD_REQUEST
    assert error_of(reply)["param"] == "X-Mark"


async def test_a_service_without_marks_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.http_app.TellingSpeaker", MarkedSpeaker)
    async with http_app(is_telling=True, marks={"enabled": False}) as app:
        _, _, provenance = await DOORS["speech"](app, {})
        assert provenance == UNMARKED


async def test_jobs_without_a_mark_need_the_scope(keeping: HttpApp) -> None:
    body = {"input": "Hello there.", "voice": "aria"}
    transport = httpx.ASGITransport(Key(keeping.app, KeyScope.JOBS), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://timbre") as client:
        refused = [
            await client.post("/v1/audio/jobs", json={**body, "mark": False}),
            await client.post("/v1/audio/jobs", json=body, headers=OFF),
        ]
    assert [reply.status_code for reply in refused] == [httpx.codes.FORBIDDEN] * 2
    assert not keeping.told
    for wish, headers, is_marked in (
        ({}, {}, True),
        ({"mark": False}, {}, False),
        ({}, OFF, False),
    ):
        reply = await keeping.http.post("/v1/audio/jobs", json={**body, **wish}, headers=headers)
        job = await keeping.jobs.get(keeping.voices.namespace, reply.json()["id"])
        assert job.plan.is_marked == is_marked
