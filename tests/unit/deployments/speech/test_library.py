"""Finished speech is answered again: what makes another answer of it, and what removes it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.contracts import (
    Drawn,
    Mode,
    Quality,
    Sampling,
    SpeechRequest,
    Usage,
    Verdict,
    VoiceReference,
)
from pipeline.errors import TextError
from tests.fakes import FakeVoices
from tests.unit.cache_store.replicas import make_index
from tests.unit.deployments.speech.processes import (
    CLIP,
    REQUEST,
    UNSEEDED,
    Process,
    samples_of,
    source_of,
    stored_in,
)
from tests.waiting import until

pytestmark = pytest.mark.unit


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


async def test_the_state_is_told(made) -> None:
    process = made()
    await process.hear()
    await process.hear()
    report = await process.library.report()
    assert report["computes"] == 1
    assert report["requests"]["speech"]["l1"] == {"hit": 1, "miss": 2}
    assert (await made(enabled=False).library.report()) == {"enabled": False}
