# pyright: basic
"""Comparing our modules with golden files of the reference: parameters, checks, the whole run."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

SUFFIXES = {"vocoder": ".json", "lm": ".json", "vq02": ".json", "frontend": ".npz"}  # by kind


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison with golden data.

    name: what was compared. error: largest difference seen; infinite when the shapes differ or the
    check crashed. tolerance: the largest error that passes; 0 means exact. message: why there is no
    number, else empty.
    """

    name: str
    error: float
    tolerance: float
    message: str = ""

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


Comparison = Callable[[Path, str], list[Check]]


def golden_files(directory: Path) -> list[tuple[Path, str]]:
    """The golden files of a directory with their kinds, by name.

    What follows the first underscore is free.
    """
    found = []
    for path in sorted(directory.iterdir()):
        kind = path.name.partition("_")[0]
        if path.suffix == ".json" and path.name.startswith("prompts"):
            found.append((path, "prompts"))
        elif path.name.endswith(".names.json") or "_" not in path.name:
            continue
        elif SUFFIXES.get(kind) == path.suffix:
            found.append((path, kind))
    return found


def run_parity(directory: Path, device: str = "cpu") -> list[tuple[str, Check]]:
    """Compare with every golden file of a directory: (file name, check) in order.

    A comparison that crashes is one failed check with its message; the others still run.
    Raises ConfigError when there is no directory or it holds nothing to compare with.
    """
    if not directory.is_dir():
        raise ConfigError(f"there is no directory {directory}")
    files = golden_files(directory)
    if not files:
        patterns = ", ".join(f"{kind}_*{suffix}" for kind, suffix in SUFFIXES.items())
        raise ConfigError(f"{directory} holds no golden file ({patterns}, prompts*.json)")
    compare = _comparisons()
    return [
        (path.name, check) for path, kind in files for check in _run(compare[kind], path, device)
    ]


def _run(compare: Comparison, path: Path, device: str) -> list[Check]:
    try:
        return compare(path, device)
    except Exception as error:  # noqa: BLE001 — whatever goes wrong is this file's result, not the run's end
        message = str(error).strip().partition("\n")[0]
        return [Check("crashed", float("inf"), 0.0, f"{type(error).__name__}: {message}")]


def _comparisons() -> dict[str, Comparison]:
    """What compares each kind.

    Imported here: these modules import this one, and funasr takes seconds.
    """
    from pipeline.stepaudio.parity.frontend import check_frontend, check_vq02
    from pipeline.stepaudio.parity.lm import check_lm, check_prompts
    from pipeline.stepaudio.parity.vocoder import check_vocoder

    return {
        "vocoder": check_vocoder,
        "lm": check_lm,
        "vq02": check_vq02,
        "frontend": check_frontend,
        "prompts": lambda path, _: check_prompts(path),
    }
