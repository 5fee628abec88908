"""A chain beside the cluster: tokens that come late, several parts in a row, what all cost."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cache_store.erasures import Watch
from deployments.edits import performance
from deployments.edits.account import Account
from deployments.edits.documents import EditStep
from deployments.edits.joints import Ends
from deployments.edits.performance import EditOrder, Performance
from deployments.edits.sources import Source
from pipeline.audio.joints import FADE_SAMPLES
from pipeline.contracts import (
    NOT_REUSED,
    Drawn,
    Mode,
    Quality,
    SpeechChunk,
    SpeechRequest,
    StageTimes,
    Usage,
    Verdict,
    VoiceReference,
)
from pipeline.errors import StageError
from pipeline.synthesis import ResolvedVoice
from tests.fakes import voice_prompt

pytestmark = pytest.mark.unit
STEPS = (
    EditStep(mode=Mode.DENOISE, seed=7),
    EditStep(mode=Mode.EMOTION, info="happy", seed=7),
)
DRAWN = Drawn(np.zeros(5, np.int16), frozenset())


class Speech:
    """A speech library whose answers lack their tokens the first `late` times."""

    def __init__(self, late: int = 0) -> None:
        self.late = late
        self.requests: list[tuple[SpeechRequest, Any]] = []

    def begin_watch(self) -> None:
        return None

    async def models_now(self, variant: str) -> str:
        return "m" + variant

    async def open(
        self, request: SpeechRequest, voice: Any, reuse: Any, *_: Any, keeps_any: bool
    ) -> AsyncGenerator[SpeechChunk]:
        assert keeps_any
        self.requests.append((request, reuse))
        return self._answer()

    async def _answer(self) -> AsyncGenerator[SpeechChunk]:
        self.late -= 1
        drawn = None if self.late >= 0 else DRAWN
        yield SpeechChunk(np.ones(2880, np.float32) / 2, last=True, drawn=drawn)


class OneSource:
    async def of_voice(
        self, namespace: str, name: str | None, words: str, *, needs_words: bool
    ) -> tuple[str, Source]:
        voice = ResolvedVoice(voice_prompt(), "l1", (), "hi")
        return "aria", Source(voice, "hi")


async def performed(speech: Speech, reuse: Any = None) -> Performance:
    order = EditOrder(STEPS, reuse=reuse)
    made = Performance(order, "shared", OneSource(), speech, None, Watch(), {"base"})  # type: ignore[arg-type]
    await made.resolve(VoiceReference(name="aria"))
    return made


@pytest.mark.usefixtures("virtual_time")
async def test_tokens_that_another_process_is_about_to_publish_are_waited_for() -> None:
    """And its answer is taken then, whatever the wish was: it is made anew once."""
    speech = Speech(late=3)
    made = await (await performed(speech, "refresh")).made()
    assert made.n_samples == 2880
    assert [reuse for _, reuse in speech.requests] == ["refresh", *["reuse"] * 3, "refresh"]
    assert speech.requests[-1][0].source is DRAWN


@pytest.mark.usefixtures("virtual_time")
async def test_tokens_that_never_come_are_an_error() -> None:
    speech = Speech(late=10_000)
    with pytest.raises(StageError, match="tokens"):
        await (await performed(speech)).made()
    assert len(speech.requests) == performance.TRIES


async def test_a_step_without_a_result_is_an_error() -> None:
    speech, empty = Speech(), Drawn(np.zeros(0, np.int16), frozenset())

    async def nothing() -> AsyncGenerator[SpeechChunk]:
        yield SpeechChunk(np.zeros(0, np.float32), last=True, drawn=empty)

    speech._answer = nothing  # type: ignore[method-assign]
    with pytest.raises(StageError, match="no audio"):
        await (await performed(speech)).made()


def chunk(source: str, *, last: bool = True, llm_s: float = 1.0) -> SpeechChunk:
    times = StageTimes(speech=source, llm_s=llm_s, llm_work_s=2.0, vocoder_s=3.0)
    return SpeechChunk(np.zeros(9, np.float32), last, times, Quality(), Usage(10, 5))


def test_costs_add_up_and_the_worst_verdict_counts() -> None:
    account = Account()
    account.ended(replace(chunk(NOT_REUSED), quality=Quality(Verdict.LOOP)))
    told = account.told(chunk("l1", last=False), is_end=True)
    assert (told.usage, told.quality.verdict) == (Usage(20, 10), Verdict.LOOP)
    assert (told.times.llm_s, told.times.vocoder_s) == (2.0, 6.0)
    assert told.times.speech == NOT_REUSED, "a stage was at work for it"
    whole = account.told(chunk("l1"), is_end=False)
    assert not whole.last
    assert account.told(chunk("l1"), is_end=True).last
    assert account.usage == Usage(30, 15)


@pytest.mark.parametrize("found", ["l1", "joined"])
def test_what_was_found_throughout_says_so(found: str) -> None:
    account = Account()
    account.ended(chunk("l2"))
    assert account.told(chunk(found), is_end=True).times.speech == found


@pytest.mark.parametrize("sizes", [[1, 2879], [2880], [100, 150, 2630], [2880, 0]])
@pytest.mark.parametrize(("at_start", "at_end"), [(False, False), (True, False), (True, True)])
def test_joints_are_faded_however_the_samples_come(
    sizes: list[int], at_start: bool, at_end: bool
) -> None:
    ends = Ends(at_start=at_start, at_end=at_end)
    told = [
        ends.faded(SpeechChunk(np.ones(size, np.float32) / 2, number == len(sizes)))
        for number, size in enumerate(sizes, 1)
    ]
    samples = np.concatenate([one.samples for one in told])
    assert [one.last for one in told] == [*[False] * (len(told) - 1), True]
    assert len(samples) == 2880
    assert (samples[FADE_SAMPLES:-FADE_SAMPLES] == 0.5).all()
    assert (samples[-1] == 0) == at_end
    assert (samples[0] == 0) == at_start
    assert np.abs(np.diff(samples)).max() < 2 / FADE_SAMPLES
    assert np.array_equal(samples * 32_768, np.rint(samples * 32_768)), "in 16-bit steps"
