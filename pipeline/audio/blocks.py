"""Cuts a stream of samples into blocks of one size, however it arrived."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np

from pipeline.contracts import Float32Array

EMPTY = np.zeros(0, np.float32)
EMPTY.flags.writeable = False  # shared by all callers


class BlockBuffer:
    """Collects samples into blocks of `block_samples`. One stream per instance."""

    def __init__(self, block_samples: int) -> None:
        self._block_samples = block_samples
        self._held: Float32Array = EMPTY

    def push(self, samples: Float32Array) -> Iterator[Float32Array]:
        """samples: float32 (n,). Yields blocks (block_samples,); exhaust before the next push."""
        joined = np.concatenate([self._held, np.asarray(samples, np.float32)])
        whole = len(joined) - len(joined) % self._block_samples
        self._held = joined[whole:]
        for start in range(0, whole, self._block_samples):
            yield joined[start : start + self._block_samples]

    def rest(self) -> Float32Array:
        """The rest, float32 (n,), n < block_samples; the buffer is empty afterwards."""
        rest, self._held = self._held, EMPTY
        return rest


def to_frame(samples: Float32Array, sample_rate_hz: int, at_samples: int) -> av.AudioFrame:
    """float32 (n,) as libav's mono frame that starts `at_samples` into the stream."""
    frame = av.AudioFrame.from_ndarray(samples[np.newaxis], format="flt", layout="mono")
    frame.sample_rate = sample_rate_hz
    frame.time_base = Fraction(1, sample_rate_hz)
    frame.pts = at_samples
    return frame


def to_samples(frame: av.AudioFrame) -> Float32Array:
    """The float32 (n,) of a mono frame in libav's format flt."""
    return frame.to_ndarray().ravel().astype(np.float32, copy=False)
