# pyright: basic
"""Writes the trained tokenizers into the checkpoint, from which later stages read them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pipeline.stepaudio.layout import CheckpointLayout
from pipeline.stepaudio.tokens import VQ02_CODES
from training.config import Recipe
from training.half import halve_onnx, halved
from training.models.linguistic_tokenizer import load_linguistic, paraformer_yaml
from training.models.semantic_tokenizer import export_semantic, load_semantic
from training.models.speaker_encoder import export_speaker, load_speaker

FAR = 1e4  # value of unused codebook rows, far from every frame


def export_layout(recipe: Recipe) -> CheckpointLayout:
    """The layout of the recipe's checkpoint; creates its directories."""
    layout = CheckpointLayout.expected(recipe.directory("export"))
    layout.paraformer.mkdir(parents=True, exist_ok=True)
    layout.vocoder.mkdir(parents=True, exist_ok=True)
    return layout


def export_tokenizers(recipe: Recipe) -> CheckpointLayout:
    """vq02 and vq06."""
    layout = export_layout(recipe)
    export_semantic(load_semantic(recipe), layout.speech_tokenizer)
    halve_onnx(layout.speech_tokenizer)
    net = load_linguistic(recipe)
    layout.paraformer_config.write_text(paraformer_yaml(), encoding="utf-8")
    layout.paraformer_cmvn.write_bytes((recipe.directory("vq02") / "am.mvn").read_bytes())
    state = {f"encoder.{name}": tensor.clone() for name, tensor in net.encoder.state_dict().items()}
    torch.save(halved(state), layout.paraformer_weights)
    codebook = net.quantizer.codebook.numpy()
    rest = np.full((VQ02_CODES - len(codebook), codebook.shape[1]), FAR, np.float32)
    np.save(layout.linguistic_codebook, np.concatenate((codebook, rest)))
    return layout


def export_speaker_model(recipe: Recipe) -> Path:
    """The speaker encoder; returns its file."""
    path = export_layout(recipe).speaker_encoder
    export_speaker(load_speaker(recipe), path)
    halve_onnx(path)
    return path
