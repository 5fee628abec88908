"""The tiny checkpoint's two ONNX graphs, with the official inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.stepaudio.config import FBANK_MELS, WHISPER_MELS
from pipeline.stepaudio.parity.golden import value
from pipeline.stepaudio.tokens import VQ06_CODES

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

EMBEDDING = 192
WIDTH = 32
OPSET = 17
IR_VERSION = 8  # the oldest runtime that reads opset 17 reads this
CENTRE = 2.0  # spreads the log-mel's small range over the tanh


def speech_tokenizer(seed: int) -> onnx.ModelProto:
    """feats float32 (1, 128, T) at 100 Hz, feats_length int32 (1,) → indices int32 (1, ⌈T/4⌉).

    Two strided convolutions, a projection and an arg-max; frames behind `feats_length` are cut off
    first.
    """
    from onnx import TensorProto, helper

    weights = {
        "conv1.weight": CENTRE * value("vq06.conv1.weight", (WIDTH, WHISPER_MELS, 3), seed),
        "conv1.bias": value("vq06.conv1.bias", (WIDTH,), seed),
        "conv2.weight": CENTRE * value("vq06.conv2.weight", (WIDTH, WIDTH, 3), seed),
        "conv2.bias": value("vq06.conv2.bias", (WIDTH,), seed),
        "codebook": value("vq06.codebook", (VQ06_CODES, WIDTH), seed).T.copy(),
        "start": np.zeros(1, np.int64),
        "time_axis": np.full(1, 2, np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["feats_length"], ["end"], to=TensorProto.INT64),
        helper.make_node("Slice", ["feats", "start", "end", "time_axis"], ["cut"]),
        _halve("cut", "conv1"),
        helper.make_node("Tanh", ["conv1"], ["tanh1"]),
        _halve("tanh1", "conv2"),
        helper.make_node("Tanh", ["conv2"], ["tanh2"]),
        helper.make_node("Transpose", ["tanh2"], ["frames"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["frames", "codebook"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["nearest"], axis=2, keepdims=0),
        helper.make_node("Cast", ["nearest"], ["indices"], to=TensorProto.INT32),
    ]
    inputs = [
        helper.make_tensor_value_info("feats", TensorProto.FLOAT, [1, WHISPER_MELS, "T"]),
        helper.make_tensor_value_info("feats_length", TensorProto.INT32, [1]),
    ]
    outputs = [helper.make_tensor_value_info("indices", TensorProto.INT32, [1, "T_codes"])]
    return _model("speech_tokenizer", nodes, inputs, outputs, weights)


def speaker_encoder(seed: int) -> onnx.ModelProto:
    """input float32 (1, T, 80), mean over time removed → output float32 (1, 192).

    It projects the movement of each mel: the features themselves have mean zero over time.
    """
    from onnx import TensorProto, helper

    weights = {"project.weight": value("campplus.project", (EMBEDDING, FBANK_MELS), seed).T.copy()}
    nodes = [
        helper.make_node("Mul", ["input", "input"], ["power"]),
        helper.make_node("ReduceMean", ["power"], ["mean_power"], axes=[1], keepdims=0),
        helper.make_node("Sqrt", ["mean_power"], ["deviation"]),
        helper.make_node("MatMul", ["deviation", "project.weight"], ["output"]),
    ]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, "T", FBANK_MELS])]
    outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, EMBEDDING])]
    return _model("campplus", nodes, inputs, outputs, weights)


def _halve(source: str, name: str) -> onnx.NodeProto:
    """A convolution that halves the frame rate: 100 Hz → 50 Hz → 25 Hz."""
    from onnx import helper

    inputs = [source, f"{name}.weight", f"{name}.bias"]
    return helper.make_node("Conv", inputs, [name], kernel_shape=[3], strides=[2], pads=[1, 1])


def _model(
    name: str,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: Mapping[str, NDArray[Any]],
) -> onnx.ModelProto:
    """A checked model; equal arguments give equal bytes."""
    from onnx import checker, helper, numpy_helper

    tensors = [numpy_helper.from_array(array, key) for key, array in weights.items()]
    graph = helper.make_graph(nodes, name, inputs, outputs, initializer=tensors)
    model = helper.make_model(
        graph,
        producer_name="timbre",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    checker.check_model(model)
    return model
