"""Texts above one answer's length over HTTP: every dialect, and how they are told of."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest
import pytest_asyncio

from pipeline.audio.levels import measure_levels
from pipeline.contracts import Quality, SpeechChunk, SpeechRequest, Verdict, VoicePrompt
from pipeline.errors import StageError, TextError
from pipeline.splitting.segments import segments
from tests.http_app import HttpApp, error_of, http_app, running

pytestmark = [pytest.mark.unit, pytest.mark.asyncio(loop_scope="module")]

TEXT = " ".join(
    f"Keeper {n} climbed the stair and lit the lamp before the storm." for n in range(90)
)
PARTS = [part.text for part in segments(TEXT)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app():
    async with http_app() as made:
        yield made


def asked_for(app: HttpApp, before: int) -> list[str]:
    return [request.text for request in app.synthesizer.requests[before:]]


async def test_a_long_text_is_spoken_in_segments_in_one_voice(app: HttpApp):
    assert len(TEXT) > app.settings.limits.max_text_chars
    before = len(app.synthesizer.requests)
    reply = await app.speak(input=TEXT)
    assert (reply.status_code, reply.headers["x-quality"]) == (200, "ok")
    assert asked_for(app, before) == PARTS
    spoken = app.synthesizer.requests[before:]
    assert len({request.sampling.seed for request in spoken}) == len(PARTS)


ROUTES: list[tuple[str, dict[str, Any]]] = [
    ("/v1/audio/speech", {"input": TEXT, "response_format": "mp3", "stream": False}),
    ("/v1/audio/speech", {"input": TEXT, "stream_format": "sse", "response_format": "pcm"}),
    ("/v1/audio/speech/upload", {"input": TEXT, "voice": "bruno"}),
    ("/v1/tts", {"text": TEXT, "format": "wav"}),
    ("/v1/text-to-speech/bruno", {"text": TEXT}),
    ("/v1/text-to-speech/bruno/stream", {"text": TEXT}),
]


@pytest.mark.parametrize(("path", "body"), ROUTES)
async def test_every_dialect_speaks_it(app: HttpApp, path: str, body: dict[str, Any]):
    before = len(app.synthesizer.requests)
    reply = await app.http.post(path, json=body)
    assert reply.status_code == 200, reply.text
    assert asked_for(app, before) == PARTS


async def test_a_text_within_one_answer_is_asked_for_as_ever(app: HttpApp):
    text = TEXT[: app.settings.limits.max_text_chars].strip()
    request = await app.spoken(input=text)
    assert (request.text, request.sampling.seed) == (text, 7)


@pytest.mark.parametrize(
    ("fields", "allowed"),
    [
        ({"input": "x" * 100_001}, 100_000),
        ({"input": TEXT, "step_audio": {"mode": "paralinguistic"}}, 4_096),
    ],
)
async def test_a_longer_text_is_refused(app: HttpApp, fields: dict[str, Any], allowed: int):
    reply = await app.speak(**fields)
    assert (reply.status_code, error_of(reply)["param"]) == (422, "input")
    assert f"{allowed} are allowed" in error_of(reply)["message"]


async def test_a_loudness_is_reached_whatever_the_length(app: HttpApp):
    async with running(HttpApp(is_telling=True)) as made:
        made.speech._synthesizer.n_chunks = 10
        for text in ("Hello there.", TEXT):
            reply = await made.speak(input=text, target_lufs=-24, response_format="pcm")
            samples = np.frombuffer(reply.content, "<i2").astype(np.float32) / 32_768
            assert measure_levels(samples, 24_000).loudness_lufs() == pytest.approx(-24, abs=1.0)
    reply = await app.speak(target_lufs=0)
    assert (reply.status_code, error_of(reply)["param"]) == (400, "target_lufs")


class Faulty:
    """Speaks a second of noise; the n-th text is bad each time, or fails."""

    def __init__(self, fault: Quality | Exception) -> None:
        self.requests: list[SpeechRequest] = []
        self._fault = fault

    async def speak(
        self, request: SpeechRequest, voice: VoicePrompt
    ) -> AsyncGenerator[SpeechChunk]:
        del voice
        self.requests.append(request)
        at = PARTS.index(request.text)
        if at == 3 and isinstance(self._fault, Exception):
            raise self._fault
        rng = np.random.default_rng(request.sampling.seed)
        samples = rng.uniform(-0.3, 0.3, 24_000).astype(np.float32)
        chunk = SpeechChunk(samples, last=True)
        if at == 3 and isinstance(self._fault, Quality):
            chunk = replace(chunk, quality=self._fault)
        yield chunk


def events_of(reply: httpx.Response) -> list[dict[str, Any]]:
    lines = reply.text.split("\n")
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


async def faulty_reply(
    fault: Quality | Exception, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[dict[str, Any]], dict[str, Any], list[str]]:
    """Events of a reply whose fourth segment has the fault, its outcome, and all that was asked."""
    monkeypatch.setattr("deployments.longform.production.WAIT_S", 0.0)
    made = HttpApp()
    speaker = Faulty(fault)
    made.speech._synthesizer = speaker
    async with running(made):
        reply = await made.speak(input=TEXT, stream_format="sse", response_format="pcm")
        found = await made.http.get(f"/v1/audio/speech/{reply.headers['x-request-id']}")
    return events_of(reply), found.json(), [request.text for request in speaker.requests]


async def test_what_stays_bad_is_named_in_the_last_event_and_in_the_outcome(
    monkeypatch: pytest.MonkeyPatch,
):
    events, outcome, asked = await faulty_reply(Quality(Verdict.SHORT), monkeypatch)
    assert asked.count(PARTS[3]) == 2
    done = events[-1]
    assert (done["type"], done["timbre"]["quality"]) == ("speech.audio.done", "short; retried")
    told = done["segments"]
    assert (told["count"], told["ended"], told["bad_count"]) == (len(PARTS), len(PARTS), 1)
    (bad,) = told["bad"]
    assert (bad["index"], bad["verdict"], bad["text"]) == (3, "short", PARTS[3])
    assert TEXT[bad["start"] : bad["end"]] == PARTS[3]
    assert outcome["segments"] == told
    assert outcome["quality"] == {"verdict": "short", "is_retried": True}


async def test_what_cannot_be_spoken_is_named_as_lost(monkeypatch: pytest.MonkeyPatch):
    events, outcome, asked = await faulty_reply(TextError("not spoken here"), monkeypatch)
    assert asked == PARTS
    assert events[-1]["type"] == "speech.audio.done"
    (bad,) = outcome["segments"]["bad"]
    assert (bad["index"], bad["verdict"], bad["reason"]) == (3, "lost", "not spoken here")
    assert outcome["quality"]["verdict"] == "lost"


async def test_a_segment_that_fails_twice_ends_the_reply(monkeypatch: pytest.MonkeyPatch):
    events, outcome, asked = await faulty_reply(StageError("the vocoder failed"), monkeypatch)
    assert asked == [*PARTS[:4], PARTS[3]]
    assert [event["type"] for event in events].count("speech.audio.delta") > 0
    assert events[-1]["type"] == "speech.audio.error"
    assert events[-1]["error"]["partial_audio"] is True
    assert events[-1]["segments"]["ended"] == 3
    assert (outcome["outcome"], outcome["segments"]["ended"]) == ("error", 3)


async def test_a_short_texts_outcome_tells_of_no_segments(app: HttpApp):
    reply = await app.speak()
    found = await app.http.get(f"/v1/audio/speech/{reply.headers['x-request-id']}")
    assert "segments" not in found.json()


async def test_the_same_seed_is_answered_from_what_is_kept():
    async with running(HttpApp(is_telling=True)) as made:
        made.speech._synthesizer.n_chunks = 1
        first, second = [
            await made.speak(input=TEXT, response_format="pcm", sample_rate=24_000)
            for _ in range(2)
        ]
        assert len(made.speech._synthesizer.requests) == len(PARTS)
    assert first.content == second.content
    assert first.headers["x-cache"].startswith("l1") or "miss" in first.headers["x-cache"]
    assert second.headers["x-cache"].startswith("speech-l1")
