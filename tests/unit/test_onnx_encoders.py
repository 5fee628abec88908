"""The semantic tokenizer and the speaker encoder on small ONNX models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import CheckpointError, ConfigError, StageError
from pipeline.stepaudio.features import speaker_fbank
from pipeline.stepaudio.semantic import SemanticTokenizer
from pipeline.stepaudio.speaker import SpeakerEncoder
from tests.encoder_files import write_speaker_model, write_speech_tokenizer

pytestmark = pytest.mark.unit


def noise(n_samples: int, seed: int = 0) -> torch.Tensor:
    random = np.random.RandomState(seed)
    return torch.from_numpy(random.standard_normal(n_samples).astype(np.float32) * 0.1)


@pytest.fixture
def tokenizer(tmp_path: Path) -> SemanticTokenizer:
    write_speech_tokenizer(tmp_path / "tokenizer.onnx")
    return SemanticTokenizer(tmp_path / "tokenizer.onnx")


def test_codes_are_forty_milliseconds_each(tokenizer: SemanticTokenizer) -> None:
    codes = tokenizer.encode(noise(16_000))
    assert codes.shape == (25,)
    assert codes.dtype == np.int16
    assert len(set(codes.tolist())) > 5


def test_long_clips_are_read_in_pieces_of_thirty_seconds(tokenizer: SemanticTokenizer) -> None:
    samples = noise(31 * 16_000)
    pieces = [tokenizer.encode(part) for part in samples.split(30 * 16_000)]
    assert np.array_equal(tokenizer.encode(samples), np.concatenate(pieces))


@pytest.mark.parametrize(("tail_samples", "n_codes"), [(479, 750), (480, 751)])
def test_a_short_last_piece_is_skipped(
    tokenizer: SemanticTokenizer, tail_samples: int, n_codes: int
) -> None:
    assert len(tokenizer.encode(noise(30 * 16_000 + tail_samples))) == n_codes


def test_a_clip_of_nothing_has_no_codes(tokenizer: SemanticTokenizer) -> None:
    assert tokenizer.encode(noise(479)).shape == (0,)


def test_the_number_of_mels_comes_from_the_model(tmp_path: Path) -> None:
    write_speech_tokenizer(tmp_path / "small.onnx", n_mels=80)
    assert len(SemanticTokenizer(tmp_path / "small.onnx").encode(noise(3_200))) == 5


def test_codes_outside_the_codebook_are_an_error(tmp_path: Path) -> None:
    write_speech_tokenizer(tmp_path / "wrong.onnx", offset=4096)
    with pytest.raises(StageError, match="not 0…4095"):
        SemanticTokenizer(tmp_path / "wrong.onnx").encode(noise(3_200))


def test_speaker_embedding_follows_the_voice(tmp_path: Path) -> None:
    write_speaker_model(tmp_path / "speaker.onnx")
    encoder = SpeakerEncoder(tmp_path / "speaker.onnx")
    one, other = (encoder.encode(speaker_fbank(noise(8_000, seed))) for seed in (1, 2))
    assert one.shape == (192,)
    assert one.dtype == np.float32
    assert not np.allclose(one, other)


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"absent\.onnx is missing"):
        SpeakerEncoder(tmp_path / "absent.onnx")


def test_a_damaged_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "damaged.onnx").write_bytes(b"no model")
    with pytest.raises(CheckpointError, match=r"cannot read .*damaged\.onnx"):
        SpeakerEncoder(tmp_path / "damaged.onnx")


def test_an_unknown_device_is_refused(tmp_path: Path) -> None:
    write_speaker_model(tmp_path / "speaker.onnx")
    with pytest.raises(ConfigError, match="'tpu' is not one of"):
        SpeakerEncoder(tmp_path / "speaker.onnx", device="tpu")


def test_cuda_without_its_provider_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    write_speaker_model(tmp_path / "speaker.onnx")
    with pytest.raises(ConfigError, match="needs onnxruntime-gpu"):
        SpeakerEncoder(tmp_path / "speaker.onnx", device="cuda:0")
