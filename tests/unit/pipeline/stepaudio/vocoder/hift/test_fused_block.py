"""HiFT's residual blocks in few kernels equal the plain ones, in Triton's interpreter."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import pytest
import torch

from pipeline.stepaudio.vocoder.hift.fourier import FixedFourier
from pipeline.stepaudio.vocoder.hift.fused_block import FusedBlock
from pipeline.stepaudio.vocoder.hift.generator import ResBlock
from pipeline.stepaudio.vocoder.hift.quick_upsampler import QuickUpsampler
from tests.vocoder_files import small_modules, write_vocoder

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="on tensors of a CPU"),
]


def test_fused_blocks_equal_plain_ones(tmp_path: Path) -> None:
    hift = small_modules(write_vocoder(tmp_path))[1]
    hift.fuse_weight_norm()
    torch.manual_seed(0)
    with torch.inference_mode():
        for module in (*hift.resblocks, *hift.source_resblocks):
            block = cast("ResBlock", module)
            x = torch.randn(2, len(block.activations1[0].get_parameter("alpha")), 77)
            before = x.clone()
            fused = FusedBlock(block)(x[:, :, None]).squeeze(2)
            torch.testing.assert_close(fused, block(x), atol=1e-5, rtol=1e-5)
            assert torch.equal(x, before), "others read it too"
        mel = torch.randn(1, 80, 20)
        noise = hift.m_source.noise(0, 0, 20)
        expected = hift(mel, noise)
        hift.quick = QuickUpsampler(
            hift, FusedBlock, FixedFourier(hift.n_fft, hift.hop, hift.window)
        )
        torch.testing.assert_close(hift(mel, noise), expected, atol=1e-5, rtol=0)
