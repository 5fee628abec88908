"""The vocoder stage: streams, their independence, their ends, and what they leave behind."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.contracts import AudioChunk, TokenChunk, VoicePrompt
from pipeline.errors import AudioError, CheckpointError, ConfigError, StageError
from pipeline.serving.listener import Listener
from pipeline.serving.terms import Service, Terms
from pipeline.stepaudio.health import StageHealth
from pipeline.stepaudio.vocoder import stream as stream_module
from pipeline.stepaudio.vocoder import wave_decoder
from pipeline.stepaudio.vocoder.decode_worker import Job
from pipeline.stepaudio.vocoder.flow.flow import FlowCache
from pipeline.stepaudio.vocoder.hift.generator import Hift
from pipeline.stepaudio.vocoder.slab import SlabSteps
from pipeline.stepaudio.vocoder.wave_decoder import StepWaveDecoder
from tests.async_generators import generators
from tests.vocoder_files import join, make_ids, make_voice, token_stream, write_vocoder
from tests.waiting import GIVE_UP_S, until, wait_until

pytestmark = pytest.mark.unit

GROUP_SAMPLES = 2880


@pytest.fixture(scope="module")
def vocoder_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vocoder(tmp_path_factory.mktemp("vocoder"))


@pytest.fixture(scope="module")
def decoder(vocoder_dir: Path) -> Iterator[StepWaveDecoder]:
    decoder = StepWaveDecoder(vocoder_dir, threads=1, steps=4)
    yield decoder
    assert decoder.active_streams == 0
    decoder.close()


async def collect(
    decoder: StepWaveDecoder, ids: np.ndarray, voice: VoicePrompt, groups_per_chunk: int = 1
) -> list[AudioChunk]:
    return [chunk async for chunk in decoder.stream(token_stream(ids, groups_per_chunk), voice)]


def samples_of(chunks: list[AudioChunk]) -> np.ndarray:
    return join(chunk.samples for chunk in chunks)


@pytest.mark.slow
@pytest.mark.parametrize("n_groups", [0, 1, 2, 5, 6, 7, 13, 14, 30])
async def test_stream_has_as_many_samples_as_offline(
    decoder: StepWaveDecoder, n_groups: int
) -> None:
    ids, voice = make_ids(n_groups), make_voice()
    chunks = await collect(decoder, ids, voice)
    offline = await asyncio.to_thread(decoder.decode, ids, voice)
    assert [chunk.last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert all(len(chunk.samples) for chunk in chunks[:-1])
    streamed = samples_of(chunks)
    assert streamed.shape == offline.shape == (n_groups * GROUP_SAMPLES,)
    assert streamed.dtype == offline.dtype == np.float32
    if n_groups:
        assert np.abs(streamed).max() <= 1
        assert 0.2 < streamed.std() / offline.std() < 5


async def test_chunks_follow_the_schedule(decoder: StepWaveDecoder) -> None:
    """15, 24, 48, 48 … rows of 960 samples, of which the newest 8 frames of 480 wait."""
    chunks = await collect(decoder, make_ids(50), make_voice())
    assert [len(chunk.samples) // 480 for chunk in chunks] == [22, 48, 96, 96, 38]


async def test_borders_do_not_depend_on_arrival(decoder: StepWaveDecoder) -> None:
    ids, voice = make_ids(20), make_voice()
    one = await collect(decoder, ids, voice)
    for groups_per_chunk in (3, 20):
        other = await collect(decoder, ids, voice, groups_per_chunk)
        assert [len(c.samples) for c in other] == [len(c.samples) for c in one]
        assert np.array_equal(samples_of(one), samples_of(other))

    async def all_in_last() -> AsyncIterator[TokenChunk]:
        yield TokenChunk(ids, last=True)

    together = [chunk async for chunk in decoder.stream(all_in_last(), voice)]
    assert np.array_equal(samples_of(one), samples_of(together))


@pytest.mark.slow
async def test_interleaved_streams_equal_serial_ones(decoder: StepWaveDecoder) -> None:
    jobs = [(make_ids(12 + 4 * i, i), make_voice(3 + i, i)) for i in range(4)]
    serial = [samples_of(await collect(decoder, *job)) for job in jobs]
    together = await asyncio.gather(*(collect(decoder, *job) for job in jobs))
    for alone, crowded in zip(serial, together, strict=True):
        assert np.array_equal(alone, samples_of(crowded))
    assert not np.array_equal(serial[0], serial[1][: len(serial[0])])


@pytest.mark.slow
async def test_two_decoders_agree_and_seeds_differ(
    decoder: StepWaveDecoder, vocoder_dir: Path
) -> None:
    ids, voice = make_ids(8), make_voice()
    first = samples_of(await collect(decoder, ids, voice))
    for seed, same in ((0, True), (1, False)):
        other = StepWaveDecoder(vocoder_dir, threads=1, steps=4, seed=seed)
        assert np.array_equal(first, samples_of(await collect(other, ids, voice))) == same
        other.close()


async def test_voice_without_whole_groups_still_speaks(decoder: StepWaveDecoder) -> None:
    ids, voice = make_ids(8), make_voice(0)
    assert len(samples_of(await collect(decoder, ids, voice))) == 8 * GROUP_SAMPLES
    assert len(await asyncio.to_thread(decoder.decode, ids, voice)) == 8 * GROUP_SAMPLES


@pytest.mark.slow
async def test_bounded_lookback_is_used(decoder: StepWaveDecoder, vocoder_dir: Path) -> None:
    """Beyond prompt and look-back the streams part; until then they are the same bytes."""
    ids, voice = make_ids(50), make_voice()
    endless = StepWaveDecoder(vocoder_dir, threads=1, steps=4, recent_frames=None)
    bounded = samples_of(await collect(decoder, ids, voice))
    whole = samples_of(await collect(endless, ids, voice))
    endless.close()
    same = 22 + 48 + 96  # frames of the first three chunks, which still see everything
    assert np.array_equal(bounded[: same * 480], whole[: same * 480])
    assert not np.array_equal(bounded, whole)


async def test_a_stream_is_no_generator(decoder: StepWaveDecoder) -> None:
    """The vocoder's replica has three without it; see deployments/stages/test_vocoder.py."""
    with generators() as begun:
        assert (await collect(decoder, make_ids(3), make_voice()))[-1].last
    assert not begun


async def test_errors_of_the_token_stream_pass_through(decoder: StepWaveDecoder) -> None:
    class BoomError(Exception):
        pass

    async def failing() -> AsyncIterator[TokenChunk]:
        yield TokenChunk(make_ids(8), last=False)
        raise BoomError

    stream = decoder.stream(failing(), make_voice())
    assert not (await anext(stream)).last
    with pytest.raises(BoomError):
        await anext(stream)
    assert decoder.active_streams == 0


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (np.arange(4, dtype=np.int32), "whole groups"),
        (np.full(5, 2000, np.int32), "other codebook"),
        (np.array([0, 0, 1024, 1024, 9000], np.int32), "other codebook"),
    ],
)
async def test_broken_tokens_are_refused(
    decoder: StepWaveDecoder, ids: np.ndarray, words: str
) -> None:
    with pytest.raises(StageError, match=words):
        await collect(decoder, ids, make_voice(), groups_per_chunk=9)
    assert decoder.active_streams == 0


async def test_stream_cut_off_by_its_source_is_an_error(decoder: StepWaveDecoder) -> None:
    async def cut() -> AsyncIterator[TokenChunk]:
        yield TokenChunk(make_ids(1), last=False)

    with pytest.raises(StageError, match="without a last chunk"):
        async for _ in decoder.stream(cut(), make_voice()):
            pass


async def test_unfit_voices_are_refused(decoder: StepWaveDecoder) -> None:
    good = make_voice()
    for mel, embedding in (
        (good.prompt_mel[:, :40], good.speaker_embedding),
        (good.prompt_mel, good.speaker_embedding[:100]),
        (good.prompt_mel[:0], good.speaker_embedding),
    ):
        bad = VoicePrompt(good.vq02, good.vq06, mel, embedding, 1.0, "test")
        with pytest.raises(AudioError, match="voice prompt"):
            await collect(decoder, make_ids(2), bad)


async def test_failing_model_is_a_stage_error(
    decoder: StepWaveDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("out of memory\nwith details")

    monkeypatch.setattr(stream_module, "decode_chunk", fail)
    with pytest.raises(StageError, match=r"the vocoder failed: out of memory$"):
        await collect(decoder, make_ids(3), make_voice())
    assert decoder.active_streams == 0


async def test_audio_that_is_not_finite_is_heard_by_nobody(
    decoder: StepWaveDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = Hift.decode

    def broken(*arguments: Any, **options: Any) -> torch.Tensor:
        samples = decode(*arguments, **options)
        samples[:, -1] = torch.nan
        return samples

    monkeypatch.setattr(Hift, "decode", broken)
    with pytest.raises(StageError, match="not finite"):
        await collect(decoder, make_ids(4), make_voice())
    assert decoder.active_streams == 0


@pytest.mark.parametrize(
    ("module", "where"), [(stream_module, "decode_chunk"), (wave_decoder, "Utterance")]
)
async def test_a_device_that_is_lost_makes_the_decoder_unhealthy(
    decoder: StepWaveDecoder, monkeypatch: pytest.MonkeyPatch, module: ModuleType, where: str
) -> None:
    """On the worker, or on the event loop, where a stream begins."""

    def fail(*_: object, **__: object) -> None:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    decoder.check_health()
    monkeypatch.setattr(decoder._worker, "health", StageHealth("vocoder"))
    monkeypatch.setattr(module, where, fail)
    with pytest.raises((StageError, RuntimeError)):
        await collect(decoder, make_ids(3), make_voice())
    with pytest.raises(StageError, match="lost its device"):
        decoder.check_health()


async def test_tokens_that_fail_leave_the_decoder_well(decoder: StepWaveDecoder) -> None:
    """The language model's device is not the decoder's."""

    async def tokens() -> AsyncIterator[TokenChunk]:
        yield TokenChunk(make_ids(1), last=False)
        raise RuntimeError("CUDA error: device-side assert triggered")

    with pytest.raises(RuntimeError):
        async for _ in decoder.stream(tokens(), make_voice()):
            pass
    decoder.check_health()


async def test_closing_between_chunks_frees_everything(
    decoder: StepWaveDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    caches = watch_caches(decoder, monkeypatch)
    closed = []

    async def tokens() -> AsyncIterator[TokenChunk]:
        try:
            async for chunk in token_stream(make_ids(30)):
                yield chunk
        finally:
            closed.append(True)

    stream = decoder.stream(tokens(), make_voice())
    await anext(stream)
    assert decoder.active_streams == 1
    assert any(cache() is not None for cache in caches)
    await stream.aclose()  # type: ignore[attr-defined]
    assert closed == [True]
    assert decoder.active_streams == 0
    await freed(caches)


async def test_cancelling_in_the_middle_of_a_chunk_frees_everything(
    decoder: StepWaveDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker stops at the next Euler step, not at the end of the chunk."""
    caches = watch_caches(decoder, monkeypatch)
    entered, may_go_on, calls = threading.Event(), threading.Event(), []

    def slow() -> None:
        calls.append(1)
        entered.set()
        assert may_go_on.wait(GIVE_UP_S)

    before_each_step(decoder, monkeypatch, slow)
    task = asyncio.create_task(collect(decoder, make_ids(30), make_voice()))
    assert await asyncio.to_thread(entered.wait, GIVE_UP_S)
    task.cancel()
    for _ in range(10):  # until the worker was told
        await asyncio.sleep(0)
    may_go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(calls) <= 2
    assert decoder.active_streams == 0
    await freed(caches)
    assert len(await collect(decoder, make_ids(1), make_voice())) == 1


async def test_a_stream_ahead_of_its_listener_lets_one_that_begins_go_first(
    decoder: StepWaveDecoder,
) -> None:
    may_draw, may_go_on, order = asyncio.Event(), threading.Event(), []

    def hold() -> np.ndarray:
        assert may_go_on.wait(GIVE_UP_S)
        return np.zeros(0, np.float32)

    async def tokens() -> AsyncIterator[TokenChunk]:
        await may_draw.wait()
        async for chunk in token_stream(make_ids(40, 1), 40):
            yield chunk

    async def next_of(name: str, stream: AsyncGenerator[AudioChunk]) -> None:
        await anext(stream)
        order.append(name)

    ahead = decoder.stream(token_stream(make_ids(40), 40), make_voice())
    begins = decoder.stream(tokens(), make_voice(seed=1))
    begun = asyncio.create_task(next_of("begins", begins))
    await anext(ahead)  # 0.44 s
    await anext(ahead)  # and 0.96 s more
    held = decoder._worker.submit(Job(hold))  # behind what the beginning stream does early
    await until(lambda: not decoder._worker._waiting)
    more = asyncio.create_task(next_of("ahead", ahead))
    await until(lambda: len(decoder._worker._waiting) == 1)
    may_draw.set()
    await until(lambda: len(decoder._worker._waiting) == 2)
    may_go_on.set()
    await asyncio.gather(more, begun, asyncio.wrap_future(held))
    assert order == ["begins", "ahead"]
    await ahead.aclose()
    await begins.aclose()


async def test_a_batch_gives_way_in_the_middle_of_a_chunk_and_sounds_the_same(
    decoder: StepWaveDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_job, quick_job = (make_ids(40), make_voice()), (make_ids(6, 1), make_voice(seed=1))
    alone = [samples_of(await collect(decoder, *job)) for job in (batch_job, quick_job)]
    in_chunk, is_quick_done, order = threading.Event(), threading.Event(), []

    def wait_for_the_quick() -> None:
        running = decoder._worker._running
        if running is not None and running.wanted_s > time.monotonic() + 5:  # the batch
            in_chunk.set()
            wait_until(lambda: bool(decoder._worker._waiting) or is_quick_done.is_set())

    listener = Listener(time.monotonic(), Terms(Service.BATCH))
    batch = decoder.stream(token_stream(batch_job[0], 40), batch_job[1], listener=listener)
    heard = [await anext(batch)]
    before_each_step(decoder, monkeypatch, wait_for_the_quick)

    async def rest() -> None:
        heard.append(await anext(batch))
        order.append("batch")

    going_on = asyncio.create_task(rest())
    assert await asyncio.to_thread(in_chunk.wait, GIVE_UP_S)
    quick = await collect(decoder, *quick_job)
    order.append("quick")
    is_quick_done.set()
    await going_on
    assert order == ["quick", "batch"]
    heard += [chunk async for chunk in batch]
    assert np.array_equal(samples_of(heard), alone[0])
    assert np.array_equal(samples_of(quick), alone[1])


async def freed(caches: list[weakref.ref[torch.Tensor]]) -> None:
    """Wait for the worker to drop its last reference."""
    await until(lambda: all(cache() is None for cache in caches))


def held_by(cache: FlowCache) -> torch.Tensor:
    """What the cache alone keeps alive; keys of a slab are views that nobody holds."""
    steps = cache.estimator
    return steps.conv if isinstance(steps, SlabSteps) else steps[0][0].keys


def before_each_step(
    decoder: StepWaveDecoder, monkeypatch: pytest.MonkeyPatch, call: Callable[[], None]
) -> None:
    direct = decoder._model.direct
    assert direct is not None
    step = direct._estimator.step
    monkeypatch.setattr(direct._estimator, "step", lambda *args: (call(), step(*args))[1])


def watch_caches(
    decoder: StepWaveDecoder, monkeypatch: pytest.MonkeyPatch
) -> list[weakref.ref[torch.Tensor]]:
    """Weak references to what every flow cache made from now on holds."""
    seen: list[weakref.ref[torch.Tensor]] = []
    flow = decoder._model.flow
    setup, advance = flow.setup_cache, flow.inference_chunk

    def watched_setup(*args: object) -> object:
        cache = setup(*args)  # type: ignore[arg-type]
        seen.append(weakref.ref(held_by(cache)))
        return cache

    def watched_advance(*args: object) -> object:
        mel, cache = advance(*args)  # type: ignore[arg-type]
        seen.append(weakref.ref(held_by(cache)))
        return mel, cache

    monkeypatch.setattr(flow, "setup_cache", watched_setup)
    monkeypatch.setattr(flow, "inference_chunk", watched_advance)
    return seen


async def test_no_state_stays_in_the_modules(decoder: StepWaveDecoder) -> None:
    def tensors() -> dict[str, tuple[int, ...]]:
        modules = (decoder._model.flow, decoder._model.hift)
        return {
            f"{name}.{key}": tuple(value.shape)
            for module in modules
            for name, part in module.named_modules()
            for key, value in {**vars(part), **part._parameters, **part._buffers}.items()
            if isinstance(value, torch.Tensor)
        }

    before = tensors()
    await collect(decoder, make_ids(9), make_voice())
    assert tensors() == before


async def test_event_loop_stays_free(
    decoder: StepWaveDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call of the model waits for something that only the event loop does."""
    loop, was_let_go = asyncio.get_running_loop(), []

    def wait_for_the_loop() -> None:
        turned = threading.Event()
        loop.call_soon_threadsafe(turned.set)
        was_let_go.append(turned.wait(GIVE_UP_S))

    before_each_step(decoder, monkeypatch, wait_for_the_loop)
    decoded = decoder._model.hift.decode
    monkeypatch.setattr(
        decoder._model.hift, "decode", lambda *args: (wait_for_the_loop(), decoded(*args))[1]
    )
    await collect(decoder, make_ids(40), make_voice(40))
    assert len(was_let_go) > 10
    assert all(was_let_go)


def test_impossible_settings_are_refused(vocoder_dir: Path) -> None:
    for settings in (
        {"chunk_rows": ()},
        {"chunk_rows": (15, 0)},
        {"steps": 0},
        {"recent_frames": -1},
        {"threads": -1},
    ):
        with pytest.raises(ConfigError):
            StepWaveDecoder(vocoder_dir, **settings)  # type: ignore[arg-type]


@pytest.mark.slow
def test_checkpoint_errors_name_the_file(tmp_path: Path) -> None:
    directory = write_vocoder(tmp_path)
    state = torch.load(directory / "flow.pt", weights_only=True)
    del state["encoder_proj.bias"]
    torch.save(state, directory / "flow.pt")
    with pytest.raises(CheckpointError, match=r"flow\.pt does not fit: 1 missing: encoder_proj"):
        StepWaveDecoder(directory)
    (directory / "flow.pt").unlink()
    with pytest.raises(CheckpointError, match=r"flow\.pt cannot be read"):
        StepWaveDecoder(directory)


def test_rates_that_do_not_add_up_are_refused(tmp_path: Path) -> None:
    directory = write_vocoder(tmp_path)
    file = directory / "cosyvoice.yaml"
    file.write_text(file.read_text().replace("hop_len: 4", "hop_len: 8"))
    with pytest.raises(CheckpointError, match="samples per second"):
        StepWaveDecoder(directory)
