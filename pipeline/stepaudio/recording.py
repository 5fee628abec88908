# pyright: basic
"""CUDA graphs: work on static tensors, recorded once and replayed with one launch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

_WARM_UPS = 2  # runs before recording, so that libraries have chosen their kernels

Replay = Callable[[], Tensor]
Recorder = Callable[[Replay], Replay]


class StaticInputs:
    """Integer inputs of a record: set on the host, copied while the device works.

    tensor: int64, of the sizes given, on the device.
    """

    def __init__(self, *sizes: int, device: torch.device) -> None:
        is_cuda = device.type == "cuda"
        self.tensor = torch.zeros(sizes, dtype=torch.int64, device=device)
        # Copies from unpinned memory would wait for everything launched before.
        self._host = torch.zeros(sizes, dtype=torch.int64, pin_memory=is_cuda)
        self._numbers: np.ndarray = self._host.numpy()
        self._copied = torch.cuda.Event() if is_cuda else None

    def numbers(self) -> np.ndarray:
        """The host buffer to fill; waits until the last copy from it is done."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._numbers

    def send(self) -> None:
        """Copy the numbers, in the order of the current stream."""
        self.tensor.copy_(self._host, non_blocking=True)
        if self._copied is not None:
            self._copied.record(torch.cuda.current_stream(self.tensor.device))


class CudaRecorder:
    """Records into CUDA graphs that share one pool of memory: one result is valid at a time."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream()  # one for all: each has a cuBLAS workspace of its own

    def __call__(self, run: Replay) -> Replay:
        """Record the launches of `run` → a replay, which returns the same tensor every time."""
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            for _ in range(_WARM_UPS):
                run()
        current.wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        ):
            result = run()

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay
