"""Recorded chunks of HiFT equal the plain ones, and no stream meets what another left in them.

Recorded as on a GPU, with a recorder that runs anew on the same static tensors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.contracts import VoicePrompt
from pipeline.stepaudio.recording import Replay
from pipeline.stepaudio.vocoder import hift_records
from pipeline.stepaudio.vocoder.hift.fourier import FixedFourier
from pipeline.stepaudio.vocoder.hift.generator import Hift
from pipeline.stepaudio.vocoder.hift.stream import HiftState, decode_chunk
from pipeline.stepaudio.vocoder.hift_records import HiftRecords, HiftSize
from pipeline.stepaudio.vocoder.memory_plan import (
    HIFT_FRAME_BYTES,
    HIFT_PAST_FRAMES,
    HIFT_RECORDS,
)
from pipeline.stepaudio.vocoder.model import fix_kernels
from pipeline.stepaudio.vocoder.wave_decoder import StepWaveDecoder
from tests.vocoder_files import (
    join,
    make_ids,
    make_voice,
    small_modules,
    token_stream,
    write_vocoder,
)

pytestmark = [pytest.mark.unit, pytest.mark.slow]

SEED = 3
CLOSE = 1e-5
BATCH_CLOSE = 1e-3  # products of other sizes: F0 of random weights rounds 3000 times as coarsely
FRAMES = (10, 20, 30, 48, 96)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vocoder(tmp_path_factory.mktemp("vocoder"))


@pytest.fixture(scope="module")
def hift(directory: Path) -> Hift:
    hift = small_modules(directory)[1]
    hift.fuse_weight_norm()
    return hift


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(n_threads)


class Recorder:
    """Runs again; what was returned before is gone, as in a pool that records share."""

    def __init__(self) -> None:
        self.n_recorded = 0

    def __call__(self, run: Replay) -> Replay:
        self.n_recorded += 1
        run()
        previous: list[Tensor] = []

        def replay() -> Tensor:
            for tensor in previous:
                tensor.fill_(torch.nan)
            previous[:] = [run(), *state_tensors(run.after)]  # type: ignore[attr-defined]
            return previous[0]

        return replay


def state_tensors(state: HiftState) -> list[Tensor]:
    tensors = (state.mel, state.f0, state.cycles, state.tail)
    return [tensor for tensor in tensors if tensor is not None]


def records_of(hift: Hift, max_batch: int = 1) -> HiftRecords:
    return HiftRecords(hift, SEED, FRAMES, max_batch, Recorder())


def poison(records: HiftRecords) -> None:
    """Whatever may be read before it is written is NaN."""
    records._static._floats.fill_(torch.nan)
    records._static._cycles.fill_(torch.nan)


class Stream:
    def __init__(self, hift: Hift, seed: int, n_frames: int = 400) -> None:
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(1, 80, n_frames + 24, generator=generator) * 4
        self.hift, self.mel, self.at = hift, F.avg_pool1d(noise, 25, 1), 0
        self.state = HiftState.start(self.mel)

    def cut(self, n_frames: int) -> Tensor:
        start, self.at = self.at, self.at + n_frames
        return self.mel[:, :, start : self.at]

    def plain(self, n_frames: int) -> Tensor:
        samples, self.state = decode_chunk(
            self.hift, self.cut(n_frames), self.state, SEED, last=False
        )
        return samples


def replayed(records: HiftRecords, streams: list[Stream], n_frames: int) -> list[Tensor]:
    mels = [stream.cut(n_frames) for stream in streams]
    assert records.takes(mels[0], last=False)
    poison(records)
    results = records(mels, [stream.state for stream in streams])
    for stream, (_, state) in zip(streams, results, strict=True):
        stream.state = state
    return [samples for samples, _ in results]


def close(one: Tensor, other: Tensor, within: float = CLOSE) -> None:
    torch.testing.assert_close(one, other, atol=within, rtol=0)


def states_close(one: HiftState, other: HiftState, within: float = CLOSE) -> None:
    assert one.first_frame == other.first_frame
    assert (one.cycles is None) == (other.cycles is None)
    for part, other_part in zip(state_tensors(one), state_tensors(other), strict=True):
        close(part, other_part, within)


@pytest.mark.parametrize(("n_fft", "hop"), [(16, 4), (16, 8), (8, 2)])
def test_the_fixed_transform_is_torchs(n_fft: int, hop: int) -> None:
    window = torch.hann_window(n_fft)
    fixed = FixedFourier(n_fft, hop, window)
    generator = torch.Generator().manual_seed(1)
    signal = torch.randn(2, 1, 40 * hop, generator=generator)
    spectrum = torch.stft(signal[:, 0], n_fft, hop, window=window, return_complex=True)
    close(fixed.stft(signal), torch.cat((spectrum.real, spectrum.imag), dim=1))
    magnitude = torch.rand(2, n_fft // 2 + 1, 41, generator=generator) * 3
    phase = torch.randn(2, n_fft // 2 + 1, 41, generator=generator)
    expected = torch.istft(torch.polar(magnitude, phase), n_fft, hop, window=window)
    close(fixed.istft(magnitude, phase), expected)


@pytest.mark.parametrize(
    "sizes",
    [
        (30, 48, 96, 96),
        (10, 20, 30, 48, 96, 96),
        (20, 20, 10, 10),
    ],
)
def test_recorded_chunks_equal_plain_ones(hift: Hift, sizes: tuple[int, ...]) -> None:
    records = records_of(hift)
    one, other = Stream(hift, 1), Stream(hift, 1)
    for n_frames in sizes:
        (samples,) = replayed(records, [other], n_frames)
        close(samples, one.plain(n_frames))
        states_close(other.state, one.state)
    end = [s.mel[:, :, s.at : s.at + 18] for s in (one, other)]
    plain, _ = decode_chunk(hift, end[0], one.state, SEED, last=True)
    fast, _ = decode_chunk(hift, end[1], other.state, SEED, last=True)
    close(fast, plain)


def test_a_chunk_of_another_length_between_goes_plain(hift: Hift) -> None:
    """A client's own first chunk: what follows is recorded from wherever it left the state."""
    records = records_of(hift)
    for first in (12, 14, 16, 26):
        one, other = Stream(hift, 1), Stream(hift, 1)
        assert not records.takes(one.mel[:, :, :first], last=False)
        assert torch.equal(one.plain(first), other.plain(first))
        for n_frames in (20, 48):
            close(replayed(records, [other], n_frames)[0], one.plain(n_frames))
            states_close(other.state, one.state)


def test_long_chunks_are_not_recorded(hift: Hift) -> None:
    records = HiftRecords(hift, SEED, (48, 1000), 1, Recorder())
    assert records.takes(torch.zeros(1, 80, 48), last=False)
    assert not records.takes(torch.zeros(1, 80, 46), last=False)
    assert records.takes(torch.zeros(1, 80, 46), last=True), "an end has any length"
    for last in (False, True):
        assert not records.takes(torch.zeros(1, 80, 1000), last=last)


@pytest.mark.parametrize("sizes", [(), (30,), (10, 20, 48)])
@pytest.mark.parametrize("n_frames", [2, 36, 128])
def test_a_recorded_end_equals_a_plain_one(
    hift: Hift, sizes: tuple[int, ...], n_frames: int
) -> None:
    records = records_of(hift)
    stream = Stream(hift, 1)
    for size in sizes:
        stream.plain(size)
    mel = stream.cut(n_frames)
    poison(records)
    ((replayed_end, _),) = records([mel], [stream.state], last=True)
    end, _ = decode_chunk(hift, mel, stream.state, SEED, last=True)
    close(replayed_end, end)


@pytest.mark.parametrize("max_batch", [2, 5])
def test_streams_of_mixed_states_share_records(hift: Hift, max_batch: int) -> None:
    """At their beginning, after a small chunk, far on; and more than one record holds."""
    records = records_of(hift, max_batch)
    before: list[tuple[int, ...]] = [(), (30,), (10,), (30, 96), (), (), (30, 20), (10, 20), ()]
    singles = [Stream(hift, i) for i in range(len(before))]
    streams = [Stream(hift, i) for i in range(len(before))]
    for pair, sizes in zip(zip(singles, streams, strict=True), before, strict=True):
        for stream in pair:
            for n_frames in sizes:
                stream.plain(n_frames)
    for n_frames in (20, 48):
        heard = replayed(records, streams, n_frames)
        for samples, single, stream in zip(heard, singles, streams, strict=True):
            close(samples, single.plain(n_frames), BATCH_CLOSE)
            states_close(stream.state, single.state, BATCH_CLOSE)
    widest = max(size.rows for size in records._recorded)
    assert widest == {2: 2, 5: 8}[max_batch]


def test_bytes_do_not_depend_on_what_is_recorded(
    hift: Hift, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoken(records: HiftRecords) -> Tensor:
        stream = Stream(hift, 5)
        return torch.cat([replayed(records, [stream], n)[0] for n in (10, 20, 30, 48)], dim=1)

    records = records_of(hift)
    cold = spoken(records)
    n_recorded = len(records._recorded)
    warm = spoken(records)
    assert len(records._recorded) == n_recorded == 4
    monkeypatch.setattr(hift_records, "HIFT_RECORDS", 1)
    records = records_of(hift)
    spoken(records)
    forgetful = spoken(records)
    assert len(records._recorded) == 1
    assert torch.equal(cold, warm)
    assert torch.equal(cold, forgetful)


def test_what_streams_meet_is_recorded_before_they_come(hift: Hift) -> None:
    records = records_of(hift, max_batch=2)
    records.record_common((30, 48, 96), 2)
    records.record_common((10, 20, 30, 48, 96), 1)
    common = set(records._recorded)
    assert len(common) == 2 * 3 + 3 <= HIFT_RECORDS // 2
    assert HiftSize(2, 16, 8, 960, has_phase=True, new=96) in common
    for sizes in ((30, 48, 96, 96), (10, 20, 30, 48, 96, 96)):
        stream = Stream(hift, 0)
        for n_frames in sizes:
            replayed(records, [stream], n_frames)
    streams = [Stream(hift, i) for i in range(2)]
    for n_frames in (30, 48, 96, 96):
        replayed(records, streams, n_frames)
    assert set(records._recorded) == common


def test_the_host_never_waits_for_what_is_recorded(directory: Path) -> None:
    """A graph allows no look at a value: on the meta device there are none. istft does look."""
    bare = small_modules(directory)[1]
    bare.fuse_weight_norm()
    records = records_of(bare.to("meta"), max_batch=2)
    size = HiftSize(2, 16, 8, 960, has_phase=True, new=96)
    work, replay = records._at(size)
    assert replay().shape == (2, 96 * 480)
    assert HiftSize.of(work.after, 96, rows=2) == size, "the state that a steady stream stays in"
    with pytest.raises(NotImplementedError):
        bare.decode(torch.zeros(1, 80, 9, device="meta"), torch.zeros(1, 1, 4320, device="meta"))


def test_static_memory_is_as_planned(hift: Hift) -> None:
    records = records_of(hift, max_batch=8)
    assert hift_records.CARRIED_FRAMES == HIFT_PAST_FRAMES
    frame_bytes = records._static._floats.nbytes / (8 * (HIFT_PAST_FRAMES + 96))
    assert frame_bytes < HIFT_FRAME_BYTES / 16


async def spoken(decoder: StepWaveDecoder, job: tuple[np.ndarray, VoicePrompt]) -> np.ndarray:
    return join([chunk.samples async for chunk in decoder.stream(token_stream(job[0], 3), job[1])])


@pytest.mark.parametrize("max_batch", [1, 4])
async def test_streams_sound_as_without_records(directory: Path, max_batch: int) -> None:
    plain = StepWaveDecoder(directory, threads=1, steps=2)
    fast = StepWaveDecoder(directory, threads=1, steps=2, max_batch=max_batch)
    before = fast.memory.shared_bytes
    recorder = Recorder()
    fast._model.record_hift(recorder, FRAMES, max_batch)
    assert fast.memory.shared_bytes == before
    jobs = [(make_ids(18, i), make_voice(3 + i, i)) for i in range(4)]
    heard = await asyncio.gather(*(spoken(fast, job) for job in jobs))
    assert recorder.n_recorded >= 2
    for i, job in enumerate(jobs):
        np.testing.assert_allclose(heard[i], await spoken(plain, job), rtol=0, atol=1e-3)
        if max_batch == 1:
            assert np.array_equal(heard[i], await spoken(fast, job)), "whatever runs beside it"
    for decoder in (plain, fast):
        assert decoder._slabs.used_bytes == 0
        decoder.close()


def test_on_a_gpu_convolutions_give_equal_bits_every_time() -> None:
    cudnn = torch.backends.cudnn
    before = (cudnn.deterministic, cudnn.benchmark)
    try:
        cudnn.deterministic, cudnn.benchmark = False, True
        fix_kernels(torch.device("cpu"))
        assert (cudnn.deterministic, cudnn.benchmark) == (False, True)
        fix_kernels(torch.device("cuda"))
        assert (cudnn.deterministic, cudnn.benchmark) == (True, False)
    finally:
        cudnn.deterministic, cudnn.benchmark = before
