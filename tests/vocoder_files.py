"""A small vocoder directory in the official layout, and voices and tokens to run it with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from pipeline.contracts import TokenChunk, VoicePrompt
from pipeline.stepaudio import tokens
from pipeline.stepaudio.config import VocoderConfig
from pipeline.stepaudio.parity.golden import fill
from pipeline.stepaudio.vocoder.flow.flow import Flow
from pipeline.stepaudio.vocoder.hift.generator import Hift

SMALL_YAML = """\
# as the official file: classes named by tags, values by reference
__set_seed1: !apply:random.seed [1986]
sample_rate: 24000
spk_embed_dim: 192
mel_bins: 80

flow: !new:stepvocoder.cosyvoice2.flow.flow.CausalMaskedDiffWithXvec
    input_size: 32
    output_size: !ref <mel_bins>
    spk_embed_dim: !ref <spk_embed_dim>
    output_type: 'mel'
    vocab_size: 5121
    input_embedding: !new:stepvocoder.cosyvoice2.embedding.dual_codebook.DualCodebookEmbedding
        vocab_size: 5121
        input_size: 32
    encoder: !new:stepvocoder.cosyvoice2.transformer.upsample_encoder_v2.UpsampleConformerEncoderV2
        input_size: 32
        output_size: 32
        input_layer: 'linear'
        pre_lookahead_len: 3
        num_blocks: 1
        num_up_blocks: 1
        up_stride: 2
        up_scale_factor: 2
        attention_heads: 2
        pos_enc_layer_type: 'rel_pos_espnet'
        selfattention_layer_type: 'rel_selfattn'
        key_bias: True
        linear_units: 48
        dropout_rate: 0.1
        positional_dropout_rate: 0.1
        attention_dropout_rate: 0.1
        normalize_before: True
    decoder: !new:stepvocoder.cosyvoice2.flow.flow_matching.CausalConditionalCFM
        inference_cfg_rate: 0.7
        estimator: !new:stepvocoder.cosyvoice2.flow.decoder_dit.DiT
            in_channels: 320
            out_channels: 80
            mlp_ratio: 2.0
            depth: 2
            num_heads: 2
            head_dim: 16
            hidden_size: 32

hift: !new:stepvocoder.cosyvoice2.hifigan.generator.HiFTGenerator
    in_channels: !ref <mel_bins>
    base_channels: 16
    nb_harmonics: 8
    sampling_rate: !ref <sample_rate>
    nsf_alpha: 0.1
    nsf_sigma: 0.003
    nsf_voiced_threshold: 10
    upsample_rates: [8, 5, 3]
    upsample_kernel_sizes: [16, 11, 7]
    istft_params:
        n_fft: 16
        hop_len: 4
    resblock_kernel_sizes: [3, 7]
    resblock_dilation_sizes: [[1, 3], [1, 3]]
    source_resblock_kernel_sizes: [7, 7, 11]
    source_resblock_dilation_sizes: [[1, 3], [1, 3], [1, 3]]
    lrelu_slope: 0.1
    audio_limit: 0.99
    f0_predictor: !new:stepvocoder.cosyvoice2.hifigan.f0_predictor.ConvRNNF0Predictor
        num_class: 1
        in_channels: 80
        cond_channels: 16

mel_conf:
    n_fft: 1920
    num_mels: !ref <mel_bins>
    sampling_rate: !ref <sample_rate>
    hop_size: 480
    win_size: 1920
    fmin: 0
    fmax: 8000
    center: False
"""

VOICED_GAIN = 3000.0  # random F0 weights give a fraction of 1 Hz; this makes it a voice's


def golden_yaml(sections: dict[str, Any]) -> str:
    """cosyvoice.yaml of a golden vocoder's sections."""
    flow, hift = dict(sections["flow"]), dict(sections["hift"])
    flow["input_embedding"] = {"vocab_size": flow["vocab_size"], "input_size": flow["input_size"]}
    flow["encoder"] = sections["encoder"]
    flow["decoder"] = {
        "inference_cfg_rate": sections["inference_cfg_rate"],
        "estimator": sections["estimator"],
    }
    hift["f0_predictor"] = sections["f0_predictor"]
    return yaml.safe_dump({"flow": flow, "hift": hift})


def write_vocoder(directory: Path, seed: int = 1, config_yaml: str = SMALL_YAML) -> Path:
    """Write cosyvoice.yaml, flow.pt and hift.pt with seeded weights; returns the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "cosyvoice.yaml").write_text(config_yaml)
    flow, hift = small_modules(directory, seed)
    torch.save(flow.state_dict(), directory / "flow.pt")
    torch.save(hift.state_dict(), directory / "hift.pt")
    return directory


def small_modules(directory: Path, seed: int = 1) -> tuple[Flow, Hift]:
    config = VocoderConfig.load(directory)
    flow = Flow(config)
    hift = Hift(config.hift, config.f0_predictor)
    fill(flow, seed)
    fill(hift, seed)
    with torch.no_grad():
        for parameter in hift.f0_predictor.classifier.parameters():
            parameter.mul_(VOICED_GAIN)
    return flow.eval(), hift.eval()


def make_voice(n_groups: int = 5, seed: int = 0) -> VoicePrompt:
    """A voice of random codes; its mel is a little longer than its tokens, as real ones are."""
    random = np.random.default_rng(seed)
    return VoicePrompt(
        vq02=random.integers(0, tokens.VQ02_CODES, 2 * n_groups).astype(np.int16),
        vq06=random.integers(0, tokens.VQ06_CODES, 3 * n_groups).astype(np.int16),
        prompt_mel=random.standard_normal((6 * n_groups + 3, 80)).astype(np.float32),
        speaker_embedding=random.standard_normal(192).astype(np.float32),
        duration_s=0.12 * n_groups,
        fingerprint="test",
    )


def make_ids(n_groups: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed + 1000)
    return tokens.interleave(
        random.integers(0, tokens.VQ02_CODES, 2 * n_groups),
        random.integers(0, tokens.VQ06_CODES, 3 * n_groups),
    )


async def token_stream(ids: np.ndarray, groups_per_chunk: int = 1) -> AsyncIterator[TokenChunk]:
    """All ids in pieces, then an empty last chunk, as the LLM sends them."""
    size = groups_per_chunk * tokens.GROUP_TOKENS
    for start in range(0, len(ids), size):
        yield TokenChunk(ids[start : start + size], last=False)
    yield TokenChunk(ids[:0], last=True)


def join(chunks: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate(list(chunks))
