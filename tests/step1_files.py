"""A Step1 model written as an official directory: config.json and safetensors."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from huggingface_hub import save_torch_state_dict

from pipeline.stepaudio.llm.step1 import Step1ForCausalLM


def save_step1(model: Step1ForCausalLM, directory: Path, max_shard_size: str = "5GB") -> None:
    """A model over max_shard_size has an index and several files."""
    (directory / "config.json").write_text(json.dumps(asdict(model.config)))
    save_torch_state_dict(model.state_dict(), directory, max_shard_size=max_shard_size)
