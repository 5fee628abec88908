"""A long text as one stream: order, what is made ahead, second draws, failures, and its end."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import numpy as np
import pytest

from deployments.config.long_text import LongTextSettings
from deployments.longform import production
from deployments.longform.lines import lines_of
from deployments.longform.listening import Listener
from deployments.longform.speech import LongSpeech
from pipeline.audio.levels import measure_levels
from pipeline.contracts import (
    Mode,
    Quality,
    ReferenceClip,
    Sampling,
    SpeechChunk,
    SpeechRequest,
    StageTimes,
    Usage,
    Verdict,
)
from pipeline.errors import (
    CapacityError,
    InputError,
    StageError,
    StageUnavailableError,
    TextError,
)
from pipeline.splitting.segments import segments
from tests.fakes import voice_prompt
from tests.waiting import until

pytestmark = pytest.mark.unit

SENTENCE = "Number {} climbed the narrow stair and lit the lamp before the storm came in. "
TEXT = "".join(SENTENCE.format(number) for number in range(12)).strip()
PARTS = segments(TEXT)
CHUNK = 24_000  # samples
BAD, GOOD = Quality(Verdict.LOOP), Quality()
Fate = Exception | Quality


class Speech:
    """Speaks two chunks for every request, noise by its seed; fates: of its calls, by the text."""

    def __init__(self, **fates: list[Fate]) -> None:
        self.requests: list[SpeechRequest] = []
        self.wishes: list[tuple[bool, str | None]] = []
        self.open_streams = self.most_open = 0
        self.fates: dict[str, list[Fate]] = {}
        self.pause: Callable[[], object] | None = None
        self.delay_s = 0.0
        self.n_samples = CHUNK
        self.breaks_after = 0
        for name, fate in fates.items():
            self.fates[PARTS[int(name.removeprefix("at"))].text] = list(fate)

    async def speak(
        self, request: SpeechRequest, voice: object, *, keeps_any: bool, reuse: str | None
    ) -> AsyncGenerator[SpeechChunk]:
        del voice
        self.requests.append(request)
        self.wishes.append((keeps_any, reuse))
        fates = self.fates.get(request.text, [])
        fate = fates.pop(0) if fates else GOOD
        self.open_streams += 1
        self.most_open = max(self.most_open, self.open_streams)
        rng = np.random.default_rng(request.sampling.seed)
        try:
            for index in range(2):
                await asyncio.sleep(self.delay_s)
                if isinstance(fate, Exception) and index == self.breaks_after:
                    raise fate
                quality = fate if isinstance(fate, Quality) and index else GOOD
                samples = rng.uniform(-0.4, 0.4, self.n_samples).astype(np.float32)
                times = StageTimes(llm_s=0.5 * index, vocoder_s=0.25 * index)
                yield SpeechChunk(samples, index == 1, times, quality, Usage(7, 5 * index))
        finally:
            self.open_streams -= 1

    @property
    def texts(self) -> list[str]:
        return [request.text for request in self.requests]


def request_for(text: str = TEXT, *, seed: int = 7, **how: object) -> SpeechRequest:
    return SpeechRequest(text, "Hi.", sampling=Sampling(seed=seed), **how)  # type: ignore[arg-type]


def long_speech(speech: Speech, **how: object) -> LongSpeech:
    settings = LongTextSettings(**{k: v for k, v in how.items() if k in {"ahead", "lead_s"}})  # type: ignore[arg-type]
    rest = {k: v for k, v in how.items() if k not in {"ahead", "lead_s"}}
    return LongSpeech(speech, settings, **rest)  # type: ignore[arg-type]


async def heard(long: LongSpeech, request: SpeechRequest | None = None) -> list[SpeechChunk]:
    async with aclosing(long.speak(request or request_for(), voice_prompt())) as speech:
        return [chunk async for chunk in speech]


def sound(chunks: list[SpeechChunk]) -> np.ndarray:
    return np.concatenate([chunk.samples for chunk in chunks])


def test_every_segment_is_asked_for_in_order_with_a_seed_of_its_own() -> None:
    lines = lines_of(request_for(first_chunk_rows=3, is_adaptive=True))
    assert [line.request.text for line in lines] == [part.text for part in PARTS]
    seeds = {line.request.sampling.seed for line in lines}
    assert len(seeds | {line.redrawn().sampling.seed for line in lines}) == 2 * len(PARTS)
    assert lines == lines_of(request_for(first_chunk_rows=3, is_adaptive=True))
    assert seeds.isdisjoint(line.request.sampling.seed for line in lines_of(request_for(seed=8)))
    rows = [line.request.first_chunk_rows for line in lines]
    assert rows == [3] + [None] * (len(PARTS) - 1)


def test_a_short_text_and_an_edit_are_one_line_as_they_are() -> None:
    for request in (
        request_for("Hello there."),
        request_for(mode=Mode.STYLE),
        request_for("Hello.\n\n***\n\n—"),
    ):
        assert [line.request for line in lines_of(request)] == [request]


def test_pauses_that_stand_alone_go_with_a_segment_that_speaks() -> None:
    text = "[pause:1s]\n\nOne.\n\n***\n\n[pause:2s]\n\nTwo [pause:500ms] more.\n\n[Pause: 3s]"
    spoken = [line.request.text for line in lines_of(request_for(text))]
    assert spoken == ["[pause:1s] One. [pause:2s]", "Two [pause:500ms] more. [Pause: 3s]"]


def test_ssml_is_cut_as_what_it_says() -> None:
    body = "".join(f"<p>{SENTENCE.format(n)}<break time='300ms'/></p>" for n in range(12))
    lines = lines_of(request_for(f"<speak>{body}</speak>"))
    assert len(lines) > 2
    assert not any("<" in line.request.text for line in lines)
    said = " ".join(line.request.text for line in lines)
    assert said.count("[pause:300ms]") == said.count("climbed") == 12
    with pytest.raises(InputError, match="<voice> is not served") as refused:
        lines_of(request_for(f"<speak><voice name='a'>{body}</voice></speak>"))
    assert refused.value.param == "input"


async def test_the_reply_has_all_segments_their_pauses_and_one_last_chunk() -> None:
    speech = Speech()
    long = long_speech(speech)
    chunks = await heard(long)
    assert speech.texts == [part.text for part in PARTS]
    assert speech.most_open == 1
    pauses = sum(round(part.pause_s * CHUNK) for part in PARTS)
    assert len(sound(chunks)) == 2 * CHUNK * len(PARTS) + pauses
    assert [chunk.last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].usage == Usage(7 * len(PARTS), 5 * len(PARTS))
    assert chunks[-1].times.llm_s == pytest.approx(0.5 * len(PARTS))
    assert chunks[-1].times.vocoder_s == pytest.approx(0.25 * len(PARTS))
    assert long.segments.qualities == [GOOD] * len(PARTS)
    assert long.segments.report()["bad"] == []


async def test_segments_join_in_silence() -> None:
    samples = sound(await heard(long_speech(Speech())))
    joint = 2 * CHUNK
    assert not samples[joint - 100 : joint + 100].any()
    assert np.abs(samples[joint - 2_000 : joint - 1_000]).max() > 0.3


async def test_the_same_seed_gives_the_same_samples_and_others_do_not() -> None:
    first, second = [sound(await heard(long_speech(Speech()))) for _ in range(2)]
    other = sound(await heard(long_speech(Speech()), request_for(seed=8)))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("ahead", [1, 3])
async def test_nothing_is_made_further_ahead_of_a_slow_reader_than_allowed(ahead: int) -> None:
    speech = Speech()
    async with aclosing(long_speech(speech, ahead=ahead).speak(request_for(), voice_prompt())) as s:
        await anext(s)
        await asyncio.sleep(0.05)
        assert speech.texts == [part.text for part in PARTS[: 1 + ahead]]
        while len(speech.requests) == 1 + ahead:
            await anext(s)
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        assert speech.texts == [part.text for part in PARTS[: 2 + ahead]]


async def test_a_stream_does_not_run_further_ahead_of_its_playback_than_allowed() -> None:
    speech = Speech()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(heard(long_speech(speech, lead_s=3.0)), 0.2)
    assert len(speech.requests) <= 4
    whole = Speech()
    await asyncio.wait_for(heard(long_speech(whole, lead_s=3.0, is_paced=False)), 1.0)


async def test_a_bad_segment_is_drawn_once_more() -> None:
    speech = Speech(at1=[BAD])
    long = long_speech(speech)
    chunks = await heard(long)
    assert speech.texts.count(PARTS[1].text) == 2
    assert len(speech.requests) == len(PARTS) + 1
    assert long.segments.qualities[1] == Quality(Verdict.OK, is_retried=True)
    assert chunks[-1].quality == Quality(Verdict.OK, is_retried=True)
    assert long.segments.report()["retried"] == 1
    assert long.segments.report()["bad"] == []


async def test_what_stays_bad_is_named_with_its_text() -> None:
    speech = Speech(at2=[Quality(Verdict.SHORT), BAD], at0=[BAD])
    long = long_speech(speech)
    chunks = await heard(long)
    report = long.segments.report()
    assert [(bad["index"], bad["verdict"], bad["text"]) for bad in report["bad"]] == [
        (0, "loop", PARTS[0].text),
        (2, "short", PARTS[2].text),  # the better one of both draws
    ]
    assert TEXT[report["bad"][1]["start"] : report["bad"][1]["end"]] == PARTS[2].text
    assert (report["count"], report["ended"], report["bad_count"]) == (len(PARTS), len(PARTS), 2)
    assert chunks[-1].quality.verdict is Verdict.LOOP


async def test_a_seed_keeps_second_draws_and_none_keeps_none() -> None:
    seeded, unseeded = Speech(at1=[BAD]), Speech(at1=[BAD])
    await heard(long_speech(seeded))
    assert set(seeded.wishes) == {(True, None)}
    await heard(long_speech(unseeded), request_for(may_reseed=True))
    assert unseeded.wishes[2] == (False, "off")
    assert set(unseeded.wishes) == {(False, None), (False, "off")}


async def test_a_stage_that_fails_on_a_later_segment_is_asked_once_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(production, "WAIT_S", 0.0)
    once = Speech(at2=[StageUnavailableError("gone")])
    assert len(sound(await heard(long_speech(once)))) > 2 * CHUNK * len(PARTS)
    assert len(once.requests) == len(PARTS) + 1

    twice = Speech(at2=[StageUnavailableError("gone"), StageError("broken")])
    long = long_speech(twice)
    with pytest.raises(StageError, match="broken"):
        await heard(long)
    assert long.segments.report()["ended"] == 2
    assert twice.open_streams == 0


async def test_a_full_service_lets_a_later_segment_wait_and_refuses_a_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(production, "WAIT_S", 0.0)
    later = Speech(at1=[CapacityError("full")] * 10)
    await heard(long_speech(later))
    assert later.texts.count(PARTS[1].text) == 11
    first = Speech(at0=[CapacityError("full")])
    with pytest.raises(CapacityError):
        await heard(long_speech(first))
    assert len(first.requests) == 1


async def test_a_segment_that_cannot_be_spoken_is_told_as_lost_and_a_first_is_refused() -> None:
    speech = Speech(at1=[TextError("the text is in Thai script", param="input")])
    long = long_speech(speech)
    chunks = await heard(long)
    assert chunks[-1].quality.verdict is Verdict.LOST
    (bad,) = long.segments.report()["bad"]
    assert (bad["index"], bad["verdict"]) == (1, "lost")
    assert bad["reason"] == "the text is in Thai script"
    with pytest.raises(TextError):
        await heard(long_speech(Speech(at0=[TextError("no")])))


class Hearing:
    """Hears what is said, but for some of the answers, by their number; or fails."""

    def __init__(self, speech: Speech, *misheard: int, error: Exception | None = None) -> None:
        self._speech, self._misheard, self._error = speech, misheard, error

    async def transcribe(self, clip: ReferenceClip) -> str:
        assert clip.sample_rate_hz == CHUNK
        if self._error is not None:
            raise self._error
        if len(self._speech.requests) in self._misheard:
            return "nothing of all that was written here at all"
        return self._speech.texts[-1].replace("1", "one").lower()


async def test_a_segment_that_is_heard_otherwise_is_drawn_again_and_named() -> None:
    speech = Speech()
    long = long_speech(speech, listener=Listener(Hearing(speech, 2)))
    await heard(long)
    assert speech.texts.count(PARTS[1].text) == 2
    assert long.segments.qualities[1] == Quality(Verdict.OK, is_retried=True)
    speech = Speech()
    long = long_speech(speech, listener=Listener(Hearing(speech, 1, 3, 4)))
    chunks = await heard(long)
    verdicts = [(bad["index"], bad["verdict"]) for bad in long.segments.report()["bad"]]
    assert verdicts == [(0, "divergent"), (2, "divergent")]
    assert chunks[-1].quality == Quality(Verdict.DIVERGENT, is_retried=True)


async def test_a_recogniser_that_fails_has_nothing_against_a_segment() -> None:
    speech = Speech()
    hearing = Hearing(speech, error=StageUnavailableError("gone"))
    long = long_speech(speech, listener=Listener(hearing))
    await heard(long)
    assert long.segments.qualities == [GOOD] * len(PARTS)


async def test_a_segment_is_let_go_of_before_its_listener_has_to_wait() -> None:
    speech = Speech(at1=[BAD])
    speech.delay_s, speech.n_samples = 0.02, 1_200
    chunks = await heard(long_speech(speech))
    sizes = [len(chunk.samples) for chunk in chunks if len(chunk.samples)]
    assert len(sizes) >= 3 * len(PARTS) - 1  # as it was made, chunk by chunk, and pauses
    assert len(speech.requests) == len(PARTS)  # what was heard is not drawn again


async def test_its_end_frees_everything_at_once() -> None:
    speech = Speech()
    speech.delay_s = 0.01
    stream = long_speech(speech).speak(request_for(), voice_prompt())
    await anext(stream)
    await until(lambda: speech.open_streams > 0)
    await stream.aclose()
    assert speech.open_streams == 0
    n_asked = len(speech.requests)
    await asyncio.sleep(0.05)
    assert len(speech.requests) == n_asked


async def test_a_limit_of_tokens_is_that_of_the_whole_text() -> None:
    speech = Speech()
    request = SpeechRequest(TEXT, "Hi.", sampling=Sampling(seed=7, max_tokens=12))
    chunks = await heard(long_speech(speech), request)
    assert [one.sampling.max_tokens for one in speech.requests] == [12, 7]
    assert chunks[-1].last
    assert chunks[-1].quality == GOOD


async def test_every_segment_has_the_loudness_that_was_asked_for() -> None:
    speech = Speech()
    chunks = await heard(long_speech(speech, target_lufs=-20.0))
    spoken = [chunk.samples for chunk in chunks if len(chunk.samples) >= CHUNK]
    assert len(spoken) == len(PARTS)
    for samples in spoken:
        loudness_lufs = measure_levels(samples, CHUNK).loudness_lufs()
        assert loudness_lufs == pytest.approx(-20.0, abs=0.3)
        assert np.abs(samples).max() < 0.9


async def test_memory_is_flat_for_a_chapter_of_20_000_characters() -> None:
    chapter = "\n\n".join([TEXT] * (20_000 // len(TEXT) + 1))[:20_000]
    speech = Speech()
    n_samples, largest = 0, 0
    async with aclosing(long_speech(speech, is_paced=False).speak(request_for(chapter), None)) as s:  # type: ignore[arg-type]
        tracemalloc.start()
        try:
            async for chunk in s:
                n_samples += len(chunk.samples)
                largest = max(largest, len(chunk.samples))
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert n_samples * 4 > 10_000_000
    assert peak_bytes < 3 * 4 * 2 * CHUNK + 2_000_000
