# pyright: basic
"""Names and shapes of the tensors that configs require.

Taken from our own modules, built on the meta device.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from pipeline.stepaudio.config import VocoderConfig
from pipeline.stepaudio.llm.step1 import Step1Config, Step1ForCausalLM
from pipeline.stepaudio.vocoder.flow.flow import Flow
from pipeline.stepaudio.vocoder.hift.generator import Hift

Shapes = dict[str, tuple[int, ...]]


def flow_shapes(config: VocoderConfig) -> Shapes:
    """State dict of flow.pt. Raises CheckpointError for impossible sizes."""
    with torch.device("meta"):
        return _shapes(Flow(config))


def hift_shapes(config: VocoderConfig) -> Shapes:
    """State dict of hift.pt, weight norm not folded. CheckpointError for impossible sizes."""
    with torch.device("meta"):
        return _shapes(Hift(config.hift, config.f0_predictor))


def lm_shapes(config: Mapping[str, Any]) -> Shapes:
    """State dict of Step1. Raises TypeError or ValueError for an impossible config.json."""
    with torch.device("meta"):
        return _shapes(Step1ForCausalLM(Step1Config.of(config)))


def _shapes(module: nn.Module) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
