"""The quick source makes the harmonic source's excitation, whole and in chunks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from pipeline.stepaudio.config import HiftConfig
from pipeline.stepaudio.vocoder.hift.generator import HarmonicSource
from pipeline.stepaudio.vocoder.hift.quick_source import QuickSource
from tests.vocoder_files import small_modules, write_vocoder

pytestmark = pytest.mark.unit

SEED = 3
ROUNDING = 2e-6


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> HarmonicSource:
    found = small_modules(write_vocoder(tmp_path_factory.mktemp("vocoder")))[1].m_source
    assert isinstance(found, HarmonicSource)
    return found


def quick_form(source: HarmonicSource) -> QuickSource:
    config = HiftConfig(
        sampling_rate=source.rate_hz,
        upsample_rates=(8, 5, 3),
        nb_harmonics=source.n_sines - 1,
        nsf_alpha=source.amplitude,
        nsf_sigma=source.sigma,
        nsf_voiced_threshold=source.voiced_above_hz,
    )
    quick = QuickSource(config, source.l_linear)
    assert quick.samples_per_frame == source.samples_per_frame
    return quick


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def melody(n_frames: int) -> Tensor:
    """Low, high, and without a voice; so high that harmonics pass the rate."""
    f0 = torch.linspace(60, 1400, n_frames)
    f0[n_frames // 3 : n_frames // 2] = 3.0
    return f0[None]


def test_the_same_excitation(source: HarmonicSource) -> None:
    quick, f0 = quick_form(source), melody(90)
    for start in (None, torch.tensor([[0.37]], dtype=torch.float64)):
        phases = None if start is None else start * torch.arange(1, source.n_sines + 1)
        plain = source(f0, source.noise(SEED, 7, 90), phases)
        fast = quick(f0, quick.noise(SEED, 7, 90), start)
        assert fast.shape == plain.shape
        torch.testing.assert_close(fast, plain, rtol=0, atol=ROUNDING)


def test_the_same_phase_up_to_whole_turns(source: HarmonicSource) -> None:
    f0 = melody(50)
    plain, fast = source.cycles(f0, None), quick_form(source).cycles(f0, None)
    for i in range(source.n_sines):
        turns = (i + 1) * fast[..., 0] - plain[..., i]
        torch.testing.assert_close(turns, turns.round(), rtol=0, atol=1e-9)


def test_noise_of_a_frame_depends_on_its_number_alone(source: HarmonicSource) -> None:
    quick = quick_form(source)
    all_of_it = quick.noise(SEED, 0, 200)
    assert all_of_it.shape == (1, *quick.noise_sizes(200))
    assert torch.equal(quick.noise(SEED, 61, 70), all_of_it[:, 61:131])
    assert not torch.equal(quick.noise(SEED + 1, 0, 200), all_of_it)
