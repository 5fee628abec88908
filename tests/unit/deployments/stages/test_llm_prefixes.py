"""A new engine finds a voice's prefix in the store and says the same; foreign ones it makes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cache_store.codec import Record
from cache_store.keys import VoiceKey
from cache_store.settings import CacheSettings
from deployments.stages.llm_prefixes import NewPrefix, PrefixLibrary
from pipeline.contracts import Int32Array, Sampling
from pipeline.stepaudio.llm.step1 import Step1ForCausalLM
from tests.unit.pipeline.stepaudio.llm.engine.test_prefix import (
    VOICE_A,
    VOICE_B,
    make_engine,
    model,
    prompt,
)
from tests.waiting import until

pytestmark = [pytest.mark.unit, pytest.mark.slow]
__all__ = ["model"]  # a fixture

CLIP, OTHER_CLIP = "ab" * 32, "cd" * 32


class Process:
    """An engine and its library, as a replica has them."""

    def __init__(
        self,
        model: Step1ForCausalLM,
        store: Path,
        made_by: str = "ef" * 32,
        most: int = 2**24,
        held_bytes: int = 2**24,
    ) -> None:
        self.engine = make_engine(model, held_bytes)
        settings = CacheSettings(url=str(store), l2="off")
        self.library = PrefixLibrary(settings, self.engine, made_by, most)

    async def say(self, ids: Int32Array, clip: str = CLIP) -> list[int]:
        new = await self.library.bring(ids, clip)
        said: list[int] = []
        async for chunk in self.engine.stream(ids, Sampling(seed=1, max_tokens=40), voice=clip):
            if new is not None:
                self.library.offer(new)
                new = None
            said += chunk.ids.tolist()
        return said

    @property
    def computed(self) -> int:
        return self.engine.gauges().prefix_misses_total

    async def end(self) -> None:
        await asyncio.sleep(0)
        await self.library.records.close()
        self.engine.close()


def records(store: Path) -> list[Path]:
    return [path for path in store.rglob("*.sva") if "v1" in path.relative_to(store).parts[:1]]


@pytest.fixture
def plain(model: Step1ForCausalLM) -> Iterator[list[int]]:
    """What is said without any reuse."""
    engine = make_engine(model, 0)

    async def said() -> list[int]:
        stream = engine.stream(prompt(VOICE_A, 2), Sampling(seed=1, max_tokens=40))
        return [token async for chunk in stream for token in chunk.ids.tolist()]

    yield asyncio.run(said())
    engine.close()


async def written(model: Step1ForCausalLM, store: Path) -> None:
    first = Process(model, store)
    await first.say(prompt(VOICE_A, 1))
    assert first.computed == 1
    await until(lambda: bool(records(store)))
    await first.end()


def test_a_new_engine_finds_it_and_says_what_it_would_have_said(
    model: Step1ForCausalLM, tmp_path: Path, plain: list[int]
) -> None:
    async def case() -> None:
        await written(model, tmp_path)
        second = Process(model, tmp_path)
        assert await second.say(prompt(VOICE_A, 2)) == plain
        assert await second.say(prompt(VOICE_A, 2)) == plain
        assert second.computed == 0
        assert (second.library.records.found_total, second.library.records.missed_total) == (1, 0)
        await second.end()
        assert len(records(tmp_path)) == 1

    asyncio.run(case())


async def test_other_ids_another_model_and_another_clip_do_not_find_it(
    model: Step1ForCausalLM, tmp_path: Path
) -> None:
    await written(model, tmp_path)
    same, other = Process(model, tmp_path), Process(model, tmp_path, made_by="12" * 32)
    for process, ids, clip in (
        (same, prompt(VOICE_B, 1), CLIP),
        (same, prompt(VOICE_A, 1), OTHER_CLIP),
        (other, prompt(VOICE_A, 1), CLIP),
    ):
        assert isinstance(await process.library.bring(ids, clip), NewPrefix)
    await same.end()
    await other.end()


async def test_bits_of_another_length_are_not_taken(
    model: Step1ForCausalLM, tmp_path: Path
) -> None:
    process = Process(model, tmp_path)
    new = await process.library.bring(prompt(VOICE_A, 1), CLIP)
    assert new is not None
    await process.library.records.keep(new.key, Record({"bits": np.ones(12, np.uint8)}, {}))
    await process.say(prompt(VOICE_A, 1))
    assert process.computed == 1
    await process.end()


async def test_what_cannot_be_kept_has_no_clip_or_no_prefix_is_not_looked_for(
    model: Step1ForCausalLM, tmp_path: Path
) -> None:
    small, wide = Process(model, tmp_path, most=1000), Process(model, tmp_path)
    empty = Process(model, tmp_path, held_bytes=0)
    for process, ids, clip in (
        (small, prompt(VOICE_A, 1), CLIP),
        (wide, prompt(VOICE_A, 1), ""),
        (empty, prompt(VOICE_A, 1), CLIP),
        (wide, np.arange(20, 40, dtype=np.int32), CLIP),
    ):
        assert await process.library.bring(ids, clip) is None
        await process.say(ids, clip)
        assert process.library.records.missed_total == 0
    for process in (small, wide, empty):
        await process.end()
    assert records(tmp_path) == []


async def test_a_removed_clip_leaves_no_prefix_and_brings_none_back(
    model: Step1ForCausalLM, tmp_path: Path
) -> None:
    await written(model, tmp_path)
    process = Process(model, tmp_path)
    ids = prompt(VOICE_A, 1)
    await process.say(ids)
    key = VoiceKey("shared", CLIP, "ef" * 32)
    under_way = NewPrefix(key, process.engine.prefix(ids))
    await process.library.records.forget(CLIP)
    process.library.offer(under_way)
    process.engine.forget(CLIP)
    assert await process.library.bring(ids, CLIP) is None
    await process.say(ids)
    await process.end()
    assert records(tmp_path) == []


async def test_a_tenant_finds_no_prefix_of_another_and_removes_its_own_alone(
    model: Step1ForCausalLM, tmp_path: Path
) -> None:
    first = Process(model, tmp_path)
    names = [CLIP, f"acme:{CLIP}", f"other:{CLIP}"]
    for name in names:
        await first.say(prompt(VOICE_A, 1), name)
    assert first.computed == len(names)
    await until(lambda: len(records(tmp_path)) == len(names))
    await first.library.records.forget(names[1])
    assert len(records(tmp_path)) == len(names) - 1
    await first.end()
    second = Process(model, tmp_path)
    for name in names:
        await second.say(prompt(VOICE_A, 1), name)
    assert second.computed == 1
    await second.end()


async def test_the_record_is_the_clips(model: Step1ForCausalLM, tmp_path: Path) -> None:
    process = Process(model, tmp_path)
    new = await process.library.bring(prompt(VOICE_A, 1), CLIP)
    assert new is not None
    assert new.key.clip_digest == CLIP
    await process.end()
