# pyright: basic
"""The speaker embedding: an ONNX model on Kaldi fbank."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipeline.stepaudio.tokenizer.onnx_session import open_session


class SpeakerEncoder:
    """Fbank → speaker embedding by `campplus.onnx`.

    Raises CheckpointError when the file is missing or damaged.
    """

    def __init__(
        self,
        model: Path,
        device: str = "cpu",
        threads: int = 1,
        arena_limit_bytes: int | None = None,
        tensorrt_cache: Path | None = None,
    ) -> None:
        self._session = open_session(model, device, threads, arena_limit_bytes, tensorrt_cache)
        self._input_name = self._session.get_inputs()[0].name

    def encode(self, fbank: Tensor) -> NDArray[np.float32]:
        """Fbank without its mean over time (n_frames, 80) → float32 (192,), not normalised."""
        outputs = self._session.run(None, {self._input_name: fbank.numpy()[None]})
        return np.asarray(outputs[0], np.float32).reshape(-1)
