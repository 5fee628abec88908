# pyright: basic
"""Whether Triton's kernels can run here. Imports Triton only on a machine with a GPU."""

from __future__ import annotations

import importlib.util
import logging
import subprocess
from functools import cache

import torch

logger = logging.getLogger(__name__)


@cache
def has_kernels(device: torch.device) -> bool:
    """Whether the device is an NVIDIA GPU and a first Triton kernel ran; tried once."""
    if device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return False
    if torch.version.cuda is None or torch.cuda.get_device_capability(device) < (8, 0):
        return False
    return kernels_run(device)


def kernels_run(device: torch.device) -> bool:
    """Try the smallest kernel: Triton builds its launcher with a C compiler and Python's headers.

    A failure is logged.
    """
    try:
        from pipeline.stepaudio.trial_kernel import double

        double(torch.ones(1, device=device))
    except (ImportError, RuntimeError, OSError, subprocess.CalledProcessError) as error:
        logger.warning("Triton's kernels cannot run here: %s", error)
        return False
    return True
