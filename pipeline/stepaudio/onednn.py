"""Whether torch has oneDNN's kernels for weights that are reordered once."""

from __future__ import annotations

import torch


def has_onednn() -> bool:
    """Builds for some CPUs lack them."""
    return torch.backends.mkldnn.is_available() and hasattr(
        torch.ops.mkldnn, "_reorder_linear_weight"
    )
