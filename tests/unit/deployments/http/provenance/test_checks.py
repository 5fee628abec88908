"""`POST /v1/content_provenance_checks`: what it finds, in the shape that OpenAI's client reads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from openai.types import ContentProvenanceCheck

from deployments.marks.checks import check
from deployments.marks.search import MarkSearch
from pipeline.audio.encode import make_encoder, whole_wav
from pipeline.contracts import OUTPUT_SAMPLE_RATE_HZ, Int16Array
from pipeline.errors import CapacityError, UndecodableAudioError
from pipeline.marks.finding import Finding, Heard
from tests.http_app import HttpApp, error_of, http_app
from tests.marked import MarkedSpeaker, answer, clip
from tests.signers import write_chain

pytestmark = pytest.mark.unit
CHECKS = "/v1/content_provenance_checks"


def file(samples: np.ndarray, audio_format: str = "mp3") -> bytes:
    encoder = make_encoder(audio_format)
    stream = encoder.encode(samples) + encoder.finish()
    return whole_wav(stream, OUTPUT_SAMPLE_RATE_HZ) if audio_format == "wav" else stream


@pytest.fixture(scope="module")
def marked() -> bytes:
    return file(np.concatenate(answer(is_marked=True)))


@pytest.fixture
async def app() -> AsyncIterator[HttpApp]:
    async with http_app() as made:
        yield made


async def checked(app: HttpApp, content: bytes) -> dict[str, Any]:
    reply = await app.http.post(CHECKS, files={"file": ("some.bin", content)})
    assert reply.status_code == httpx.codes.OK, reply.text
    report = reply.json()
    assert report["object"] == "content_provenance_check"
    return {one["type"]: one for one in report["results"]}


async def test_marked_and_unmarked_files(app: HttpApp, marked: bytes) -> None:
    found = await checked(app, marked)
    assert found["watermark"]["outcome"] == "detected"
    assert found["watermark"]["marked_s"] == pytest.approx(2.4, abs=0.1)
    assert found["c2pa"]["validation_state"] == "not_present"
    found = await checked(app, file(clip(), "opus"))
    assert found["watermark"]["outcome"] == "not_detected"
    assert "c2pa" not in found  # ogg holds none


async def test_openais_client_reads_it(app: HttpApp, marked: bytes) -> None:
    reply = await app.http.post(CHECKS, files={"file": ("a.mp3", marked)})
    read = ContentProvenanceCheck.construct(**reply.json())
    assert read.object == "content_provenance_check"
    assert [one.outcome for one in read.results] == ["detected", "not_detected"]


async def test_only_the_beginning_is_listened_to(marked: bytes) -> None:
    async with http_app(marks={"max_check_s": 1.0}) as app:
        found = await checked(app, marked)
    assert found["watermark"]["checked_s"] == 1.0
    assert found["watermark"]["outcome"] == "detected"


async def test_silence_is_not_marked(app: HttpApp) -> None:
    found = await checked(app, file(np.zeros(24_000, np.float32), "wav"))
    assert found["watermark"]["outcome"] == "not_detected"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({"files": {"file": ("a.mp3", b"no audio at all, but some words")}}, 415),
        ({"files": {"file": ("a.png", b"\x89PNG\r\n\x1a\n")}}, 415),
        ({"files": {"file": ("a.wav", b"")}}, 415),
        ({"files": {"picture": ("a.wav", b"RIFF")}}, 400),
        ({"content": b"", "headers": {"content-type": "multipart/form-data; boundary=x"}}, 400),
        ({"json": ["file"]}, 400),
        ({"files": {"file": ("a.wav", file(np.zeros(1_000, np.float32), "wav"))}}, 422),
    ],
    ids=["words", "picture", "empty", "no file", "no form", "json", "short"],
)
async def test_what_is_no_audio_is_refused(sent: Any, status: int, app: HttpApp) -> None:
    reply = await app.http.post(CHECKS, **sent)
    assert reply.status_code == status, reply.text
    assert error_of(reply)["message"]


async def test_no_more_files_at_a_time_than_set(app: HttpApp, marked: bytes) -> None:
    search = MarkSearch(app.settings.marks.model_copy(update={"max_checks": 1}))
    samples = np.zeros(24_000, np.int16)
    search._asked = 1
    with pytest.raises(CapacityError):
        await search.find(samples)
    search._asked = 0
    await search.find(samples)
    assert search._asked == 0


class NoFinder:
    """Hears nothing."""

    async def find(self, samples: Int16Array) -> Finding:
        return Finding((Heard(0.0, len(samples) / OUTPUT_SAMPLE_RATE_HZ, 0.1),))


@pytest.fixture
async def signing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HttpApp]:
    chain, key = write_chain(tmp_path)
    monkeypatch.setattr("tests.http_app.TellingSpeaker", MarkedSpeaker)
    marks = {"c2pa_certificate": str(chain), "c2pa_key": str(key)}
    async with http_app(is_telling=True, marks=marks) as made:
        yield made


@pytest.mark.parametrize("audio_format", ["wav", "mp3", "flac"])
async def test_whole_files_are_signed(audio_format: str, signing: HttpApp) -> None:
    reply = await signing.speak(stream=False, response_format=audio_format)
    assert reply.headers["X-Provenance"] == "synthetic, watermark=resemble-perth, c2pa"
    found = await check(reply.content, NoFinder(), 60.0)
    assert found.told is not None
    assert found.told["validation_state"] == "valid"
    assert found.told["issuer"] == "timbre tests"
    assert found.is_synthetic
    damaged = bytearray(reply.content)
    damaged[len(damaged) // 2] ^= 1
    try:
        spoiled = await check(bytes(damaged), NoFinder(), 60.0)
    except UndecodableAudioError:  # flac sums its frames itself
        assert audio_format == "flac"
        return
    assert spoiled.told is not None
    assert spoiled.told["validation_state"] == "invalid"
    assert not spoiled.is_synthetic


@pytest.mark.parametrize(
    "fields",
    [
        {"stream": False, "response_format": "opus"},
        {"stream": False, "response_format": "pcm"},
        {"response_format": "mp3"},
        {"response_format": "wav", "stream_format": "sse"},
    ],
    ids=["opus", "pcm", "streamed", "events"],
)
async def test_what_holds_no_credentials_says_none(fields: Any, signing: HttpApp) -> None:
    reply = await signing.speak(**fields)
    assert reply.headers["X-Provenance"] == "synthetic, watermark=resemble-perth"
    assert b"c2pa" not in reply.content


async def test_speech_of_a_signed_reply_is_kept_unsigned(signing: HttpApp) -> None:
    """Signatures differ; what is signed is the same."""
    whole = [await signing.speak(stream=False, response_format="wav") for _ in range(2)]
    assert whole[0].content != whole[1].content
    streamed = [await signing.speak(response_format="pcm") for _ in range(2)]
    assert streamed[0].content == streamed[1].content
    assert streamed[0].content in whole[0].content
