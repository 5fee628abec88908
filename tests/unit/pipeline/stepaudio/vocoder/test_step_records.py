"""Recorded Euler steps equal the plain ones, and no stream meets what another left in them.

Recorded as on a GPU, with a recorder that runs anew on the same static tensors; kernels run in
Triton's interpreter. Sizes are padded to buckets here as there.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.contracts import VoicePrompt
from pipeline.stepaudio import tokens
from pipeline.stepaudio.config import VocoderConfig
from pipeline.stepaudio.vocoder import step_records, wave_decoder
from pipeline.stepaudio.vocoder.flow.batch import StreamChunk, inference_chunks
from pipeline.stepaudio.vocoder.flow.flow import Flow, FlowCache, Schedule, stretch_mel
from pipeline.stepaudio.vocoder.memory_plan import (
    FLOAT_BYTES,
    GUIDANCE_ROWS,
    HALF_BYTES,
    RECORD_BYTES,
    RECORDS,
    STEP_ROW_BYTES,
    RecordedSize,
    RecordRoom,
    SlabShape,
)
from pipeline.stepaudio.vocoder.slab import (
    RingSteps,
    SlabPool,
    SlabSteps,
    copied_into,
    detached,
    empty_caches,
    gathered,
)
from pipeline.stepaudio.vocoder.step_records import StepRecords
from pipeline.stepaudio.vocoder.wave_decoder import StepWaveDecoder
from tests.replay import run_again
from tests.vocoder_files import (
    SMALL_YAML,
    join,
    make_ids,
    make_voice,
    small_modules,
    token_stream,
    write_vocoder,
)

pytestmark = [
    pytest.mark.unit,
    pytest.mark.slow,
    pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="on tensors of a CPU"),
]

STEPS = 2
RECENT = 20
CLOSE = 5e-3  # products of float16: 1e-3 of a mel's largest numbers
SOUNDS_CLOSE = 3e-3
ROOM = RecordRoom(streams=8, new=800)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an estimator whose heads together are not as wide as its hidden states.

    Its speech is unvoiced: random weights of F0 would make of every rounding another pitch.
    """
    yaml_text = SMALL_YAML.replace("head_dim: 16", "head_dim: 24")
    directory = write_vocoder(tmp_path_factory.mktemp("vocoder"), config_yaml=yaml_text)
    weights = torch.load(directory / "hift.pt")
    for name in [name for name in weights if name.startswith("f0_predictor.classifier")]:
        weights[name].zero_()
    torch.save(weights, directory / "hift.pt")
    return directory


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(n_threads)


@dataclass
class Rig:
    """A flow with recorded steps, or without."""

    flow: Flow
    schedule: Schedule
    shape: SlabShape
    records: StepRecords | None

    @property
    def recorded(self) -> list[RecordedSize]:
        assert self.records is not None
        return list(self.records._recorded)

    def poison(self) -> None:
        """Whatever may be read before it is written is NaN."""
        if self.records is not None:
            for memory in (self.records._static._x, self.records._static._hidden):
                memory.fill_(torch.nan)

    def slab(self, n_frames: int) -> Tensor:
        return SlabPool(self.shape, torch.device("cpu"), 0).take(n_frames).fill_(torch.nan)


def rig(directory: Path, room: RecordRoom | None = None) -> Rig:
    flow, _ = small_modules(directory)
    schedule = flow.schedule(STEPS)
    value_bytes = FLOAT_BYTES if room is None else HALF_BYTES
    shape = SlabShape.of(VocoderConfig.load(directory).estimator, STEPS, value_bytes)
    records = None
    if room is not None:
        records = StepRecords(flow.decoder, schedule, shape, room, run_again)
        flow.decoder.recorded = records
    return Rig(flow, schedule, shape, records)


@pytest.fixture(scope="module")
def plain(directory: Path) -> Rig:
    return rig(directory)


@pytest.fixture
def fast(directory: Path) -> Rig:
    with torch.inference_mode():
        return rig(directory, ROOM)


class StoppedError(Exception):
    pass


class Speech:
    """One stream: its prompt's pass at once, then chunks."""

    def __init__(self, rig: Rig, n_prompt: int, seed: int = 0, n_groups: int = 40) -> None:
        voice = make_voice(n_prompt, seed)
        self.rig = rig
        self.rows = torch.from_numpy(tokens.to_rows(make_ids(n_groups, seed)))[None]
        self.embedding = torch.from_numpy(voice.speaker_embedding)[None]
        self.at = 0
        prompt = tokens.to_rows(tokens.interleave(voice.vq02, voice.vq06))
        mel = stretch_mel(torch.from_numpy(voice.prompt_mel)[None], 6 * n_prompt)
        self.slab = slab = rig.slab(6 * n_prompt + RECENT + 102)
        rig.poison()
        cache = rig.flow.setup_cache(
            torch.from_numpy(prompt)[None],
            self.rows[:, :3],
            mel,
            self.embedding,
            rig.schedule,
            into=empty_caches(slab, rig.shape.width),
        )
        self.cache: FlowCache = gathered(slab, cache) if rig.records else cache

    def cut(self, n_rows: int) -> tuple[Tensor, Tensor]:
        start, self.at = self.at, self.at + n_rows
        return self.rows[:, start : self.at], self.rows[:, self.at : self.at + 3]

    def chunk(self, n_rows: int, stop_at: int | None = None, *, last: bool = False) -> Tensor:
        rows, ahead = self.cut(n_rows)
        steps = iter(range(STEPS))

        def on_step() -> None:
            if next(steps) == stop_at:
                raise StoppedError

        self.rig.poison()
        mel, self.cache = self.rig.flow.inference_chunk(
            rows,
            None if last else ahead,
            self.embedding,
            self.cache,
            self.rig.schedule,
            RECENT,
            on_step,
        )
        return mel


def together(streams: list[Speech], n_rows: int) -> list[Tensor]:
    rig = streams[0].rig
    chunks = [StreamChunk(*s.cut(n_rows), s.embedding, s.cache) for s in streams]
    rig.poison()
    results = inference_chunks(rig.flow, chunks, rig.schedule, RECENT)
    for stream, (_, cache) in zip(streams, results, strict=True):
        stream.cache = cache
    return [mel for mel, _ in results]


def close(one: Tensor, other: Tensor, within: float = CLOSE) -> None:
    torch.testing.assert_close(one.float(), other.float(), atol=within, rtol=0)


def caches_close(one: FlowCache, other: FlowCache) -> None:
    """What both still hold: a ring keeps more than the next chunk sees."""
    assert (one.n_frames, one.prompt_frames) == (other.n_frames, other.prompt_frames)
    n_recent = min(one.n_frames - one.prompt_frames, RECENT)
    for step, other_step in zip(one.estimator, other.estimator, strict=True):
        for block, other_block in zip(step, other_step, strict=True):
            for name in ("keys", "values"):
                frames, others = getattr(block, name), getattr(other_block, name)
                first = slice(None, one.prompt_frames)
                close(frames[:, :, first], others[:, :, first])
                if n_recent:
                    close(frames[:, :, -n_recent:], others[:, :, -n_recent:])
            for name in ("conv_in", "conv_out"):
                close(getattr(block, name), getattr(other_block, name))


@pytest.mark.parametrize(
    ("n_prompt", "chunks"),
    [
        (4, (5, 15, 24)),
        (1, (5, 10, 15, 24, 48)),
        pytest.param(25, (24, 24, 24, 24), marks=pytest.mark.exhaustive),
    ],
)
def test_recorded_chunks_equal_plain_ones(
    plain: Rig, fast: Rig, n_prompt: int, chunks: tuple[int, ...]
) -> None:
    """Sizes that fill no bucket, beyond what is looked back to, round the ring, an odd end."""
    one, other = Speech(plain, n_prompt), Speech(fast, n_prompt)
    assert fast.recorded == [RecordedSize.of(1, 6 * n_prompt)]
    caches_close(one.cache, other.cache)
    for n_rows in chunks:
        close(one.chunk(n_rows), other.chunk(n_rows))
        caches_close(one.cache, other.cache)
        assert isinstance(other.cache.estimator, RingSteps)
    close(one.chunk(7, last=True), other.chunk(7, last=True))


@pytest.mark.parametrize(
    ("room", "most"),
    [(RecordRoom(8, 4096), 4), pytest.param(RecordRoom(8, 48), 1, marks=pytest.mark.exhaustive)],
)
def test_recorded_batches_equal_streams_alone(
    plain: Rig, directory: Path, room: RecordRoom, most: int
) -> None:
    """Prompts of different lengths; also where the room makes several groups of one batch."""
    fast = rig(directory, room)
    prompts = (4, 1, 6)
    singles = [Speech(plain, n, seed) for seed, n in enumerate(prompts)]
    streams = [Speech(fast, n, seed) for seed, n in enumerate(prompts)]
    for n_rows in (10, 24):
        mels = together(streams, n_rows)
        for mel, stream, single in zip(mels, streams, singles, strict=True):
            close(mel, single.chunk(n_rows))
            caches_close(stream.cache, single.cache)
    assert max(size.streams for size in fast.recorded) == min(most, 3)


def test_what_is_too_large_runs_plain_and_the_rest_is_recorded(plain: Rig, directory: Path) -> None:
    """A prompt longer than any record's, then chunks that are recorded; then a huge chunk."""
    fast = rig(directory, RecordRoom(streams=2, new=64))
    one, other = Speech(plain, 14), Speech(fast, 14)
    assert fast.recorded == []
    for n_rows in (15, 50):
        close(one.chunk(n_rows), other.chunk(n_rows))
        caches_close(one.cache, other.cache)
        assert isinstance(other.cache.estimator, RingSteps) == (n_rows == 15)
    assert [size.frames for size in fast.recorded] == [32]


def test_kept_prompts_start_streams(plain: Rig, fast: Rig) -> None:
    """A copy that another stream's slab took from memory goes on as the first one does."""
    one, other = Speech(fast, 6), Speech(fast, 6)
    kept = detached(one.cache)
    assert isinstance(kept.estimator, SlabSteps)
    assert kept.estimator.slab.shape[5] == kept.n_frames == 36
    first = one.chunk(15)
    other.cache = copied_into(fast.slab(200), kept)
    assert torch.equal(other.chunk(15), first)
    third = Speech(fast, 6)
    third.cache = copied_into(fast.slab(200), kept)
    assert torch.equal(third.chunk(15), first)
    close(Speech(plain, 6).chunk(15), first)


def test_a_stream_stopped_half_way_harms_nobody(fast: Rig) -> None:
    alone = Speech(fast, 3)
    undisturbed = [alone.chunk(5), alone.chunk(10)]
    stream, other = Speech(fast, 3), Speech(fast, 3, seed=1)
    first = stream.chunk(5)
    for step in range(STEPS):
        with pytest.raises(StoppedError):
            Speech(fast, 2, seed=2).chunk(10, stop_at=step)
        with pytest.raises(StoppedError):
            other.chunk(1, stop_at=step)
    assert torch.equal(first, undisturbed[0])
    assert torch.equal(stream.chunk(10), undisturbed[1])


def test_bytes_do_not_depend_on_what_is_recorded(
    fast: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoken() -> list[Tensor]:
        stream = Speech(fast, 3)
        return [stream.chunk(n) for n in (5, 10)]

    cold = spoken()
    n_recorded = len(fast.recorded)
    warm = spoken()
    assert len(fast.recorded) == n_recorded
    monkeypatch.setattr(step_records, "RECORDS", 1)
    forgetful = spoken()
    assert len(fast.recorded) <= n_recorded
    for one, other, third in zip(cold, warm, forgetful, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one, third)


def test_records_are_bounded_the_oldest_go(fast: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_records, "RECORDS", 2)
    stream = Speech(fast, 8)
    prompt_size = RecordedSize.of(1, 48)
    assert prompt_size in fast.recorded
    stream.chunk(5)
    Speech(fast, 8)
    stream.chunk(15)
    assert len(fast.recorded) == 2
    assert prompt_size in fast.recorded, "used since the other was"


@pytest.mark.parametrize(
    ("streams", "rows"),
    [(1, 1), (2, 2), (3, 3), (4, 4), (5, 6), (6, 6), (7, 8), (8, 8), (9, 12), (13, 16), (17, 24)],
)
def test_sizes_hold_what_they_are_for(streams: int, rows: int) -> None:
    for frames in (1, 30, 96, 128, 129, 512):
        size = RecordedSize.of(streams, frames)
        assert size.streams == rows
        assert frames <= size.frames < frames + 64


@pytest.mark.parametrize("max_batch", [1, 3, 8])
def test_the_room_is_as_large_as_planned(directory: Path, max_batch: int) -> None:
    room = RecordRoom.of(2, (15, 24, 48), max_batch)
    assert room.holds(RecordedSize.of(1, 768))
    assert room.holds(RecordedSize.of(max_batch, 96))
    assert not room.holds(RecordedSize.of(2 * max_batch, 96))
    fast = rig(directory, room)
    assert fast.records is not None
    static = fast.records._static
    held = static._hidden.nbytes + static._x.nbytes + static._inputs.tensor.nbytes
    per_frame = GUIDANCE_ROWS * fast.shape.width * STEP_ROW_BYTES
    planned = room.size_bytes(fast.shape) - RECORDS * RECORD_BYTES
    assert held < planned == room.new * per_frame
    assert fast.records.packed_bytes > 0


async def spoken(decoder: StepWaveDecoder, job: tuple[np.ndarray, VoicePrompt]) -> np.ndarray:
    return join([chunk.samples async for chunk in decoder.stream(token_stream(job[0], 3), job[1])])


def decoder_of(
    directory: Path, *, is_recorded: bool = True, max_batch: int = 1, prompt_memory_bytes: int = 0
) -> StepWaveDecoder:
    decoder = StepWaveDecoder(
        directory,
        threads=1,
        steps=STEPS,
        max_batch=max_batch,
        prompt_memory_bytes=prompt_memory_bytes,
    )
    if is_recorded:
        decoder.record_steps(run_again)
    return decoder


@pytest.mark.parametrize("max_batch", [pytest.param(1, marks=pytest.mark.exhaustive), 4])
async def test_streams_sound_as_without_records(directory: Path, max_batch: int) -> None:
    plain = decoder_of(directory, is_recorded=False)
    fast = decoder_of(directory, max_batch=max_batch)
    jobs = [(make_ids(7, i), make_voice(2 + 3 * i, i)) for i in range(2)]
    heard = await asyncio.gather(*(spoken(fast, job) for job in jobs))
    for i, job in enumerate(jobs):
        np.testing.assert_allclose(heard[i], await spoken(plain, job), rtol=0, atol=SOUNDS_CLOSE)
        if max_batch == 1:
            assert np.array_equal(heard[i], await spoken(fast, job)), "whatever runs beside it"
    assert fast._model.records is not None
    assert fast._model.records._recorded
    for decoder in (plain, fast):
        assert decoder._slabs.used_bytes == 0
        decoder.close()


async def test_a_voice_kept_gives_the_bytes_of_a_voice_new(directory: Path) -> None:
    job = make_ids(6), make_voice(3)
    fast, keeping = decoder_of(directory), decoder_of(directory, prompt_memory_bytes=10**7)
    fresh = await spoken(fast, job)
    assert np.array_equal(await spoken(keeping, job), fresh)
    hits = keeping._prompt_memory.hits
    assert np.array_equal(await spoken(keeping, job), fresh)
    assert keeping._prompt_memory.hits == hits + 2
    for decoder in (fast, keeping):
        decoder.close()


def test_the_plan_counts_what_records_take(directory: Path) -> None:
    decoder = decoder_of(directory, is_recorded=False)
    before, kept_by = decoder.memory.shared_bytes, decoder.state_fingerprint
    decoder.record_steps(run_again)
    assert decoder.state_fingerprint != kept_by, (
        "other bits: no state is shared with the plain form"
    )
    records = decoder._model.records
    assert records is not None
    assert decoder.memory.shared_bytes > records.packed_bytes + RECORDS * RECORD_BYTES
    assert decoder.memory.shared_bytes > before
    assert decoder.memory.slab.value_bytes == HALF_BYTES
    assert decoder.is_half
    assert decoder._slabs.take(10).dtype == torch.float16
    decoder.close()


def test_on_a_gpu_what_most_streams_meet_is_recorded_at_start(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wave_decoder, "RECORDED_ON", "cpu")
    monkeypatch.setattr(wave_decoder, "CudaRecorder", lambda: run_again)
    monkeypatch.setattr(wave_decoder, "has_kernels", lambda _: True)
    decoder = StepWaveDecoder(directory, threads=1, steps=STEPS, device_bytes=2**32)
    records = decoder._model.records
    assert records is not None
    common = set(records._recorded)
    assert len(common) < RECORDS // 2
    assert {RecordedSize.of(1, frames) for frames in (150, 300, 450, 30, 48, 96)} <= common
    assert decoder._model.encoder_records is not None
    assert {size.rows for size in decoder._model.encoder_records._recorded} == {15, 24, 48}
    assert decoder._model.hift_records is not None
    assert {size.new for size in decoder._model.hift_records._recorded} == {10, 20, 30, 48, 96}
    shared_bytes = decoder.memory.shared_bytes
    decoder.close()
    for settings in (
        {"graphs": False},
        {"recent_frames": None},
        {"device_bytes": shared_bytes // 2},  # start-up is refused by who reads `memory`
    ):
        plain = StepWaveDecoder(directory, threads=1, steps=STEPS, **settings)  # type: ignore[arg-type]
        assert plain._model.records is None
        assert plain._model.hift_records is None
        plain.close()
