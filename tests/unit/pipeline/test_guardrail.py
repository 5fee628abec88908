"""The guard on answers: loops, stops too soon, no stop; one retry before the first audio."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

import numpy as np
import pytest

from pipeline.chain import SpeechChain
from pipeline.contracts import (
    AudioChunk,
    Int32Array,
    Mode,
    Quality,
    Sampling,
    SpeechChunk,
    SpeechRequest,
    TokenChunk,
    Verdict,
    VoicePrompt,
)
from pipeline.guardrail import LOOP_GROUPS, TokenGuard
from pipeline.stepaudio.llm.prompt import least_audio_tokens, max_audio_tokens
from tests.fakes import FakeDecoder, FakePrompts, voice_prompt

pytestmark = pytest.mark.unit


def groups(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    codes = [rng.integers(0, 1024, (n, 2)), rng.integers(1024, 5120, (n, 3))]
    return np.concatenate(codes, axis=1).astype(np.int32)


def judged(answer: np.ndarray, least: int = 5, most: int | None = None, step: int = 3) -> Verdict:
    guard = TokenGuard(least, most)
    for start in range(0, len(answer), step):
        guard.add(TokenChunk(answer[start : start + step].reshape(-1), last=False))
    guard.add(TokenChunk(np.zeros(0, np.int32), last=True))
    return guard.verdict


@pytest.mark.parametrize("period", [1, 2, 7, 12])
@pytest.mark.parametrize("step", [1, 3, 100])
def test_a_repeated_part_is_a_loop(period: int, step: int) -> None:
    part = groups(period, seed=period)
    n = max(LOOP_GROUPS, 3 * period)
    looping = np.concatenate([groups(20), np.tile(part, (n // period + 1, 1))])
    assert judged(looping, step=step) is Verdict.LOOP
    assert judged(np.concatenate([looping, groups(30, 9)]), step=step) is Verdict.LOOP


def test_speech_and_pauses_are_no_loops() -> None:
    assert judged(groups(300)) is Verdict.OK
    pause = np.tile(groups(1), (LOOP_GROUPS - 1, 1))
    assert judged(np.concatenate([groups(10, 1), pause, groups(10, 2)])) is Verdict.OK
    refrain = np.tile(groups(12, 3), (2, 1))
    assert judged(np.concatenate([groups(10, 1), refrain, groups(10, 2)])) is Verdict.OK


def test_an_answer_below_the_least_is_short_and_one_at_the_bound_is_endless() -> None:
    assert judged(groups(3), least=20) is Verdict.SHORT
    assert judged(groups(4), least=20) is Verdict.OK
    assert judged(groups(8), most=40) is Verdict.ENDLESS
    assert judged(groups(8), most=44) is Verdict.ENDLESS
    assert judged(groups(7), most=40) is Verdict.OK
    assert judged(groups(0)) is Verdict.SHORT


def test_what_a_text_needs_at_least() -> None:
    voice = voice_prompt(n_groups=50)
    text = "This sentence is long enough to take some seconds, whoever reads it aloud."
    least = least_audio_tokens(text, "x" * 75, voice)
    assert 25 <= least <= max_audio_tokens(text, "x" * 75, voice) // 4
    assert least % 5 == 0
    assert least_audio_tokens("", "", voice) == 5


class ScriptedLM:
    """Answers of given lengths in groups, one per stream; keeps the seeds."""

    def __init__(self, *n_groups: int) -> None:
        self.seeds: list[int] = []
        self._n_groups = list(n_groups)

    async def stream(
        self, prompt_ids: Int32Array, sampling: Sampling
    ) -> AsyncGenerator[TokenChunk]:
        del prompt_ids
        n = self._n_groups[len(self.seeds)]
        self.seeds.append(sampling.seed)
        for index in range(n):
            yield TokenChunk(groups(1, 100 * len(self.seeds) + index)[0], last=index == n - 1)


class WholeDecoder(FakeDecoder):
    """Hands out nothing before the last token."""

    async def stream(
        self,
        tokens: AsyncIterator[TokenChunk],
        voice: VoicePrompt,
        first_chunk_rows: int | None = None,
    ) -> AsyncGenerator[AudioChunk]:
        chunks = [chunk.samples async for chunk in super().stream(tokens, voice, first_chunk_rows)]
        yield AudioChunk(np.concatenate(chunks), last=True)


async def spoken(
    lm: ScriptedLM,
    decoder: FakeDecoder,
    *,
    may_reseed: bool,
    max_tokens: int = 8192,
    text: str = "hello",
) -> list[SpeechChunk]:
    request = SpeechRequest(
        text=text,
        transcript="hi",
        sampling=Sampling(seed=5, max_tokens=max_tokens),
        may_reseed=may_reseed,
    )
    synthesizer = SpeechChain(FakePrompts(), lm, decoder)
    return [chunk async for chunk in synthesizer.speak(request, voice_prompt())]


async def test_a_short_answer_without_a_seed_is_drawn_once_more() -> None:
    lm, decoder = ScriptedLM(1, 4), WholeDecoder()
    chunks = await spoken(lm, decoder, may_reseed=True)
    assert [c.quality for c in chunks] == [Quality(Verdict.OK, is_retried=True)]
    assert len(chunks[0].samples) == 4 * 2880
    assert lm.seeds[0] == 5 != lm.seeds[1]
    assert decoder.open_streams == 0
    assert str(chunks[0].quality) == "ok; retried"


async def test_the_second_answer_is_taken_as_it_is() -> None:
    lm = ScriptedLM(1, 1, 4)
    chunks = await spoken(lm, WholeDecoder(), may_reseed=True)
    assert len(lm.seeds) == 2
    assert chunks[-1].quality == Quality(Verdict.SHORT, is_retried=True)


async def test_a_given_seed_is_kept() -> None:
    lm = ScriptedLM(1, 4)
    chunks = await spoken(lm, WholeDecoder(), may_reseed=False)
    assert lm.seeds == [5]
    assert chunks[-1].quality == Quality(Verdict.SHORT)


async def test_once_audio_is_out_there_is_no_retry() -> None:
    class TwoStep(FakeDecoder):
        async def stream(
            self,
            tokens: AsyncIterator[TokenChunk],
            voice: VoicePrompt,
            first_chunk_rows: int | None = None,
        ) -> AsyncGenerator[AudioChunk]:
            yield AudioChunk(np.zeros(10, np.float32), last=False)
            async for chunk in super().stream(tokens, voice, first_chunk_rows):
                yield chunk

    lm = ScriptedLM(1, 4)
    chunks = await spoken(lm, TwoStep(), may_reseed=True)
    assert lm.seeds == [5]
    assert [c.quality.verdict for c in chunks] == [Verdict.OK, Verdict.SHORT]


async def test_a_callers_own_limit_is_no_fault() -> None:
    chunks = await spoken(ScriptedLM(1), WholeDecoder(), may_reseed=True, max_tokens=5)
    assert chunks[-1].quality == Quality()


async def test_a_bad_passage_is_drawn_once_more_wherever_it_stands() -> None:
    lm = ScriptedLM(4, 1, 5, 3)
    chunks = await spoken(lm, WholeDecoder(), may_reseed=True, text="one.two.three")
    assert [len(c.samples) // 2880 for c in chunks] == [4, 5, 3]
    assert [str(c.quality) for c in chunks] == ["ok", "ok; retried", "ok; retried"]
    assert [c.last for c in chunks] == [False, False, True]
    assert len(set(lm.seeds)) == 4


async def test_the_worst_passage_is_the_answers_quality() -> None:
    lm = ScriptedLM(4, 1, 1, 5)
    chunks = await spoken(lm, WholeDecoder(), may_reseed=True, text="one.two.three")
    assert [str(c.quality) for c in chunks] == ["ok", "short; retried", "short; retried"]
    kept = await spoken(ScriptedLM(1, 4), WholeDecoder(), may_reseed=False, text="one.two")
    assert [str(c.quality) for c in kept] == ["short", "short"]


def test_of_several_verdicts_the_worst_counts() -> None:
    good, bad = Quality(Verdict.SHORT, is_retried=True), Quality(Verdict.ENDLESS)
    for merged in (good.merged(bad), bad.merged(good)):
        assert merged == Quality(Verdict.ENDLESS, is_retried=True)
    assert Quality().merged(Quality(Verdict.LOOP)) == Quality(Verdict.LOOP)


async def test_a_bad_pass_of_a_repeated_edit_is_drawn_once_more() -> None:
    lm = ScriptedLM(1, 4, 5)
    request = SpeechRequest("x", "hi", mode=Mode.EMOTION, info="sad", iterations=2, may_reseed=True)
    synthesizer = SpeechChain(FakePrompts(), lm, WholeDecoder())
    (chunk,) = [chunk async for chunk in synthesizer.speak(request, voice_prompt())]
    assert len(chunk.samples) == 5 * 2880
    assert chunk.quality == Quality(Verdict.OK, is_retried=True)
