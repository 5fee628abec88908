"""Weights in 8 and 4 bits: the error they make, the packed layout, and strict loading of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.errors import CheckpointError
from pipeline.stepaudio.llm.quantization import (
    int8_wide,
    pack_int4,
    pack_int8,
    pack_words,
    quantize_int4,
    quantize_int8,
    unpack_words,
)
from pipeline.stepaudio.llm.runner import Step1Runner
from pipeline.stepaudio.llm.sampling import AudioVocabulary
from pipeline.stepaudio.llm.step1 import Step1Config, Step1ForCausalLM, load_step1
from pipeline.stepaudio.parity.golden import fill
from tests.step1_files import save_step1

pytestmark = pytest.mark.unit

GROUP = 128
SCHEME: dict[str, Any] = {
    "quant_method": "compressed-tensors",
    "format": "pack-quantized",
    "ignore": ["lm_head"],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "input_activations": None,
            "weights": {
                "num_bits": 4,
                "type": "int",
                "symmetric": True,
                "strategy": "group",
                "group_size": GROUP,
            },
        }
    },
}


def small_model() -> Step1ForCausalLM:
    config = Step1Config(
        hidden_size=256,
        intermediate_size=384,
        num_attention_heads=8,
        num_attention_groups=2,
        num_hidden_layers=2,
        vocab_size=420,
        max_seq_len=1024,
    )
    model = Step1ForCausalLM(config).eval().requires_grad_(False)
    fill(model, 5)
    return model


def write_packed(directory: Path, model: Step1ForCausalLM) -> Step1ForCausalLM:
    """Write the model's layers in 4 bits → the model that the file then holds, in float."""
    save_step1(model, directory)
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        if name.startswith("model.layers.") and tensor.ndim == 2:
            held = quantize_int4(tensor)
            assert held.group_size == GROUP
            stem = name.removesuffix(".weight")
            tensors[f"{stem}.weight_packed"] = held.words
            tensors[f"{stem}.weight_scale"] = held.scales.bfloat16()
            tensors[f"{stem}.weight_shape"] = torch.tensor(tensor.shape)
            held.scales.copy_(held.scales.bfloat16())
            tensor.copy_(held.dequantized())
        else:
            tensors[name] = tensor.clone()
    save_file(tensors, directory / "model.safetensors")
    rewrite_config(directory, SCHEME)
    return model


def rewrite_config(directory: Path, scheme: dict[str, Any]) -> None:
    path = directory / "config.json"
    fields = json.loads(path.read_text())
    path.write_text(json.dumps({**fields, "quantization_config": scheme}))


def logits(model: Step1ForCausalLM, quantization: str = "none") -> torch.Tensor:
    """Of some tokens after a prompt, through a slot."""
    runner = Step1Runner(
        model,
        AudioVocabulary(20, 3, audio_tokens=400),
        slots=2,
        max_context_tokens=256,
        quantization=quantization,
    )
    ids = np.random.default_rng(0).integers(0, 420, 90).astype(np.int32)
    runner.prefill(0, ids[:60], 0)
    window = runner.window(0, 0)
    rest = [0] * (len(window) - 1)
    steps = [runner.step(window, [int(ids[i]), *rest], [i, *rest], i)[0] for i in range(60, 90)]
    return torch.stack(steps)


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("rows", [64, 401])
@pytest.mark.parametrize("width", [96, 192, 256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_are_near_those_in_float(rows: int, width: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(rows, width) * 0.02, torch.randn(5, width).to(dtype)
    expected = x.float() @ weight.T
    int8, int4 = pack_int8(weight)(x), pack_int4(quantize_int4(weight))(x)
    assert int8.dtype == int4.dtype == dtype
    assert int8.shape == int4.shape == (5, rows)
    assert relative_error(int8.float(), expected) < 0.012
    wide = int8_wide(x, *quantize_int8(weight))
    assert wide.dtype == dtype
    assert relative_error(wide.float(), int8.float()) < 0.005
    assert relative_error(int4.float(), expected) < 0.15
    held = quantize_int4(weight)
    assert relative_error(int4.float(), x.float() @ held.dequantized().T) < 0.01


def test_rounding_is_symmetric_and_at_most_half_a_step() -> None:
    weight = torch.randn(16, 256)
    held = quantize_int4(weight)
    assert held.group_size == 128
    off = (held.dequantized() - weight).abs().view(16, 2, 128)
    assert (off <= held.scales[..., None] * 0.5001).all()
    mirrored = quantize_int4(-weight)
    assert torch.equal(mirrored.dequantized(), -held.dequantized())
    assert torch.equal(quantize_int4(torch.zeros(16, 64)).dequantized(), torch.zeros(16, 64))


def test_words_hold_eight_values_the_first_in_the_lowest_bits() -> None:
    values = torch.arange(-8, 8, dtype=torch.int32).view(2, 8)
    words = pack_words(values)
    assert words.dtype == torch.int32
    assert words[0].item() == 0x76543210
    assert words[1].item() == 0xFEDCBA98 - 2**32
    assert torch.equal(unpack_words(words), values)


@pytest.mark.slow
@pytest.mark.parametrize(("quantization", "bound"), [("int8", 0.05), ("int4", 0.6)])
@pytest.mark.parametrize(
    "dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)]
)
def test_the_models_logits_stay_near_float(
    quantization: str, bound: float, dtype: torch.dtype
) -> None:
    # Plain rounding of random weights to 4 bits is coarse; AWQ chooses its scales better.
    expected = logits(small_model())
    found = logits(small_model().to(dtype), quantization)
    assert 0 < relative_error(found, expected) < bound


@pytest.mark.slow
def test_a_packed_checkpoint_gives_what_its_dequantised_weights_give(tmp_path: Path) -> None:
    dequantised = write_packed(tmp_path, small_model())
    loaded = load_step1(tmp_path, "cpu", torch.float32)
    expected = logits(dequantised)
    for quantization in ("none", "int4"):
        assert relative_error(logits(loaded, quantization), expected) < 0.05
    with pytest.raises(CheckpointError, match="quantization must be none or int4"):
        logits(loaded, "int8")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("num_bits", 8, "num_bits is 8, supported: 4"),
        ("symmetric", False, "symmetric is False"),
        ("group_size", 100, "group_size is 100"),
        ("strategy", "channel", "strategy is 'channel'"),
        ("actorder", "group", "actorder is 'group'"),
    ],
)
def test_another_scheme_is_refused_by_name(
    tmp_path: Path, field: str, value: object, words: str
) -> None:
    write_packed(tmp_path, small_model())
    scheme = json.loads(json.dumps(SCHEME))
    scheme["config_groups"]["group_0"]["weights"][field] = value
    rewrite_config(tmp_path, scheme)
    with pytest.raises(CheckpointError, match=words):
        load_step1(tmp_path, "cpu", torch.float32)


NAME = "model.layers.1.mlp.up_proj"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({f"{NAME}.weight_scale": None}, f"missing: {NAME}.weight_scale"),
        ({f"{NAME}.weight": torch.zeros(384, 256)}, f"unexpected: {NAME}.weight"),
        ({f"{NAME}.weight_scale": torch.zeros(384, 4)}, f"misshapen: {NAME}.weight_scale"),
        ({f"{NAME}.weight_shape": torch.tensor([384, 255])}, "the words hold"),
        ({f"{NAME}.weight_packed": torch.zeros(384, 32)}, "packed weights are torch.float32"),
    ],
)
def test_a_packed_file_that_does_not_fit_is_named(
    tmp_path: Path, change: dict[str, torch.Tensor | None], words: str
) -> None:
    write_packed(tmp_path, small_model())
    path = tmp_path / "model.safetensors"
    tensors = {**load_file(path), **change}
    save_file({k: v for k, v in tensors.items() if v is not None}, path)
    with pytest.raises(CheckpointError, match=words):
        load_step1(tmp_path, "cpu", torch.float32)


def test_a_width_that_no_group_divides_is_refused() -> None:
    with pytest.raises(CheckpointError, match="100 wide"):
        quantize_int4(torch.zeros(16, 100))
