# pyright: basic
"""Comparisons with golden data: one result record, and the parameters such data is made on.

Knows no stage.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.contracts import Float32Array


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison.

    name: what was compared. error: largest deviation. tolerance: largest allowed; 0 is exact.
    """

    name: str
    error: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether the error is within the tolerance; a NaN never is."""
        return self.error <= self.tolerance


def value(name: str, shape: Sequence[int], seed: int) -> Float32Array:
    """The golden parameter `name`: float32 of `shape`, a function of name, shape and seed alone."""
    state = np.random.RandomState(zlib.crc32(f"{seed}:{name}".encode()))
    x = state.standard_normal(size=tuple(shape)).astype(np.float32)
    leaf = name.rpartition(".")[2]
    if name.endswith("parametrizations.weight.original0"):  # gain of a weight norm
        x = 0.5 + 0.1 * np.abs(x)
    elif leaf == "alpha":  # slope of a snake activation
        x = 1.0 + 0.1 * np.abs(x)
    elif leaf == "bias" or leaf.startswith("pos_bias"):
        x = 0.05 * x
    elif leaf == "weight" and len(shape) == 1:  # gain of a norm
        x = 1.0 + 0.1 * x
    else:
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else int(shape[0])
        x = x / np.sqrt(max(fan_in, 1))
    return x.astype(np.float32)


def fill(module: torch.nn.Module, seed: int) -> None:
    """Write the golden parameters into `module`, in place, by the names of its state dict."""
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.from_numpy(value(name, tensor.shape, seed)))
