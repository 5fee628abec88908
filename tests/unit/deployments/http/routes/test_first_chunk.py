"""Who decides how large the first audio is: the caller, else the load, else the settings."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from deployments.config.settings import Limits
from deployments.config.stage_settings import VocoderSettings
from deployments.http.dialects.speech import SpeechBody, parse_request
from deployments.stages.vocoder import adapt_first_chunk
from pipeline.contracts import SpeechRequest

pytestmark = pytest.mark.unit
SETTINGS = VocoderSettings(max_streams=8, quiet_first_rows=7)


def request(**fields: object) -> SpeechRequest:
    body = SpeechBody.model_validate({"input": "hello", "voice": "aria", **fields})
    return parse_request(body, Limits()).request


@pytest.mark.parametrize(
    ("fields", "rows", "is_adaptive"),
    [
        ({}, None, True),
        ({"seed": 3}, None, False),
        ({"initial_codec_chunk_frames": 6}, 6, False),
        ({"initial_codec_chunk_frames": 6, "seed": 3}, 6, False),
        ({"initial_codec_chunk_frames": 0}, None, False),
    ],
)
def test_the_field_reaches_the_request(fields: dict, rows: int | None, is_adaptive: bool) -> None:
    made = request(**fields)
    assert (made.first_chunk_rows, made.is_adaptive) == (rows, is_adaptive)


@pytest.mark.parametrize("frames", [-1, 251, 2.5])
def test_impossible_frames_are_refused(frames: float) -> None:
    with pytest.raises(ValidationError, match="initial_codec_chunk_frames"):
        SpeechBody.model_validate({"input": "hello", "initial_codec_chunk_frames": frames})


@pytest.mark.parametrize(("active", "rows"), [(0, 7), (2, 7), (3, None), (8, None)])
def test_a_quiet_replica_starts_sooner(active: int, rows: int | None) -> None:
    assert adapt_first_chunk(request(), SETTINGS, active).first_chunk_rows == rows


@pytest.mark.parametrize("fields", [{"seed": 1}, {"initial_codec_chunk_frames": 9}])
def test_load_never_moves_the_borders_of_a_request_that_fixes_them(fields: dict) -> None:
    made = request(**fields)
    assert {adapt_first_chunk(made, SETTINGS, active) for active in range(9)} == {made}


def test_batches_are_for_gpus_unless_told_otherwise() -> None:
    assert VocoderSettings().together == 1
    assert VocoderSettings(device="cuda", gpu_memory_gib=4).together > 1
    assert VocoderSettings(device="cuda", gpu_memory_gib=4, max_batch=1).together == 1
