"""Whether Triton's kernels can run here. Imports no Triton itself."""

from __future__ import annotations

import importlib.util

import torch


def has_kernels(device: torch.device) -> bool:
    """Whether the device is an NVIDIA GPU of a generation that the kernels know, with Triton."""
    if device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return False
    return torch.version.cuda is not None and torch.cuda.get_device_capability(device) >= (8, 0)
