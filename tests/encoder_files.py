"""A reference encoder's files at small sizes, and the chunk loop that vq02 must equal."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import yaml
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from pipeline.stepaudio.layout import PARAFORMER
from pipeline.stepaudio.parity.golden import fill, value
from pipeline.stepaudio.tokenizer.linguistic import ChunkSize, LinguisticEncoder
from pipeline.stepaudio.tokenizer.voice_encoder import CODEBOOK, SPEAKER_MODEL, SPEECH_TOKENIZER
from tests.vocoder_files import SMALL_YAML

FRONTEND_CONF = {
    "fs": 16_000,
    "window": "hamming",
    "n_mels": 80,
    "frame_length": 25,
    "frame_shift": 10,
    "lfr_m": 7,
    "lfr_n": 6,
}
VQ06_CODES = 4096


def encoder_conf(**changes: Any) -> dict[str, Any]:
    """`encoder_conf` of config.yaml, small."""
    return {
        "output_size": 32,
        "attention_heads": 4,
        "linear_units": 48,
        "num_blocks": 3,
        "dropout_rate": 0.1,
        "positional_dropout_rate": 0.1,
        "attention_dropout_rate": 0.1,
        "input_layer": "pe_online",
        "pos_enc_class": "SinusoidalPositionEncoder",
        "normalize_before": True,
        "kernel_size": 11,
        "sanm_shfit": 0,
        "selfattention_layer_type": "sanm",
        "chunk_size": [12, 15],
        "stride": [8, 10],
        "pad_left": [0, 0],
        "encoder_att_look_back_factor": [4, 4],
        "decoder_att_look_back_factor": [1, 1],
        **changes,
    }


def write_cmvn(path: Path, n_features: int = 560) -> Path:
    """am.mvn in Kaldi's nnet text form: shift about -10, scale about 0.2."""
    random = np.random.RandomState(5)
    shift = " ".join(f"{x:.6f}" for x in -10 - random.rand(n_features))
    scale = " ".join(f"{x:.6f}" for x in 0.2 + 0.05 * random.rand(n_features))
    size = f"{n_features} {n_features}"
    path.write_text(
        f"<Nnet>\n<Splice> {size}\n[ 0 ]\n"
        f"<AddShift> {size}\n<LearnRateCoef> 0 [ {shift} ]\n"
        f"<Rescale> {size}\n<LearnRateCoef> 0 [ {scale} ]\n</Nnet>\n"
    )
    return path


def make_encoder(
    directory: Path,
    seed: int | None = 3,
    chunk_size: ChunkSize | None = None,
    frontend: dict[str, Any] | None = None,
    **changes: Any,
) -> LinguisticEncoder:
    """A small encoder with parameters from `fill`; seed None: as torch initialises, in no time."""
    conf = {**FRONTEND_CONF, **(frontend or {})}
    cmvn = write_cmvn(directory / "am.mvn", conf["n_mels"] * conf["lfr_m"])
    encoder = LinguisticEncoder(encoder_conf(**changes), conf, cmvn, chunk_size=chunk_size)
    if seed is not None:
        fill(encoder.encoder, seed)
    return encoder


@torch.inference_mode()
def chunk_loop(encoder: LinguisticEncoder, waveform: Tensor) -> Tensor:
    """The encoder as the reference runs it: chunk after chunk, through funasr's own caches.

    On the device that the encoder is on.
    """
    size, frontend, module = encoder.chunk_size, encoder.frontend, encoder.encoder
    device = next(module.parameters()).device
    chunk_samples = size.new_frames * frontend.lfr_n * frontend.frame_shift_sample_length
    n_features = frontend.output_size()
    chunks = [0, size.new_frames, size.context_frames]
    cache = {
        "start_idx": 0,
        "chunk_size": chunks,
        "encoder_chunk_look_back": size.look_back_chunks,
        "opt": None,
        "feats": torch.zeros(1, size.context_frames, n_features, device=device),
        "tail_chunk": False,
    }
    frontend_cache: dict[str, Any] = {}
    outputs = [torch.empty(1, 0, module.output_size(), device=device)]
    n_chunks = math.ceil(len(waveform) / chunk_samples)
    for i in range(n_chunks):
        samples = waveform[None, i * chunk_samples : (i + 1) * chunk_samples]
        is_last = i == len(waveform) // chunk_samples
        lengths = torch.tensor([samples.shape[1]])
        features, n_new = frontend(samples, lengths, cache=frontend_cache, is_final=is_last)
        if features.numel():
            hidden, _, _ = module.forward_chunk(features.to(device), n_new, cache=cache)
            outputs.append(hidden[:, -int(n_new[0]) :])
    return torch.cat(outputs, dim=1)[0]


def write_speech_tokenizer(path: Path, n_mels: int = 128, offset: int = 0) -> None:
    """Log-mel (1, n_mels, T), length (1,) → codes (1, ceil(T / 4))."""
    width = 16
    weights = {
        "w": value("w", (width, n_mels, 4), 1),
        "codebook": value("codebook", (VQ06_CODES, width), 1).T.copy(),
        "offset": np.array(offset, np.int64),
        "starts": np.zeros(1, np.int64),
        "axis": np.full(1, 2, np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["mel_length"], ["ends"], to=TensorProto.INT64),
        helper.make_node("Slice", ["mel", "starts", "ends", "axis"], ["cut"]),
        helper.make_node("Conv", ["cut", "w"], ["conv"], strides=[4], pads=[0, 3]),
        helper.make_node("Transpose", ["conv"], ["frames"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["frames", "codebook"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["nearest"], axis=2, keepdims=0),
        helper.make_node("Add", ["nearest", "offset"], ["codes"]),
    ]
    inputs = [
        helper.make_tensor_value_info("mel", TensorProto.FLOAT, [1, n_mels, "T"]),
        helper.make_tensor_value_info("mel_length", TensorProto.INT32, [1]),
    ]
    outputs = [helper.make_tensor_value_info("codes", TensorProto.INT64, [1, "N"])]
    _save(path, nodes, inputs, outputs, weights)


def write_speaker_model(path: Path, n_mels: int = 80, width: int = 192) -> None:
    """Fbank (1, T, n_mels) → embedding (1, width), from the mean of squares over time."""
    weights = {"w": value("speaker", (width, n_mels), 1).T.copy()}
    nodes = [
        helper.make_node("Mul", ["fbank", "fbank"], ["power"]),
        helper.make_node("ReduceMean", ["power"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["mean", "w"], ["embedding"]),
    ]
    inputs = [helper.make_tensor_value_info("fbank", TensorProto.FLOAT, [1, "T", n_mels])]
    outputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, width])]
    _save(path, nodes, inputs, outputs, weights)


def write_encoder_files(root: Path, seed: int | None = 3, **changes: Any) -> tuple[Path, Path]:
    """A tokenizer and a vocoder directory below `root`, laid out as the official ones.

    seed, changes: as for `make_encoder`.
    """
    tokenizer, vocoder = root / "tokenizer", root / "vocoder"
    paraformer = tokenizer / PARAFORMER
    paraformer.mkdir(parents=True)
    vocoder.mkdir()
    conf = encoder_conf(**changes)
    encoder = make_encoder(paraformer, seed, **changes)
    state = {f"encoder.{k}": v.clone() for k, v in encoder.encoder.state_dict().items()}
    state["decoder.embed.0.weight"] = torch.zeros(3, 4)  # the rest of Paraformer is never loaded
    torch.save(state, paraformer / "model.pt")
    config = {"encoder_conf": conf, "frontend_conf": {**FRONTEND_CONF, "dither": 1.0}}
    (paraformer / "config.yaml").write_text(yaml.safe_dump(config))
    speech = torch.from_numpy(value("speech", (64 * 960,), 2))
    np.save(tokenizer / CODEBOOK, encoder.encode(speech).numpy())  # codes spread over all rows
    write_speech_tokenizer(tokenizer / SPEECH_TOKENIZER)
    write_speaker_model(vocoder / SPEAKER_MODEL)
    (vocoder / "cosyvoice.yaml").write_text(SMALL_YAML)
    return tokenizer, vocoder


def _save(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: dict[str, np.ndarray],
) -> None:
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, initializer=tensors)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
