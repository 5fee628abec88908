"""LLM and vocoder chained, with fakes: passages, joints, limits, repeated edits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import replace

import numpy as np
import pytest

from pipeline.audio.joints import FADE_SAMPLES
from pipeline.chain import Script, SpeechChain
from pipeline.contracts import (
    AudioChunk,
    Drawn,
    Int32Array,
    Mode,
    Sampling,
    SpeechChunk,
    SpeechLM,
    SpeechRequest,
    TokenChunk,
    Verdict,
    VoicePrompt,
    VoiceReference,
)
from pipeline.errors import CapacityError, StageError
from pipeline.stepaudio.tokens import interleave
from tests.fakes import (
    SAMPLES_PER_GROUP,
    FakeDecoder,
    FakeLM,
    FakePrompts,
    FakeVoices,
    voice_prompt,
)
from tests.waiting import GIVE_UP_S

pytestmark = pytest.mark.unit
CLIP = VoiceReference(b"clip")
REQUEST = SpeechRequest(text="hello", transcript="hi")


async def test_leaving_early_frees_every_stage():
    lm, decoder = FakeLM(100), FakeDecoder()
    synthesizer = SpeechChain(FakePrompts(), lm, decoder)
    async with aclosing(
        synthesizer.speak(REQUEST, (await FakeVoices().resolve(CLIP)).prompt)
    ) as speech:
        await anext(speech)
        assert (lm.open_streams, decoder.open_streams) == (1, 1)
    assert (lm.open_streams, decoder.open_streams) == (0, 0)


class NotingLM(FakeLM):
    """Keeps what it is asked."""

    def __init__(self, n_chunks: int = 3) -> None:
        super().__init__(n_chunks)
        self.asked: list[tuple[str, Sampling]] = []

    def stream(self, prompt_ids: Int32Array, sampling: Sampling) -> AsyncGenerator[TokenChunk]:
        self.asked.append(("".join(map(chr, prompt_ids.tolist())), sampling))
        return super().stream(prompt_ids, sampling)


THREE = replace(REQUEST, text="one.two.three", sampling=Sampling(seed=5))


def joined(chunks: list[SpeechChunk]) -> np.ndarray:
    return np.concatenate([chunk.samples for chunk in chunks])


async def chunks_of(
    lm: SpeechLM, request: SpeechRequest, decoder: FakeDecoder | None = None
) -> list[SpeechChunk]:
    synthesizer = SpeechChain(FakePrompts(), lm, decoder or FakeDecoder())
    return [chunk async for chunk in synthesizer.speak(request, voice_prompt())]


async def test_passages_are_spoken_one_after_another_as_one_answer():
    lm, decoder = NotingLM(2), FakeDecoder()
    chunks = await chunks_of(lm, THREE, decoder)
    assert [text for text, _ in lm.asked] == ["one", "two", "three"]
    assert [c.last for c in chunks] == [False] * 5 + [True]
    assert len(joined(chunks)) == 6 * SAMPLES_PER_GROUP
    assert (lm.open_streams, decoder.open_streams) == (0, 0)


async def test_usage_grows_with_the_answer_and_counts_every_prompt():
    used = [chunk.usage for chunk in await chunks_of(NotingLM(2), THREE)]
    prompts = [len("one"), len("onetwo"), len("onetwothree")]
    assert [u.input_tokens for u in used] == [n for n in prompts for _ in "12"]
    assert [u.output_tokens for u in used] == [5, 10, 15, 20, 25, 30]


async def test_a_passages_seed_follows_from_the_requests_which_is_the_firsts():
    lm, again, alone = NotingLM(), NotingLM(), NotingLM()
    first = joined(await chunks_of(lm, THREE))
    assert np.array_equal(first, joined(await chunks_of(again, THREE)))
    assert lm.asked == again.asked
    seeds = [sampling.seed for _, sampling in lm.asked]
    assert seeds[0] == 5
    assert len(set(seeds)) == 3
    assert all(0 <= seed < 2**63 for seed in seeds)
    one = joined(await chunks_of(alone, replace(THREE, text="one")))
    assert np.array_equal(first[: len(one) - FADE_SAMPLES], one[:-FADE_SAMPLES])


async def test_joints_are_faded_and_the_ends_of_the_answer_are_not():
    lm = NotingLM(1)
    await chunks_of(lm, THREE)
    apart = [
        joined(await chunks_of(FakeLM(1), replace(THREE, text=text, sampling=sampling)))
        for text, sampling in lm.asked
    ]
    whole = joined(await chunks_of(FakeLM(1), THREE))
    size = SAMPLES_PER_GROUP
    assert whole[0] == apart[0][0]
    assert whole[-1] == apart[-1][-1]
    for joint in (size, 2 * size):
        assert np.abs(whole[joint - 1 : joint + 1]).max() < 1e-6
        steps = np.abs(np.diff(whole[joint - FADE_SAMPLES : joint + FADE_SAMPLES]))
        assert steps.max() < 6 / FADE_SAMPLES
    middle = slice(size + FADE_SAMPLES, 2 * size - FADE_SAMPLES)
    assert np.array_equal(whole[middle], apart[1][FADE_SAMPLES:-FADE_SAMPLES])


async def test_the_callers_limit_is_for_the_whole_answer():
    lm = BoundLM(4)
    limit = replace(THREE, sampling=Sampling(seed=5, max_tokens=31))
    chunks = await chunks_of(lm, limit)
    assert lm.limits == [31, 11]  # one token is left, and no group fits
    assert [c.last for c in chunks] == [False] * 5 + [True]
    assert len(joined(chunks)) == 6 * SAMPLES_PER_GROUP


class BoundLM(FakeLM):
    """Stops at the limit, as the engine does."""

    def __init__(self, n_groups: int) -> None:
        super().__init__(n_groups)
        self.limits: list[int] = []

    async def stream(
        self, prompt_ids: Int32Array, sampling: Sampling
    ) -> AsyncGenerator[TokenChunk]:
        self.limits.append(sampling.max_tokens)
        n_groups = sampling.max_tokens // 5
        async for chunk in super().stream(prompt_ids, sampling):
            n_groups -= 1
            yield TokenChunk(chunk.ids, chunk.last or n_groups == 0)
            if n_groups == 0:
                return


async def test_a_runaway_ends_at_its_passages_own_bound():
    """Nobody else ends it where its reader's process was killed."""

    class Bounded(FakePrompts):
        def scripts(self, request: SpeechRequest, voice: VoicePrompt) -> Iterator[Script]:
            return (replace(one, most_tokens=10) for one in super().scripts(request, voice))

    lm = BoundLM(1000)
    speech = SpeechChain(Bounded(), lm, FakeDecoder()).speak(THREE, voice_prompt())
    chunks = [chunk async for chunk in speech]
    assert lm.limits == [10, 10, 10]
    assert len(joined(chunks)) == 6 * SAMPLES_PER_GROUP
    assert chunks[-1].quality.verdict is Verdict.ENDLESS


async def test_leaving_between_passages_frees_every_stage():
    lm, decoder = FakeLM(1), FakeDecoder()
    synthesizer = SpeechChain(FakePrompts(), lm, decoder)
    async with aclosing(synthesizer.speak(THREE, voice_prompt())) as speech:
        await anext(speech)
        await anext(speech)
    assert (lm.open_streams, decoder.open_streams) == (0, 0)


class FullLM(FakeLM):
    """Refuses the calls of these numbers."""

    def __init__(self, refused: range) -> None:
        super().__init__(1)
        self.calls = 0
        self._refused = refused

    async def stream(
        self, prompt_ids: Int32Array, sampling: Sampling
    ) -> AsyncGenerator[TokenChunk]:
        self.calls += 1
        if self.calls - 1 in self._refused:
            raise CapacityError("full")
        async for chunk in super().stream(prompt_ids, sampling):
            yield chunk


@pytest.mark.usefixtures("virtual_time")
async def test_a_speech_that_is_being_heard_waits_for_room():
    lm = FullLM(refused=range(1, 4))
    chunks = await chunks_of(lm, THREE)
    assert lm.calls == 6
    assert len(joined(chunks)) == 3 * SAMPLES_PER_GROUP


@pytest.mark.usefixtures("virtual_time")
async def test_a_full_lm_refuses_a_speech_that_has_not_begun_and_at_last_any():
    first, second = FullLM(refused=range(1)), FullLM(refused=range(1, 10_000))
    for lm, calls in ((first, 1), (second, 61)):
        with pytest.raises(CapacityError):
            await chunks_of(lm, THREE)
        assert lm.calls == calls


async def test_writing_prompts_leaves_the_event_loop_free():
    """Every step of the writer waits for something that only the loop can do."""
    loop, n_served = asyncio.get_running_loop(), 0

    async def serve() -> None:
        nonlocal n_served
        n_served += 1

    class WaitingPrompts(FakePrompts):
        def scripts(self, request: SpeechRequest, voice: VoicePrompt) -> Iterator[Script]:
            for script in super().scripts(request, voice):
                asyncio.run_coroutine_threadsafe(serve(), loop).result(timeout=GIVE_UP_S)
                yield script

    synthesizer = SpeechChain(WaitingPrompts(), FakeLM(), FakeDecoder())
    chunks = [chunk async for chunk in synthesizer.speak(THREE, voice_prompt())]
    assert n_served == 3
    assert chunks[-1].last


class VoiceNotingPrompts(FakePrompts):
    """Keeps the voices that prompts are written for."""

    def __init__(self) -> None:
        self.voices: list[VoicePrompt] = []

    def scripts(self, request: SpeechRequest, voice: VoicePrompt) -> Iterator[Script]:
        self.voices.append(voice)
        return super().scripts(request, voice)


class VoiceNotingDecoder(FakeDecoder):
    """Keeps the voices that it decodes in."""

    def __init__(self) -> None:
        super().__init__()
        self.voices: list[VoicePrompt] = []

    def stream(
        self,
        tokens: AsyncIterator[TokenChunk],
        voice: VoicePrompt,
        first_chunk_rows: int | None = None,
    ) -> AsyncGenerator[AudioChunk]:
        self.voices.append(voice)
        return super().stream(tokens, voice, first_chunk_rows)


async def test_a_repeated_edit_hands_tokens_on_and_speaks_once():
    prompts, lm, decoder, voice = (
        VoiceNotingPrompts(),
        NotingLM(4),
        VoiceNotingDecoder(),
        voice_prompt(),
    )
    request = SpeechRequest(
        "x", "hi", mode=Mode.EMOTION, info="sad", iterations=3, sampling=Sampling(seed=5)
    )
    chunks = [chunk async for chunk in SpeechChain(prompts, lm, decoder).speak(request, voice)]
    assert len(joined(chunks)) == 4 * SAMPLES_PER_GROUP
    assert chunks[-1].last
    assert chunks[-1].usage.output_tokens == 3 * 4 * 5, "every pass is an answer"
    assert decoder.voices == [voice]  # the clip's own throughout
    assert [v.n_groups for v in prompts.voices] == [voice.n_groups, 4, 4]
    assert prompts.voices[0] is voice
    for edited, (text, sampling) in zip(prompts.voices[1:], lm.asked[:-1], strict=True):
        answer = [ord(c) for c in text]
        ids = [c.ids async for c in FakeLM(4).stream(np.array(answer, np.int32), sampling)]
        assert np.array_equal(interleave(edited.vq02, edited.vq06), np.concatenate(ids))
        assert edited.vq02.dtype == edited.vq06.dtype == np.int16
        assert edited.prompt_mel is voice.prompt_mel
    seeds = [sampling.seed for _, sampling in lm.asked]
    assert seeds[0] == 5
    assert len(set(seeds)) == 3


@pytest.mark.parametrize("mode", [Mode.CLONE, Mode.DENOISE])
async def test_an_earlier_answer_is_edited_in_place_of_the_clip(mode: Mode):
    """In the prompt alone: what speaks remains the voice of the clip."""
    prompts, decoder, voice = VoiceNotingPrompts(), VoiceNotingDecoder(), voice_prompt()
    ids = np.concatenate([chunk.ids async for chunk in FakeLM(6).stream(np.arange(3), Sampling())])
    earlier = Drawn(ids.astype(np.int16), frozenset())
    request = SpeechRequest("x", "hi", mode=mode, source=earlier)
    chunks = [c async for c in SpeechChain(prompts, NotingLM(), decoder).speak(request, voice)]
    assert chunks[-1].last
    (edited,) = prompts.voices
    assert np.array_equal(interleave(edited.vq02, edited.vq06), ids)
    assert edited.vq02.dtype == edited.vq06.dtype == np.int16
    assert edited.prompt_mel is voice.prompt_mel
    assert decoder.voices == [voice]


async def test_an_edits_first_pass_is_the_same_however_often_it_is_repeated():
    once, twice = NotingLM(), NotingLM()
    request = SpeechRequest("x", "hi", mode=Mode.EMOTION, info="sad")
    await chunks_of(once, request)
    await chunks_of(twice, replace(request, iterations=2))
    assert once.asked == twice.asked[:1]


async def test_a_clone_is_made_once_whatever_is_asked():
    lm = NotingLM()
    await chunks_of(lm, replace(REQUEST, iterations=4))
    assert len(lm.asked) == 1


async def test_a_pass_that_gives_nothing_is_an_error():
    class EmptyLM(FakeLM):
        async def stream(
            self, prompt_ids: Int32Array, sampling: Sampling
        ) -> AsyncGenerator[TokenChunk]:
            del prompt_ids, sampling
            yield TokenChunk(np.zeros(0, np.int32), last=True)

    request = SpeechRequest("x", "hi", mode=Mode.EMOTION, info="sad", iterations=2)
    with pytest.raises(StageError, match="no audio"):
        await chunks_of(EmptyLM(), request)


@pytest.mark.usefixtures("virtual_time")
async def test_the_llms_work_counts_beside_what_the_decoder_waited():
    """The LLM draws while the decoder decodes: what was waited is the smaller part."""

    class AheadLM(FakeLM):
        """Has its chunks ready; each took it a second."""

        async def stream(
            self, prompt_ids: Int32Array, sampling: Sampling
        ) -> AsyncGenerator[TokenChunk]:
            n_chunks = 0
            async for chunk in super().stream(prompt_ids, sampling):
                n_chunks += 1
                yield replace(chunk, work_s=float(n_chunks))

    class SlowDecoder(FakeDecoder):
        """Takes two seconds a chunk."""

        async def stream(
            self,
            tokens: AsyncIterator[TokenChunk],
            voice: VoicePrompt,
            first_chunk_rows: int | None = None,
        ) -> AsyncGenerator[AudioChunk]:
            async for chunk in super().stream(tokens, voice, first_chunk_rows):
                await asyncio.sleep(2.0)
                yield chunk

    one = (await chunks_of(AheadLM(3), REQUEST, SlowDecoder()))[-1].times
    three = (await chunks_of(AheadLM(3), THREE, SlowDecoder()))[-1].times
    assert (one.llm_s, one.llm_work_s) == (pytest.approx(0.0), pytest.approx(3.0))
    assert one.vocoder_s == pytest.approx(6.0)
    assert (three.llm_work_s, three.vocoder_s) == (pytest.approx(9.0), pytest.approx(18.0))
