"""Opens ONNX Runtime sessions on a device, with bounded memory and no spinning threads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import CheckpointError, ConfigError
from pipeline.libraries import ONNX_RUNTIME, require

if TYPE_CHECKING:
    import onnxruntime

CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
CPU = "CPUExecutionProvider"
TENSORRT_FRAMES = {"min": 3, "opt": 600, "max": 3_000}  # 100 a second; 30 s are a piece's longest


def open_session(
    path: Path,
    device: str = "cpu",
    threads: int = 1,
    arena_limit_bytes: int | None = None,
    tensorrt_cache: Path | None = None,
) -> onnxruntime.InferenceSession:
    """A session of the model at `path` on `device` ("cpu", "cuda" or "cuda:1").

    threads: CPU threads within one operator. arena_limit_bytes: bound of the GPU memory arena; None
    is unlimited. tensorrt_cache: run on TensorRT and keep its engines here; None: run on CUDA.
    Raises CheckpointError when the file is missing or damaged, ConfigError when ONNX Runtime is not
    installed or the device has no provider.
    """
    require(ONNX_RUNTIME)
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime  # pyright: ignore[reportAttributeAccessIssue] made in C++

    if not path.is_file():
        raise CheckpointError(f"{path} is missing")
    available = onnxruntime.get_available_providers()
    uses_tensorrt = tensorrt_cache is not None and TENSORRT in available
    lengths = _tensorrt_lengths(onnxruntime, path) if uses_tensorrt else {}
    providers = _providers(device, arena_limit_bytes, tensorrt_cache, available, lengths)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # idle replicas share cores
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except (
        runtime.Fail,
        runtime.InvalidGraph,
        runtime.InvalidProtobuf,
        runtime.NoSuchFile,
    ) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error


def _tensorrt_lengths(onnxruntime: Any, path: Path) -> dict[str, str]:
    """Length profile of the engine: without it every new length builds an engine, for minutes.

    Input names and fixed sizes are the model's own.
    """
    inputs = onnxruntime.InferenceSession(str(path), providers=[CPU]).get_inputs()
    free = [i for i in inputs if not all(isinstance(size, int) for size in i.shape)]
    return {
        f"trt_profile_{end}_shapes": ",".join(
            f"{one.name}:{'x'.join(str(s if isinstance(s, int) else frames) for s in one.shape)}"
            for one in free
        )
        for end, frames in TENSORRT_FRAMES.items()
    }


def _providers(
    device: str,
    arena_limit_bytes: int | None,
    tensorrt_cache: Path | None,
    available: list[str],
    tensorrt_lengths: dict[str, str],
) -> list[str | tuple[str, dict[str, Any]]]:
    kind, _, index = device.partition(":")
    if kind == "cpu":
        if tensorrt_cache is not None:
            raise ConfigError("TensorRT needs device cuda, found cpu")
        return [CPU]
    if kind != "cuda":
        raise ConfigError(f"device {device!r} is not one of cpu, cuda, cuda:N")
    if CUDA not in available:
        raise ConfigError(
            f"device {device!r} needs onnxruntime-gpu (the `gpu` extra); "
            f"available: {', '.join(available)}"
        )
    options: dict[str, Any] = {
        "device_id": int(index or 0),
        "arena_extend_strategy": "kSameAsRequested",  # the default doubles the arena past its need
        "cudnn_conv_algo_search": "HEURISTIC",  # the default tries all for every new clip length
        "use_tf32": 0,  # codes are an arg-max; TF32 would flip near ties
    }
    if arena_limit_bytes is not None:
        options["gpu_mem_limit"] = arena_limit_bytes
    on_cuda: list[str | tuple[str, dict[str, Any]]] = [(CUDA, options), CPU]
    if tensorrt_cache is None:
        return on_cuda
    if TENSORRT not in available:
        raise ConfigError(f"TensorRT is asked for and not there; available: {', '.join(available)}")
    tensorrt: dict[str, Any] = {
        "device_id": options["device_id"],
        "trt_engine_cache_enable": True,  # building an engine takes minutes
        "trt_engine_cache_path": str(tensorrt_cache),
        "trt_timing_cache_enable": True,
        "trt_fp16_enable": False,  # codes must stay those of float32
        **tensorrt_lengths,
    }
    if arena_limit_bytes is not None:
        tensorrt["trt_max_workspace_size"] = arena_limit_bytes
    return [(TENSORRT, tensorrt), *on_cuda]
