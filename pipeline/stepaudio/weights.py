# pyright: basic
"""Reading `.pt` files and putting them into modules, strictly."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from zipfile import is_zipfile

import torch
from torch import Tensor, nn

from pipeline.errors import CheckpointError

_SHOWN = 10  # names listed of each kind in an error


def read_torch(path: Path) -> dict[str, Tensor]:
    """Read a state dict, memory-mapped, tensors only: nothing in the file is executed.

    Raises CheckpointError when the file is missing, damaged, or holds anything but named tensors.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    except (RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"{path} is not a file of tensors: {reason}") from error
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(f"{path} does not hold a flat dict of named tensors")
    return dict(state)


def load_strict(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Copy `state` into the module's parameters and buffers; every name and shape must match.

    Raises CheckpointError that names `source` and the first missing, unexpected and misshapen keys,
    with counts.
    """
    expected = module.state_dict()
    shapes = {
        name: f"{name} is {list(state[name].shape)}, the config says {list(tensor.shape)}"
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    }
    problems = [
        _describe("missing", [name for name in expected if name not in state]),
        _describe("unexpected", [name for name in state if name not in expected]),
        _describe("misshapen", list(shapes.values())),
    ]
    if any(problems):
        raise CheckpointError(f"{source} does not fit: " + "; ".join(filter(None, problems)))
    module.load_state_dict(dict(state))


def _describe(kind: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f", … {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} {kind}: {', '.join(names[:_SHOWN])}{more}"
