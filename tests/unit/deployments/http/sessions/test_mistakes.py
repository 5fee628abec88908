"""Mistakes in a session, and its bounds: explained, and the session goes on or ends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.errors import CapacityError, StageError
from tests.http_app import http_app
from tests.talk import kinds, talk

pytestmark = pytest.mark.unit
CONFIGURED = json.dumps({"type": "session.config"})
REFUSED = [
    ("no json", "message", "the message is not valid JSON"),
    ("[]", "message", "JSON object"),
    ("{}", "type", "found none"),
    ('{"type": 7}', "type", "unknown type"),
    ('{"type": "input.audio"}', "type", "allowed: session.config"),
    ('{"type": "input.text"}', "text", "is required"),
    ('{"type": "input.text", "text": 7}', "text", "string"),
    ('{"type": "input.text", "text": ["a"]}', "text", "string"),
    ('{"type": "input.cancel", "played_ms": -1}', "played_ms", "greater"),
    ('{"type": "input.cancel", "played_ms": "soon"}', "played_ms", "number"),
    ('{"type": "input.cancel", "utterance_index": 4}', "utterance_index", "there were 0"),
    ('{"type": "input.cancel", "played_ms": NaN}', "message", "JSON"),
    ('{"type": "session.config", "split_granularity": "word"}', "split_granularity", "clause"),
    ('{"type": "session.config", "response_format": "ogg"}', "response_format", "mp3"),
    ('{"type": "session.config", "voice": 4}', "voice", "name"),
    ('{"type": "session.config", "speed": 9}', "speed", "4"),
    ('{"type": "session.config", "input": "Hi"}', "input", "input.text"),
    ('{"type": "session.config", "word_timestamps": true}', "word_timestamps", "aligner"),
    ('{"type": "session.config", "model": "gpt-9"}', "model", "known"),
    ('{"type": "session.config", "ref_audio": "AAAA"}', "ref_text", "transcript"),
    ('{"type": "session.config", "ref_audio": "%%%", "ref_text": "a"}', "ref_audio", "base64"),
    ('{"type": "session.config", "stream_format": "sse"}', "stream_format", "frames"),
    ('{"type": "session.config", "sample_rate": 1}', "sample_rate", "8"),
    ("[" * 100_000, "message", "JSON"),
    ('{"type": "input.text", "text": "' + "a" * 200_000 + '"}', "message", "131072 are allowed"),
]


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_mistake_is_explained_and_the_session_goes_on(is_first: bool) -> None:
    async with http_app(sessions={"max_mistakes": 100}) as app, talk(app.app) as one:
        if not is_first:
            one.send(CONFIGURED)
        for raw, param, words in REFUSED:
            one.send(raw)
            told = await one.next()
            assert told["type"] == "error", raw[:80]
            assert set(told["error"]) == {"message", "type", "param", "code"}
            assert told["error"]["param"] == param, raw[:80]
            assert words in told["message"], raw[:80]
            assert told["request_id"]
        one.send(CONFIGURED)
        one.say("input.text", text="Hello there.")
        one.say("input.done")
        assert kinds(await one.until("session.done"))[-2:] == ["audio.done", "session.done"]


async def test_binary_messages_and_messages_out_of_turn_are_refused() -> None:
    async with http_app() as app, talk(app.app) as one:
        one.send(data=b"\x00\x01")
        assert "binary" in (await one.next())["message"]
        one.say("input.text", text="Hello")
        assert "session.config" in (await one.next())["message"]
        one.say("input.done")
        assert "session.config" in (await one.next())["message"]
        one.configure()
        one.say("input.text", text="Hello")
        one.configure(voice="aria")
        assert "input.done" in (await one.next())["message"]
        one.say("input.done")
        assert (await one.until("session.done"))[0]["sentence_text"] == "Hello"


async def test_too_many_mistakes_end_a_session() -> None:
    sessions = {"max_mistakes": 3, "config_timeout_s": 600.0, "idle_timeout_s": 600.0}
    async with http_app(sessions=sessions) as app, talk(app.app) as one:
        for _ in range(2):
            one.send("?")
        one.say("ping")
        for _ in range(5):
            one.send("?")
        assert await one.closed() == 1008


async def test_a_session_is_told_at_once_of_a_voice_that_is_not() -> None:
    async with http_app() as app, talk(app.app) as one:
        one.configure(voice="nobody")
        told = await one.next()
        one.configure(voice="bruno")
        one.say("input.text", text="Hello there.")
        one.say("input.done")
        assert not (await one.until("session.done"))[-1]["error"]
    assert told["error"]["code"] == "unknown_voice"
    assert told["error"]["param"] == "voice"


async def test_a_sentence_that_fails_is_told_and_the_next_one_is_spoken() -> None:
    async with http_app(is_telling=True) as app, talk(app.app) as one:
        speaker: Any = app.speaker
        speaker.error = StageError("the LLM failed", detail="secret")
        one.configure(split_granularity="sentence")
        one.say("input.text", text="Hello there. ")
        one.say("input.text", text="Now")
        failed = await one.until("audio.done")
        speaker.error = None
        one.say("input.done")
        rest = await one.until("session.done")
        one.say("input.cancel", played_ms=10_000)
        report = await one.next()
    assert kinds(failed) == ["audio.start", "audio", "audio", "error", "audio.done"]
    error = failed[-2]
    assert (error["partial_audio"], error["error"]["code"]) == (True, "stage_failed")
    assert (error["utterance_index"], error["sentence_index"]) == (0, 0)
    assert "secret" not in json.dumps(error)
    assert failed[-1]["error"]
    assert kinds(rest)[-2:] == ["audio.done", "session.done"]
    assert rest[-1]["error"]
    assert (report["heard_text"], report["unheard_text"]) == ("Now", "Hello there. ")


@pytest.mark.parametrize("error", [CapacityError("full"), ZeroDivisionError("secret")])
async def test_an_error_before_audio_keeps_the_pair_of_start_and_done(error: Exception) -> None:
    async with http_app(is_telling=True) as app, talk(app.app) as one:
        speaker: Any = app.speaker
        speaker.n_chunks, speaker.error = 1, error
        one.configure()
        one.say("input.text", text="Hello there.")
        one.say("input.done")
        said = await one.until("session.done")
    assert kinds(said) == ["audio.start", "error", "audio.done", "session.done"]
    assert "secret" not in json.dumps(said)


async def test_text_has_limits_and_an_utterance_that_lost_some_takes_no_more() -> None:
    limits = {"max_waiting_chars": 40, "max_pieces": 4}
    async with http_app(sessions=limits) as app, talk(app.app) as one:
        one.configure()
        one.say("input.text", text="Hello. ")
        one.say("input.text", text="a" * 41)
        assert "40 may" in (await one.next())["message"]
        one.say("input.text", text="b")
        assert "lost a piece" in (await one.next())["message"]
        one.say("input.done")
        done = await one.until("session.done")
        for _ in range(5):
            one.say("input.text", text="c")
        assert "4 pieces" in (await one.until("error"))[-1]["message"]
    assert (done[0]["sentence_text"], done[-1]["error"]) == ("Hello. ", True)


async def test_text_over_the_limit_of_a_request_is_refused_as_its_sentence() -> None:
    limits = {"max_text_chars": 10, "max_long_text_chars": 10}
    async with http_app(limits=limits) as app, talk(app.app) as one:
        one.configure()
        one.say("input.text", text="Hello there, you.")
        one.say("input.done")
        said = await one.until("session.done")
    assert kinds(said) == ["audio.start", "error", "audio.done", "session.done"]
    assert said[1]["error"]["param"] == "text"


async def test_half_a_character_is_refused_and_two_halves_are_one() -> None:
    async with http_app() as app, talk(app.app) as one:
        one.configure(seed=1)
        one.send('{"type": "input.text", "text": "Hi \\ud83d"}')
        one.send('{"type": "input.text", "text": "\\ude00 there."}')
        one.say("input.done")
        assert (await one.until("session.done"))[0]["sentence_text"] == "Hi 😀 there."
