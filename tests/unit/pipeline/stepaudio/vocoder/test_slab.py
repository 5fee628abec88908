"""Caches written in place equal caches that are copied, and every slab comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.contracts import VoicePrompt
from pipeline.errors import StageError
from pipeline.stepaudio import tokens
from pipeline.stepaudio.config import VocoderConfig
from pipeline.stepaudio.vocoder import stream as stream_module
from pipeline.stepaudio.vocoder import wave_decoder
from pipeline.stepaudio.vocoder.flow.flow import Flow, FlowCache, stretch_mel
from pipeline.stepaudio.vocoder.memory_plan import SLAB_FRAMES, SlabShape
from pipeline.stepaudio.vocoder.prompt_memory import tensor_bytes
from pipeline.stepaudio.vocoder.slab import (
    SlabBlock,
    SlabPool,
    copied_into,
    empty_caches,
)
from pipeline.stepaudio.vocoder.wave_decoder import StepWaveDecoder
from tests.vocoder_files import join, make_ids, make_voice, small_modules, token_stream
from tests.vocoder_files import write_vocoder as write

pytestmark = pytest.mark.unit

STEPS = 3
RECENT = 20
N_PROMPT = 4  # groups


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("vocoder"))


@pytest.fixture(scope="module")
def flow(directory: Path) -> Flow:
    return small_modules(directory)[0]


@pytest.fixture(scope="module")
def shape(directory: Path) -> SlabShape:
    return SlabShape.of(VocoderConfig.load(directory).estimator, STEPS)


@pytest.fixture
def decoder(directory: Path) -> Iterator[StepWaveDecoder]:
    decoder = StepWaveDecoder(directory, threads=1, steps=STEPS, recent_frames=RECENT)
    yield decoder
    assert decoder._slabs.used_bytes == 0
    decoder.close()


@torch.inference_mode()
def mels(flow: Flow, shape: SlabShape, way: str, room_frames: int) -> tuple[list[Any], FlowCache]:
    """Four chunks after a prompt, with caches as `way` says."""
    voice, rows = make_voice(N_PROMPT), torch.from_numpy(tokens.to_rows(make_ids(21)))[None]
    prompt_rows = tokens.to_rows(tokens.interleave(voice.vq02, voice.vq06))
    mel = stretch_mel(torch.from_numpy(voice.prompt_mel)[None], 6 * N_PROMPT)
    embedding = torch.from_numpy(voice.speaker_embedding)[None]
    schedule = flow.schedule(STEPS)
    slab = SlabPool(shape, torch.device("cpu"), 0).take(room_frames).fill_(torch.nan)
    into = empty_caches(slab, shape.width) if way == "in place" else None
    cache = flow.setup_cache(
        torch.from_numpy(prompt_rows)[None],
        rows[:, :3],
        mel,
        embedding,
        schedule,
        into=into,
    )
    if way == "copied":
        cache = copied_into(slab, cache)
    made = []
    for at, end in ((0, 15), (15, 20), (20, 44), (44, 60)):
        mel, cache = flow.inference_chunk(
            rows[:, at:end], rows[:, end : end + 3], embedding, cache, schedule, RECENT
        )
        made.append(mel)
    return made, cache


@pytest.mark.slow
@pytest.mark.parametrize("way", ["copied", "in place"])
@pytest.mark.parametrize("room_frames", [6 * N_PROMPT + RECENT + 48, 64])
def test_caches_in_a_slab_change_no_bit(
    flow: Flow, shape: SlabShape, way: str, room_frames: int
) -> None:
    """Also where a chunk outgrows its room, the smaller of the two."""
    plain, _ = mels(flow, shape, "plain", room_frames)
    slabbed, cache = mels(flow, shape, way, room_frames)
    for one, other in zip(plain, slabbed, strict=True):
        assert torch.equal(one, other)
    assert isinstance(cache.estimator[0][0], SlabBlock) == (room_frames > 64)


def test_frames_take_what_the_shape_says(flow: Flow, shape: SlabShape) -> None:
    _, cache = mels(flow, shape, "plain", 1)
    kept = sum(b.keys.nbytes + b.values.nbytes for step in cache.estimator for b in step)
    assert kept == cache.estimator[0][0].keys.shape[2] * shape.frame_bytes
    assert shape.slab_bytes(1) == SLAB_FRAMES * shape.frame_bytes


def test_the_pool_hands_slabs_out_again_and_is_bounded(shape: SlabShape) -> None:
    pool = SlabPool(shape, torch.device("cpu"), shape.slab_bytes(160))
    first, second = pool.take(50), pool.take(64)
    assert first.nbytes == second.nbytes == shape.slab_bytes(64) == pool.held_bytes // 2
    pool.give(first)
    assert pool.take(33) is first
    pool.give(first)
    other = pool.take(90)
    assert pool.held_bytes == second.nbytes + other.nbytes, "the free one made room"
    for slab in (second, other):
        pool.give(slab)
    assert pool.used_bytes == 0
    assert pool.held_bytes == second.nbytes + other.nbytes
    larger = pool.take(160)
    assert pool.held_bytes == larger.nbytes


async def spoken(
    decoder: StepWaveDecoder, ids: np.ndarray, voice: VoicePrompt, first: int | None = None
) -> np.ndarray:
    stream = decoder.stream(token_stream(ids, 5), voice, first)
    return join([chunk.samples async for chunk in stream])


async def test_a_slab_that_another_stream_left_changes_no_byte(decoder: StepWaveDecoder) -> None:
    fresh = await spoken(decoder, make_ids(30), make_voice(6))
    await spoken(decoder, make_ids(30, 5), make_voice(6, 3))
    again = await spoken(decoder, make_ids(30), make_voice(6))
    assert np.array_equal(fresh, again)
    assert decoder.cache_bytes == decoder.memory.slab.slab_bytes(
        decoder.memory.slab_frames(18, (15, 24, 48))
    ), "one slab served all three"


@pytest.mark.slow
@pytest.mark.parametrize("max_batch", [1, 4])
async def test_streams_that_are_left_give_their_slabs_back(directory: Path, max_batch: int) -> None:
    """Cancelled before, during and after their first sounds, alone or in batches."""
    decoder = StepWaveDecoder(directory, threads=1, steps=STEPS, max_batch=max_batch)
    alone = await spoken(decoder, make_ids(30), make_voice(5))
    for turn in range(6):
        tasks = [
            asyncio.create_task(spoken(decoder, make_ids(40, i), make_voice(3 + i, i)))
            for i in range(6)
        ]
        await asyncio.sleep(0.02 * turn)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert decoder._slabs.used_bytes == 0
        assert decoder.cache_bytes <= wave_decoder.SLAB_BYTES
    async with aclosing(decoder.stream(token_stream(make_ids(40), 5), make_voice(5))) as stream:
        await anext(stream)
        assert decoder._slabs.used_bytes > 0
    assert decoder._slabs.used_bytes == 0
    np.testing.assert_allclose(await spoken(decoder, make_ids(30), make_voice(5)), alone, atol=5e-4)
    decoder.close()


async def test_a_failing_stream_gives_its_slab_back(
    decoder: StepWaveDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(stream_module, "decode_chunk", fail)
    with pytest.raises(StageError, match="out of memory"):
        await spoken(decoder, make_ids(30), make_voice(5))
    assert decoder._slabs.used_bytes == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_groups", "first"), [(1, None), (5, None), (34, None), (90, 250), (40, 1), (60, None)]
)
async def test_a_stream_never_holds_more_than_was_planned(
    decoder: StepWaveDecoder, monkeypatch: pytest.MonkeyPatch, n_groups: int, first: int | None
) -> None:
    held: list[int] = []
    is_in_slab: list[bool] = []
    emit = stream_module.Utterance._emit

    def watched(self: Any, mel: torch.Tensor, cache: FlowCache, *, last: bool) -> Any:
        estimator = cache.estimator
        views = sum(b.keys.nbytes + b.values.nbytes for step in estimator for b in step)
        held.append(views + tensor_bytes(cache.encoder))
        is_in_slab.append(isinstance(estimator[0][0], SlabBlock))
        return emit(self, mel, cache, last=last)

    monkeypatch.setattr(stream_module.Utterance, "_emit", watched)
    await spoken(decoder, make_ids(n_groups), make_voice(5), first)
    assert all(is_in_slab)
    assert max(held) <= decoder.memory.stream_bytes(15, first)
