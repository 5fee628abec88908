"""Answers and results as a run would have them, made up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deployments.telemetry.processes import MIB, ProcessUse
from load_tests.load.answers import Answer, Ear
from load_tests.load.measures import Spent
from load_tests.load.plan import plan_of
from load_tests.load.results import Document, document
from load_tests.load.watch import Sample
from load_tests.load.workload import Workload, workloads
from tests.unit.load_tests.load.servers import call

SECOND_BYTES = 48_000
HIT = {"X-Cache": "l1", "Server-Timing": 'tokenizer;dur=2.0;desc="l1", llm;dur=100, vocoder;dur=50'}
MISS = {
    "X-Cache": "miss",
    "Server-Timing": 'tokenizer;dur=400.0;desc="miss", llm;dur=100, vocoder;dur=50',
}
ABOUT: Mapping[str, Any] = {
    "device": "A processor",
    "cpus": 2,
    "commit": "abc1234",
    "command": "python -m load_tests.load some http://127.0.0.1:8000",
    "date": "2026-11-27T10:00:00+00:00",
    "dirty": False,
    "python": "3.11",
    "torch": "2.13",
    "memory_bytes": 2**33,
    "conditions": "",
}


def ok(
    number: int = 0,
    at_s: float = 0.0,
    first_s: float = 0.3,
    *,
    pieces: Sequence[tuple[float, float]] = ((0.0, 2.0),),
    headers: Mapping[str, str] = HIT,
) -> Answer:
    """An answer with audio. pieces: seconds after the first byte, and seconds of audio."""
    ear = Ear(call(number), at_s, at_s)
    ear.replied(200, {"X-Request-Id": f"r-{number}", **headers})
    for after_s, audio_s in pieces:
        ear.heard(int(audio_s * SECOND_BYTES), at_s + first_s + after_s)
    return ear.ended(at_s + first_s + pieces[-1][0] + 0.5)


def refused(number: int = 0, at_s: float = 0.0, retry_after: str | None = "2") -> Answer:
    ear = Ear(call(number), at_s, at_s)
    ear.replied(503, {} if retry_after is None else {"Retry-After": retry_after})
    return ear.ended(at_s + 0.01)


def failed(number: int = 0, at_s: float = 0.0, fault: str = "cut off") -> Answer:
    return Ear(call(number), at_s, at_s).failed(fault, at_s + 1.0)


def use(private_bytes: int, pid: int = 7, name: str = "ray::ServeReplica:timbre:LLM") -> ProcessUse:
    """What a process takes."""
    return ProcessUse(pid, name, private_bytes, 3 * MIB, 2 * MIB, 0, 40, 20)


def result(
    name: str = "hot_voice", answers: Sequence[Answer] | None = None, **about: Any
) -> Document:
    """A result of a named workload, of twenty good answers if nothing else is said."""
    workload: Workload = workloads()[name].scaled(0.05, None)
    plan = plan_of(workload)
    lasts_s = max(plan.lasts_s, 10.0)
    if answers is None:
        times = [lasts_s * i / 20 for i in range(20)]
        answers = [ok(i, at_s, headers=MISS if i == 0 else HIT) for i, at_s in enumerate(times)]
    samples = [
        Sample(
            lasts_s * i / 12, 0.5 * i, [use((512 + i) * MIB), *([use(5 * MIB, 8)] if i > 6 else [])]
        )
        for i in range(12)
    ]
    told = [
        {
            "number": one.number,
            "cache": one.cache,
            "tokenizer_s": one.stages_s["tokenizer"],
            "llm_s": 0.2,
            "vocoder_s": 0.1,
            "total_s": one.whole_s,
            "audio_s": one.audio_s,
        }
        for one in answers
        if one.stages_s
    ]
    return document(
        plan,
        answers,
        samples,
        Spent(6.0, 15.0, None),
        lasts_s,
        {**ABOUT, **about},
        warm_ups={"calls": 0, "failed": 0},
        job=None,
        told=told,
    )
