"""Golden data of the reference front end and vq02, and the chunk loop on real clips."""

from __future__ import annotations

import json
import shutil
import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.stepaudio.parity.frontend import FRONTEND_CONF, check_frontend, check_vq02
from pipeline.stepaudio.parity.golden import fill
from pipeline.stepaudio.tokenizer.features import clip_tokenizer_wav
from pipeline.stepaudio.tokenizer.linguistic import LinguisticEncoder, nearest_codes
from tests.encoder_files import chunk_loop

pytestmark = pytest.mark.parity


def test_features_match_the_golden_files(golden_dir: Path) -> None:
    files = list(golden_dir.glob("frontend_*.npz"))
    assert files
    for npz in files:
        checks = check_frontend(npz)
        assert [check.name for check in checks] == [
            "prompt_mel",
            "speaker_fbank",
            "tokenizer_wav",
            "whisper_mel",
        ]
        assert all(check.ok for check in checks), checks


def test_vq02_matches_the_golden_files(golden_dir: Path) -> None:
    files = list(golden_dir.glob("vq02_*.json"))
    assert files
    for conf in files:
        checks = check_vq02(conf)
        assert [check.tolerance for check in checks] == [1e-4, 0.0]
        assert all(check.ok for check in checks), checks


@pytest.mark.parametrize("key", ["seed", "kernel_size"])
def test_another_encoder_fails_the_check(golden_dir: Path, tmp_path: Path, key: str) -> None:
    for path in golden_dir.glob("vq02_public.*"):
        shutil.copy(path, tmp_path)
    path = tmp_path / "vq02_public.json"
    conf = json.loads(path.read_text())
    path.chmod(0o644)
    path.write_text(json.dumps({**conf, key: conf[key] + 2}))
    assert not any(check.ok for check in check_vq02(path))


def read_clip(path: Path) -> tuple[torch.Tensor, int]:
    with wave.open(str(path)) as reader:
        assert reader.getsampwidth() == 2
        samples = np.frombuffer(reader.readframes(reader.getnframes()), np.int16)
        mono = samples.reshape(-1, reader.getnchannels()).mean(axis=1) / 32_768
        return torch.from_numpy(mono.astype(np.float32)), reader.getframerate()


def test_codes_of_real_clips_equal_the_chunk_loop(shared_dir: Path) -> None:
    golden = shared_dir / "golden" / "vq02_public.json"
    conf = json.loads(golden.read_text())
    encoder_conf = {key: entry for key, entry in conf.items() if key != "seed"}
    cmvn = golden.with_suffix(".am.mvn")
    encoder = LinguisticEncoder(encoder_conf, FRONTEND_CONF, cmvn)
    fill(encoder.encoder, conf["seed"])
    codebook = torch.from_numpy(np.load(golden.with_suffix(".npz"))["codebook"])
    clips = sorted((shared_dir / "audio").glob("*.wav"))
    assert clips
    waveforms = [clip_tokenizer_wav(*read_clip(path)) for path in clips]
    with torch.inference_mode():
        batch = encoder.encode_frames([encoder.frames(samples) for samples in waveforms])
    for path, samples, batched in zip(clips, waveforms, batch, strict=True):
        expected = chunk_loop(encoder, samples)
        looped = nearest_codes(expected, codebook)
        for hidden in (encoder.encode(samples), batched):
            assert torch.allclose(hidden, expected, rtol=0, atol=1e-5), path.name
            assert np.array_equal(nearest_codes(hidden, codebook), looped), path.name
