"""Reading cosyvoice.yaml as plain data."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import CheckpointError
from pipeline.stepaudio.config import VocoderConfig
from pipeline.stepaudio.tagged_yaml import CLASS_KEY, read_tagged_yaml
from tests.vocoder_files import SMALL_YAML

pytestmark = pytest.mark.unit


def write(directory: Path, text: str) -> Path:
    file = directory / "cosyvoice.yaml"
    file.write_text(text)
    return file


def test_official_layout_is_read(tmp_path: Path) -> None:
    write(tmp_path, SMALL_YAML)
    config = VocoderConfig.load(tmp_path)
    assert config.flow.vocab_size == 5121
    assert config.flow.spk_embed_dim == 192  # by reference
    assert config.encoder.linear_units == 48
    assert config.estimator.hidden_size == 32
    assert config.inference_cfg_rate == 0.7
    assert config.hift.upsample_rates == (8, 5, 3)
    assert config.hift.source_resblock_dilation_sizes == ((1, 3), (1, 3), (1, 3))
    assert config.hift.istft_params.hop_len == 4
    assert config.hift.samples_per_frame == 480
    assert config.f0_predictor.cond_channels == 16
    assert config.mel.fmax == 8000.0
    assert config == VocoderConfig.load(tmp_path / "cosyvoice.yaml")


def test_official_defaults_fill_what_the_file_leaves_out(tmp_path: Path) -> None:
    text = SMALL_YAML.replace("    audio_limit: 0.99\n", "").replace("        key_bias: True\n", "")
    config = VocoderConfig.load(write(tmp_path, text))
    assert config.hift.audio_limit == 0.99
    assert config.encoder.key_bias is True


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("input_layer: 'linear'", "input_layer: 'conv2d'", "encoder.input_layer is 'conv2d'"),
        ("normalize_before: True", "normalize_before: False", "encoder.normalize_before is False"),
        ("output_type: 'mel'", "output_type: 'wave'", "flow.output_type is 'wave'"),
        ("            depth: 2\n", "            depth: many\n", "estimator.depth is 'many'"),
        ("            depth: 2\n", "            depth: true\n", "estimator.depth is True"),
        ("            in_channels: 320\n", "", "estimator lacks the settings ['in_channels']"),
        ("            in_channels: 320\n", "            in_channels: 240\n", "only 320"),
        ("    lrelu_slope: 0.1\n", "    slope: 0.1\n", "unknown settings ['slope']"),
        ("attention_heads: 2", "attention_heads: 3", "a divisor of output_size"),
        ("upsample_rates: [8, 5, 3]", "upsample_rates: [8, 5]", "upsample_kernel_sizes"),
        ("generator.HiFTGenerator", "bigvgan.BigVGAN", "hift is a BigVGAN"),
        ("!ref <mel_bins>\n    spk", "!ref <mel[bins]>\n    spk", "<mel[bins]> points at nothing"),
        ("spk_embed_dim: 192\n", "spk_embed_dim: !ref <spk_embed_dim>\n", "refers to itself"),
        ("    decoder: !new", "    decodes: !new", "no section 'decoder'"),
        ("hift: !new", "hifi: !new", "no section 'hift'"),
        ("flow: !new", "flow: [!new", "not valid YAML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in SMALL_YAML
    file = write(tmp_path, SMALL_YAML.replace(old, new, 1))
    with pytest.raises(CheckpointError) as caught:
        VocoderConfig.load(file)
    assert words in caught.value.message
    assert str(file) in caught.value.message


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        VocoderConfig.load(tmp_path / "cosyvoice.yaml")


def test_tags_instantiate_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    text = f"""\
new: !new:os.mkdir {{path: {marker}}}
apply: !apply:os.mkdir [{marker}]
name: !name:os.mkdir
sum: !ref <new> * 2
copy: !ref <new>
"""
    tree = read_tagged_yaml(write(tmp_path, text))
    assert tree["new"] == {"path": str(marker), CLASS_KEY: "os.mkdir"}
    assert tree["copy"] == tree["new"]
    assert tree["apply"] == [str(marker)]
    assert tree["sum"] == "<new> * 2"
    assert not marker.exists()
    with pytest.raises(CheckpointError, match="not valid YAML"):
        read_tagged_yaml(write(tmp_path, f"a: !!python/object/apply:os.mkdir [{marker}]"))
    assert not marker.exists()
