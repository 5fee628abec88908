"""The vocoder against every golden file of the reference implementation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.stepaudio.config import VocoderConfig
from pipeline.stepaudio.parity.golden import fill
from pipeline.stepaudio.parity.vocoder import check_vocoder, largest_difference
from pipeline.stepaudio.vocoder.hift.generator import Hift

pytestmark = pytest.mark.parity

EXPECTED = {
    "flow parameters",
    "hift parameters",
    "dual_token",
    "mu",
    "mel",
    "mel_stream",
    "f0",
    "wav",
}


@pytest.fixture(scope="module")
def golden(golden_dir: Path) -> Path:
    return golden_dir / "vocoder_public.json"


def test_every_golden_vocoder_agrees(golden_dir: Path) -> None:
    files = sorted(golden_dir.glob("vocoder_*.json"))
    files = [file for file in files if not file.name.endswith(".names.json")]
    assert files
    for file in files:
        checks = check_vocoder(file)
        assert {check.name for check in checks} == EXPECTED
        assert [check for check in checks if not check.ok] == []


def test_wrong_weights_are_noticed(golden: Path, tmp_path: Path) -> None:
    """With another seed every computed value is off, and with other sizes the names are."""
    for suffix in (".npz", ".names.json"):
        shutil.copy(golden.with_suffix(suffix), tmp_path)
    sections = json.loads(golden.read_text())
    sections["seed"] += 1
    sections["estimator"]["mlp_ratio"] = 1.0
    changed = tmp_path / golden.name
    changed.write_text(json.dumps(sections))
    failed = {check.name for check in check_vocoder(changed) if not check.ok}
    assert failed == EXPECTED - {"hift parameters", "dual_token"}


def test_waveform_agrees_before_weight_norm_is_folded(golden: Path) -> None:
    sections = json.loads(golden.read_text())
    config = VocoderConfig.from_sections(sections)
    hift = Hift(config.hift, config.f0_predictor)
    fill(hift, sections["seed"])
    with np.load(golden.with_suffix(".npz")) as arrays, torch.inference_mode():
        wave = hift.decode(torch.from_numpy(arrays["mel"]), torch.from_numpy(arrays["source"]))
        assert largest_difference(wave, arrays["wav"]) <= 1e-4


def test_largest_difference_never_hides_a_failure() -> None:
    zeros = np.zeros(3)
    assert largest_difference(np.array([0.0, 0.5, 0.0]), zeros) == 0.5
    assert largest_difference(np.zeros(4), zeros) == float("inf")
    assert largest_difference(np.array([0.0, np.nan, 0.0]), zeros) == float("inf")
