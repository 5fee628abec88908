"""Plays speech faster or slower at the same pitch, by FFmpeg's atempo filter."""

from __future__ import annotations

from fractions import Fraction
from typing import cast

import av
import numpy as np
from av.filter import Graph

from pipeline.audio.blocks import EMPTY, BlockBuffer, to_frame, to_samples
from pipeline.contracts import OUTPUT_SAMPLE_RATE_HZ, Float32Array
from pipeline.errors import UnsupportedError

MIN_SPEED = 0.25
MAX_SPEED = 4.0
_MAX_FILTER_SPEED = 2.0  # beyond it, or below its inverse, one atempo skips samples, two do not
_BLOCK_SAMPLES = 480  # 20 ms


class SpeedChanger:
    """One stream of mono speech. n samples in give round(n / speed) out, however the input is cut.

    With speed 1.0 samples pass unchanged. Raises UnsupportedError for a speed outside 0.25 … 4.
    """

    def __init__(self, speed: float, *, sample_rate_hz: int = OUTPUT_SAMPLE_RATE_HZ) -> None:
        if not MIN_SPEED <= speed <= MAX_SPEED:
            raise UnsupportedError(f"speed is {speed}; allowed is {MIN_SPEED} to {MAX_SPEED:g}")
        self._speed = speed
        self._sample_rate_hz = sample_rate_hz
        self._graph = None if speed == 1 else _tempo_graph(speed, sample_rate_hz)
        self._blocks = BlockBuffer(_BLOCK_SAMPLES)
        self._read_samples = 0  # samples fed to the filter, padding included
        self._written_samples = 0

    def process(self, samples: Float32Array) -> Float32Array:
        """samples: float32 (n,). Returns what is ready, float32 (m,); may be empty."""
        if self._graph is None:
            return samples
        ready = [self._step(self._graph, block) for block in self._blocks.push(samples)]
        return np.concatenate(ready) if ready else EMPTY

    def finish(self) -> Float32Array:
        """The tail, float32 (m,). The stream is over afterwards.

        atempo's own flush is off by up to a window, so silence is fed until all speech is out,
        and cut off.
        """
        graph = self._graph
        if graph is None:
            return EMPTY
        rest = self._blocks.rest()
        total_samples = round((self._read_samples + len(rest)) / self._speed)
        missing_samples = total_samples - self._written_samples
        tail = [self._step(graph, rest)] if len(rest) else []
        silence = np.zeros(_BLOCK_SAMPLES, np.float32)
        while self._written_samples < total_samples:
            tail.append(self._step(graph, silence))
        return np.concatenate([EMPTY, *tail])[:missing_samples]

    def _step(self, graph: Graph, block: Float32Array) -> Float32Array:
        graph.push(to_frame(block, self._sample_rate_hz, self._read_samples))
        self._read_samples += len(block)
        ready: list[Float32Array] = []
        while (out := _pull(graph)) is not None:
            ready.append(out)
            self._written_samples += len(out)
        return np.concatenate(ready) if ready else EMPTY


def _tempo_graph(speed: float, sample_rate_hz: int) -> Graph:
    graph = Graph()
    last = graph.add_abuffer(
        sample_rate=sample_rate_hz,
        format="flt",
        layout="mono",
        time_base=Fraction(1, sample_rate_hz),
    )
    n_filters = 1 if 1 / _MAX_FILTER_SPEED <= speed <= _MAX_FILTER_SPEED else 2
    for _ in range(n_filters):
        tempo = graph.add("atempo", repr(speed ** (1 / n_filters)))
        last.link_to(tempo)
        last = tempo
    last.link_to(graph.add("abuffersink"))
    graph.configure()
    return graph


def _pull(graph: Graph) -> Float32Array | None:
    try:
        frame = graph.pull()
    except BlockingIOError:  # needs more input; PyAV's error is also the built-in one
        return None
    return to_samples(cast("av.AudioFrame", frame))
