"""The quick network makes what HiFT's own makes."""

from __future__ import annotations

import pytest
import torch

from pipeline.stepaudio.vocoder.hift.quick_upsampler import QuickUpsampler
from tests.vocoder_files import small_modules, write_vocoder

pytestmark = pytest.mark.unit


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
    made = quick(mel, source)
    assert made.is_contiguous()
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(mel, given[0])
    assert torch.equal(source, given[1])
