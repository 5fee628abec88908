"""24 kHz speech as a FLAC file in memory, and back, sample for sample."""

from __future__ import annotations

import io
from collections.abc import Iterator

import av
import numpy as np

from pipeline.audio.encode import from_pcm16, make_encoder
from pipeline.contracts import Float32Array, Int16Array


def to_flac(samples: Int16Array) -> bytes:
    """int16 (n,), n at least 1, as a file."""
    encoder = make_encoder("flac")
    return encoder.encode(from_pcm16(samples)) + encoder.finish()


def from_flac(data: bytes) -> Iterator[Float32Array]:
    """What `to_flac` made, frame by frame: float32 (n,)."""
    with av.open(io.BytesIO(data), "r") as container:
        for frame in container.decode(audio=0):
            yield from_pcm16(frame.to_ndarray().ravel().astype(np.int16, copy=False))
