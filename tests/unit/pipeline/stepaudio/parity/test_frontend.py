"""The golden checks on golden files made here, by the chunk loop."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.stepaudio.parity.frontend import check_vq02
from pipeline.stepaudio.tokenizer.linguistic import nearest_codes
from tests.encoder_files import chunk_loop, encoder_conf, make_encoder

pytestmark = pytest.mark.unit


def write_golden(directory: Path, n_samples: int, n_dropped: int = 0, **extra: object) -> Path:
    """vq02_here.json with its neighbours; the last `n_dropped` frames are left out."""
    encoder = make_encoder(directory, seed=11)
    wav = (np.random.RandomState(1).standard_normal(n_samples) * 3_000).astype(np.int16)
    hidden = chunk_loop(encoder, torch.from_numpy(wav.astype(np.float32) / 32_768))
    hidden = hidden[: len(hidden) - n_dropped]
    codebook = hidden[::2].clone()
    codes = nearest_codes(hidden, codebook).astype(np.int64)
    (directory / "am.mvn").rename(directory / "vq02_here.am.mvn")
    np.savez(
        directory / "vq02_here.npz",
        wav=wav,
        enc_out=hidden.numpy(),
        codebook=codebook.numpy(),
        codes=codes,
    )
    path = directory / "vq02_here.json"
    path.write_text(json.dumps({**encoder_conf(), "input_size": 560, "seed": 11, **extra}))
    return path


def test_other_sizes_and_seeds_pass(tmp_path: Path) -> None:
    checks = check_vq02(write_golden(tmp_path, 20_000))
    assert all(check.ok for check in checks), checks


def test_another_seed_fails(tmp_path: Path) -> None:
    checks = check_vq02(write_golden(tmp_path, 20_000, seed=12))
    assert not any(check.ok for check in checks), checks


def test_a_dropped_short_tail_passes(tmp_path: Path) -> None:
    """StepFun's copy of the front end drops it, the published one does not."""
    checks = check_vq02(write_golden(tmp_path, 5 * 3_840 + 720, n_dropped=1))
    assert all(check.ok for check in checks), checks


@pytest.mark.parametrize(("tail", "n_dropped"), [(1_200, 1), (0, 1), (720, 2)])
def test_any_other_missing_frame_fails(tmp_path: Path, tail: int, n_dropped: int) -> None:
    checks = check_vq02(write_golden(tmp_path, 5 * 3_840 + tail, n_dropped))
    assert [check.error for check in checks] == [float("inf")] * 2
