"""The main path with fakes.

Order, accounting, and what happens when someone leaves or something fails.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import numpy as np
import pytest

from pipeline.chain import SpeechChain
from pipeline.contracts import (
    Sampling,
    SpeechChunk,
    SpeechRequest,
    VoiceReference,
)
from pipeline.synthesis import synthesize
from pipeline.timing import Timings
from tests.fakes import (
    SAMPLES_PER_GROUP,
    FakeDecoder,
    FakeLM,
    FakePrompts,
    FakeVoices,
)
from tests.waiting import until

pytestmark = pytest.mark.unit
CLIP, ONE, OTHER = (VoiceReference(data) for data in (b"clip", b"\x01", b"\x02"))
REQUEST = SpeechRequest(text="hello", transcript="hi")


async def speak(
    lm: FakeLM, decoder: FakeDecoder, request: SpeechRequest = REQUEST
) -> tuple[list[SpeechChunk], Timings]:
    timings = Timings()
    synthesizer = SpeechChain(FakePrompts(), lm, decoder)
    chunks = [c async for c in synthesize(CLIP, request, FakeVoices(), synthesizer, timings)]
    return chunks, timings


async def test_chunks_arrive_in_order_and_the_last_is_marked():
    chunks, timings = await speak(FakeLM(3), FakeDecoder())
    assert [c.last for c in chunks] == [False, False, True]
    times = timings.times()
    assert times.audio_s == pytest.approx(3 * SAMPLES_PER_GROUP / 24_000)
    assert times.tier == "l1"
    assert 0 < times.ttfa_s <= times.total_s


async def test_warnings_about_the_clip_are_known_at_the_first_chunk():
    timings = Timings()
    synthesizer = SpeechChain(FakePrompts(), FakeLM(3), FakeDecoder())
    voices = FakeVoices(warnings=("quiet",))
    async with aclosing(synthesize(CLIP, REQUEST, voices, synthesizer, timings)) as speech:
        await anext(speech)
        assert timings.warnings == ("quiet",)


async def test_the_same_seed_gives_the_same_samples_and_another_one_others():
    def joined(chunks: list[SpeechChunk]) -> np.ndarray:
        return np.concatenate([c.samples for c in chunks])

    first, _ = await speak(FakeLM(), FakeDecoder())
    again, _ = await speak(FakeLM(), FakeDecoder())
    other = SpeechRequest(text="hello", transcript="hi", sampling=Sampling(seed=1))
    third, _ = await speak(FakeLM(), FakeDecoder(), other)
    assert np.array_equal(joined(first), joined(again))
    assert not np.array_equal(joined(first), joined(third))


async def test_the_speaker_name_comes_from_the_clip():
    """Two clips with one transcript are two speakers in the prompt."""
    lm, decoder = FakeLM(1), FakeDecoder()
    synthesizer = SpeechChain(FakePrompts(), lm, decoder)
    a = [c async for c in synthesize(ONE, REQUEST, FakeVoices(), synthesizer, Timings())]
    b = [c async for c in synthesize(OTHER, REQUEST, FakeVoices(), synthesizer, Timings())]
    assert not np.array_equal(a[0].samples, b[0].samples)


@pytest.mark.usefixtures("virtual_time")
async def test_waiting_for_tokens_is_the_llms_time():
    _, timings = await speak(FakeLM(3, delay_s=0.05), FakeDecoder())
    times = timings.times()
    assert times.llm_s == pytest.approx(0.15, abs=1e-6)
    assert times.llm_work_s == pytest.approx(0.15, abs=1e-6)
    assert times.vocoder_s == 0


async def test_cancelling_frees_every_stage():
    lm, decoder = FakeLM(100, delay_s=0.01), FakeDecoder()
    task = asyncio.create_task(speak(lm, decoder))
    await until(lambda: lm.open_streams == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (lm.open_streams, decoder.open_streams) == (0, 0)


async def test_a_failure_reaches_the_caller_and_frees_every_stage():
    lm, decoder = FakeLM(5, fail_at=2), FakeDecoder()
    with pytest.raises(RuntimeError, match="told to fail"):
        await speak(lm, decoder)
    assert (lm.open_streams, decoder.open_streams) == (0, 0)
