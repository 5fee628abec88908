"""Every way in which a checkpoint can be wrong is said in words, and a sound one passes."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from sentencepiece import sentencepiece_model_pb2

from pipeline.stepaudio.checkpoint import digests as checkpoint_digests
from pipeline.stepaudio.checkpoint.digests import OFFICIAL, Expected
from pipeline.stepaudio.checkpoint.random_init import init_checkpoint
from pipeline.stepaudio.checkpoint.verify import verify_checkpoint
from pipeline.stepaudio.layout import CheckpointLayout

pytestmark = [pytest.mark.unit, pytest.mark.slow]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> CheckpointLayout:
    return init_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def tiny(original: CheckpointLayout, tmp_path: Path) -> CheckpointLayout:
    """A copy to damage."""
    shutil.copytree(original.root, tmp_path / "tiny")
    return CheckpointLayout.at(tmp_path / "tiny")


def _problems(tiny: CheckpointLayout) -> str:
    report = verify_checkpoint(tiny.root)
    assert not report.ok
    assert all("\n" not in problem for problem in report.problems)
    return "\n".join(report.problems)


def _contents_only(tiny: CheckpointLayout) -> str:
    """Problems when no manifest knows the files: only contents can tell."""
    tiny.manifest.unlink()
    return _problems(tiny)


def _edit_yaml(path: Path, edit: Callable[[dict], object]) -> None:
    config = yaml.safe_load(path.read_text())
    edit(config)
    path.write_text(yaml.safe_dump(config))


def _edit_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def _edit_torch(path: Path, edit: Callable[[dict], object]) -> None:
    state = torch.load(path, weights_only=True)
    edit(state)
    torch.save(state, path)


@pytest.mark.slow
def test_sound_checkpoint_passes(original: CheckpointLayout):
    report = verify_checkpoint(original.root)
    assert report.problems == ()
    assert report.known_by == "timbre.json"
    assert report.notes == ()


def test_without_manifest_contents_still_pass_and_a_note_says_what_is_not_judged(
    tiny: CheckpointLayout,
):
    tiny.manifest.unlink()
    report = verify_checkpoint(tiny.root)
    assert report.ok
    assert "no timbre.json" in report.notes[0]


def test_missing_directory_and_files(tiny: CheckpointLayout, tmp_path: Path):
    assert "there is no directory" in verify_checkpoint(tmp_path / "none").problems[0]
    tiny.hift_weights.unlink()
    tiny.lm_shards[1].unlink()
    problems = _problems(tiny)
    assert problems.count("hift.pt is missing") == 1
    assert "model-00002.safetensors, which is missing" in problems
    assert "flow.pt" not in problems


def test_cut_files(tiny: CheckpointLayout):
    for path in (tiny.flow_weights, tiny.speech_tokenizer, tiny.lm_shards[0]):
        path.write_bytes(path.read_bytes()[:-1000])
    problems = _problems(tiny)
    assert problems.count("is cut off: ") == 3
    assert f"of {tiny.flow_weights.stat().st_size + 1000:,} bytes" in problems


def test_cut_files_are_noticed_without_known_sizes(tiny: CheckpointLayout):
    for path in (
        tiny.flow_weights,
        tiny.speech_tokenizer,
        tiny.speaker_encoder,
        tiny.lm_shards[0],
        tiny.text_tokenizer,
        tiny.linguistic_codebook,
    ):
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
    problems = _contents_only(tiny)
    for name in (
        "flow.pt",
        "speech_tokenizer_v1.onnx",
        "campplus.onnx",
        "model-00001.safetensors",
        "tokenizer.model",
        "linguistic_tokenizer.npy",
    ):
        assert name in problems


@pytest.mark.slow
def test_damaged_byte_is_found_by_digest_only(tiny: CheckpointLayout):
    data = bytearray(tiny.linguistic_codebook.read_bytes())
    data[-1] ^= 1
    tiny.linguistic_codebook.write_bytes(data)
    assert "linguistic_tokenizer.npy is damaged or another version: its SHA-256" in _problems(tiny)
    assert verify_checkpoint(tiny.root, digests=False).ok


def test_lfs_pointer_is_named_as_such(tiny: CheckpointLayout):
    oid = "d3f240ec9a524644ffd3790b6c568dd1554adfc366e76ddc4d6309a121a05fcc"
    tiny.linguistic_codebook.write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 2097280\n"
    )
    problems = _problems(tiny)
    assert "linguistic_tokenizer.npy is a Git LFS pointer" in problems
    assert problems.count("\n") == 0


def test_empty_file_and_damaged_manifest(tiny: CheckpointLayout):
    tiny.text_tokenizer.write_bytes(b"")
    tiny.manifest.write_text("{")
    problems = _problems(tiny)
    assert "tokenizer.model is empty" in problems
    assert "timbre.json is damaged" in problems


def test_codebook_must_fit_the_encoder(tiny: CheckpointLayout):
    np.save(tiny.linguistic_codebook, np.zeros((1024, 48), np.float32))
    problems = _contents_only(tiny)
    assert "shape (1024, 48); the encoder gives 64 values a frame" in problems


def test_encoder_must_fit_its_config(tiny: CheckpointLayout):
    _edit_yaml(tiny.paraformer_config, lambda c: c["encoder_conf"].update(num_blocks=4))
    problems = _contents_only(tiny)
    assert "model.pt lacks 13 tensors that the config asks for: encoders.2." in problems


def test_normalisation_must_fit_the_features(tiny: CheckpointLayout):
    _edit_yaml(tiny.paraformer_config, lambda c: c["frontend_conf"].update(lfr_m=5))
    problems = _contents_only(tiny)
    assert "am.mvn's <AddShift> has 560 values; n_mels × lfr_m in config.yaml is 400" in problems


def test_flow_and_hift_must_fit_their_config(tiny: CheckpointLayout):
    def rename(state: dict[str, torch.Tensor]) -> None:
        state["decoder.extra"] = state.pop("encoder_proj.bias")
        state["spk_embed_affine_layer.bias"] = torch.zeros(3)

    _edit_torch(tiny.flow_weights, rename)
    _edit_torch(tiny.hift_weights, lambda state: state.pop("conv_post.bias"))
    problems = _contents_only(tiny)
    assert "flow.pt lacks 1 tensors that the config asks for: encoder_proj.bias" in problems
    assert "flow.pt holds 1 tensors without a place: decoder.extra" in problems
    assert "spk_embed_affine_layer.bias in flow.pt has shape (3,)" in problems
    assert "hift.pt lacks 1 tensors that the config asks for: conv_post.bias" in problems


def test_vocabulary_and_speaker_width_must_fit_the_other_stages(tiny: CheckpointLayout):
    text = tiny.vocoder_config.read_text()
    text = text.replace("vocab_size: 5121", "vocab_size: 5000").replace(
        "embed_dim: 192", "embed_dim: 80"
    )
    tiny.vocoder_config.write_text(text)
    problems = _contents_only(tiny)
    assert "flow's vocab_size in cosyvoice.yaml is 5000; 5121 is needed" in problems
    assert "flow's spk_embed_dim in cosyvoice.yaml is 80; 192 is needed" in problems


def test_paraformer_may_be_wrapped_and_hold_other_things(tiny: CheckpointLayout):
    state = torch.load(tiny.paraformer_weights, weights_only=True)
    torch.save({"state_dict": state | {"steps": 7}}, tiny.paraformer_weights)
    tiny.manifest.unlink()
    assert verify_checkpoint(tiny.root).ok


def test_torch_file_that_would_run_code_is_refused(tiny: CheckpointLayout):
    buffer = io.BytesIO()
    torch.save({"model": Path("x")}, buffer)
    tiny.flow_weights.write_bytes(buffer.getvalue())
    assert "flow.pt" in _contents_only(tiny)


def test_shards_must_fit_index_and_config(tiny: CheckpointLayout):
    first, second = tiny.lm_shards
    moved = load_file(first)
    others = load_file(second)
    name = min(moved)
    others[name] = moved.pop(name)
    others["stray"] = torch.zeros(2)
    save_file(moved, first)
    save_file(others, second)
    _edit_json(tiny.lm_config, hidden_size=120)
    problems = _contents_only(tiny)
    assert f"1 tensors are in another shard than it says, such as {name}" in problems
    assert "1 tensors are not listed, such as stray" in problems
    assert "the LLM's safetensors holds 1 tensors without a place: stray" in problems
    assert "has shape (5694, 96); the config asks for (5694, 120)" in problems


@pytest.mark.slow
def test_quantised_shard_is_judged_by_its_packed_shapes(tiny: CheckpointLayout):
    tensors = {}
    for shard in tiny.lm_shards:
        tensors |= load_file(shard)
        shard.unlink()
    tiny.lm_index.unlink()
    for name in [name for name in tensors if name.endswith("_proj.weight")]:
        out, width = tensors.pop(name).shape
        stem = name.removesuffix("weight")
        tensors[f"{stem}weight_packed"] = torch.zeros(out, width // 8, dtype=torch.int32)
        tensors[f"{stem}weight_scale"] = torch.zeros(out, width // 32)
        tensors[f"{stem}weight_shape"] = torch.tensor([out, width])
    weights = {"num_bits": 4, "group_size": 32, "type": "int", "symmetric": True}
    _edit_json(tiny.lm_config, quantization_config={"config_groups": {"g": {"weights": weights}}})
    save_file(tensors, tiny.editx / "model.safetensors")
    tiny.manifest.unlink()
    assert verify_checkpoint(tiny.root).ok

    tensors["model.layers.0.mlp.up_proj.weight_scale"] = torch.zeros(1, 1)
    tensors["model.layers.1.self_attn.q_proj.weight_packed"] = torch.zeros(96, 3).int()
    save_file(tensors, tiny.editx / "model.safetensors")
    problems = _problems(tiny)
    assert "up_proj.weight_scale is (1, 1); (192, 3) is needed" in problems
    assert "q_proj.weight in the LLM's safetensors has shape (96, 24)" in problems


def test_onnx_graphs_must_have_the_official_inputs(tiny: CheckpointLayout):
    speech = onnx.load(tiny.speech_tokenizer)
    del speech.graph.input[1]
    onnx.save(speech, tiny.speech_tokenizer)
    speaker = onnx.load(tiny.speaker_encoder)
    speaker.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 64
    onnx.save(speaker, tiny.speaker_encoder)
    problems = _contents_only(tiny)
    assert "speech_tokenizer_v1.onnx has 1 inputs (feats) instead of 2" in problems
    assert "input input of campplus.onnx has shape (1, any, 64); (any, any, 80) is" in problems


def test_text_tokenizer_must_have_audio_pieces_and_fit_the_vocabulary(tiny: CheckpointLayout):
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(tiny.text_tokenizer.read_bytes())
    for piece in model.pieces:
        if piece.piece == "<audio_0>":
            piece.piece = "<sound_0>"
    tiny.text_tokenizer.write_bytes(model.SerializeToString())
    _edit_json(tiny.lm_config, vocab_size=5000)
    problems = _contents_only(tiny)
    assert "tokenizer.model has no piece <audio_0>" in problems
    assert "has 5694 pieces and config.json a vocab_size of 5000 only" in problems


def test_configs_that_are_no_configs(tiny: CheckpointLayout):
    tiny.lm_config.write_text("{")
    tiny.vocoder_config.write_text("flow: [")
    tiny.paraformer_config.write_text("model: ParaformerStreaming\n")
    problems = _contents_only(tiny)
    assert problems.count("cannot be read together") >= 3
    assert "'encoder_conf' is not there" in problems


def test_published_checkpoint_is_judged_by_published_sizes(
    tiny: CheckpointLayout, monkeypatch: pytest.MonkeyPatch
):
    tiny.manifest.unlink()
    name = tiny.relative(tiny.flow_weights)
    size = tiny.flow_weights.stat().st_size
    monkeypatch.setitem(OFFICIAL, name, Expected(size, "8ed68d0c"))
    report = verify_checkpoint(tiny.root)
    assert report.known_by == "the published digests"
    problems = "\n".join(report.problems)
    assert "flow.pt is damaged or another version" in problems
    assert "model.pt is cut off" in problems
    assert "never published" in report.notes[0]


def test_published_table_is_complete():
    for name, expected in OFFICIAL.items():
        assert expected.size_bytes > 0
        assert len(expected.sha256) in {8, 64}
        assert name.split("/")[0] in {
            "Step-Audio-Tokenizer",
            "Step-Audio-EditX",
            "Step-Audio-EditX-AWQ-4bit",
        }
    assert checkpoint_digests.OFFICIAL_LM_WIDTH == 3072
