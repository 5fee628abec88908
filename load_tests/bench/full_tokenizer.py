"""A reference encoder at the released sizes with random weights, for timing.

vq02 and vq06 have the released layers; the speaker model is a stack of convolutions with as many
weights as CAM++. Codes mean nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper

from pipeline.stepaudio.config import FBANK_MELS
from pipeline.stepaudio.tokenizer.voice_encoder import SPEAKER_MODEL, SPEECH_TOKENIZER
from tests.encoder_files import VQ06_CODES, write_encoder_files

N_MELS = 128
WIDTH, HEADS, UNITS, BLOCKS = 1280, 20, 5120, 6  # speech_tokenizer_v1.onnx: 522 MB
SPEAKER_WIDTH, SPEAKER_LAYERS, EMBEDDING = 512, 8, 192  # campplus.onnx: 28 MB


def write_full_tokenizer(root: Path, vq02_size: dict[str, int]) -> tuple[Path, Path]:
    """A tokenizer and a vocoder directory below `root`, as StepVoiceEncoder reads them."""
    torch.manual_seed(0)
    tokenizer, vocoder = write_encoder_files(root, seed=None, **vq02_size)
    write_full_onnx(tokenizer, vocoder)
    return tokenizer, vocoder


def write_full_onnx(tokenizer: Path, vocoder: Path) -> None:
    """vq06 and the speaker model, in place of what is there."""
    onnx.save(_speech_tokenizer(), tokenizer / SPEECH_TOKENIZER)
    onnx.save(_speaker_model(), vocoder / SPEAKER_MODEL)


class _Graph:
    """Nodes and seeded weights, written down in the order they run."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []

    def const(self, array: np.ndarray | np.float32) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weight(self, *shape: int) -> str:
        n_first, *others = shape
        scale = 1 / np.sqrt(np.prod(others) if len(shape) > 2 else n_first)
        return self.const(self._random.standard_normal(shape, np.float32) * np.float32(scale))

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def linear(self, x: str, n_in: int, n_out: int) -> str:
        bias = self.const(np.zeros(n_out, np.float32))
        return self.add("Add", self.add("MatMul", x, self.weight(n_in, n_out)), bias)

    def gelu(self, x: str) -> str:
        root, one, half = (self.const(np.float32(v)) for v in (np.sqrt(2.0), 1.0, 0.5))
        spread = self.add("Add", self.add("Erf", self.add("Div", x, root)), one)
        return self.add("Mul", self.add("Mul", x, spread), half)

    def norm(self, x: str) -> str:
        one, zero = (self.const(np.full(WIDTH, v, np.float32)) for v in (1, 0))
        return self.add("LayerNormalization", x, one, zero, axis=-1)

    def model(
        self, inputs: list[onnx.ValueInfoProto], output: onnx.ValueInfoProto
    ) -> onnx.ModelProto:
        """A checked model whose last node gives `output`."""
        self.nodes[-1].output[0] = output.name
        graph = helper.make_graph(self.nodes, "full", inputs, [output], initializer=self.weights)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(made)
        return made


def _speech_tokenizer() -> onnx.ModelProto:
    """Whisper's encoder as the released file has it: 100 Hz log-mel to codes at 25 Hz."""
    g = _Graph()
    start, axis = (g.const(np.full(1, v, np.int64)) for v in (0, 2))
    end = g.add("Cast", "length", to=TensorProto.INT64)
    x = g.add("Slice", "mel", start, end, axis)
    for n_in in (N_MELS, WIDTH):
        x = g.add("Conv", x, g.weight(WIDTH, n_in, 3), strides=[2], pads=[1, 1])
        x = g.gelu(x)
    x = g.add("Transpose", x, perm=[0, 2, 1])
    for _ in range(BLOCKS):
        x = g.add("Add", x, _attention(g, g.norm(x)))
        x = g.add("Add", x, g.linear(g.gelu(g.linear(g.norm(x), WIDTH, UNITS)), UNITS, WIDTH))
    g.add("ArgMax", g.linear(x, WIDTH, VQ06_CODES), axis=2, keepdims=0)
    inputs = [
        helper.make_tensor_value_info("mel", TensorProto.FLOAT, [1, N_MELS, "T"]),
        helper.make_tensor_value_info("length", TensorProto.INT32, [1]),
    ]
    return g.model(inputs, helper.make_tensor_value_info("codes", TensorProto.INT64, [1, "N"]))


def _attention(g: _Graph, x: str) -> str:
    heads = g.const(np.array([1, -1, HEADS, WIDTH // HEADS], np.int64))
    flat = g.const(np.array([1, -1, WIDTH], np.int64))
    scale = g.const(np.float32((WIDTH // HEADS) ** -0.5))
    query, key, value = (g.add("Reshape", g.linear(x, WIDTH, WIDTH), heads) for _ in range(3))
    query, value = (g.add("Transpose", part, perm=[0, 2, 1, 3]) for part in (query, value))
    key = g.add("Transpose", key, perm=[0, 2, 3, 1])
    scores = g.add("Mul", g.add("MatMul", query, key), scale)
    mixed = g.add("MatMul", g.add("Softmax", scores, axis=-1), value)
    joined = g.add("Reshape", g.add("Transpose", mixed, perm=[0, 2, 1, 3]), flat)
    return g.linear(joined, WIDTH, WIDTH)


def _speaker_model() -> onnx.ModelProto:
    g = _Graph()
    x = g.add("Transpose", "fbank", perm=[0, 2, 1])
    x = g.add("Conv", x, g.weight(SPEAKER_WIDTH, FBANK_MELS, 5), strides=[2], pads=[2, 2])
    for _ in range(SPEAKER_LAYERS):
        x = g.add("Conv", x, g.weight(SPEAKER_WIDTH, SPEAKER_WIDTH, 3), pads=[1, 1])
        x = g.add("Relu", x)
    mean = g.add("ReduceMean", x, axes=[2], keepdims=0)
    g.add("MatMul", mean, g.weight(SPEAKER_WIDTH, EMBEDDING))
    inputs = [helper.make_tensor_value_info("fbank", TensorProto.FLOAT, [1, "T", FBANK_MELS])]
    output = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, EMBEDDING])
    return g.model(inputs, output)
