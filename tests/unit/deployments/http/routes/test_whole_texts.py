"""Texts that are too long for a reply that is sent whole, and are not for one that is streamed."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.http_app import HttpApp, error_of, http_app
from tests.talk import kinds, talk

pytestmark = [pytest.mark.unit, pytest.mark.asyncio(loop_scope="module")]

LIMITS = {"max_text_chars": 100, "max_whole_text_chars": 200, "max_long_text_chars": 300}
SENTENCE = "One more sentence of fifty characters, and it ends. "
FITS, LONG = [(SENTENCE * 10)[:n].strip() for n in (198, 250)]
TURN = "Half a turn of a hundred characters. " * 2


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app():
    async with http_app(limits=LIMITS) as made:
        yield made


WHOLE: list[tuple[str, dict[str, Any], str]] = [
    ("/v1/audio/speech", {"input": LONG, "stream": False}, "input"),
    ("/v1/audio/speech/upload", {"input": LONG, "voice": "bruno", "stream": False}, "input"),
    ("/v1/tts", {"text": LONG}, "text"),
    ("/v1/text-to-speech/bruno", {"text": LONG}, "text"),
    ("/v1/text-to-dialogue", {"inputs": [{"text": TURN, "voice_id": "bruno"}] * 3}, "inputs"),
    ("/v1/audio/speech", {"inputs": [{"text": TURN}] * 3, "stream": False}, "inputs"),
]
STREAMED: list[tuple[str, dict[str, Any]]] = [
    ("/v1/audio/speech", {"input": LONG}),
    ("/v1/audio/speech", {"input": LONG, "stream": False, "stream_format": "sse"}),
    ("/v1/audio/speech/upload", {"input": LONG, "voice": "bruno"}),
    ("/v1/tts", {"text": LONG, "streaming": True}),
    ("/v1/text-to-speech/bruno/stream", {"text": LONG}),
    ("/v1/text-to-dialogue/stream", {"inputs": [{"text": TURN, "voice_id": "bruno"}] * 3}),
    ("/v1/audio/speech", {"inputs": [{"text": TURN}] * 3}),
    ("/v1/audio/speech", {"input": FITS, "stream": False}),
    ("/v1/text-to-speech/bruno", {"text": FITS}),
]


@pytest.mark.parametrize(("path", "body", "param"), WHOLE)
async def test_a_whole_reply_to_it_is_refused_and_says_what_would_do(
    app: HttpApp, path: str, body: dict[str, Any], param: str
):
    before = len(app.synthesizer.requests)
    reply = await app.http.post(path, json=body)
    assert (reply.status_code, error_of(reply)["param"]) == (400, param), reply.text
    message = error_of(reply)["message"]
    assert "200 are allowed in a reply that is sent whole (limits.max_whole_text_chars)" in message
    assert "300 in one that is streamed" in message
    assert len(app.synthesizer.requests) == before


@pytest.mark.parametrize(("path", "body"), STREAMED)
async def test_a_streamed_reply_speaks_it(app: HttpApp, path: str, body: dict[str, Any]):
    reply = await app.http.post(path, json=body)
    assert reply.status_code == httpx.codes.OK, reply.text


async def test_an_item_of_a_batch_is_refused_alone(app: HttpApp):
    items = [{"input": LONG}, {"input": FITS}, {"input": LONG, "stream": True}]
    reply = await app.http.post("/v1/audio/speech/batch", json={"items": items})
    told = reply.json()["results"]
    assert [one["status"] for one in told] == ["error", "success", "error"]
    for one in (told[0], told[2]):
        assert "limits.max_whole_text_chars" in one["error"]


@pytest.mark.parametrize(
    "items",
    [
        [{"input": SENTENCE}] * 5,
        [{"input": SENTENCE}, {"input": FITS}, {"input": LONG}],
        [{"inputs": [{"text": TURN}] * 2}, {"input": SENTENCE}, {"input": SENTENCE}],
        [{"input": "Of one voice.", "speed": 100}, {"input": FITS}, {"input": SENTENCE}],
    ],
)
async def test_items_of_a_batch_are_held_together(app: HttpApp, items: list[dict[str, Any]]):
    before = len(app.synthesizer.requests)
    reply = await app.http.post("/v1/audio/speech/batch", json={"items": items})
    assert (reply.status_code, error_of(reply)["param"]) == (400, "items"), reply.text
    message = error_of(reply)["message"]
    assert "200 are allowed together (limits.max_whole_text_chars)" in message
    assert len(app.synthesizer.requests) == before


@pytest.mark.parametrize(("is_streamed", "status"), [(True, 422), (False, 400)])
async def test_turns_of_a_dialogue_are_no_way_around_it(
    app: HttpApp, is_streamed: bool, status: int
):
    body = {"inputs": [{"text": TURN}] * 5, **({} if is_streamed else {"stream": False})}
    reply = await app.http.post("/v1/audio/speech", json=body)
    assert (reply.status_code, error_of(reply)["param"]) == (status, "inputs"), reply.text


async def test_a_limit_of_all_texts_is_one_of_whole_replies_too():
    async with http_app(limits={**LIMITS, "max_long_text_chars": 150}) as app:
        reply = await app.speak(input=FITS, stream=False)
        assert (reply.status_code, error_of(reply)["param"]) == (400, "input")
        assert "150 are allowed" in error_of(reply)["message"]


async def test_a_sessions_frame_is_whole_and_its_stream_is_not(app: HttpApp):
    async with talk(app.app) as one:
        ends = []
        for is_streamed in (False, True):
            one.configure(stream_audio=is_streamed)
            one.say("input.text", text=LONG)
            one.say("input.done")
            said = await one.until("session.done")
            ends.append(said[-1]["error"])
            if not is_streamed:
                assert kinds(said) == ["audio.start", "error", "audio.done", "session.done"]
                assert "limits.max_whole_text_chars" in said[1]["message"]
    assert ends == [True, False]
