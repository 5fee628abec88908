"""On which terms requests reach the stages, and what those hear that are not served."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from deployments.config.admission_settings import AdmissionSettings
from pipeline.errors import CapacityError, OverShareError
from pipeline.serving.terms import Service, Terms
from tests.http_app import HttpApp, http_app, tenant
from tests.talk import talk

pytestmark = pytest.mark.unit

SPEECH = "/v1/audio/speech"
BODY = {"input": "Hello there.", "response_format": "wav", "seed": 7}
BUSY = CapacityError("the service is busy", wait_s=2.5, retry_after_s=3.5, holds_s=0.4)


@pytest_asyncio.fixture
async def app() -> AsyncIterator[HttpApp]:
    async with http_app() as made:
        yield made


@pytest_asyncio.fixture
async def telling() -> AsyncIterator[HttpApp]:
    async with http_app(is_telling=True) as made:
        made.speaker.n_chunks = 1  # type: ignore[union-attr]
        yield made


def left_s(terms: Terms) -> float:
    assert terms.due_s is not None
    return terms.due_s - time.monotonic()


@pytest.mark.parametrize(
    ("path", "fields", "service", "due_in_s"),
    [
        (SPEECH, {}, Service.STREAM, AdmissionSettings().first_audio_s),
        (SPEECH, {"stream_format": "sse"}, Service.STREAM, AdmissionSettings().first_audio_s),
        (SPEECH, {"stream": False}, Service.WHOLE, AdmissionSettings().whole_s),
    ],
)
async def test_how_an_answer_is_taken_decides_when_it_is_due(
    app: HttpApp, path: str, fields: dict[str, object], service: Service, due_in_s: float
) -> None:
    reply = await app.http.post(path, json={**BODY, **fields})
    assert reply.status_code == httpx.codes.OK, reply.text
    terms = app.synthesizer.requests[-1].terms
    assert terms.service is service
    assert terms.tenant == app.voices.namespace
    assert not terms.is_begun
    assert due_in_s - 2.0 < left_s(terms) <= due_in_s


async def test_whose_it_is_goes_along(app: HttpApp) -> None:
    async with tenant(app, "acme") as http:
        await http.post(SPEECH, json=BODY)
    assert app.synthesizer.requests[-1].terms.tenant == "acme"


async def test_a_batch_stands_behind(app: HttpApp) -> None:
    body = {"items": [{"input": "One."}, {"input": "Two."}]}
    reply = await app.http.post(f"{SPEECH}/batch", json=body)
    assert reply.json()["succeeded"] == 2
    assert {one.terms.service for one in app.synthesizer.requests} == {Service.BATCH}
    assert {one.terms.due_s for one in app.synthesizer.requests} == {None}


async def test_later_segments_of_a_long_text_go_on_with_a_reply_that_is_heard() -> None:
    async with http_app(limits={"max_text_chars": 100}) as app:
        text = "He asked for the letter and went away, and nobody saw him again. " * 8
        reply = await app.http.post(SPEECH, json={**BODY, "input": text})
        assert reply.status_code == httpx.codes.OK
        first, *later = [one.terms for one in app.synthesizer.requests]
    assert later
    assert not first.is_begun
    assert all(terms.is_begun and terms.service is Service.STREAM for terms in later)
    assert all(terms.due_s is not None for terms in later)


async def test_turns_of_a_dialogue_do_so_too(app: HttpApp) -> None:
    lines = [{"text": text, "voice_id": "bruno"} for text in ("Hello.", "Good morning.")]
    reply = await app.http.post("/v1/text-to-dialogue/stream", json={"inputs": lines})
    assert reply.status_code == httpx.codes.OK, reply.text
    assert [one.terms.is_begun for one in app.synthesizer.requests] == [False, True]


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_sentences_of_an_utterance_do_so_too(app: HttpApp, is_streamed: bool) -> None:
    first, second, other = (f"{one} thing that is said at some length." for one in "ABC")
    async with talk(app.app) as one:
        one.configure(stream_audio=is_streamed, split_granularity="sentence")
        for said in (f"{first} {second}", other):
            one.say("input.text", text=said)
            one.say("input.done")
            await one.until("session.done")
    assert [request.text for request in app.synthesizer.requests] == [first, second, other]
    terms = [request.terms for request in app.synthesizer.requests]
    assert [one.is_begun for one in terms] == [False, True, False]
    assert {one.service for one in terms} == {Service.STREAM if is_streamed else Service.WHOLE}
    assert 0.0 < left_s(terms[1]) < 2.5, "when the first one was played"


@pytest.mark.parametrize(
    ("kind", "status"),
    [(CapacityError, httpx.codes.SERVICE_UNAVAILABLE), (OverShareError, 429)],
)
async def test_what_is_kept_is_never_refused(
    telling: HttpApp, kind: type[CapacityError], status: int
) -> None:
    assert (await telling.speak()).status_code == httpx.codes.OK
    telling.speaker.error = kind("busy", wait_s=2.5, retry_after_s=3.5)  # type: ignore[union-attr]
    assert (await telling.speak()).status_code == httpx.codes.OK
    refused = await telling.speak(input="Something else.")
    assert refused.status_code == status
    assert refused.headers["retry-after"] == "4"
    error = refused.json()["error"]
    assert error["predicted_wait_s"] == 2.5
    assert error["code"] == kind.code
