"""Resource limits of a replica: CPU threads, and its memory cap on a GPU.

Ray's GPU fractions alone isolate nothing.
"""

from __future__ import annotations

from deployments.config.stage_settings import StageResources
from pipeline.errors import ConfigError

GIB = 2**30
ARENA_PART = 0.5  # share of the cap for ONNX Runtime's arenas, where it runs beside torch
ARENAS = 2  # one each for vq06 and the speaker model


def apply_device_limits(
    resources: StageResources, *, allow_tf32: bool, torch_part: float = 1.0
) -> None:
    """Apply a stage's limits to this process, before any model is loaded.

    torch_part: torch's share of the cap, where another library uses the rest.
    Raises ConfigError when the device is missing.
    """
    import torch

    torch.set_num_threads(resources.threads)
    if resources.device == "cpu":
        return
    if not torch.cuda.is_available():
        raise ConfigError("the stage is set to cuda, but this replica sees no CUDA device")
    torch.backends.cuda.matmul.allow_tf32 = allow_tf32
    torch.backends.cudnn.allow_tf32 = allow_tf32
    cap_gib = resources.gpu_memory_gib or 0.0
    total_bytes = torch.cuda.get_device_properties(0).total_memory
    if cap_gib * GIB > total_bytes:
        raise ConfigError(
            f"gpu_memory_gib is {cap_gib}, but the device has {total_bytes / GIB:.1f} GiB"
        )
    torch.cuda.set_per_process_memory_fraction(torch_part * cap_gib * GIB / total_bytes)


def arena_limit_bytes(resources: StageResources) -> int | None:
    """The limit of each of ONNX Runtime's arenas on a GPU; None on the CPU."""
    limit_bytes = cap_bytes(resources)
    return None if limit_bytes is None else int(limit_bytes * ARENA_PART / ARENAS)


def cap_bytes(resources: StageResources) -> int | None:
    """The stage's memory cap on a GPU; None on the CPU."""
    if resources.device == "cpu" or resources.gpu_memory_gib is None:
        return None
    return int(resources.gpu_memory_gib * GIB)
