# pyright: basic
"""Work on static tensors, recorded once and replayed: one launch where the work has hundreds.

Knows no model.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_WARM_UPS = 2  # runs before recording, so that libraries have chosen their kernels

Replay = Callable[[], Tensor]
Recorder = Callable[[Replay], Replay]


class CudaRecorder:
    """Records into CUDA graphs that share one pool of memory: one result is valid at a time."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream()  # one for all: each has a cuBLAS workspace of its own

    def __call__(self, run: Replay) -> Replay:
        """Record what `run` launches → its replay, which returns the same tensor every time."""
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
