"""What a replica may take of its machine.

CPU threads, and its cap on a GPU (fractions isolate nothing by themselves).
"""

from __future__ import annotations

from deployments.config.settings import StageResources
from pipeline.errors import ConfigError

GIB = 2**30
ARENA_PART = 0.5  # of a stage's cap goes to ONNX Runtime's arenas where it runs beside torch
ARENAS = 2  # one each for vq06 and the speaker model


def apply_device_limits(
    resources: StageResources, *, allow_tf32: bool, torch_part: float = 1.0
) -> None:
    """Apply a stage's share to this process, before any model is loaded.

    torch_part: what torch may take of the cap, where another library takes the rest.
    Raises ConfigError without the device.
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
    """What each of ONNX Runtime's arenas may take of the stage's cap on a GPU; None on the CPU."""
    limit_bytes = cap_bytes(resources)
    return None if limit_bytes is None else int(limit_bytes * ARENA_PART / ARENAS)


def cap_bytes(resources: StageResources) -> int | None:
    """The stage's cap on a GPU; None on the CPU."""
    if resources.device == "cpu" or resources.gpu_memory_gib is None:
        return None
    return int(resources.gpu_memory_gib * GIB)
