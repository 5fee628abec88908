# pyright: basic
"""What comparisons with golden data share: a result, and the rule that stands for weights."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

AnyModule = TypeVar("AnyModule", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison.

    error: the largest difference found; tolerance: the largest allowed, 0 for exact.
    """

    name: str
    error: float
    tolerance: float

    @property
    def ok(self) -> bool:
        return self.error <= self.tolerance


def value(name: str, shape: Sequence[int], seed: int) -> NDArray[np.float32]:
    """The parameter called `name`: it depends on the name, the shape and the seed alone."""
    random = np.random.RandomState(zlib.crc32(f"{seed}:{name}".encode()))
    noise = random.standard_normal(size=tuple(shape)).astype(np.float32)
    leaf = name.rpartition(".")[2]
    if name.endswith("parametrizations.weight.original0"):  # gain of a weight norm
        parameter = 0.5 + 0.1 * np.abs(noise)
    elif leaf == "alpha":  # snake activation
        parameter = 1.0 + 0.1 * np.abs(noise)
    elif leaf == "bias" or leaf.startswith("pos_bias"):
        parameter = 0.05 * noise
    elif leaf == "weight" and len(shape) == 1:  # gain of a norm
        parameter = 1.0 + 0.1 * noise
    else:
        fan_in = int(np.prod(shape[1:] if len(shape) > 1 else shape))
        parameter = noise / np.sqrt(max(fan_in, 1))
    return parameter.astype(np.float32)


@torch.no_grad()
def fill(module: AnyModule, seed: int) -> AnyModule:
    """Overwrite every floating-point entry of the state dict with `value`; returns the module."""
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.from_numpy(value(name, tensor.shape, seed)))
    return module
