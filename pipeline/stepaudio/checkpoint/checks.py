# pyright: basic
"""Checks the content of each file of a checkpoint against the configs beside it.

Every check yields problems, one sentence each; it may raise one of UNREADABLE, which its caller
turns into a sentence.
"""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import is_zipfile

import numpy as np
import torch
import yaml

from pipeline.errors import CheckpointError
from pipeline.stepaudio.checkpoint.shapes import Shapes, flow_shapes, hift_shapes, lm_shapes
from pipeline.stepaudio.config import FBANK_MELS, WHISPER_MELS, VocoderConfig
from pipeline.stepaudio.layout import INDEX, CheckpointLayout
from pipeline.stepaudio.llm.packed import PACKED, SCALE, SHAPE
from pipeline.stepaudio.tokenizer.linguistic_shapes import ENCODER_PREFIX, encoder_shapes
from pipeline.stepaudio.tokens import AUDIO_TOKENS, ROW_VQ06_OFFSET, VQ02_CODES, VQ06_CODES
from pipeline.stepaudio.weights import read_torch

if TYPE_CHECKING:
    from onnx import ModelProto

UNREADABLE = (
    CheckpointError,
    OSError,
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    RuntimeError,
    struct.error,
    pickle.UnpicklingError,
    yaml.YAMLError,
)
SPECIAL_PIECES = {"<s>": 1, "<|EOT|>": 3, "<|BOT|>": 4}
SHOWN = 3  # names listed per problem
SPEAKER_WIDTH = 192
BITS_PER_WORD = 32


def check_linguistic(layout: CheckpointLayout) -> Iterator[str]:
    """Codebook, normalisation and encoder weights against FunASR's config."""
    config = yaml.safe_load(layout.paraformer_config.read_text(encoding="utf-8"))
    encoder, frontend = config["encoder_conf"], config["frontend_conf"]
    width = int(encoder["output_size"])
    input_size = int(frontend["n_mels"]) * int(frontend["lfr_m"])

    codebook = np.load(layout.linguistic_codebook, allow_pickle=False, mmap_mode="r")
    if codebook.dtype.kind != "f":
        yield f"linguistic_tokenizer.npy holds {codebook.dtype}; floating-point values are needed"
    if codebook.ndim != 2 or codebook.shape[1] != width:  # noqa: PLR2004 — (codes, width)
        yield (
            f"linguistic_tokenizer.npy has shape {codebook.shape}; "
            f"the encoder gives {width} values a frame, so (codes, {width}) is needed"
        )
    elif codebook.shape[0] > VQ02_CODES:
        yield f"linguistic_tokenizer.npy has {codebook.shape[0]} codes; {VQ02_CODES} is the limit"

    for tag, size in _cmvn_sizes(layout.paraformer_cmvn).items():
        if size != input_size:
            yield f"am.mvn's {tag} has {size} values; n_mels × lfr_m in config.yaml is {input_size}"

    state = _paraformer_shapes(layout.paraformer_weights)
    ours = {
        name.removeprefix(ENCODER_PREFIX): shape
        for name, shape in state.items()
        if name.startswith(ENCODER_PREFIX)
    }
    if not ours:
        yield "model.pt holds no tensor named encoder.*"
    else:
        yield from compare("model.pt", ours, encoder_shapes(encoder, input_size))


def _cmvn_sizes(path: Path) -> dict[str, int]:
    """Number of values after <AddShift> and <Rescale> in a Kaldi nnet text."""
    sizes = {"<AddShift>": 0, "<Rescale>": 0}
    current = None
    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if words and words[0] in sizes:
            current = words[0]
        elif words and words[0] == "<LearnRateCoef>" and current:
            sizes[current] = words.index("]") - words.index("[") - 1
            current = None
    return sizes


def check_semantic(layout: CheckpointLayout) -> Iterator[str]:
    """Inputs and outputs of speech_tokenizer_v1.onnx."""
    from onnx import TensorProto

    yield from _check_onnx(
        layout.speech_tokenizer,
        [(TensorProto.FLOAT, (None, WHISPER_MELS, None)), (TensorProto.INT32, (None,))],
        output=None,
    )


def check_speaker(layout: CheckpointLayout) -> Iterator[str]:
    """Input and output of campplus.onnx."""
    from onnx import TensorProto

    yield from _check_onnx(
        layout.speaker_encoder,
        [(TensorProto.FLOAT, (None, None, FBANK_MELS))],
        output=(None, SPEAKER_WIDTH),
    )


def _check_onnx(
    path: Path,
    inputs: Sequence[tuple[int, tuple[int | None, ...]]],
    output: tuple[int | None, ...] | None,
) -> Iterator[str]:
    """Problems of a graph's inputs and first output.

    inputs: element type and shape of each, None for a free dimension. output: None for any shape.
    """
    graph = _read_onnx(path).graph
    weights = {tensor.name for tensor in graph.initializer}
    found = [one for one in graph.input if one.name not in weights]
    if len(found) != len(inputs):
        names = ", ".join(one.name for one in found) or "none"
        yield f"{path.name} has {len(found)} inputs ({names}) instead of {len(inputs)}"
        return
    if not graph.output:
        yield f"{path.name} has no output"
        return
    for one, (kind, shape) in zip(found, inputs, strict=True):
        if one.type.tensor_type.elem_type != kind:
            yield f"input {one.name} of {path.name} has another element type than the official one"
        yield from _check_dims(path, f"input {one.name}", _dims(one), shape)
    if output is not None:
        first = graph.output[0]
        yield from _check_dims(path, f"output {first.name}", _dims(first), output)


def _read_onnx(path: Path) -> ModelProto:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(str(path), load_external_data=False)
    except DecodeError as error:
        raise CheckpointError(f"{path.name} is damaged or no ONNX file: {error}") from error


def _dims(one: Any) -> tuple[int | None, ...] | None:
    """Sizes of an input or output, None for a free one; None when no shape is stated."""
    tensor = one.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)


def _check_dims(
    path: Path, what: str, found: tuple[int | None, ...] | None, needed: tuple[int | None, ...]
) -> Iterator[str]:
    if found is None:
        return
    fits = len(found) == len(needed) and all(
        a is None or b is None or a == b for a, b in zip(found, needed, strict=True)
    )
    if not fits:
        yield f"{what} of {path.name} has shape {_dims_text(found)}; {_dims_text(needed)} is needed"


def _dims_text(dims: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("any" if d is None else str(d) for d in dims) + ")"


def check_text_tokenizer(layout: CheckpointLayout) -> Iterator[str]:
    """Special and audio pieces, and their number against the LLM's vocabulary."""
    from sentencepiece import SentencePieceProcessor

    pieces = SentencePieceProcessor(model_file=str(layout.text_tokenizer))
    for piece, wanted in SPECIAL_PIECES.items():
        found = pieces.piece_to_id(piece)
        if found != wanted:
            yield f"tokenizer.model gives {piece} the id {found}; {wanted} is needed"
    base = pieces.piece_to_id("<audio_0>")
    if base == pieces.unk_id():
        yield "tokenizer.model has no piece <audio_0>, so it is not for this model"
    elif any(pieces.piece_to_id(f"<audio_{code}>") != base + code for code in range(AUDIO_TOKENS)):
        yield f"the {AUDIO_TOKENS} audio pieces of tokenizer.model do not follow one another"
    vocabulary = int(_read_json(layout.lm_config)["vocab_size"])
    if pieces.get_piece_size() > vocabulary:
        yield (
            f"tokenizer.model has {pieces.get_piece_size()} pieces "
            f"and config.json a vocab_size of {vocabulary} only"
        )


def check_lm(layout: CheckpointLayout) -> Iterator[str]:
    """Shards against their index, tensors against config.json."""
    config = _read_json(layout.lm_config)
    tensors: Shapes = {}
    where: dict[str, str] = {}
    for shard in layout.lm_shards:
        shapes = _shard_shapes(shard)
        for name in sorted(shapes.keys() & tensors.keys()):
            yield f"{name} is in {where[name]} and in {shard.name}"
        tensors |= shapes
        where |= dict.fromkeys(shapes, shard.name)
    if layout.lm_index.is_file():
        yield from _check_index(_read_json(layout.lm_index), where)
    elif len(layout.lm_shards) > 1:
        yield f"{INDEX} is missing and there are {len(layout.lm_shards)} shards"
    expected = lm_shapes(config)
    if "quantization_config" in config:
        tensors, problems = _unpacked(tensors, config["quantization_config"])
        yield from problems
    yield from compare("the LLM's safetensors", tensors, expected)


def _check_index(index: Mapping[str, Any], where: Mapping[str, str]) -> Iterator[str]:
    listed: dict[str, str] = index["weight_map"]
    for shard in sorted(set(listed.values()) - set(where.values())):
        yield f"{INDEX} names {shard}, which is missing"
    moved = [name for name, shard in listed.items() if name in where and where[name] != shard]
    present = set(where.values())
    lost = [name for name, shard in listed.items() if shard in present and name not in where]
    extra = [name for name in where if name not in listed]
    for words, names in (
        ("are in another shard than it says", moved),
        ("are in no shard", lost),
        ("are not listed", extra),
    ):
        if names:
            yield f"{INDEX} is wrong: {len(names)} tensors {words}, such as {_some(names)}"


def _unpacked(tensors: Shapes, quantization: Mapping[str, Any]) -> tuple[Shapes, list[str]]:
    """Shapes of the unpacked tensors (compressed-tensors), and problems of the packed ones."""
    weights = next(iter(quantization["config_groups"].values()))["weights"]
    bits, group = int(weights["num_bits"]), int(weights["group_size"])
    shapes: Shapes = {}
    problems = []
    for name, shape in tensors.items():
        stem, _, leaf = name.rpartition(".")
        if leaf in (SCALE, SHAPE):
            continue
        if leaf != PACKED:
            shapes[name] = shape
            continue
        full = (shape[0], shape[1] * (BITS_PER_WORD // bits))
        shapes[f"{stem}.weight"] = full
        scale = (full[0], full[1] // group)
        if tensors.get(f"{stem}.{SCALE}") != scale:
            found = tensors.get(f"{stem}.{SCALE}", "missing")
            problems.append(f"{stem}.{SCALE} is {found}; {scale} is needed for its packed weight")
    return shapes, problems


def check_vocoder(layout: CheckpointLayout) -> Iterator[str]:
    """flow.pt and hift.pt against cosyvoice.yaml."""
    config = VocoderConfig.load(layout.vocoder_config)
    for setting, value, needed in (
        ("vocab_size", config.flow.vocab_size, ROW_VQ06_OFFSET + VQ06_CODES),
        ("spk_embed_dim", config.flow.spk_embed_dim, SPEAKER_WIDTH),
    ):
        if value != needed:
            yield f"flow's {setting} in cosyvoice.yaml is {value}; {needed} is needed"
    for path, expected in (
        (layout.flow_weights, flow_shapes(config)),
        (layout.hift_weights, hift_shapes(config)),
    ):
        found = {name: tuple(tensor.shape) for name, tensor in read_torch(path).items()}
        yield from compare(path.name, found, expected)


def compare(source: str, found: Shapes, expected: Shapes) -> Iterator[str]:
    """Problems of a state dict: missing and unexpected names, and differing shapes."""
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    if missing:
        yield f"{source} lacks {len(missing)} tensors that the config asks for: {_some(missing)}"
    if unexpected:
        yield f"{source} holds {len(unexpected)} tensors without a place: {_some(unexpected)}"
    differing = [name for name, shape in expected.items() if name in found and found[name] != shape]
    for name in differing[:SHOWN]:
        yield f"{name} in {source} has shape {found[name]}; the config asks for {expected[name]}"
    if len(differing) > SHOWN:
        yield f"{source} has {len(differing) - SHOWN} more tensors of another shape than the config"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _paraformer_shapes(path: Path) -> Shapes:
    """Names and shapes in model.pt, which may wrap its tensors and hold other things too."""
    state = torch.load(path, map_location="meta", weights_only=True, mmap=is_zipfile(path))
    state = state.get("state_dict", state)
    return {name: tuple(t.shape) for name, t in state.items() if isinstance(t, torch.Tensor)}


def _shard_shapes(path: Path) -> Shapes:
    """Names and shapes in a safetensors file. CheckpointError when it is damaged or cut."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as shard:
            return {name: tuple(shard.get_slice(name).get_shape()) for name in shard.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(f"{path.name} is damaged or cut off: {error}") from error
