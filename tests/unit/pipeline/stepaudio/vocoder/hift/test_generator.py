"""HiFT: harmonic source, weight norm, and chunks that equal the whole."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.stepaudio.vocoder.hift.generator import HarmonicSource, Hift, source_noise
from pipeline.stepaudio.vocoder.hift.stream import HiftState, cross_fade, decode_chunk
from tests.vocoder_files import small_modules, write_vocoder

pytestmark = pytest.mark.unit

FRAME = 480


@pytest.fixture(scope="module")
def hift(tmp_path_factory: pytest.TempPathFactory) -> Hift:
    return small_modules(write_vocoder(tmp_path_factory.mktemp("vocoder")))[1]


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    """One thread: the modules are tiny, and threads that wait for each other cost seconds."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(n_threads)


def smooth_mel(n_frames: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mel = torch.randn(1, 80, n_frames + 24, generator=generator) * 4
    return F.avg_pool1d(mel, 25, 1)


def streamed(hift: Hift, mel: Tensor, sizes: list[int]) -> Tensor:
    state, parts, done = HiftState.start(mel), [], 0
    for i, size in enumerate(sizes):
        chunk = mel[:, :, done : done + size]
        samples, state = decode_chunk(hift, chunk, state, 0, last=i == len(sizes) - 1)
        parts.append(samples)
        done += size
    assert done == mel.shape[2]
    return torch.cat(parts, dim=1)


def whole(hift: Hift, mel: Tensor) -> Tensor:
    return hift(mel, source_noise(0, 0, mel.shape[2], FRAME, 9))


def test_phase_follows_the_reference_recipe(hift: Hift) -> None:
    """Average over a frame, accumulate, scale up, interpolate linearly: done here the slow way."""
    source: HarmonicSource = hift.m_source
    f0 = torch.rand(1, 12, generator=torch.Generator().manual_seed(3)) * 200 + 50
    harmonics = torch.arange(1, 10, dtype=torch.float64)
    advance = f0.double()[..., None] * harmonics / 24_000 % 1
    expected = F.interpolate(
        (advance.cumsum(1) * FRAME).transpose(1, 2),
        scale_factor=float(FRAME),
        mode="linear",
    ).transpose(1, 2)
    actual = source._interpolate(source.cycles(f0, None), None)
    torch.testing.assert_close(actual, expected, atol=1e-9, rtol=0)


def test_unvoiced_source_is_noise_of_the_right_level(hift: Hift) -> None:
    source: HarmonicSource = hift.m_source
    noise = source_noise(0, 0, 20, FRAME, 9)
    weight, bias = source.l_linear.weight[0], source.l_linear.bias
    silent = source(torch.zeros(1, 20), noise)
    torch.testing.assert_close(silent[0, 0], torch.tanh(noise[0] @ weight * (0.1 / 3) + bias))
    voiced = source(torch.full((1, 20), 100.0), noise)
    assert not torch.allclose(voiced, silent, atol=1e-3)


def test_noise_does_not_depend_on_chunks() -> None:
    once = source_noise(5, 0, 10, FRAME, 9)
    parts = [source_noise(5, 0, 3, FRAME, 9), source_noise(5, 3, 7, FRAME, 9)]
    assert torch.equal(once, torch.cat(parts, dim=1))
    assert not torch.equal(once, source_noise(6, 0, 10, FRAME, 9))
    assert abs(float(once.std()) - 1) < 0.02
    assert not torch.equal(once[:, :FRAME], once[:, FRAME : 2 * FRAME])


def test_noise_that_is_kept_is_the_noise_of_its_frames() -> None:
    """Across the borders of what is made at once; and nobody can change what is kept."""

    def frame(n: int) -> torch.Tensor:
        bits = np.random.Philox(key=3, counter=[0, 0, n, 0])
        drawn = np.random.Generator(bits).standard_normal(FRAME * 9, dtype=np.float32)
        return torch.from_numpy(drawn).view(1, FRAME, 9)

    for first, n_frames in ((0, 1), (0, 64), (63, 2), (60, 140), (64, 64), (6000, 3)):
        expected = torch.cat([frame(n) for n in range(first, first + n_frames)], dim=1)
        for _ in range(2):
            noise = source_noise(3, first, n_frames, FRAME, 9)
            assert torch.equal(noise, expected)
            noise.zero_()


def test_folding_weight_norm_changes_nothing_audible(tmp_path: Path) -> None:
    hift = small_modules(write_vocoder(tmp_path))[1]
    mel = smooth_mel(20)
    before = whole(hift, mel)
    hift.fuse_weight_norm()
    assert not any("parametrizations" in name for name in hift.state_dict())
    torch.testing.assert_close(whole(hift, mel), before, atol=1e-6, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "sizes",
    [[30, 48, 96, 26], [30, 48, 96, 6], [3, 3, 5, 1, 2, 40, 1, 1], [2], [9, 7, 1], [100, 100]],
)
def test_chunks_equal_the_whole(hift: Hift, sizes: list[int]) -> None:
    mel = smooth_mel(sum(sizes))
    expected, actual = whole(hift, mel), streamed(hift, mel, sizes)
    assert actual.shape == expected.shape == (1, sum(sizes) * FRAME)
    level = float(expected.square().mean().sqrt())
    error = float((actual - expected).square().mean().sqrt())
    assert error < 0.01 * level


def test_no_step_at_a_border_beyond_the_signals_own(hift: Hift) -> None:
    mel = smooth_mel(240, seed=4)
    sizes = [30, 48, 96, 66]
    jumps = streamed(hift, mel, sizes)[0].diff().abs()
    own = whole(hift, mel)[0].diff().abs()
    for border in np.cumsum(sizes)[:-1]:
        for edge in (border - 8, border - 6):  # where the fade starts and ends
            at = slice(edge * FRAME - 8, edge * FRAME + 8)
            around = slice(edge * FRAME - 2 * FRAME, edge * FRAME + 2 * FRAME)
            assert float(jumps[at].max()) <= 1.05 * float(own[around].max())


def test_phase_does_not_drift_over_two_minutes(hift: Hift) -> None:
    """The highest harmonic after 120 s, chunked, against exact arithmetic."""
    source: HarmonicSource = hift.m_source
    f0_hz, n_frames = 233.0, 6000
    start = None
    for _ in range(60):
        start = source.cycles(torch.full((1, n_frames // 60), f0_hz), start)[:, -1]
    exact = (9 * 233 * 480 * n_frames) % 24_000 / 24_000
    assert start is not None
    assert abs(float(start[0, 8] % 1) - exact) < 1e-6


def test_cross_fade_of_equals_is_exact_and_weights_are_monotonic() -> None:
    signal = torch.randn(1, 100, generator=torch.Generator().manual_seed(0))
    assert torch.equal(cross_fade(signal[:, :40], signal), signal)
    assert torch.equal(cross_fade(signal[:, :0], signal), signal)
    ramp = cross_fade(torch.zeros(1, 50), torch.ones(1, 60))[0]
    assert float(ramp[0]) < 0.01
    assert all(a <= b for a, b in pairwise(ramp.tolist()))
    assert ramp[50:].tolist() == [1.0] * 10
