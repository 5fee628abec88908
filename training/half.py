# pyright: basic
"""Weights in 16 bits: ONNX files whose tensors are cast up as they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

LEAST_NUMBERS = 256  # smaller tensors stay as they are
LARGEST = 65_504.0  # of float16


def halved(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with its floating tensors in half precision."""
    return {name: w.half() if w.is_floating_point() else w for name, w in state.items()}


def halve_onnx(path: Path) -> None:
    """Store the file's float32 weights as float16, in place; its graph computes as before.

    Raises ValueError for a weight beyond what 16 bits hold.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(str(path))
    graph: Any = model.graph
    casts = []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or values.size < LEAST_NUMBERS:
            continue
        if np.abs(values).max() > LARGEST:
            raise ValueError(f"{path}: {tensor.name} holds numbers beyond 16 bits")
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, str(path))
