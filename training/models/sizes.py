"""Sizes of the trained checkpoint, as the official config files state them."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from pipeline.stepaudio.checkpoint.tiny_configs import Sizes
from pipeline.stepaudio.checkpoint.tiny_configs import vocoder_config as vocoder_yaml
from pipeline.stepaudio.config import VocoderConfig

# Differences from the random tiny checkpoint: a wider DiT, and a HiFT with fewer and shorter
# kernels, for speed.
_EDITS = (
    ("mlp_ratio: 2.0", "mlp_ratio: 4.0"),
    (
        "nb_harmonics: 8",
        "nb_harmonics: 24",
    ),  # so that the source has the upper harmonics of low voices
    ("inference_cfg_rate: 0.7", "inference_cfg_rate: 0.5"),  # more raises the level of the valleys
    ("resblock_kernel_sizes: [3, 7, 11]", "resblock_kernel_sizes: [3, 7]"),
    (
        "resblock_dilation_sizes: [[1, 3, 5], [1, 3, 5], [1, 3, 5]]",
        "resblock_dilation_sizes: [[1, 3], [1, 3]]",
    ),
    ("source_resblock_kernel_sizes: [7, 7, 11]", "source_resblock_kernel_sizes: [3, 3, 3]"),
    (
        "source_resblock_dilation_sizes: [[1, 3, 5], [1, 3, 5], [1, 3, 5]]",
        "source_resblock_dilation_sizes: [[1], [1], [1]]",
    ),
)

SIZES = Sizes(
    linguistic_width=128,
    linguistic_heads=4,
    linguistic_units=256,
    linguistic_blocks=4,
    lm_width=384,
    lm_units=1024,
    lm_heads=12,
    lm_groups=4,
    lm_layers=4,
    lm_length=8192,
    flow_width=192,
    flow_heads=6,
    flow_units=640,
    flow_blocks=2,
    flow_up_blocks=2,
    dit_width=192,
    dit_heads=6,
    dit_head_width=32,
    dit_depth=4,
    hift_channels=128,
    f0_channels=128,
)


def cosyvoice_yaml() -> str:
    """The checkpoint's cosyvoice.yaml."""
    text = vocoder_yaml(SIZES)
    for before, after in _EDITS:
        if before not in text:
            raise ValueError(f"cosyvoice.yaml no longer holds {before!r}")
        text = text.replace(before, after, 1)
    return text


@functools.cache
def vocoder_config() -> VocoderConfig:
    """The same, parsed."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "cosyvoice.yaml"
        path.write_text(cosyvoice_yaml(), encoding="utf-8")
        return VocoderConfig.load(path)
