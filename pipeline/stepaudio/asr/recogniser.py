# pyright: basic
"""Reference clips to words, by any of FunASR's models."""

from __future__ import annotations

import asyncio
import importlib.metadata
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.contracts import ReferenceClip
from pipeline.stepaudio.asr.funasr_model import open_funasr
from pipeline.stepaudio.config import TOKENIZER_RATE_HZ
from pipeline.stepaudio.fingerprints import content_fingerprint
from pipeline.stepaudio.health import StageHealth, check_pool
from pipeline.stepaudio.tokenizer.waveform import resample

# Raise when the same files and clip give other words: kept transcripts become unreachable.
HEARING_VERSION = 1
STREAMING = "ParaformerStreaming"
# As its authors run it: chunks of 600 ms with 300 ms of what follows, and what they look back at.
STREAMING_ARGS = {
    "chunk_size": [0, 10, 5],
    "encoder_chunk_look_back": 4,
    "decoder_chunk_look_back": 1,
    "is_final": True,
}
_RICH_TAG = re.compile(r"<\|[^|]*\|>")  # SenseVoice's language, mood and events
_FILES = ("*.json", "*.yaml", "*.mvn", "*.pt", "*.txt", "*.model")


class Recogniser:
    """transcription.Transcriber on a FunASR model directory. One clip at a time.

    device: "cpu", "cuda:0", … threads: torch's, of the whole process.
    Raises CheckpointError when the directory holds no whole model.
    """

    def __init__(self, directory: Path, device: str = "cpu", threads: int = 1) -> None:
        self._model = open_funasr(directory, device, threads)
        self._is_streaming = type(self._model.model).__name__ == STREAMING
        versions = (HEARING_VERSION, importlib.metadata.version("funasr"))
        self._fingerprint = content_fingerprint(versions, _files(directory))
        self._pool = ThreadPoolExecutor(1, "recognise")  # AutoModel keeps a call's state in itself
        self._health = StageHealth("recogniser")

    @property
    def fingerprint(self) -> str:
        """Hex BLAKE3 of the directory's models and configs, and of the package's version."""
        return self._fingerprint

    async def transcribe(self, clip: ReferenceClip) -> str:
        """See Transcriber. The work of a cancelled call runs to completion."""
        return await asyncio.get_running_loop().run_in_executor(
            self._pool, self.transcribe_blocking, clip
        )

    def transcribe_blocking(self, clip: ReferenceClip) -> str:
        """The same on the calling thread; not from two at a time."""
        samples = torch.from_numpy(np.array(clip.samples, np.float32))
        samples = resample(samples, clip.sample_rate_hz, TOKENIZER_RATE_HZ)
        how: dict[str, Any] = {"cache": {}, **STREAMING_ARGS} if self._is_streaming else {}
        with self._health.watching():
            (heard,) = self._model.generate(input=[samples.numpy()], **how)
        return " ".join(_RICH_TAG.sub("", str(heard.get("text", ""))).split())

    def check_health(self) -> None:
        """Raises StageError when the thread or the device is gone, or a call hangs."""
        check_pool(self._pool, "recogniser")
        self._health.check()

    def close(self) -> None:
        """Wait for the running clip and end the thread; no clip may follow."""
        self._pool.shutdown()


def _files(directory: Path) -> Iterator[Path]:
    """What decides its words: read by name, in order."""
    found = {path for pattern in _FILES for path in directory.glob(pattern)}
    yield from sorted(found)
