"""The semantic tokenizer and the speaker encoder on small ONNX models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import CheckpointError, ConfigError, StageError
from pipeline.stepaudio.tokenizer.features import speaker_fbank
from pipeline.stepaudio.tokenizer.onnx_session import open_session
from pipeline.stepaudio.tokenizer.semantic import SemanticTokenizer
from pipeline.stepaudio.tokenizer.speaker import SpeakerEncoder
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


ALL_PROVIDERS = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.mark.parametrize(
    ("device", "available", "words"),
    [("cuda", ALL_PROVIDERS[1:], "not there; available: CUDA"), ("cpu", ALL_PROVIDERS, "cuda")],
)
def test_tensorrt_is_refused_where_it_cannot_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, available: list[str], words: str
) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    write_speaker_model(tmp_path / "speaker.onnx")
    with pytest.raises(ConfigError, match=words):
        SpeakerEncoder(tmp_path / "speaker.onnx", device=device, tensorrt_cache=tmp_path)


def test_threads_and_arena_limit_reach_onnx_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    asked = []

    def session(_path: str, options: onnxruntime.SessionOptions, providers: list) -> None:
        asked.append((options, providers))

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ALL_PROVIDERS[1:])
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    write_speaker_model(tmp_path / "speaker.onnx")
    open_session(tmp_path / "speaker.onnx", "cuda", 3, 2**30)
    options, [(provider, limits), fallback] = asked[0]
    assert options.intra_op_num_threads == 3
    assert (provider, fallback) == ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert limits["gpu_mem_limit"] == 2**30
    assert limits["use_tf32"] == 0


def test_tensorrt_comes_before_cuda_and_keeps_its_engines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ONNX Runtime is asked for; there is no GPU here to run it on."""
    import onnxruntime

    asked = []
    real = onnxruntime.InferenceSession

    def session(path: str, options: object = None, providers: list | None = None) -> object:
        if providers == ["CPUExecutionProvider"]:
            return real(path, providers=providers)
        asked.extend(providers or [])
        return None

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ALL_PROVIDERS)
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    write_speaker_model(tmp_path / "speaker.onnx")
    open_session(tmp_path / "speaker.onnx", "cuda:1", 1, 2**30, tmp_path / "engines")
    names = [one if isinstance(one, str) else one[0] for one in asked]
    assert names == ALL_PROVIDERS
    assert asked[0][1]["device_id"] == asked[1][1]["device_id"] == 1
    assert asked[0][1]["trt_engine_cache_path"] == str(tmp_path / "engines")
    assert asked[0][1]["trt_fp16_enable"] is False
    profile = [asked[0][1][f"trt_profile_{end}_shapes"] for end in ("min", "opt", "max")]
    assert profile == ["fbank:1x3x80", "fbank:1x600x80", "fbank:1x3000x80"]
