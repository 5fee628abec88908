"""Changes the sample rate of a stream of mono audio, by FFmpeg's resampler."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np

from pipeline.audio.blocks import EMPTY, BlockBuffer, to_frame, to_samples
from pipeline.contracts import Float32Array

BLOCK_S = Fraction(1, 50)  # added latency; the filter steps by it, however the input is cut


class StreamResampler:
    """One stream. n samples in give round(n * to_hz / from_hz) out, however the input is cut.

    With equal rates samples pass unchanged.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self._from_hz = from_hz
        self._ratio = Fraction(to_hz, from_hz)
        self._filter = av.AudioResampler(format="flt", layout="mono", rate=to_hz)
        self._blocks = BlockBuffer(int(from_hz * BLOCK_S))
        self._read_samples = 0
        self._written_samples = 0

    def process(self, samples: Float32Array) -> Float32Array:
        """samples: float32 (n,) at from_hz. Returns what is ready, float32 (m,) at to_hz."""
        if self._ratio == 1:
            return samples
        ready = [self._step(block) for block in self._blocks.push(samples)]
        return self._emit(ready)

    def finish(self) -> Float32Array:
        """The tail, float32 (m,) at to_hz. The stream is over afterwards."""
        if self._ratio == 1:
            return EMPTY
        rest = self._blocks.rest()
        tail = [self._step(rest)] if len(rest) else []
        if self._read_samples:
            tail += [to_samples(frame) for frame in self._filter.resample(None)]
        missing = round(self._read_samples * self._ratio) - self._written_samples
        tail.append(np.zeros(missing, np.float32))  # the filter's tail may be some samples short
        return self._emit(tail)[:missing]

    def _step(self, block: Float32Array) -> Float32Array:
        frame = to_frame(block, self._from_hz, self._read_samples)
        self._read_samples += len(block)
        ready = [to_samples(out) for out in self._filter.resample(frame)]
        return np.concatenate(ready) if ready else EMPTY

    def _emit(self, parts: list[Float32Array]) -> Float32Array:
        samples = np.concatenate(parts) if parts else EMPTY
        self._written_samples += len(samples)
        return samples
