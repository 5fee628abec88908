# pyright: basic
"""Writes a complete checkpoint with seeded random weights, in official layout, names and kinds.

Its voices are noise that depends on the input. It serves tests and benchmarks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from pipeline.errors import CheckpointError, ConfigError
from pipeline.stepaudio.checkpoint import tiny_configs, tiny_onnx
from pipeline.stepaudio.checkpoint.digests import write_manifest
from pipeline.stepaudio.checkpoint.loader_files import write_loader_files
from pipeline.stepaudio.checkpoint.shapes import Shapes, flow_shapes, hift_shapes, lm_shapes
from pipeline.stepaudio.checkpoint.tiny_configs import SIZES, Sizes
from pipeline.stepaudio.checkpoint.tiny_tokenizer import tokenizer_model
from pipeline.stepaudio.config import VocoderConfig
from pipeline.stepaudio.layout import CheckpointLayout
from pipeline.stepaudio.parity.golden import value
from pipeline.stepaudio.tokenizer.linguistic_shapes import encoder_shapes
from pipeline.stepaudio.tokens import AUDIO_TOKENS, VQ02_CODES

Float32Array = NDArray[np.float32]

N_SHARDS = 2
STOP_ID = 3
CMVN_SHIFT = -11.0  # a Kaldi log-mel of speech lies around 11
CMVN_SCALE = 0.2
LM_LOGIT_GAIN = 1.0  # standard deviation of an audio token's logit
LM_DRIFT = 2.0  # the direction that embeddings share, in standard deviations of the rest
LM_STEP = 0.05  # how far a layer moves the residual stream: little, so that it keeps its direction
LM_STOP_LOGIT = 3.7  # with temperature 0.7 about one group in twenty-five is the last
HIFT_F0_HZ = 140.0
HIFT_F0_GAIN = 600.0  # spreads the predicted F0 by some 25 Hz
HIFT_LOG_MAGNITUDE = -0.5  # of every iSTFT bin before the input moves it
HIFT_GAIN = 6.0  # how much the input moves it


def init_checkpoint(directory: Path | str, size: str = "tiny", seed: int = 0) -> CheckpointLayout:
    """Write every file of a checkpoint into an empty or new directory.

    The same seed gives the same bytes.

    Raises ConfigError for an unknown size, CheckpointError when the directory is not empty or
    cannot be written.
    """
    sizes = SIZES.get(size)
    if sizes is None:
        raise ConfigError(f"no checkpoint size is called {size!r}; there are {', '.join(SIZES)}")
    layout = CheckpointLayout.expected(directory)
    try:
        if layout.root.is_dir() and any(layout.root.iterdir()):
            raise CheckpointError(f"{layout.root} is not empty; nothing was written")
        layout.paraformer.mkdir(parents=True, exist_ok=True)
        layout.vocoder.mkdir(parents=True, exist_ok=True)
        _write_tokenizers(layout, sizes, seed)
        _write_lm(layout, sizes, seed)
        _write_vocoder(layout, sizes, seed)
        write_loader_files(layout)
        write_manifest(layout, size, seed)
    except OSError as error:
        raise CheckpointError(f"cannot write a checkpoint to {layout.root}: {error}") from error
    return layout


def _write_tokenizers(layout: CheckpointLayout, sizes: Sizes, seed: int) -> None:
    text = tiny_configs.linguistic_config(sizes)
    layout.paraformer_config.write_text(text, encoding="utf-8")
    config = yaml.safe_load(text)
    layout.paraformer_cmvn.write_text(_cmvn(tiny_configs.EXPANDED_MELS, seed), encoding="utf-8")

    width = sizes.linguistic_width
    codebook = value("linguistic_tokenizer", (VQ02_CODES, width), seed)
    codebook *= np.sqrt(width) / np.linalg.norm(codebook, axis=1, keepdims=True)  # as the LayerNorm
    np.save(layout.linguistic_codebook, codebook)

    shapes = {
        f"encoder.{name}": shape
        for name, shape in encoder_shapes(
            config["encoder_conf"], tiny_configs.EXPANDED_MELS
        ).items()
    }
    shapes |= {  # the rest of the published Paraformer, used by speech recognition only
        "predictor.cif_conv1d.weight": (width, width, 3),
        "predictor.cif_conv1d.bias": (width,),
        "predictor.cif_output.weight": (1, width),
        "predictor.cif_output.bias": (1,),
        "decoder.after_norm.weight": (width,),
        "decoder.after_norm.bias": (width,),
    }
    _save_torch(layout.paraformer_weights, _values(shapes, seed))
    layout.speech_tokenizer.write_bytes(_onnx_bytes(tiny_onnx.speech_tokenizer(seed)))


def _cmvn(size: int, seed: int) -> str:
    """Kaldi nnet text with one shift and one scale per stacked mel."""
    shift = CMVN_SHIFT + value("cmvn.shift.bias", (size,), seed)
    scale = CMVN_SCALE + 0.1 * value("cmvn.scale.bias", (size,), seed)
    head = f"<Nnet> \n<Splice> {size} {size} \n[ 0 ]\n"
    body = "".join(
        f"<{tag}> {size} {size} \n<LearnRateCoef> 0 [ {' '.join(f'{v:.6f}' for v in row)} ]\n"
        for tag, row in (("AddShift", shift), ("Rescale", scale))
    )
    return f"{head}{body}</Nnet> \n"


def _write_lm(layout: CheckpointLayout, sizes: Sizes, seed: int) -> None:
    from sentencepiece import SentencePieceProcessor

    model = tokenizer_model()
    layout.text_tokenizer.write_bytes(model)
    pieces = SentencePieceProcessor(model_proto=model)
    text = tiny_configs.lm_config(sizes, pieces.get_piece_size())
    layout.lm_config.write_text(text, encoding="utf-8")

    weights = _values(lm_shapes(json.loads(text)), seed)
    _shape_lm(weights, audio_base=pieces.piece_to_id("<audio_0>"))
    _save_shards(layout, {name: torch.from_numpy(w).bfloat16() for name, w in weights.items()})


def _shape_lm(weights: dict[str, Float32Array], audio_base: int) -> None:
    """Make sampling from random weights stop now and then.

    All embeddings share one direction, which the layers hardly change; the stop row of `lm_head`
    reads it, so stop has about the same logit everywhere. The other rows are orthogonal to it.
    """
    embedding, head = weights["model.embed_tokens.weight"], weights["lm_head.weight"]
    width = embedding.shape[1]
    shared = np.sign(embedding[0]) / np.sqrt(width)  # unit length, even over the channels
    spread = float(embedding.std()) * np.sqrt(width)
    embedding += LM_DRIFT * spread * shared
    for name, weight in weights.items():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            np.multiply(weight, LM_STEP, out=weight)
        elif name.endswith("norm.weight"):
            weight[:] = 1.0
    head -= np.outer(head @ shared, shared)
    audio = head[audio_base : audio_base + AUDIO_TOKENS]
    length = np.sqrt(width)  # of a normalised state
    across = length / np.sqrt(1 + LM_DRIFT**2)
    audio *= LM_LOGIT_GAIN / (across * audio.std())
    head[STOP_ID] = LM_STOP_LOGIT / (across * LM_DRIFT) * shared


def _save_shards(layout: CheckpointLayout, tensors: Mapping[str, Tensor]) -> None:
    """safetensors in two files with the index that names them."""
    names = sorted(tensors)
    per_shard = -(-len(names) // N_SHARDS)
    weight_map: dict[str, str] = {}
    for number in range(N_SHARDS):
        shard = f"model-{number + 1:05d}.safetensors"
        part = {name: tensors[name] for name in names[number * per_shard :][:per_shard]}
        save_file(part, layout.editx / shard, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, shard)
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    layout.lm_index.write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def _write_vocoder(layout: CheckpointLayout, sizes: Sizes, seed: int) -> None:
    text = tiny_configs.vocoder_config(sizes)
    layout.vocoder_config.write_text(text, encoding="utf-8")
    config = VocoderConfig.load(layout.vocoder_config)

    _save_torch(layout.flow_weights, _values(flow_shapes(config), seed))

    hift = _values(hift_shapes(config), seed)
    hift["f0_predictor.classifier.bias"][:] = HIFT_F0_HZ
    hift["f0_predictor.classifier.weight"] *= HIFT_F0_GAIN
    n_bins = config.hift.istft_params.n_fft // 2 + 1
    hift["conv_post.parametrizations.weight.original0"] *= HIFT_GAIN
    hift["conv_post.bias"][:n_bins] += HIFT_LOG_MAGNITUDE
    _save_torch(layout.hift_weights, hift)
    layout.speaker_encoder.write_bytes(_onnx_bytes(tiny_onnx.speaker_encoder(seed)))


def _values(shapes: Shapes, seed: int) -> dict[str, Float32Array]:
    return {name: value(name, shape, seed) for name, shape in shapes.items()}


def _save_torch(path: Path, weights: Mapping[str, Float32Array]) -> None:
    torch.save({name: torch.from_numpy(array) for name, array in weights.items()}, path)


def _onnx_bytes(model: Any) -> bytes:
    return model.SerializeToString(deterministic=True)
