"""The tiny checkpoint: same bytes, official names and forms, files that do what they should."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from safetensors import safe_open
from sentencepiece import SentencePieceProcessor

from pipeline.errors import CheckpointError, ConfigError
from pipeline.stepaudio.checkpoint.random_init import init_checkpoint
from pipeline.stepaudio.layout import CheckpointLayout
from pipeline.stepaudio.tokens import AUDIO_TOKENS

pytestmark = pytest.mark.unit

MAX_BYTES = 10_000_000
MAX_S = 5.0  # of the processor; 0.3 on a usual one


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> CheckpointLayout:
    return init_checkpoint(tmp_path_factory.mktemp("tiny"))


def _files(root: Path) -> dict[str, bytes]:
    paths = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.slow
def test_same_seed_same_bytes_and_small_and_fast(tiny: CheckpointLayout, tmp_path: Path):
    start = time.process_time()
    init_checkpoint(tmp_path / "again")
    assert time.process_time() - start < MAX_S
    first, again = _files(tiny.root), _files(tmp_path / "again")
    assert first == again
    assert sum(map(len, first.values())) < MAX_BYTES


@pytest.mark.slow
def test_another_seed_changes_every_file_of_weights(tiny: CheckpointLayout, tmp_path: Path):
    init_checkpoint(tmp_path / "other", seed=1)
    first, other = _files(tiny.root), _files(tmp_path / "other")
    same = {Path(name).name for name in first if first[name] == other[name]}
    assert same == {
        "config.json",
        "config.yaml",
        "configuration.json",
        "cosyvoice.yaml",
        "generation_config.json",
        "model.safetensors.index.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "tokens.json",
    }


def test_layout_is_the_official_one(tiny: CheckpointLayout):
    assert CheckpointLayout.at(tiny.root) == tiny
    assert [shard.name for shard in tiny.lm_shards] == [
        "model-00001.safetensors",
        "model-00002.safetensors",
    ]


def test_refuses_unknown_sizes_and_directories_in_use(tiny: CheckpointLayout, tmp_path: Path):
    with pytest.raises(ConfigError, match="tiny"):
        init_checkpoint(tmp_path, size="huge")
    before = _files(tiny.root)
    with pytest.raises(CheckpointError, match="not empty"):
        init_checkpoint(tiny.root, seed=5)
    assert _files(tiny.root) == before


def test_text_tokenizer_has_the_official_special_pieces(tiny: CheckpointLayout):
    pieces = SentencePieceProcessor(model_file=str(tiny.text_tokenizer))
    ids = [pieces.piece_to_id(piece) for piece in ("<s>", "<|EOT|>", "<|BOT|>")]
    assert ids == [1, 3, 4]
    base = pieces.piece_to_id("<audio_0>")
    assert base > 5
    assert pieces.piece_to_id(f"<audio_{AUDIO_TOKENS - 1}>") == base + AUDIO_TOKENS - 1
    assert pieces.encode("<audio_7><audio_5119>")[-2:] == [base + 7, base + 5119]
    newline = pieces.encode("\n")
    assert [pieces.id_to_piece(i) for i in newline] == ["▁", "<0x0A>"]
    text = "Hello  there,\nñandú — 你好，龘 🙂"
    assert pieces.decode(pieces.encode(text)) == text  # byte fallback loses nothing


def test_speech_tokenizer_follows_its_input_and_length(tiny: CheckpointLayout):
    session = onnxruntime.InferenceSession(str(tiny.speech_tokenizer))
    first, second = session.get_inputs()
    assert (first.name, first.type) == ("feats", "tensor(float)")
    assert (second.name, second.type, second.shape) == ("feats_length", "tensor(int32)", [1])

    def codes(mel: np.ndarray, length: int) -> np.ndarray:
        feeds = {"feats": mel, "feats_length": np.array([length], np.int32)}
        (out,) = session.run(None, feeds)
        assert out.dtype == np.int32
        return out.reshape(-1)

    mel = np.random.default_rng(0).uniform(-0.6, 1.3, (1, 128, 200)).astype(np.float32)
    found = codes(mel, 200)
    assert len(found) == 50  # 25 Hz
    assert found.min() >= 0
    assert found.max() < 4096
    assert len(set(found.tolist())) > 40
    assert (codes(mel[:, :, ::-1].copy(), 200) != found).any()
    np.testing.assert_array_equal(codes(mel, 100), codes(mel[:, :, :100].copy(), 100))


def test_speaker_encoder_tells_voices_apart(tiny: CheckpointLayout):
    session = onnxruntime.InferenceSession(str(tiny.speaker_encoder))
    (only,) = session.get_inputs()
    noise = np.random.default_rng(0).normal(size=(1, 200, 80)).astype(np.float32)
    tilted = noise * np.linspace(0.2, 2, 80, dtype=np.float32)

    def embedding(fbank: np.ndarray) -> np.ndarray:
        (out,) = session.run(None, {only.name: fbank})
        assert out.shape == (1, 192)
        return out[0] / np.linalg.norm(out[0])

    assert embedding(noise[:, :100]) @ embedding(noise[:, 100:]) > 0.95
    assert embedding(noise) @ embedding(tilted) < 0.95


def test_configs_have_the_official_keys(tiny: CheckpointLayout):
    funasr = yaml.safe_load(tiny.paraformer_config.read_text())
    assert funasr["encoder"] == "SANMEncoderChunkOpt"
    assert {"encoder_conf", "frontend_conf", "predictor_conf"} <= funasr.keys()
    step1 = json.loads(tiny.lm_config.read_text())
    assert step1["architectures"] == ["Step1ForCausalLM"]
    assert step1["num_attention_heads"] % step1["num_attention_groups"] == 0
    text = tiny.vocoder_config.read_text()
    assert text.count("!new:stepvocoder.cosyvoice2.") == 7


def test_weights_have_the_official_names(tiny: CheckpointLayout):
    paraformer = torch.load(tiny.paraformer_weights, weights_only=True)
    assert {name.partition(".")[0] for name in paraformer} == {"encoder", "predictor", "decoder"}
    hift = torch.load(tiny.hift_weights, weights_only=True)
    assert "conv_pre.parametrizations.weight.original0" in hift
    assert "f0_predictor.condnet.8.parametrizations.weight.original1" in hift
    index = json.loads(tiny.lm_index.read_text())["weight_map"]
    for shard in tiny.lm_shards:
        with safe_open(shard, "pt") as file:
            names = set(file.keys())
            assert names == {name for name, where in index.items() if where == shard.name}
            assert file.get_tensor(min(names)).dtype == torch.bfloat16
