"""A voice's state: made without the answer, kept, and the same bytes whether it was kept or not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.contracts import TokenChunk, VoicePrompt
from pipeline.stepaudio.vocoder.flow.flow import FlowCache
from pipeline.stepaudio.vocoder.hift.stream import HiftState, decode_chunk
from pipeline.stepaudio.vocoder.model import VocoderModel
from pipeline.stepaudio.vocoder.prompt_memory import state_key, voice_key
from pipeline.stepaudio.vocoder.voice_state import VoiceState
from pipeline.stepaudio.vocoder.wave_decoder import RECENT_FRAMES, StepWaveDecoder
from tests.vocoder_files import join, make_ids, make_voice, token_stream, write_vocoder
from tests.waiting import until

pytestmark = pytest.mark.unit

STEPS = 3
CHUNKS = (15, 24, 48)
MUCH_BYTES = 10**8
DIRECT_ERROR = 2e-4  # of mels of size 4: another order of sums, ten steps of four blocks


@pytest.fixture(scope="module")
def vocoder_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vocoder(tmp_path_factory.mktemp("vocoder"))


@pytest.fixture(scope="module")
def cold(vocoder_dir: Path) -> Iterator[StepWaveDecoder]:
    """Keeps nothing."""
    decoder = StepWaveDecoder(vocoder_dir, threads=1, steps=STEPS)
    yield decoder
    assert decoder.active_streams == 0
    decoder.close()


@pytest.fixture
def warm(vocoder_dir: Path) -> Iterator[StepWaveDecoder]:
    decoder = StepWaveDecoder(vocoder_dir, threads=1, steps=STEPS, prompt_memory_bytes=MUCH_BYTES)
    yield decoder
    decoder.close()


async def spoken(decoder: StepWaveDecoder, ids: np.ndarray, voice: VoicePrompt) -> np.ndarray:
    return join([chunk.samples async for chunk in decoder.stream(token_stream(ids, 3), voice)])


@pytest.mark.slow
async def test_the_same_bytes_cold_warm_and_in_a_crowd(
    cold: StepWaveDecoder, warm: StepWaveDecoder
) -> None:
    voices = [make_voice(5, 1), make_voice(9, 2)]
    jobs = [(make_ids(30, i), voices[i % 2]) for i in range(4)]
    alone = [await spoken(cold, *job) for job in jobs]
    for decoder in (warm, warm, cold):
        for job, expected in zip(jobs, alone, strict=True):
            assert np.array_equal(await spoken(decoder, *job), expected)
        crowd = await asyncio.gather(*(spoken(decoder, *job) for job in jobs))
        for heard, expected in zip(crowd, alone, strict=True):
            assert np.array_equal(heard, expected)


@pytest.mark.slow
async def test_whole_utterances_are_the_same_bytes_cold_and_warm(
    cold: StepWaveDecoder, warm: StepWaveDecoder
) -> None:
    ids, voice = make_ids(12), make_voice(5)
    expected = await asyncio.to_thread(cold.decode, ids, voice)
    for _ in range(2):
        assert np.array_equal(await asyncio.to_thread(warm.decode, ids, voice), expected)
    await spoken(warm, ids, voice)
    assert np.array_equal(await asyncio.to_thread(warm.decode, ids, voice), expected)


async def test_the_prompt_is_run_before_any_token_comes(warm: StepWaveDecoder) -> None:
    voice, may_come = make_voice(5), asyncio.Event()

    async def later() -> AsyncIterator[TokenChunk]:
        await may_come.wait()
        yield TokenChunk(make_ids(4), last=True)

    stream = warm.stream(later(), voice)
    first = asyncio.ensure_future(anext(stream))
    await until(lambda: state_key(voice_key(voice)) in warm._prompt_memory._entries)
    may_come.set()
    assert (await first).last
    await stream.aclose()


async def test_a_reader_that_leaves_before_the_first_token_leaves_nothing(
    warm: StepWaveDecoder,
) -> None:
    async def never() -> AsyncIterator[TokenChunk]:
        await asyncio.Event().wait()
        yield TokenChunk(make_ids(1), last=True)

    stream = warm.stream(never(), make_voice(5))
    first = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await stream.aclose()
    assert warm.active_streams == 0
    assert warm._slabs.used_bytes == 0


async def test_states_are_kept_within_their_bytes_and_the_oldest_go(vocoder_dir: Path) -> None:
    voices, ids = [make_voice(6, seed) for seed in range(4)], make_ids(6)
    unbound = StepWaveDecoder(vocoder_dir, threads=1, steps=STEPS, prompt_memory_bytes=MUCH_BYTES)
    await spoken(unbound, ids, voices[0])
    one_bytes = unbound._prompt_memory.used_bytes
    unbound.close()
    decoder = StepWaveDecoder(
        vocoder_dir, threads=1, steps=STEPS, prompt_memory_bytes=2 * one_bytes
    )
    for voice in voices:
        await spoken(decoder, ids, voice)
        assert decoder._prompt_memory.used_bytes <= 2 * one_bytes
    kept = {key for key in decoder._prompt_memory._entries if isinstance(key, tuple)}
    assert kept == {state_key(voice_key(voice)) for voice in voices[-2:]}
    decoder.close()


def test_a_state_holds_half_of_what_its_frames_take(warm: StepWaveDecoder) -> None:
    model = warm._model
    with torch.inference_mode():
        prompt_tensors = model.prompt_tensors(make_voice(5))
        state = model.voice_state(prompt_tensors)
    assert state.n_frames == prompt_tensors.mel.shape[1]
    assert state.keys.nbytes == warm.memory.slab.kept_bytes(state.n_frames)
    assert state.keys.dtype == torch.float16


def cut(rows: Tensor) -> Iterator[tuple[Tensor, Tensor | None]]:
    """A stream's chunks with the rows ahead of them; None at the end."""
    sizes = list(CHUNKS)
    while rows.shape[1] >= sizes[0] + 3:
        n = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        yield rows[:, :n], rows[:, n : n + 3]
        rows = rows[:, n:]
    yield rows, None


def plain_mels(
    model: VocoderModel, rows: Tensor, voice: VoicePrompt, cache: FlowCache
) -> Iterator[tuple[Tensor, bool]]:
    """By the plain solver, with caches that are joined and copied; True with the last."""
    embedding = model.prompt_tensors(voice).embedding
    for chunk, ahead in cut(rows):
        mel, cache = model.flow.inference_chunk(
            chunk, ahead, embedding, cache, model.schedule, RECENT_FRAMES
        )
        yield mel, ahead is None


@pytest.mark.slow
async def test_exact_is_the_plain_modules_one_after_another(vocoder_dir: Path) -> None:
    decoder = StepWaveDecoder(vocoder_dir, threads=1, steps=STEPS, is_exact=True)
    model, ids, voice = decoder._model, make_ids(50), make_voice(5)
    heard = await spoken(decoder, ids, voice)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        rows, prompt_tensors = model.rows(ids), model.prompt_tensors(voice)
        assert model.flow.decoder.recorded is None
        cache = model.flow.setup_cache(
            prompt_tensors.rows,
            rows[:, :3],
            prompt_tensors.mel,
            prompt_tensors.embedding,
            model.schedule,
        )
        parts, state = [], None
        for mel, is_last in plain_mels(model, rows, voice, cache):
            state = state or HiftState.start(mel)
            samples, state = decode_chunk(model.hift, mel, state, model.seed, last=is_last)
            parts.append(samples[0].clamp(-1, 1).numpy())
        offline = model.flow.inference(
            rows, prompt_tensors.rows, prompt_tensors.mel, prompt_tensors.embedding, model.schedule
        )
        noise = model.hift.m_source.noise(model.seed, 0, offline.shape[2])
        whole = model.hift(offline, noise)[0].clamp(-1, 1).numpy()
    torch.set_num_threads(n_threads)
    assert np.array_equal(heard, join(parts))
    assert np.array_equal(await asyncio.to_thread(decoder.decode, ids, voice), whole)
    decoder.close()


@torch.inference_mode()
def test_steps_on_slabs_are_the_plain_steps_within_rounding(cold: StepWaveDecoder) -> None:
    """Also past the point where old frames are forgotten, and after a state kept in 16 bits."""
    model, voice = cold._model, make_voice(5)
    rows, prompt_tensors = model.rows(make_ids(60)), model.prompt_tensors(voice)
    state = model.voice_state(prompt_tensors)
    small = model.new_slab(
        prompt_tensors.mel.shape[1] + 40
    )  # a stream that outgrows it gets another
    solver, model.flow.decoder.recorded = model.flow.decoder.recorded, None
    plain = [mel for mel, _ in plain_mels(model, rows, voice, state.placed(None))]
    model.flow.decoder.recorded = solver
    direct = [mel for mel, _ in plain_mels(model, rows, voice, state.placed(small))]
    for one, other in zip(plain, direct, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=DIRECT_ERROR)
    assert not any(torch.equal(one, other) for one, other in zip(plain, direct, strict=True))


@torch.inference_mode()
def test_whole_is_one_chunk_behind_the_state(cold: StepWaveDecoder) -> None:
    model, voice = cold._model, make_voice(5)
    rows, prompt_tensors = model.rows(make_ids(20)), model.prompt_tensors(voice)
    state = model.voice_state(prompt_tensors)
    chunk, _ = model.flow.inference_chunk(
        rows, None, prompt_tensors.embedding, state.placed(None), model.schedule
    )
    mu, _ = model.flow.mu(rows, None, state.encoder)
    condition = model.flow.condition(mu, prompt_tensors.embedding, mu[:, :0])
    assert model.direct is not None
    torch.testing.assert_close(model.direct.whole(condition, state), chunk, rtol=0, atol=1e-5)


def test_a_state_read_back_is_what_its_maker_reads(cold: StepWaveDecoder) -> None:
    model, voice = cold._model, make_voice(5)
    with torch.inference_mode():
        prompt_tensors = model.prompt_tensors(voice)
        state = model.voice_state(prompt_tensors)
        again = VoiceState.of(state.placed(model.new_slab(state.n_frames + 8)))
    assert torch.equal(again.keys, state.keys)
    assert torch.equal(again.conv, state.conv)
