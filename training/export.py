# pyright: basic
"""Stage `export`: trained parts → a checkpoint directory in the official layout.

Parts are written as they are finished, in 16 bits: later stages use the files of earlier ones.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from pipeline.prompting import FRONT_END_KEY, PASSAGE_KEY
from pipeline.stepaudio.checkpoint.digests import write_manifest
from pipeline.stepaudio.checkpoint.loader_files import write_loader_files
from pipeline.stepaudio.checkpoint.tiny_configs import lm_config
from pipeline.stepaudio.layout import SINGLE_SHARD
from pipeline.text.sounds.reading import FRONT_END_NAME
from training.config import Recipe
from training.export_encoders import export_layout, export_speaker_model, export_tokenizers
from training.half import halved
from training.models.adversarial import load_hift
from training.models.flow import load_flow
from training.models.llm import load_llm
from training.models.sizes import SIZES, cosyvoice_yaml
from training.models.text_tokenizer import tokenizer_model

LONGEST_PASSAGE_S = 8.0  # about the longest that the LLM was trained to say


def export_llm(recipe: Recipe) -> None:
    """Step1 and its text tokenizer."""
    layout, model = export_layout(recipe), load_llm(recipe)
    layout.text_tokenizer.write_bytes(tokenizer_model())
    config = json.loads(lm_config(SIZES, model.config.vocab_size))
    config[FRONT_END_KEY] = FRONT_END_NAME
    config[PASSAGE_KEY] = LONGEST_PASSAGE_S
    layout.lm_config.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    weights = {name: w.to(torch.bfloat16).contiguous() for name, w in model.state_dict().items()}
    save_file(weights, layout.editx / SINGLE_SHARD, metadata={"format": "pt"})


def export_vocoder(recipe: Recipe) -> None:
    """Flow and HiFT."""
    layout = export_layout(recipe)
    layout.vocoder_config.write_text(cosyvoice_yaml(), encoding="utf-8")
    torch.save(halved(load_flow(recipe).state_dict()), layout.flow_weights)
    torch.save(halved(load_hift(recipe).state_dict()), layout.hift_weights)


def export_all(recipe: Recipe) -> Path:
    """The whole checkpoint, manifest included; returns its directory."""
    layout = export_tokenizers(recipe)
    export_speaker_model(recipe)
    export_llm(recipe)
    export_vocoder(recipe)
    write_loader_files(layout)
    write_manifest(layout, "tiny", recipe.seed)
    return layout.root
