"""What streams may take of a device, and who can never fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.admission.costs import ServiceCosts
from deployments.admission.gate import AdmissionGate, Places
from deployments.config.admission_settings import AdmissionSettings
from deployments.config.stage_settings import VocoderSettings
from deployments.http.errors import status_of
from deployments.stages.vocoder import permit_for, stream_budget_bytes
from pipeline.contracts import SpeechRequest
from pipeline.errors import ConfigError, TooLargeError
from pipeline.stepaudio.config import VocoderConfig
from pipeline.stepaudio.tokens import GROUP_ROWS
from pipeline.stepaudio.vocoder.memory_plan import VocoderMemory
from tests.fakes import voice_prompt
from tests.vocoder_files import SMALL_YAML

pytestmark = pytest.mark.unit

GIB = 2**30
STAGE = VocoderSettings()


def gate(max_bytes: int) -> AdmissionGate:
    return AdmissionGate(AdmissionSettings(), Places(10, max_bytes), ServiceCosts())


def test_what_can_never_fit_is_the_callers_to_change(tmp_path: Path) -> None:
    """A permanent mistake is no 503: retrying would not cure it."""
    full, voice = memory(tmp_path), voice_prompt(n_groups=50)
    request = SpeechRequest("Hello.", "Hi.", first_chunk_rows=250)
    rows = voice.n_groups * GROUP_ROWS
    for budget_bytes, param in (
        (full.stream_bytes(rows), "initial_codec_chunk_frames"),
        (full.stream_bytes(rows) - 1, None),
    ):
        with pytest.raises(TooLargeError, match="take fewer") as caught:
            permit_for(request, voice, full, gate(budget_bytes), STAGE)
        assert caught.value.param == param
        assert 400 <= status_of(caught.value) < 500
    fits = full.stream_bytes(rows, 250)
    permit = permit_for(request, voice, full, gate(fits), STAGE)
    assert permit.asked.demand.size_bytes == fits


def memory(tmp_path: Path, max_batch: int = 8, kept_bytes: int = 0) -> VocoderMemory:
    """Of a vocoder at the released sizes."""
    yaml_text = SMALL_YAML
    for small, full in (
        ("output_size: 32", "output_size: 512"),
        ("input_size: 32", "input_size: 512"),
        ("num_blocks: 1", "num_blocks: 6"),
        ("num_up_blocks: 1", "num_up_blocks: 4"),
        ("depth: 2", "depth: 16"),
        ("num_heads: 2", "num_heads: 8"),
        ("head_dim: 16", "head_dim: 64"),
        ("hidden_size: 32", "hidden_size: 512"),
    ):
        assert small in yaml_text
        yaml_text = yaml_text.replace(small, full)
    (tmp_path / "cosyvoice.yaml").write_text(yaml_text)
    config = VocoderConfig.load(tmp_path)
    return VocoderMemory.of(
        config, 10, 96, (15, 24, 48), max_batch=max_batch, kept_bytes=kept_bytes
    )


def test_a_frame_of_the_released_sizes_is_as_written_down(tmp_path: Path) -> None:
    """docs/decisions/0003: 1.3 MB a frame; six seconds of prompt are 300 frames."""
    full = memory(tmp_path)
    assert full.slab.frame_bytes == 10 * 16 * 2 * 2 * 512 * 4
    assert 0.6e9 < full.stream_bytes(150) < 0.9e9
    assert full.stream_bytes(750) > full.stream_bytes(150)
    assert full.stream_bytes(150, 250) > full.stream_bytes(150)


def test_a_cap_too_small_for_one_stream_stops_start_up(tmp_path: Path) -> None:
    weights = memory(tmp_path, kept_bytes=GIB)
    stage = VocoderSettings(device="cuda", gpu_memory_gib=11)
    budget_bytes = stream_budget_bytes(stage, weights, 30.0)
    assert budget_bytes == 11 * GIB - weights.shared_bytes
    assert budget_bytes // weights.stream_bytes(150) >= 10
    tight = VocoderSettings(device="cuda", gpu_memory_gib=4)
    with pytest.raises(ConfigError, match=r"gpu_memory_gib is 4: .* 30 s clip takes"):
        stream_budget_bytes(tight, weights, 30.0)
    assert stream_budget_bytes(tight, weights, 6.0) is not None
    assert stream_budget_bytes(VocoderSettings(), weights, 30.0) is None
