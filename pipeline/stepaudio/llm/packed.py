# pyright: basic
"""The compressed-tensors layout `pack-quantized` of AWQ checkpoints.

A layer `X` holds X.weight_packed, X.weight_scale, X.weight_shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import CheckpointError
from pipeline.stepaudio.llm.quantization import GROUP_SIZES, PER_WORD, Int4Weight

_HELD = "int4_weight"  # attribute of a projection whose weight stays in 4 bits
_QUANTIZED = "model.layers."
PACKED, SCALE, SHAPE = _SUFFIXES = "weight_packed", "weight_scale", "weight_shape"
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class PackedScheme:
    """A checkpoint's quantization scheme."""

    group_size: int
    """Input channels that share a scale."""
    ignored: frozenset[str]
    """Modules that are stored unquantized."""

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> PackedScheme:
        """From `quantization_config`. Raises ValueError naming what is not supported."""
        _require("quant_method", config.get("quant_method"), ("compressed-tensors",))
        _require("format", config.get("format"), ("pack-quantized",))
        groups = list((config.get("config_groups") or {}).values())
        _require("number of config_groups", len(groups), (1,))
        weights = groups[0].get("weights") or {}
        _require("input_activations", groups[0].get("input_activations"), (None,))
        for field, allowed in (
            ("num_bits", (4,)),
            ("type", ("int",)),
            ("symmetric", (True,)),
            ("strategy", ("group",)),
            ("group_size", GROUP_SIZES),
            ("actorder", (None, False)),
        ):
            _require(field, weights.get(field), allowed)
        return cls(weights["group_size"], frozenset(config.get("ignore") or ()))

    def stored_shapes(self, plain: Shapes) -> Shapes:
        """Names and shapes of the file, given those of the plain model."""
        stored: Shapes = {}
        for name, shape in plain.items():
            module = name.rpartition(".")[0]
            if not name.startswith(_QUANTIZED) or len(shape) == 1 or module in self.ignored:
                stored[name] = shape
                continue
            rows, width = shape
            if width % self.group_size:
                raise CheckpointError(f"{name} is {width} wide, no multiple of {self.group_size}")
            sizes = ((rows, width // PER_WORD), (rows, width // self.group_size), (2,))
            stored |= {f"{module}.{k}": s for k, s in zip(_SUFFIXES, sizes, strict=True)}
        return stored

    def hand_over(self, model: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Attach the 4-bit weights to their projections → the remaining, plain tensors.

        Raises CheckpointError for wrong dtypes or shapes.
        """
        plain = dict(tensors)
        for name in [name for name in tensors if name.endswith(f".{PACKED}")]:
            module = name.rpartition(".")[0]
            words, scales, shape = (plain.pop(f"{module}.{suffix}") for suffix in _SUFFIXES)
            expected = (len(words), words.shape[1] * PER_WORD)
            if words.dtype != torch.int32 or not scales.is_floating_point():
                raise CheckpointError(f"{module}: packed weights are {words.dtype}, not int32")
            if tuple(shape.tolist()) != expected:
                raise CheckpointError(
                    f"{module}.weight_shape is {shape.tolist()}, the words hold {list(expected)}"
                )
            setattr(model.get_submodule(module), _HELD, Int4Weight(words, scales))
        return plain


def held_weight(projection: nn.Linear) -> Tensor | Int4Weight:
    """The weight of a linear layer, in 4 bits if the checkpoint has it so."""
    held: Int4Weight | None = getattr(projection, _HELD, None)
    return projection.weight if held is None else held


def release_held(projection: nn.Linear) -> None:
    """Drop the 4-bit weight that `hand_over` attached to a linear layer, if any."""
    if hasattr(projection, _HELD):
        delattr(projection, _HELD)


def required_quantization(model: nn.Module, wanted: str) -> str:
    """The quantization to run: `wanted`, or int4 for a checkpoint in 4 bits.

    Raises CheckpointError for int8 of a checkpoint in 4 bits.
    """
    if not any(hasattr(module, _HELD) for module in model.modules()):
        return wanted
    if wanted == "int8":
        raise CheckpointError("the checkpoint is in 4 bits: quantization must be none or int4")
    return "int4"


def _require(name: str, found: object, allowed: tuple[object, ...]) -> None:
    if found not in allowed:
        words = ", ".join(map(repr, allowed))
        raise ValueError(f"quantization_config: {name} is {found!r}, supported: {words}")
