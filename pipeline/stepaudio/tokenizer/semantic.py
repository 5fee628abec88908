# pyright: basic
"""vq06, the semantic codes: an ONNX model on Whisper's log-mel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.errors import StageError
from pipeline.stepaudio.config import TOKENIZER_RATE_HZ
from pipeline.stepaudio.tokenizer.features import whisper_mel
from pipeline.stepaudio.tokenizer.onnx_session import open_session
from pipeline.stepaudio.tokens import VQ06_CODES

PIECE_SAMPLES = 30 * TOKENIZER_RATE_HZ  # the most that the model reads at a time
SHORTEST_PIECE_SAMPLES = 480


class SemanticTokenizer:
    """16 kHz waveform → vq06 codes by `speech_tokenizer_v1.onnx`.

    Inputs in the model's order: log-mel float32 (1, mels, frames) at 100 Hz, its length int32 (1,).
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
        mel, length = self._session.get_inputs()
        self._mel_name, self._length_name = mel.name, length.name
        self._n_mels = mel.shape[1]

    @torch.inference_mode()
    def encode(self, waveform: Tensor) -> NDArray[np.int16]:
        """(n_samples,) → int16 (n_codes,), 40 ms a code; a last piece under 480 samples gives none.

        Raises StageError when the model returns an invalid code.
        """
        pieces = [
            piece for piece in waveform.split(PIECE_SAMPLES) if len(piece) >= SHORTEST_PIECE_SAMPLES
        ]
        codes = [self._encode_piece(piece) for piece in pieces]
        return np.concatenate(codes) if codes else np.empty(0, np.int16)

    def _encode_piece(self, waveform: Tensor) -> NDArray[np.int16]:
        mel = whisper_mel(waveform, self._n_mels).numpy()[None]
        length = np.array([mel.shape[2]], np.int32)
        outputs = self._session.run(None, {self._mel_name: mel, self._length_name: length})
        codes = np.asarray(outputs[0]).reshape(-1)
        if len(codes) and not (codes.min() >= 0 and codes.max() < VQ06_CODES):
            raise StageError(
                f"vq06 codes lie in {codes.min()}…{codes.max()}, not 0…{VQ06_CODES - 1}"
            )
        return codes.astype(np.int16)
