# pyright: basic
"""Results of golden checks, and parameters derived from their names."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison with golden data."""

    name: str
    """What was compared."""
    error: float
    """Largest difference seen; infinite when the shapes differ or the check crashed."""
    tolerance: float
    """The largest error that passes; 0 means exact."""
    message: str = ""
    """Why the check failed without a number; else empty."""

    @property
    def ok(self) -> bool:
        return self.error <= self.tolerance


def value(name: str, shape: Sequence[int], seed: int) -> NDArray[np.float32]:
    """A parameter that depends on name, shape and seed alone, as in the golden files' generator.

    Weights have unit gain (standard deviation 1/√fan-in), norm gains and snake alphas lie near 1,
    biases near 0.
    """
    draw = np.random.RandomState(zlib.crc32(f"{seed}:{name}".encode()))
    normal = draw.standard_normal(size=tuple(shape)).astype(np.float32)
    leaf = name.rpartition(".")[2]
    if name.endswith("parametrizations.weight.original0"):  # weight-norm gain
        parameter = 0.5 + 0.1 * np.abs(normal)
    elif leaf == "alpha":
        parameter = 1.0 + 0.1 * np.abs(normal)
    elif leaf == "bias" or leaf.startswith("pos_bias"):
        parameter = 0.05 * normal
    elif leaf == "weight" and len(shape) == 1:
        parameter = 1.0 + 0.1 * normal
    else:
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else int(shape[0])
        parameter = normal / np.sqrt(max(fan_in, 1))
    return parameter.astype(np.float32)


def fill(module: nn.Module, seed: int) -> nn.Module:
    """Write `value` into every floating-point entry of the state dict; returns the module."""
    import torch

    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.from_numpy(value(name, tensor.shape, seed)))
    return module
