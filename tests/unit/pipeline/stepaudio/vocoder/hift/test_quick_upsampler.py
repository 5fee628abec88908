"""The quick network makes what HiFT's own makes."""

from __future__ import annotations

import pytest
import torch

from pipeline.stepaudio.vocoder.hift.quick_upsampler import QuickUpsampler
from tests.vocoder_files import small_modules, write_vocoder

pytestmark = pytest.mark.unit


@pytest.mark.slow
@pytest.mark.parametrize(("n_rows", "n_frames"), [(1, 5), (1, 40), (2, 17)])
@torch.inference_mode()
def test_the_same_spectra(
    tmp_path_factory: pytest.TempPathFactory, n_rows: int, n_frames: int
) -> None:
    hift = small_modules(write_vocoder(tmp_path_factory.mktemp("vocoder")))[1]
    quick, generator = QuickUpsampler(hift), torch.Generator().manual_seed(0)
    mel = torch.randn(n_rows, hift.n_mels, n_frames, generator=generator)
    n_spectra = n_frames * hift.samples_per_frame // hift.hop + 1
    source = torch.randn(n_rows, hift.n_fft + 2, n_spectra, generator=generator)
    expected = hift._upsample(mel, source)
    given = (mel.clone(), source.clone())
    made = quick(mel, source, range(n_frames))
    assert made.is_contiguous()
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(mel, given[0])
    assert torch.equal(source, given[1])


@pytest.mark.slow
@pytest.mark.parametrize(("first", "end"), [(0, 1), (0, 40), (8, 30), (8, 40), (20, 24)])
@torch.inference_mode()
def test_samples_of_the_wanted_frames_are_those_of_all(
    tmp_path_factory: pytest.TempPathFactory, first: int, end: int
) -> None:
    hift = small_modules(write_vocoder(tmp_path_factory.mktemp("vocoder")))[1]
    quick = hift.quick = QuickUpsampler(hift)
    generator, n_frames = torch.Generator().manual_seed(0), 40
    mel = torch.randn(1, hift.n_mels, n_frames, generator=generator)
    excitation = torch.randn(1, 1, n_frames * hift.samples_per_frame, generator=generator)
    all_of_it = hift.decode(mel, excitation)
    wanted = range(first, end)
    made = hift.decode(mel, excitation, None, wanted)
    size = hift.samples_per_frame
    expected = all_of_it[:, first * size : end * size]
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-5)
    if wanted == range(20, 24):
        assert len(quick.run_for(wanted, n_frames)) < n_frames
    hift.quick = None
    assert torch.equal(
        hift.decode(mel, excitation, None, wanted),
        hift.decode(mel, excitation)[:, first * size : end * size],
    )
