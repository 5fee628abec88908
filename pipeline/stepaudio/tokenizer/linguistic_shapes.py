"""Parameter names and shapes of the FunASR encoder, from its config: importing funasr is slow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ENCODER_PREFIX = "encoder."  # of its tensors among those of model.pt
Shapes = dict[str, tuple[int, ...]]


def encoder_shapes(encoder_conf: Mapping[str, Any], input_size: int) -> Shapes:
    """State dict of `SANMEncoderChunkOpt`, without a leading `encoder.`.

    encoder_conf: that section of config.yaml. input_size: stacked mels, n_mels × lfr_m. Raises
    KeyError, ValueError.
    """
    width, units = int(encoder_conf["output_size"]), int(encoder_conf["linear_units"])
    kernel, blocks = int(encoder_conf["kernel_size"]), int(encoder_conf["num_blocks"])
    shapes: Shapes = {}
    for block in range(blocks):
        first = block == 0  # widens the input; numbered apart from the others
        name = "encoders0.0" if first else f"encoders.{block - 1}"
        shapes.update(_layer(name, input_size if first else width, width, units, kernel))
    shapes["after_norm.weight"] = shapes["after_norm.bias"] = (width,)
    return shapes


def _layer(name: str, in_width: int, width: int, units: int, kernel: int) -> Shapes:
    return {
        f"{name}.self_attn.linear_out.weight": (width, width),
        f"{name}.self_attn.linear_out.bias": (width,),
        f"{name}.self_attn.linear_q_k_v.weight": (3 * width, in_width),
        f"{name}.self_attn.linear_q_k_v.bias": (3 * width,),
        f"{name}.self_attn.fsmn_block.weight": (width, 1, kernel),
        f"{name}.feed_forward.w_1.weight": (units, width),
        f"{name}.feed_forward.w_1.bias": (units,),
        f"{name}.feed_forward.w_2.weight": (width, units),
        f"{name}.feed_forward.w_2.bias": (width,),
        f"{name}.norm1.weight": (in_width,),
        f"{name}.norm1.bias": (in_width,),
        f"{name}.norm2.weight": (width,),
        f"{name}.norm2.bias": (width,),
    }
