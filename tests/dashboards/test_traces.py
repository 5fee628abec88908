"""One trace a request, through every process, that says where nearly all of its time went."""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path

import pytest

from tests.dashboards.conftest import Watched
from tests.dashboards.load import LONG
from tests.otlp import SeenSpan, coverage
from tests.serve.service_client import body, clip_of_its_own, cloned

pytestmark = pytest.mark.dashboards

SPANS = {
    "request", "body", "voice", "decode", "encode", "queue", "encoder", "prompt", "way", "vocoder",
    "llm", "llm first token", "voice state", "flow", "hift", "mark", "codec",
}  # fmt: skip
SERVICES = {"timbre-router", "timbre-tokenizer", "timbre-vocoder", "timbre-llm"}
LEAST_COVERED = 0.95
SENT_S = 8.0  # spans are sent every five seconds
REQUESTS = 5


def test_a_trace_covers_a_request_in_order_through_all_processes(watched: Watched) -> None:
    shares = []
    for _ in range(REQUESTS):
        asked = cloned(*clip_of_its_own(), input=LONG, cache="off", response_format="mp3")
        spans = _traced(watched, asked)
        (root,) = [span for span in spans if span.name == "request"]
        assert {span.name for span in spans} >= SPANS
        assert {span.service for span in spans} == SERVICES
        assert len({span.pid for span in spans}) == len(SERVICES)
        _check_order(spans, root)
        shares.append(coverage(spans, root))
    assert statistics.median(shares) >= LEAST_COVERED, shares


def test_speech_that_is_kept_is_traced_with_what_had_it(watched: Watched) -> None:
    asked = body(input="What is kept.", seed=77)
    made, kept = (_traced(watched, asked) for _ in range(2))
    assert {"flow", "llm"} <= {span.name for span in made}
    assert {"flow", "llm"}.isdisjoint(span.name for span in kept)
    (speech,) = [span for span in kept if span.name == "kept speech"]
    assert speech.attributes["source"] == "l1"


def test_sentences_of_sessions_have_traces_of_their_own(watched: Watched) -> None:
    roots = [spans[0] for spans in watched.collector.traces().values()]
    sentences = [root for root in roots if root.name == "sentence"]
    assert sentences
    assert all("request_id" in root.attributes for root in sentences)


def test_a_slow_reply_is_in_the_json_log_with_its_ids(watched: Watched) -> None:
    asked = body(input=LONG, cache="off", response_format="mp3")
    root = _traced(watched, asked)[0]
    logs = {file.path for file in watched.client.replica("Router").open_files()}
    lines = [line for log in logs if log.endswith(".log") for line in _lines(log)]
    told = [json.loads(line) for line in lines if "slow speech" in line]
    (slow,) = [one for one in told if one.get("trace_id") == root.trace_id]
    assert slow["request_id"] == root.attributes["request_id"]
    assert " rest=" in slow["message"]


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()


def _traced(watched: Watched, asked: dict) -> list[SeenSpan]:
    before = set(watched.collector.traces())
    reply = watched.client.http.post("/v1/audio/speech", json=asked, headers=watched.speaker)
    assert reply.status_code == 200, reply.text
    time.sleep(SENT_S)  # of each process
    traces = watched.collector.traces()
    (new,) = [spans for name, spans in traces.items() if name not in before]
    return new


def _check_order(spans: list[SeenSpan], root: SeenSpan) -> None:
    """Every span lies in the one above it, and stages begin one after the other."""
    by_id = {span.span_id: span for span in spans}
    slack_ns = 5_000_000
    for span in spans:
        if span is root:
            continue
        above = by_id[span.parent_id]
        assert span.began_ns >= above.began_ns - slack_ns, span.name
        assert span.ended_ns <= root.ended_ns + slack_ns, span.name
    firsts = [
        next(span.began_ns for span in spans if span.name == name)
        for name in ("request", "voice", "encode", "encoder", "vocoder", "llm", "flow", "hift")
    ]
    assert firsts == sorted(firsts)
