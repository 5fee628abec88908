"""Traces: which requests have one, what lies in it, how it goes on elsewhere, where it is sent."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import numpy as np
import pytest
from ray._common.formatters import JSONFormatter

from deployments.config.settings import Limits
from deployments.config.telemetry.telemetry_settings import TelemetrySettings
from deployments.stages.clients import RemoteLM, RemoteTokenizer, RemoteVocoder
from deployments.telemetry.logs import TRACE_IDS
from deployments.telemetry.tracing import exporting
from deployments.telemetry.tracing.answers import AnswerSpans
from deployments.telemetry.tracing.exporting import Exporter
from deployments.telemetry.tracing.tracer import Tracer, check_exporter
from deployments.telemetry.transfers import stamped
from pipeline.contracts import ReferenceClip, Sampling, SpeechChunk, SpeechRequest, TokenChunk
from pipeline.errors import SetupError, StageError
from pipeline.serving.tracing import UNTRACED, Sent, Span, Trace, here, inside, now_ns
from tests.fakes import FakeHandle, voice_prompt
from tests.http_app import HttpApp, running
from tests.otlp import SeenSpan, collecting
from tests.talk import talk
from tests.unit.deployments.stages.remote import Uncounted

pytestmark = pytest.mark.unit

STRANGERS = "00-" + "5" * 32 + "-" + "6" * 16 + "-01"
CLIP = ReferenceClip(np.zeros(100, np.float32), 16_000, "0" * 64)


def tracing(**settings: Any) -> tuple[Tracer, list[Span]]:
    spans: list[Span] = []
    return Tracer(TelemetrySettings(**settings), spans.append), spans


def names(spans: Sequence[Span | SeenSpan]) -> list[str]:
    return [span.name for span in spans]


def breaking(trace: Trace) -> None:
    with trace.span("voice", tier="l1") as voice:
        decode = voice.began("decode", bytes=4)
        decode.ended(at_ns=decode.began_ns + 5)
        raise StageError("it broke")


def test_spans_reach_a_collector_as_they_were() -> None:
    with collecting() as collector:
        exporter = Exporter(collector.endpoint, "llm")
        tracer = Tracer(TelemetrySettings(), exporter)
        root = tracer.begun("request", {}, request_id="me")
        with pytest.raises(StageError, match="it broke"):
            breaking(root)
        root.ended(status=200)
        exporter.close()
        (spans,) = collector.traces().values()
    request, voice_span, decode = spans
    assert names(spans) == ["request", "voice", "decode"]
    assert {span.service for span in spans} == {"timbre-llm"}
    assert request.trace_id == root.hex_id
    assert (request.parent_id, voice_span.parent_id) == ("", request.span_id)
    assert decode.parent_id == voice_span.span_id
    assert request.attributes == {"request_id": "me", "status": 200}
    assert (decode.attributes, decode.ended_ns - decode.began_ns) == ({"bytes": 4}, 5)
    assert [span.is_error for span in spans] == [False, True, False]


def test_what_begins_a_trace_is_listed_as_a_services_work() -> None:
    with collecting() as collector:
        exporter = Exporter(collector.endpoint, "router")
        tracer = Tracer(TelemetrySettings(), exporter)
        for name in ("request", "sentence", "segment"):
            with tracer.traced(name) as trace:
                trace.noted("voice", now_ns())
        exporter.close()
        seen = [span for spans in collector.traces().values() for span in spans]
    entries = {span.name for span in seen if span.is_entry}
    assert entries == {"request", "sentence", "segment"}


def test_a_collector_that_is_away_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "SEND_TIMEOUT_S", 0.2)
    exporter = Exporter("http://127.0.0.1:9/v1/traces", "router")
    tracer = Tracer(TelemetrySettings(), exporter)
    began_s = time.perf_counter()
    for _ in range(1_000):
        tracer.begun("request", {}).ended()
    assert time.perf_counter() - began_s < 0.5
    exporter.close()


def test_a_share_of_requests_is_traced_and_no_stranger_chooses_his() -> None:
    none, _ = tracing(sampled_share=0)
    assert not none.begun("request", {"traceparent": STRANGERS})
    every, _ = tracing()
    assert every.begun("request", {"traceparent": STRANGERS}).hex_id != "5" * 32
    assert not Tracer.of(TelemetrySettings(), "router").begun("request", {})


def test_a_known_callers_trace_goes_on_as_it_says() -> None:
    following, spans = tracing(sampled_share=0, follows_callers=True)
    following.begun("request", {"traceparent": STRANGERS}).ended()
    (span,) = spans
    assert (span.trace_id, span.parent_id) == (int("5" * 32, 16), int("6" * 16, 16))
    assert not following.begun("request", {"traceparent": STRANGERS[:-1] + "0"})
    for wrong in ("", "00-1-2-01", STRANGERS.replace("5", "0"), STRANGERS + "-x", "x" * 10_000):
        assert not following.begun("request", {"traceparent": wrong})


def test_without_the_exporter_it_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    check_exporter(TelemetrySettings())
    with pytest.raises(SetupError, match=r"timbre\[tracing\]"):
        check_exporter(TelemetrySettings(otlp_endpoint="http://collector:4318/v1/traces"))


class Replica:
    """Keeps what it was called with."""

    def __init__(self) -> None:
        self.asked: tuple[Any, ...] = ()

    async def speak_aloud(self, *asked: object) -> AsyncGenerator[object]:
        self.asked = asked
        yield stamped(SpeechChunk(np.ones(2400, np.float32), last=True))

    async def stream_aloud(self, *asked: object) -> AsyncGenerator[object]:
        self.asked = asked
        yield stamped(TokenChunk(np.array([0, 0, 1024, 1024, 1024], np.int32), last=True))

    async def encode_aloud(self, *asked: object) -> AsyncGenerator[object]:
        self.asked = asked
        yield stamped(voice_prompt())


@pytest.mark.parametrize("is_traced", [True, False])
async def test_stages_are_told_of_a_trace_and_of_nothing_where_there_is_none(
    is_traced: bool,
) -> None:
    tracer, spans = tracing(sampled_share=float(is_traced))
    replica = Replica()
    handle: Any = FakeHandle(replica)
    counts: Any = Uncounted()
    trace = tracer.begun("request", {})
    with inside(trace):
        vocoder = RemoteVocoder(handle, Limits(), counts)
        _ = [chunk async for chunk in vocoder.speak(SpeechRequest("a", "b"), voice_prompt())]
        told = [replica.asked[0].terms.trace]
        await RemoteTokenizer(handle, Limits(), counts).encode(CLIP)
        told += replica.asked[1:]
        lm = RemoteLM(handle, Limits(), counts).of("", trace=trace)
        _ = [chunk async for chunk in lm.stream(np.zeros(3, np.int32), Sampling())]
        told += replica.asked[5:]
    if not is_traced:
        assert (told, spans) == ([""], [])
        return
    assert len(told) == 3
    for text in told:
        followed = tracer.followed(text)
        assert (followed.trace_id, followed.span_id) == (trace.trace_id, trace.span_id)
    assert names(spans) == ["way"] * 5  # two answers' and, as they are read here, three requests'


def test_what_is_no_span_of_ours_is_not_followed() -> None:
    tracer, spans = tracing()
    unsampled = STRANGERS[:-1] + "0;1"
    for text in (None, "", STRANGERS, STRANGERS + ";", STRANGERS + ";x", "00;1", unsampled):
        assert tracer.followed(text) is UNTRACED
    assert Sent.read(STRANGERS + ";12") is not None
    assert spans == []


def test_an_answer_has_its_queue_and_first_token_from_what_it_took() -> None:
    tracer, spans = tracing()
    answer = AnswerSpans(tracer.begun("request", {}))
    time.sleep(0.02)
    ids = np.zeros(5, np.int32)
    answer.came(TokenChunk(ids, last=False, work_s=0.005))
    answer.came(TokenChunk(ids, last=True, work_s=0.01))
    answer.ended(GeneratorExit())
    queue, first, llm = spans
    assert names(spans) == ["queue", "llm first token", "llm"]
    assert queue.began_ns == llm.began_ns
    assert queue.ended_ns == first.began_ns
    assert (first.ended_ns - first.began_ns) / 1e9 == pytest.approx(0.005, abs=0.004)
    assert (llm.attributes, llm.error) == ({"tokens": 10}, "")


async def test_a_request_is_one_trace_from_its_head_to_its_last_byte() -> None:
    tracer, spans = tracing()
    async with running(HttpApp(tracer=tracer)) as app:
        reply = await app.speak_as({"x-request-id": "me"}, input="Hello.", voice="aria")
        assert reply.status_code == 200
        assert (await app.http.get("/healthz")).status_code == 200
    (root,) = [span for span in spans if span.name == "request"]
    assert len({span.trace_id for span in spans}) == 1
    assert {"body", "text", "quota", "voice", "look up", "decode", "encode", "codec"} < set(
        names(spans)
    )
    assert root.attributes["request_id"] == "me"
    assert root.attributes["status"] == 200
    assert all(span.began_ns >= root.began_ns for span in spans)
    assert root.ended_ns == max(span.ended_ns for span in spans)


async def test_a_refusal_is_traced_with_its_status_and_a_sentence_by_itself() -> None:
    tracer, spans = tracing()
    async with running(HttpApp(tracer=tracer)) as app:
        assert (await app.speak(input="")).status_code == 422
        assert spans[-1].attributes["status"] == 422
        spans.clear()
        async with talk(app.app) as session:
            session.configure()
            session.say("input.text", text="One two.")
            session.say("input.done")
            await session.until("session.done")
    assert [span.name for span in spans if not span.parent_id] == ["sentence"]


def test_json_logs_have_the_traces_id_within_it_alone() -> None:
    record = logging.LogRecord("deployments", logging.INFO, "x.py", 1, "said", None, None)
    tracer, _ = tracing()
    trace = tracer.begun("request", {})
    assert TRACE_IDS.filter(record)
    assert "trace_id" not in JSONFormatter().format(record)
    with inside(trace):
        assert TRACE_IDS.filter(record)
    assert f'"trace_id": "{trace.hex_id}"' in JSONFormatter().format(record)


def test_where_nothing_is_traced_nothing_is_kept() -> None:
    with here().span("voice", tier="l1") as span:
        span.told(tier="l2")
        span.noted("decode", now_ns())
        assert span is here() is UNTRACED
    assert UNTRACED.attributes == {}
    assert UNTRACED.sent() == UNTRACED.hex_id == ""
    assert not Trace()
