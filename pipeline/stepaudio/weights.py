# pyright: basic
"""Strict loading of parameters into modules. Knows no checkpoint layout."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from pipeline.errors import CheckpointError


def load_strict(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Copy `state` into `module`; names and shapes must agree exactly.

    Raises CheckpointError naming every missing, unexpected and misshapen key, and `source`, where
    they came from.
    """
    own = module.state_dict()
    faults = [f"missing {name}" for name in own if name not in state]
    faults += [f"unexpected {name}" for name in state if name not in own]
    faults += [
        f"{name} has shape {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if faults:
        raise CheckpointError(f"{source} does not fit the model: {'; '.join(faults)}")
    module.load_state_dict(state)
