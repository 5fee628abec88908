"""Sizes of the checkpoints that we can write, and their config files in official form."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import yaml

EXPANDED_MELS = 560  # 80 mels × 7 stacked frames
PAD_AND_CODES = 5121  # the vocoder's vocabulary: 5,120 codes and PAD


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes that differ between checkpoints; everything else is as in the official configs."""

    linguistic_width: int
    linguistic_heads: int
    linguistic_units: int
    linguistic_blocks: int
    lm_width: int
    lm_units: int
    lm_heads: int
    lm_groups: int
    lm_layers: int
    lm_length: int
    flow_width: int
    flow_heads: int
    flow_units: int
    flow_blocks: int
    flow_up_blocks: int
    dit_width: int
    dit_heads: int
    dit_head_width: int
    dit_depth: int
    hift_channels: int
    f0_channels: int


SIZES = {
    "tiny": Sizes(
        linguistic_width=64,
        linguistic_heads=4,
        linguistic_units=128,
        linguistic_blocks=3,
        lm_width=96,
        lm_units=192,
        lm_heads=6,
        lm_groups=2,
        lm_layers=2,
        lm_length=8192,
        flow_width=64,
        flow_heads=4,
        flow_units=128,
        flow_blocks=2,
        flow_up_blocks=1,
        dit_width=64,
        dit_heads=2,
        dit_head_width=32,
        dit_depth=2,
        hift_channels=32,
        f0_channels=32,
    )
}


def linguistic_config(sizes: Sizes) -> str:
    """FunASR's config.yaml."""
    layer = {
        "attention_heads": sizes.linguistic_heads,
        "linear_units": sizes.linguistic_units,
        "dropout_rate": 0.1,
        "positional_dropout_rate": 0.1,
    }
    config: dict[str, Any] = {
        "model": "ParaformerStreaming",
        "model_conf": {
            "ctc_weight": 0.0,
            "lsm_weight": 0.1,
            "length_normalized_loss": True,
            "predictor_weight": 1.0,
            "predictor_bias": 1,
            "sampling_ratio": 0.75,
        },
        "encoder": "SANMEncoderChunkOpt",
        "encoder_conf": {
            "output_size": sizes.linguistic_width,
            **layer,
            "num_blocks": sizes.linguistic_blocks,
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
        },
        "predictor": "CifPredictorV2",
        "predictor_conf": {
            "idim": sizes.linguistic_width,
            "threshold": 1.0,
            "l_order": 1,
            "r_order": 1,
            "tail_threshold": 0.45,
        },
        "frontend": "WavFrontendOnline",
        "frontend_conf": {
            "fs": 16000,
            "window": "hamming",
            "n_mels": 80,
            "frame_length": 25,
            "frame_shift": 10,
            "lfr_m": 7,
            "lfr_n": 6,
        },
        "tokenizer": "CharTokenizer",
        "tokenizer_conf": {"unk_symbol": "<unk>", "split_with_space": True},
        "normalize": None,
    }
    return yaml.safe_dump(config, sort_keys=False)


def lm_config(sizes: Sizes, vocabulary: int) -> str:
    """Step1's config.json."""
    config = {
        "architectures": ["Step1ForCausalLM"],
        "model_type": "step1",
        "bos_token_id": 1,
        "pad_token_id": 0,
        "eos_token_id": 3,
        "hidden_size": sizes.lm_width,
        "intermediate_size": sizes.lm_units,
        "max_seq_len": sizes.lm_length,
        "num_attention_heads": sizes.lm_heads,
        "num_attention_groups": sizes.lm_groups,
        "num_hidden_layers": sizes.lm_layers,
        "rms_norm_eps": 1e-05,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": vocabulary,
    }
    return json.dumps(config, indent=2) + "\n"


def vocoder_config(sizes: Sizes) -> str:
    """cosyvoice.yaml: hyperpyyaml, whose tags name the reference's classes."""
    return COSYVOICE_YAML.format(**asdict(sizes), vocabulary=PAD_AND_CODES)


COSYVOICE_YAML = """\
flow: !new:stepvocoder.cosyvoice2.flow.flow.CausalMaskedDiffWithXvec
  input_size: {flow_width}
  output_size: 80
  spk_embed_dim: 192
  output_type: 'mel'
  vocab_size: {vocabulary}
  input_embedding: !new:stepvocoder.cosyvoice2.embedding.dual_codebook.DualCodebookEmbedding
    vocab_size: {vocabulary}
    input_size: {flow_width}
  encoder: !new:stepvocoder.cosyvoice2.transformer.upsample_encoder_v2.UpsampleConformerEncoderV2
    input_size: {flow_width}
    output_size: {flow_width}
    input_layer: 'linear'
    pre_lookahead_len: 3
    num_blocks: {flow_blocks}
    num_up_blocks: {flow_up_blocks}
    up_stride: 2
    up_scale_factor: 2
    attention_heads: {flow_heads}
    pos_enc_layer_type: 'rel_pos_espnet'
    selfattention_layer_type: 'rel_selfattn'
    key_bias: true
    linear_units: {flow_units}
    dropout_rate: 0.1
    positional_dropout_rate: 0.1
    attention_dropout_rate: 0.1
    normalize_before: true
  decoder: !new:stepvocoder.cosyvoice2.flow.flow_matching.CausalConditionalCFM
    inference_cfg_rate: 0.7
    estimator: !new:stepvocoder.cosyvoice2.flow.decoder_dit.DiT
      in_channels: 320
      out_channels: 80
      mlp_ratio: 2.0
      depth: {dit_depth}
      num_heads: {dit_heads}
      head_dim: {dit_head_width}
      hidden_size: {dit_width}

hift: !new:stepvocoder.cosyvoice2.hifigan.generator.HiFTGenerator
  in_channels: 80
  base_channels: {hift_channels}
  nb_harmonics: 8
  sampling_rate: 24000
  nsf_alpha: 0.1
  nsf_sigma: 0.003
  nsf_voiced_threshold: 10
  upsample_rates: [8, 5, 3]
  upsample_kernel_sizes: [16, 11, 7]
  istft_params:
    n_fft: 16
    hop_len: 4
  resblock_kernel_sizes: [3, 7, 11]
  resblock_dilation_sizes: [[1, 3, 5], [1, 3, 5], [1, 3, 5]]
  source_resblock_kernel_sizes: [7, 7, 11]
  source_resblock_dilation_sizes: [[1, 3, 5], [1, 3, 5], [1, 3, 5]]
  lrelu_slope: 0.1
  audio_limit: 0.99
  f0_predictor: !new:stepvocoder.cosyvoice2.hifigan.f0_predictor.ConvRNNF0Predictor
    num_class: 1
    in_channels: 80
    cond_channels: {f0_channels}

mel_conf:
  n_fft: 1920
  num_mels: 80
  sampling_rate: 24000
  hop_size: 480
  win_size: 1920
  fmin: 0
  fmax: 8000
  center: false
"""
