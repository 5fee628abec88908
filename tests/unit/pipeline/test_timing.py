"""One record of stage times, and one way that it reads wherever it is shown."""

from __future__ import annotations

import re
from dataclasses import fields

import numpy as np
import pytest

from pipeline.contracts import NO_TIMES, SpeechChunk, StageTimes
from pipeline.timing import Timings, account_line, server_timing, stage_line, stage_report

pytestmark = pytest.mark.unit

TIMES = StageTimes(
    tokenizer_s=0.0031,
    tier="l7",
    llm_s=0.25,
    llm_work_s=1.5,
    vocoder_s=0.5,
    ttfa_s=0.4,
    total_s=1.0,
    audio_s=4.0,
)
NAMES = ["tokenizer", "llm", "llm_work", "vocoder", "ttfa", "total", "audio"]


def test_an_account_says_what_no_stage_was_at() -> None:
    times = StageTimes(tokenizer_s=0.5, llm_s=1.0, vocoder_s=2.0, total_s=5.0, audio_s=1.0)
    assert account_line(times) == f"{stage_line(times)} rest=1.500"
    assert account_line(StageTimes(llm_s=1.0)).endswith(" rest=0.000")


def test_the_line_tells_every_time_and_the_tier_by_its_own_name() -> None:
    assert stage_line(TIMES) == (
        "tokenizer=0.003 (l7) llm=0.250 llm_work=1.500 vocoder=0.500 ttfa=0.400 total=1.000 "
        "audio=4.000 rtf=0.25"
    )


def test_every_rendering_has_every_field() -> None:
    words = {"tier", "speech"}
    assert [f.name for f in fields(StageTimes) if f.name not in words] == [f"{n}_s" for n in NAMES]
    report = stage_report(TIMES)
    assert set(report) == {f.name for f in fields(StageTimes)} | {"rtf", "line"}
    assert report["line"] == stage_line(TIMES)
    entries = server_timing(TIMES).split(", ")
    assert entries[0] == 'tokenizer;dur=3.1;desc="l7"'
    assert entries[2] == "llm_work;dur=1500.0"
    assert [entry.split(";")[0] for entry in entries] == NAMES[:-1]
    assert all(re.fullmatch(r'[\w]+;dur=[\d.]+(;desc="\w+")?', entry) for entry in entries)


def test_stages_that_a_request_never_reached_are_left_out() -> None:
    assert NO_TIMES.stages == {}
    assert StageTimes(tier="l1", tokenizer_s=0.1).stages == {"tokenizer": 0.1}
    assert TIMES.stages == {"tokenizer": 0.0031, "llm": 0.25, "vocoder": 0.5}


@pytest.mark.usefixtures("virtual_time")
async def test_the_watch_puts_its_own_times_beside_those_of_the_stages() -> None:
    timings = Timings()
    timings.voice_resolved("l2", ("quiet",))
    silent, heard = np.zeros(0, np.float32), np.zeros(2400, np.float32)
    stages = StageTimes(llm_s=0.1, llm_work_s=0.3, vocoder_s=0.2)
    timings.audio_made(SpeechChunk(silent, last=False))
    assert timings.times().ttfa_s == 0
    timings.audio_made(SpeechChunk(heard, last=False, times=stages))
    first = timings.times()
    timings.audio_made(SpeechChunk(heard, last=True, times=stages))
    times = timings.times()
    assert (times.tier, times.llm_s, times.llm_work_s, times.vocoder_s) == ("l2", 0.1, 0.3, 0.2)
    assert times.ttfa_s == first.ttfa_s
    assert times.audio_s == pytest.approx(0.2)
    assert timings.warnings == ("quiet",)
