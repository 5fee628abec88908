"""A new process finds a voice's state in the store; a damaged, foreign or removed one it makes."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cache_store.codec import Record
from cache_store.keys import VoiceKey
from cache_store.settings import CacheSettings
from deployments.stages.vocoder_states import StateLibrary, VoiceShelf
from pipeline.contracts import VoicePrompt
from pipeline.stepaudio.vocoder.voice_state import StateArrays, VoiceState
from pipeline.stepaudio.vocoder.wave_decoder import StepWaveDecoder
from tests.vocoder_files import join, make_ids, make_voice, token_stream, write_vocoder
from tests.waiting import until

pytestmark = [pytest.mark.unit, pytest.mark.slow]

CLIP = "ab" * 32
OTHER_CLIP = "cd" * 32
VOICE = make_voice(6)
STEPS = 2


@pytest.fixture(scope="module")
def vocoder_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vocoder(tmp_path_factory.mktemp("vocoder"))


class Process:
    """A decoder and its library, as a replica has them."""

    def __init__(self, vocoder_dir: Path, store: Path, *, steps: int = STEPS, **cache: int) -> None:
        self.decoder = StepWaveDecoder(
            vocoder_dir, threads=1, steps=steps, prompt_memory_bytes=10**7
        )
        self.made = 0
        settings = CacheSettings(url=str(store), l2="off", **cache)  # type: ignore[arg-type]
        self.library = StateLibrary(settings, self.decoder.state_fingerprint)
        make = self.decoder._model.voice_state

        def counted(*args: object) -> VoiceState:
            self.made += 1
            return make(*args)  # type: ignore[arg-type]

        self.decoder._model.voice_state = counted  # type: ignore[method-assign]

    def shelf(self, clip: str = CLIP, voice: VoicePrompt = VOICE) -> VoiceShelf:
        shelf = self.library.shelf(replace(voice, clip_digest=clip))
        assert shelf is not None
        return shelf

    async def speak(self, clip: str = CLIP, voice: VoicePrompt = VOICE) -> np.ndarray:
        stream = self.decoder.stream(
            token_stream(make_ids(8), 8), voice, owner=clip, shelf=self.shelf(clip, voice)
        )
        return join([chunk.samples async for chunk in stream])

    async def end(self) -> None:
        """Writes what is queued."""
        await asyncio.sleep(0)
        await (await self.library.records.cache()).close()
        self.decoder.close()


@pytest.fixture
def cold(vocoder_dir: Path) -> Iterator[StepWaveDecoder]:
    decoder = StepWaveDecoder(vocoder_dir, threads=1, steps=STEPS)
    yield decoder
    decoder.close()


def records(store: Path) -> list[Path]:
    """What is stored, but for what was set aside."""
    return [path for path in store.rglob("*.sva") if "v1" in path.relative_to(store).parts[:1]]


def record_of(arrays: StateArrays) -> Record:
    return Record({"keys": arrays.keys, "rest": arrays.rest}, {})


async def written(vocoder_dir: Path, store: Path) -> np.ndarray:
    first = Process(vocoder_dir, store)
    heard = await first.speak()
    await until(lambda: bool(records(store)))
    await first.end()
    assert first.made == 1
    return heard


async def test_a_new_process_starts_warm_and_says_the_same(
    vocoder_dir: Path, tmp_path: Path, cold: StepWaveDecoder
) -> None:
    heard = await written(vocoder_dir, tmp_path)
    second = Process(vocoder_dir, tmp_path)
    assert np.array_equal(await second.speak(), heard)
    assert np.array_equal(await second.speak(), heard)
    assert second.made == 0
    assert (second.library.records.found_total, second.library.records.missed_total) == (1, 0)
    await second.end()
    nowhere = join([c.samples async for c in cold.stream(token_stream(make_ids(8), 8), VOICE)])
    assert np.array_equal(nowhere, heard)
    assert len(records(tmp_path)) == 1


async def test_a_damaged_record_is_made_again(vocoder_dir: Path, tmp_path: Path) -> None:
    heard = await written(vocoder_dir, tmp_path)
    (path,) = records(tmp_path)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    second = Process(vocoder_dir, tmp_path)
    assert np.array_equal(await second.speak(), heard)
    assert second.made == 1
    await until(lambda: records(tmp_path) != [] and path.read_bytes() != bytes(damaged))
    await second.end()
    third = Process(vocoder_dir, tmp_path)
    assert np.array_equal(await third.speak(), heard)
    assert third.made == 0
    await third.end()


def with_other_weights(vocoder_dir: Path, copy: Path) -> Path:
    shutil.copytree(vocoder_dir, copy)
    with (copy / "flow.pt").open("ab") as weights:
        weights.write(b"\0")  # the same tensors in another file
    return copy


async def test_another_checkpoint_other_steps_and_another_encoder_never_meet_a_state(
    vocoder_dir: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    await written(vocoder_dir, store)
    changed = with_other_weights(vocoder_dir, tmp_path / "other")
    others = [Process(changed, store), Process(vocoder_dir, store, steps=STEPS + 1)]
    for other in others:
        assert await other.shelf().find() is None
        await other.end()
    same = Process(vocoder_dir, store)
    assert await same.shelf().find() is not None
    assert await same.shelf(OTHER_CLIP).find() is None
    foreign = VoicePrompt(
        VOICE.vq02,
        VOICE.vq06,
        VOICE.prompt_mel,
        VOICE.speaker_embedding,
        VOICE.duration_s,
        "12" * 32,
    )
    assert await same.shelf(voice=foreign).find() is None
    await same.end()


async def test_numbers_of_another_length_are_not_taken_for_a_state(
    vocoder_dir: Path, tmp_path: Path, cold: StepWaveDecoder
) -> None:
    process = Process(vocoder_dir, tmp_path)
    wrong = StateArrays(np.ones(12, np.int16), np.ones(3, np.float32))
    await process.library.records.keep(process.shelf().key, record_of(wrong))
    heard = await process.speak()
    assert process.made == 1
    expected = join([c.samples async for c in cold.stream(token_stream(make_ids(8), 8), VOICE)])
    assert np.array_equal(heard, expected)
    await process.end()


async def test_a_removed_clip_leaves_no_state_and_brings_none_back(
    vocoder_dir: Path, tmp_path: Path
) -> None:
    await written(vocoder_dir, tmp_path)
    process = Process(vocoder_dir, tmp_path)
    await process.speak(OTHER_CLIP)
    await until(lambda: len(records(tmp_path)) == 2)
    arrays = await process.shelf().find()
    assert arrays is not None
    await process.library.records.forget(CLIP)
    await process.library.records.keep(
        process.shelf().key, record_of(arrays)
    )  # of a request that was under way
    assert await process.shelf().find() is None
    assert await process.shelf(OTHER_CLIP).find() is not None
    await process.end()
    assert len(records(tmp_path)) == 1


async def test_what_is_larger_than_a_state_may_be_stays_in_its_process(
    vocoder_dir: Path, tmp_path: Path
) -> None:
    process = Process(vocoder_dir, tmp_path, max_state_bytes=1000)
    await process.speak()
    await process.end()
    assert records(tmp_path) == []
    none = StateLibrary(CacheSettings(url="none", max_state_bytes=0), "ef" * 32)
    assert none.shelf(replace(VOICE, clip_digest=CLIP)) is None
    assert StateLibrary(CacheSettings(url="none"), "ef" * 32).shelf(VOICE) is None


def test_the_record_is_the_clips(vocoder_dir: Path, tmp_path: Path) -> None:
    process = Process(vocoder_dir, tmp_path)
    key = process.shelf().key
    assert isinstance(key, VoiceKey)
    assert key.clip_digest == CLIP
    process.decoder.close()
