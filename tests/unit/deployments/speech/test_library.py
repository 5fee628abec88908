"""Finished speech is answered again; what is being made has any number of listeners."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache_store.cache import VoiceCache
from cache_store.index import Index
from cache_store.settings import CacheSettings
from deployments.config.settings import load_settings
from deployments.speech import library as speech
from deployments.speech.records import SPEECH_SCHEMA
from pipeline.contracts import (
    Drawn,
    Mode,
    Quality,
    Sampling,
    SpeechChunk,
    SpeechRequest,
    Usage,
    Verdict,
    VoiceReference,
)
from pipeline.errors import CapacityError, TextError
from tests.fakes import SAMPLES_PER_GROUP, FakeNames, FakeVoices, TellingSpeaker
from tests.unit.cache_store.test_index import DirectTier, make_index
from tests.waiting import until

pytestmark = pytest.mark.unit
REQUEST = SpeechRequest("One two three.", "Hi there.", sampling=Sampling(seed=7))
UNSEEDED = replace(REQUEST, may_reseed=True, is_adaptive=True)
CLIP = "0" * 64  # of FakeVoices' default voice


class Process:
    """A router's library; several share an index as processes of a cluster do."""

    def __init__(self, index: Index | None = None, url: str = "none", **settings: Any) -> None:
        self.names = FakeNames()
        self.speaker = TellingSpeaker(self.names)
        cache = {"url": url, "l2": "off"}
        tree = load_settings({"cache": cache, "speech_cache": settings})
        self.library = speech.SpeechLibrary(tree, self.speaker, self.names)
        if index is not None:
            self.tier = DirectTier(index, f"holder-{id(self)}")
            opened = CacheSettings(url="none", l2="off")
            self.library._cache = VoiceCache(SPEECH_SCHEMA, [], opened, shared=self.tier)  # type: ignore[arg-type]

    async def ask(
        self, request: SpeechRequest = REQUEST, reuse: Any = None, namespace: str | None = None
    ) -> Any:
        one = self.library.request(FakeVoices(), reuse, namespace)
        voice = await one.resolve(VoiceReference(None, "aria"))
        return one.speak(request, voice.prompt)

    async def hear(
        self, request: SpeechRequest = REQUEST, reuse: Any = None, namespace: str | None = None
    ) -> list[SpeechChunk]:
        """All of it, and until it is kept where it will be."""
        chunks = await self.listen(request, reuse, namespace)
        await until(lambda: not self.live())
        return chunks

    async def listen(
        self, request: SpeechRequest = REQUEST, reuse: Any = None, namespace: str | None = None
    ) -> list[SpeechChunk]:
        async with aclosing(await self.ask(request, reuse, namespace)) as stream:
            return [chunk async for chunk in stream]

    def let_out(self, chunks: int) -> None:
        assert self.speaker.step is not None
        for _ in range(chunks):
            self.speaker.step.release()

    def live(self) -> int:
        return len(self.library._live)


@pytest.fixture
async def made():
    """Makes processes and closes them."""
    processes: list[Process] = []

    def make(*args: Any, **settings: Any) -> Process:
        processes.append(Process(*args, **settings))
        return processes[-1]

    yield make
    for process in processes:
        await process.library.close()


def samples_of(chunks: list[SpeechChunk]) -> bytes:
    assert [chunk.last for chunk in chunks] == [*[False] * (len(chunks) - 1), True]
    return np.concatenate([chunk.samples for chunk in chunks]).tobytes()


def stored_in(directory: Path) -> list[Path]:
    return list(directory.rglob("*.sva"))


async def first_of(stream: Any, groups: int) -> list[SpeechChunk]:
    """So many groups' samples, in chunks as they come."""
    chunks = list[SpeechChunk]()
    while sum(len(chunk.samples) for chunk in chunks) < groups * SAMPLES_PER_GROUP:
        chunks.append(await anext(stream))
    return chunks


def source_of(chunks: list[SpeechChunk]) -> str:
    (source,) = {chunk.times.speech for chunk in chunks}
    return source


async def test_a_seeded_request_is_made_once_and_has_the_same_samples_ever_after(made) -> None:
    process = made()
    made_now, again = await process.hear(), await process.hear()
    alone = await process.hear(reuse="off")
    assert samples_of(made_now) == samples_of(again) == samples_of(alone)
    assert (source_of(made_now), source_of(again), source_of(alone)) == ("none", "l1", "none")
    assert len(process.speaker.requests) == 2
    assert again[-1].drawn is not None
    assert len(again[-1].drawn.ids) == 15
    assert made_now[-1].usage == again[-1].usage == alone[-1].usage == Usage(7, 15)


async def test_another_process_and_a_restart_find_it(made, tmp_path: Path) -> None:
    index = make_index()
    first, second = made(index), made(index)
    heard = await first.hear()
    await until(lambda: not first.live() and not first.tier.tasks)
    assert source_of(found := await second.hear()) == "l2"
    assert samples_of(found) == samples_of(heard)
    stored = Process(url=str(tmp_path))
    await stored.hear()
    await until(lambda: not stored.live())
    await stored.library.close()
    assert source_of(await made(url=str(tmp_path)).hear()) == "l3"


DIFFERENT = [
    replace(REQUEST, text="One two four."),
    replace(REQUEST, transcript="Ho there."),
    replace(REQUEST, mode=Mode.EMOTION, info="happy"),
    replace(REQUEST, sampling=Sampling(seed=8)),
    replace(REQUEST, sampling=Sampling(seed=7, temperature=0.5)),
    replace(REQUEST, sampling=Sampling(seed=7, max_tokens=50)),
    replace(REQUEST, first_chunk_rows=5),
    replace(REQUEST, variant="int8"),
    replace(REQUEST, mode=Mode.DENOISE, iterations=2),
    replace(REQUEST, source=Drawn(np.zeros(5, np.int16), frozenset())),
    replace(REQUEST, source=Drawn(np.ones(5, np.int16), frozenset())),
]


@pytest.mark.parametrize("other", DIFFERENT)
async def test_whatever_changes_an_answer_is_another_one(made, other: SpeechRequest) -> None:
    process = made()
    await process.hear()
    assert source_of(await process.hear(other)) == "none"


@pytest.mark.parametrize(
    "other", [replace(REQUEST, speed=1.5), replace(REQUEST, text="One  two three. ")]
)
async def test_what_comes_behind_an_answer_does_not_count(made, other: SpeechRequest) -> None:
    process = made()
    await process.hear()
    assert source_of(await process.hear(other)) == "l1"


async def test_without_a_seed_speech_is_the_requests_own(made) -> None:
    process = made()
    assert source_of(await process.hear(UNSEEDED)) == "none"
    assert source_of(await process.hear(UNSEEDED)) == "none"
    assert process.speaker.requests[-1].is_adaptive


@pytest.mark.parametrize(("unseeded", "reuse"), [("derive", None), ("off", "reuse")])
async def test_a_seed_can_follow_from_the_request(made, unseeded: str, reuse: Any) -> None:
    process = made(unseeded=unseeded)
    one = await process.hear(UNSEEDED, reuse)
    other_draw = replace(UNSEEDED, sampling=Sampling(seed=99))
    assert source_of(again := await process.hear(other_draw, reuse)) == "l1"
    assert samples_of(one) == samples_of(again)
    spoken = process.speaker.requests[-1]
    assert spoken.may_reseed
    assert not spoken.is_adaptive
    await process.hear(replace(UNSEEDED, text="Another text."), reuse)
    assert process.speaker.requests[-1].sampling.seed != spoken.sampling.seed


async def test_an_answer_may_be_kept_whatever_it_is_though_it_may_be_drawn_again(made) -> None:
    process = made()
    process.speaker.quality = Quality(Verdict.LOOP, is_retried=True)
    request = replace(UNSEEDED, is_adaptive=False)
    for source in ("none", "l1"):
        one = process.library.request(FakeVoices(), None)
        voice = await one.resolve(VoiceReference(None, "aria"))
        watch = process.library.begin_watch()
        how = (request, voice, None, "shared", watch)
        async with aclosing(await process.library.open(*how, keeps_any=True)) as stream:
            assert source_of([chunk async for chunk in stream]) == source
        await until(lambda: not process.live())
    assert [r.sampling.seed for r in process.speaker.requests] == [request.sampling.seed]
    now = await process.library.models_now("base")
    assert now is not None
    found = await process.library.find(request, voice, "shared", now)
    assert found is not None
    assert [chunk async for chunk in found][-1].drawn is not None
    assert await process.library.find(request, voice, "shared", "e" * 64) is None


async def test_who_listened_elsewhere_has_the_tokens_when_they_are_published(made) -> None:
    index = make_index()
    maker, other = made(index), made(index)
    maker.speaker.step = asyncio.Semaphore(0)
    first = asyncio.create_task(maker.hear())
    maker.let_out(1)
    await until(lambda: maker.speaker.open_streams == 1)
    listening = await other.ask()
    await anext(listening)
    maker.let_out(2)
    heard = [chunk async for chunk in listening]
    expected = (await first)[-1].drawn.ids
    while heard[-1].drawn is None:
        await asyncio.sleep(0.01)
        heard = await other.listen()
    assert np.array_equal(heard[-1].drawn.ids, expected)
    assert not other.speaker.requests


async def test_refresh_makes_it_anew_and_keeps_that(made) -> None:
    process = made(make_index())
    await process.hear()
    assert source_of(await process.hear(reuse="refresh")) == "none"
    assert len(process.speaker.requests) == 2
    assert source_of(await process.hear()) == "l1"


async def test_off_neither_reads_nor_keeps(made) -> None:
    process = made()
    assert source_of(await process.hear(reuse="off")) == "none"
    assert source_of(await process.hear()) == "none"
    disabled = made(enabled=False)
    assert [source_of(await disabled.hear()) for _ in range(2)] == ["none", "none"]


async def test_equal_requests_at_once_are_one_computation_heard_from_its_start(made) -> None:
    process = made()
    process.speaker.step = asyncio.Semaphore(0)
    first = asyncio.create_task(process.hear())
    process.let_out(2)
    await until(lambda: process.speaker.step.locked() and process.live() == 1)
    late = await process.ask()
    heard = [await anext(late), await anext(late)]  # what was said before it came, at once
    process.let_out(1)
    heard += [chunk async for chunk in late]
    made_now = await first
    assert samples_of(made_now) == samples_of(heard)
    assert (source_of(made_now), source_of(heard)) == ("none", "joined")
    assert len(process.speaker.requests) == 1


async def test_a_first_caller_who_leaves_takes_nothing_from_the_others(made) -> None:
    process = made()
    process.speaker.step = asyncio.Semaphore(0)
    first, second = await process.ask(), await process.ask()
    process.let_out(1)
    await anext(first)
    await anext(second)
    await first.aclose()
    process.let_out(2)
    rest = [chunk async for chunk in second]
    assert rest[-1].last
    assert len(process.speaker.requests) == 1
    assert source_of(await process.hear()) == "l1"


async def test_what_nobody_listens_to_is_cancelled_and_not_kept(made) -> None:
    process = made(make_index())
    process.speaker.step = asyncio.Semaphore(0)
    listeners = [await process.ask(), await process.ask()]
    process.let_out(1)
    for listener in listeners:
        await anext(listener)
    for listener in listeners:
        await listener.aclose()
    await until(lambda: not process.speaker.open_streams and not process.live())
    process.let_out(3)
    assert source_of(await process.hear()) == "none"  # at once, though the other had just ended
    assert len(process.speaker.requests) == 2


async def test_listeners_of_another_process_hear_it_from_its_start(made) -> None:
    index = make_index()
    maker, other = made(index), made(index)
    maker.speaker.step = asyncio.Semaphore(0)
    first = asyncio.create_task(maker.hear())
    maker.let_out(1)
    await until(lambda: maker.speaker.open_streams == 1)
    listening = await other.ask()
    heard = [await anext(listening)]
    assert len(heard[0].samples) == SAMPLES_PER_GROUP  # while the second chunk is not made yet
    maker.let_out(2)
    heard += [chunk async for chunk in listening]
    assert samples_of(heard) == samples_of(await first)
    assert source_of(heard) == "joined"
    assert not other.speaker.requests
    await until(lambda: not other.live())
    assert source_of(await other.hear()) == "l1"


async def test_nothing_goes_to_the_index_ahead_of_the_speech(made, monkeypatch) -> None:
    """Whoever asked waits for the stages alone: nobody else can listen yet."""
    index, sent = make_index(), list[int]()
    add = index.add

    async def noted(digest: str, holder: str, start: int, data: Any, *rest: Any) -> Any:
        sent.append(data.nbytes)
        return await add(digest, holder, start, data, *rest)

    monkeypatch.setattr(index, "add", noted)
    maker = made(index)
    maker.speaker.step = asyncio.Semaphore(0)
    heard = asyncio.create_task(maker.hear())
    await until(lambda: maker.speaker.open_streams == 1)
    assert not sent
    maker.let_out(3)
    await heard
    assert sent[0]


async def test_a_maker_without_listeners_of_its_own_goes_on_for_others(made) -> None:
    index = make_index()
    maker, other = made(index), made(index)
    maker.speaker.step = asyncio.Semaphore(0)
    first = await maker.ask()
    maker.let_out(1)
    await anext(first)
    listening = await other.ask()
    heard = [await anext(listening)]
    await until(lambda: any(live._relay.is_heard for live in maker.library._live.values()))
    await first.aclose()
    maker.let_out(2)
    heard += [chunk async for chunk in listening]
    assert len(samples_of(heard)) == 3 * SAMPLES_PER_GROUP * 4
    assert not other.speaker.requests


async def test_a_maker_that_nobody_hears_any_more_stops(made, monkeypatch) -> None:
    monkeypatch.setattr("cache_store.partial.HEARD_S", 0.1)
    monkeypatch.setattr("deployments.speech.relay.LOOK_S", 0.05)
    index = make_index()
    maker, other = made(index), made(index)
    maker.speaker.step = asyncio.Semaphore(0)
    first = await maker.ask()
    maker.let_out(1)
    await anext(first)
    listening = await other.ask()
    await anext(listening)
    await until(lambda: any(live._relay.is_heard for live in maker.library._live.values()))
    await first.aclose()
    assert maker.speaker.open_streams == 1
    await listening.aclose()
    await until(lambda: maker.speaker.open_streams == 0)
    await until(lambda: not other.live())
    assert not other.speaker.requests


async def test_when_its_maker_dies_one_listener_takes_over_without_a_gap(made) -> None:
    index = make_index()
    maker, *others = made(index), made(index), made(index)
    maker.speaker.step = asyncio.Semaphore(0)
    dying = asyncio.create_task(maker.hear())
    maker.let_out(2)
    await until(lambda: maker.speaker.open_streams == 1)
    listening = [await other.ask() for other in others]
    heard = [await first_of(one, 2) for one in listening]
    maker.tier.die()
    for one, chunks in zip(listening, heard, strict=True):
        chunks += [chunk async for chunk in one]
    assert sum(len(other.speaker.requests) for other in others) == 1
    maker.let_out(1)
    whole = samples_of(await dying)
    assert all(samples_of(chunks) == whole for chunks in heard)


async def test_an_index_that_goes_away_makes_a_listener_compute(made) -> None:
    process = made(make_index())
    process.tier.fails = True
    assert source_of(await process.hear()) == "none"
    assert source_of(await process.hear()) == "l1"


async def test_an_error_is_every_listeners_and_nothing_is_kept(made) -> None:
    process = made()
    process.speaker.error = CapacityError("full")
    process.speaker.step = asyncio.Semaphore(0)
    asked = [asyncio.create_task(process.hear()) for _ in range(3)]
    await until(lambda: sum(live.tape.listeners for live in process.library._live.values()) == 3)
    process.let_out(3)
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(answer) for answer in answers] == [CapacityError] * 3
    assert len(process.speaker.requests) == 1
    process.speaker.error, process.speaker.step = None, None
    assert source_of(await process.hear()) == "none"


async def test_a_bad_answer_is_kept_where_the_caller_chose_the_seed(made) -> None:
    process = made(unseeded="derive")
    process.speaker.quality = Quality(Verdict.LOOP, is_retried=True)
    await process.hear()
    again = await process.hear()
    assert source_of(again) == "l1"
    assert again[-1].quality == process.speaker.quality
    await process.hear(UNSEEDED)
    assert source_of(await process.hear(UNSEEDED)) == "none"


async def test_answers_of_other_models_than_were_told_are_not_kept(made) -> None:
    process = made()
    await process.library._models.of("base")
    process.names.names["lm"] = "e" * 64  # replaced, and nobody told yet
    assert source_of(await process.hear()) == "none"
    assert source_of(await process.hear()) == "none"  # under the new name
    assert source_of(await process.hear()) == "l1"


async def test_stages_that_do_not_say_what_they_are_are_asked_to_speak(made) -> None:
    process = made()
    process.names.is_silent = True
    assert [source_of(await process.hear()) for _ in range(2)] == ["none", "none"]


async def test_a_text_that_cannot_be_spoken_is_left_to_the_stages(made) -> None:
    process = made()
    process.speaker.error = TextError("nothing to say", param="input")
    for text in ("…", "half \ud83d"):
        with pytest.raises(TextError):
            await process.hear(replace(REQUEST, text=text))


async def test_a_removed_clips_speech_is_gone_and_what_is_under_way_keeps_nothing(
    made, tmp_path: Path
) -> None:
    process = made(url=str(tmp_path))
    await process.hear()
    await until(lambda: bool(stored_in(tmp_path)))
    process.speaker.step = asyncio.Semaphore(0)
    other = replace(REQUEST, text="Another text.")
    under_way = await process.ask(other)
    begun = process.library.request(FakeVoices(), None)
    voice = await begun.resolve(VoiceReference(None, "aria"))  # and has not spoken yet
    process.let_out(1)
    await anext(under_way)
    await process.library.forget(CLIP)
    assert not stored_in(tmp_path)
    process.let_out(2)
    assert [chunk.last async for chunk in under_way][-1]
    process.let_out(3)
    async with aclosing(begun.speak(replace(REQUEST, text="A third."), voice.prompt)) as late:
        assert [chunk.last async for chunk in late][-1]
    await until(lambda: not process.live())
    assert not stored_in(tmp_path)
    process.speaker.step = None
    assert source_of(await process.hear()) == "none"
    assert source_of(await process.hear(other)) == "none"


async def test_a_tenants_speech_is_its_own(made, tmp_path: Path) -> None:
    process = made(url=str(tmp_path))
    await process.hear()
    assert source_of(await process.hear(namespace="theirs")) == "none"
    assert source_of(await process.hear(namespace="theirs")) == "l1"
    await until(lambda: len(stored_in(tmp_path)) == 2)
    await process.library.forget(CLIP, "theirs")
    assert [path.parts[-3] for path in stored_in(tmp_path)] == ["shared"]
    assert source_of(await process.hear()) == "l1"
    assert source_of(await process.hear(namespace="theirs")) == "none"


@pytest.mark.parametrize(("n_chunks", "flags"), [(1, [True]), (2, [False, True])])
async def test_one_piece_is_told_to_be_the_last_one_whoever_listens(
    made, tmp_path: Path, n_chunks: int, flags: list[bool]
) -> None:
    """A reply whose first audio is its last tells its length, which is in the bytes."""
    index = make_index()
    maker, listener, later = made(index), made(index), made(index)
    maker.speaker.n_chunks = n_chunks
    maker.speaker.step = asyncio.Semaphore(0)
    first = asyncio.create_task(maker.listen())
    await until(lambda: maker.speaker.open_streams == 1)
    second = asyncio.create_task(listener.listen())
    await until(lambda: bool(listener.live()))
    maker.let_out(2 * n_chunks)  # and for the one that is made without the cache
    heard = [await first, await second]
    await until(lambda: not maker.live() and not maker.tier.tasks)
    heard += [await maker.hear(), await later.hear(), await maker.hear(reuse="off")]
    stored = made(url=str(tmp_path))
    stored.speaker.n_chunks = n_chunks
    await stored.hear()
    await stored.library.close()
    heard.append(await made(url=str(tmp_path)).hear())
    sources = ["none", "joined", "l1", "l2", "none", "l3"]
    assert [source_of(chunks) for chunks in heard] == sources
    assert all((len(chunks) == 1) == (n_chunks == 1) for chunks in heard)
    assert {samples_of(chunks) for chunks in heard} == {samples_of(heard[0])}
    assert {chunks[-1].usage for chunks in heard} == {Usage(7, 5 * n_chunks)}
    assert [chunk.last for chunk in heard[0]] == flags


async def test_the_state_is_told(made) -> None:
    process = made()
    await process.hear()
    await process.hear()
    report = await process.library.report()
    assert report["computes"] == 1
    assert report["requests"]["speech"]["l1"] == {"hit": 1, "miss": 2}
    assert (await made(enabled=False).library.report()) == {"enabled": False}
