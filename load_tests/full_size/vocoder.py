"""A vocoder at the released sizes with random weights, for timing. What it says is noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from pipeline.stepaudio.checkpoint.tiny_configs import SIZES, vocoder_config
from pipeline.stepaudio.config import VocoderConfig
from pipeline.stepaudio.vocoder.flow.flow import Flow
from pipeline.stepaudio.vocoder.hift.generator import Hift

FULL_SIZES = replace(
    SIZES["tiny"],
    flow_width=512,
    flow_heads=8,
    flow_units=2048,
    flow_blocks=6,
    flow_up_blocks=4,
    dit_width=512,
    dit_heads=8,
    dit_head_width=64,
    dit_depth=16,
    hift_channels=512,
    f0_channels=512,
)


def write_full_vocoder(directory: Path) -> Path:
    """A vocoder directory of the released sizes, weights as torch draws them from one seed."""
    yaml_text = vocoder_config(FULL_SIZES).replace("mlp_ratio: 2.0", "mlp_ratio: 4.0")
    (directory / "cosyvoice.yaml").write_text(yaml_text)
    config = VocoderConfig.load(directory)
    torch.manual_seed(0)
    torch.save(Flow(config).state_dict(), directory / "flow.pt")
    torch.save(Hift(config.hift, config.f0_predictor).state_dict(), directory / "hift.pt")
    return directory
