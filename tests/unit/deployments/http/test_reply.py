"""One reply over plain ASGI: what is a status, what ends a stream, and what the log holds."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from deployments.http import reply as reply_module
from deployments.http.dialects.parsed_request import ParsedRequest
from deployments.http.edge import Edge
from deployments.http.ingress import add_error_handlers
from deployments.http.reply import SpeechReply
from deployments.telemetry.outcomes import Outcome
from pipeline.audio.encode import wav_header
from pipeline.contracts import SpeechChunk, SpeechRequest, StageTimes, Usage, VoicePrompt
from pipeline.errors import (
    AudioError,
    CapacityError,
    StageError,
    StageTimeoutError,
    StageUnavailableError,
    TextError,
    TimbreError,
    TooLargeError,
)
from tests.fakes import FakeVoices

pytestmark = pytest.mark.unit

REQUEST = SpeechRequest("Hello.", "Hi.")
TIMES = StageTimes(llm_s=0.1, llm_work_s=0.4, vocoder_s=0.2)
CHUNK = np.full(2400, 0.25, np.float32)
INSIDE = "/srv/models at 10.0.0.7"
Event = float | Exception


class Synthesizer:
    """Speaks a script: a number is a chunk at that level, an error is raised."""

    def __init__(self, *script: Event) -> None:
        self.script = script
        self.is_open = False

    async def speak(
        self, request: SpeechRequest, voice: VoicePrompt
    ) -> AsyncGenerator[SpeechChunk]:
        del request, voice
        self.is_open = True
        try:
            for index, event in enumerate(self.script):
                if isinstance(event, Exception):
                    raise event
                last = index == len(self.script) - 1
                yield SpeechChunk(CHUNK * event, last, TIMES, usage=Usage(9, 5 * index))
        finally:
            self.is_open = False


class Metrics:
    def __init__(self) -> None:
        self.outcomes: list[str] = []

    @contextmanager
    def running(self) -> Iterator[Callable[[], None]]:
        yield lambda: None

    def is_slow(self, times: StageTimes) -> bool:
        del times
        return False

    def finished(
        self, times: object, continuity: object, outcome: str, quality: object, answers: object
    ) -> None:
        del times, continuity, quality, answers
        self.outcomes.append(outcome)


class Service:
    """A router that speaks whatever it is asked as its speaker does."""

    def __init__(self, *script: Event) -> None:
        self.synthesizer, self.metrics = Synthesizer(*script), Metrics()
        self.app = FastAPI()
        self.app.add_middleware(Edge, max_body_bytes=1000)
        add_error_handlers(self.app)
        self.app.post("/speak")(self._speak)

        self.outcomes: list[Outcome] = []

    async def _speak(
        self, request: Request, audio_format: str, is_sse: bool, is_whole: bool
    ) -> Response:
        parsed = ParsedRequest(
            None, "ref_audio", "aria", REQUEST, audio_format, is_sse, is_whole=is_whole
        )
        request_id = request.state.request_id
        parts: Any = (
            FakeVoices(),
            self.synthesizer,
            self.metrics,
            request_id,
            self.outcomes.append,
        )
        return await SpeechReply(parsed, *parts).start()

    async def ask(
        self, audio_format: str = "pcm", *, is_sse: bool = False, is_whole: bool = False
    ) -> httpx.Response:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://router") as client:
            return await client.post(
                "/speak",
                params={"audio_format": audio_format, "is_sse": is_sse, "is_whole": is_whole},
                headers={"x-request-id": "caller-7"},
            )


def events_of(reply: httpx.Response) -> list[dict[str, Any]]:
    assert reply.headers["content-type"].startswith("text/event-stream")
    blocks = reply.text.strip().split("\n\n")
    events = [json.loads(block.split("\n")[1].removeprefix("data: ")) for block in blocks]
    assert [block.split("\n")[0] for block in blocks] == [f"event: {e['type']}" for e in events]
    return events


@pytest.mark.parametrize("audio_format", ["pcm", "wav", "mp3", "opus", "aac", "flac"])
async def test_events_hold_the_bytes_of_the_plain_reply(audio_format: str) -> None:
    plain = await Service(1, 0.5, 0.25).ask(audio_format)
    events = events_of(await Service(1, 0.5, 0.25).ask(audio_format, is_sse=True))
    assert plain.content
    audio = b"".join(base64.b64decode(event["audio"]) for event in events[:-1])
    assert audio == plain.content
    assert events[-1]["type"] == "speech.audio.done"
    assert events[-1]["timbre"]["audio_s"] == pytest.approx(0.3)
    assert plain.headers["x-cache"] == "l1"


BEFORE: list[tuple[Exception, int, str]] = [
    (AudioError("not a clip"), 422, "refused"),
    (TextError("nothing to say", param="input"), 422, "refused"),
    (TooLargeError("too long a clip"), 413, "refused"),
    (CapacityError("full"), 503, "refused"),
    (StageError("the LLM failed", detail=INSIDE), 500, "error"),
    (StageUnavailableError("gone"), 503, "error"),
    (StageTimeoutError("late"), 504, "error"),
    (ZeroDivisionError(INSIDE), 500, "error"),
]


@pytest.mark.parametrize("is_sse", [False, True], ids=["plain", "events"])
@pytest.mark.parametrize(
    ("error", "status", "outcome"), BEFORE, ids=[type(row[0]).__name__ for row in BEFORE]
)
async def test_a_fault_before_the_first_byte_is_a_status(
    error: Exception, status: int, outcome: str, is_sse: bool
) -> None:
    service = Service(error)
    reply = await service.ask("wav", is_sse=is_sse)
    assert reply.status_code == status
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
    assert INSIDE not in reply.text
    assert service.metrics.outcomes == [outcome]
    assert not service.synthesizer.is_open


@pytest.mark.parametrize("is_whole", [False, True], ids=["as made", "whole"])
@pytest.mark.parametrize(
    ("error", "outcome"),
    [(error, outcome) for error, _, outcome in BEFORE],
    ids=[type(row[0]).__name__ for row in BEFORE],
)
async def test_a_fault_before_a_sessions_first_audio_counts_the_same(
    error: Exception, outcome: str, is_whole: bool
) -> None:
    parsed = ParsedRequest(
        None, "ref_audio", "aria", REQUEST, "pcm", is_sse=False, is_whole=is_whole
    )
    metrics = Metrics()
    parts: Any = (FakeVoices(), Synthesizer(error), metrics, "id")
    with pytest.raises(type(error)):
        async with aclosing(SpeechReply(parsed, *parts).frames()) as frames:
            await anext(frames)
    assert metrics.outcomes == [outcome]


async def test_a_fault_about_the_clip_names_its_field() -> None:
    for error in (AudioError("x"), TooLargeError("x")):
        assert (await Service(error).ask()).json()["error"]["param"] == "ref_audio"
    first_chunk = TooLargeError("x", param="initial_codec_chunk_frames")
    reply = await Service(first_chunk).ask()
    assert reply.json()["error"]["param"] == "initial_codec_chunk_frames"


async def test_no_audio_at_all_is_a_status_and_not_an_empty_file() -> None:
    class Silent(Synthesizer):
        async def speak(self, *_: object) -> AsyncGenerator[SpeechChunk]:
            yield SpeechChunk(CHUNK[:0], True)

    service = Service()
    service.synthesizer = Silent()
    reply = await service.ask("wav")
    assert reply.status_code == 500
    assert "no audio" in reply.json()["error"]["message"]


AFTER: list[tuple[Exception, str]] = [
    (StageError("the vocoder failed", detail=INSIDE), "stage_failed"),
    (StageUnavailableError("the vocoder's replica went away"), "stage_unavailable"),
    (StageTimeoutError("the LLM did not answer in time"), "stage_timeout"),
    (CapacityError("full"), "overloaded"),
    (ZeroDivisionError(INSIDE), "internal_error"),
]


@pytest.mark.parametrize(("error", "code"), AFTER, ids=[row[1] for row in AFTER])
async def test_a_fault_after_the_first_event_is_the_last_event(
    error: Exception, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service(1, 1, error)
    with caplog.at_level(logging.INFO):
        reply = await service.ask(is_sse=True)
    *heard, told = events_of(reply)
    assert [event["type"] for event in heard] == ["speech.audio.delta"] * 2
    assert told["type"] == "speech.audio.error"
    assert told["error"] == {
        "message": told["error"]["message"],
        "type": "server_error",
        "param": None,
        "code": code,
        "partial_audio": True,
    }
    assert INSIDE not in reply.text
    if isinstance(error, TimbreError):
        assert error.message in told["error"]["message"]
    assert service.metrics.outcomes == ["error"]
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "speech caller-7 error" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is error


async def test_a_caller_at_fault_after_the_first_event_is_told_so() -> None:
    service = Service(1, TextError("cannot go on", param="input"))
    *_, told = events_of(await service.ask(is_sse=True))
    assert told["error"]["type"] == "invalid_request_error"
    assert told["error"]["param"] == "input"
    assert service.metrics.outcomes == ["refused"]


@pytest.mark.parametrize("audio_format", ["pcm", "wav", "mp3"])
async def test_a_fault_after_the_first_byte_cuts_plain_audio(
    audio_format: str, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service(1, 1, 1, StageError("the vocoder failed", detail=INSIDE))
    with caplog.at_level(logging.INFO):
        with pytest.raises((StageError, RuntimeError)):
            await service.ask(audio_format)
    assert service.metrics.outcomes == ["error"]
    assert "speech caller-7 error" in caplog.text
    assert INSIDE in caplog.text
    assert not service.synthesizer.is_open


@pytest.mark.parametrize("audio_format", ["wav", "mp3", "pcm"])
async def test_a_fault_of_a_reply_that_is_not_streamed_is_a_status(audio_format: str) -> None:
    service = Service(1, 1, StageTimeoutError("late"))
    reply = await service.ask(audio_format, is_whole=True)
    assert reply.status_code == 504
    assert not service.synthesizer.is_open
    assert [outcome.outcome for outcome in service.outcomes] == ["error"]


async def test_a_whole_reply_knows_what_it_took() -> None:
    service = Service(1, 1, 1)
    reply = await service.ask("wav", is_whole=True)
    assert reply.content[:44] == wav_header(24_000, n_samples=3 * len(CHUNK))
    assert reply.headers["x-vllm-omni-input-tokens"] == "9"
    assert reply.headers["x-vllm-omni-output-tokens"] == "10"
    assert reply.headers["x-vllm-omni-total-tokens"] == "19"
    assert service.metrics.outcomes == ["ok"]


async def test_speech_that_is_known_whole_before_its_first_byte_has_its_length() -> None:
    reply = await Service(1).ask("wav")
    assert reply.content[:44] == wav_header(24_000, n_samples=len(CHUNK))
    assert "content-length" not in reply.headers, "chunked, as every reply that may be streamed"
    assert (await Service(1, 1).ask("wav")).content[:44] == wav_header(24_000, n_samples=None)
    assert events_of(await Service(1).ask("wav", is_sse=True))[-1]["usage"]["total_tokens"] == 9


async def test_the_first_bytes_of_what_is_at_hand_go_by_themselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reply_module, "HAND_OVER_S", 0.1)
    service = Service(1, 1, 1)
    parsed = ParsedRequest(None, "ref_audio", "aria", REQUEST, "pcm", is_sse=False)
    parts: Any = (FakeVoices(), service.synthesizer, service.metrics, "caller-9")
    reply = await SpeechReply(parsed, *parts).start()
    assert isinstance(reply, StreamingResponse)
    first_s, second_s, third_s = [time.perf_counter() async for _ in reply.body_iterator]
    assert second_s - first_s >= 0.1, "another thread sends them meanwhile"
    assert third_s - second_s < 0.1


@pytest.mark.parametrize("is_sse", [False, True], ids=["plain", "events"])
async def test_how_a_stream_broke_off_is_told(is_sse: bool) -> None:
    service = Service(1, 1, StageError("the vocoder failed", detail=INSIDE))
    try:
        await service.ask("pcm", is_sse=is_sse)
    except (StageError, RuntimeError):
        assert not is_sse
    [told] = [outcome.report() for outcome in service.outcomes]
    assert (told["request_id"], told["finish_reason"]) == ("caller-7", "error")
    assert told["error"]["code"] == "stage_failed"
    assert INSIDE not in str(told)
    assert told["usage"]["output_tokens"] == 5
    assert told["timbre"]["audio_s"] == pytest.approx(0.2)


@pytest.mark.parametrize("is_sse", [False, True], ids=["plain", "events"])
async def test_a_client_that_leaves_ends_everything(is_sse: bool) -> None:
    service = Service(1, 1, 1, 1)
    parsed = ParsedRequest(None, "ref_audio", "aria", REQUEST, "mp3", is_sse)
    parts: Any = (FakeVoices(), service.synthesizer, service.metrics, "caller-8")
    reply = await SpeechReply(parsed, *parts).start()

    is_sending = asyncio.Event()

    async def sends(_message: object) -> None:
        is_sending.set()
        await asyncio.Event().wait()

    async def receives() -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    scope = {"type": "http", "asgi": {"spec_version": "2.4"}}
    serving = asyncio.create_task(reply(scope, receives, sends))
    await is_sending.wait()
    serving.cancel()
    await asyncio.wait([serving])
    assert service.metrics.outcomes == ["cancelled"]
    assert not service.synthesizer.is_open
