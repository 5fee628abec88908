"""Finds what is wrong with finished speech by its sound: cut-off peaks, level holes, buzz.

Looks at 24 kHz samples piece by piece, wherever their borders are. The thresholds lie well beyond
what recordings and sound replies have; `training.judging.corruption` measures how far.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pipeline.audio.levels import to_decibels
from pipeline.contracts import OUTPUT_SAMPLE_RATE_HZ, Float32Array, Verdict

FRAME = OUTPUT_SAMPLE_RATE_HZ // 100  # samples: 10 ms
LOUD_DB = -45.0  # mean square of a frame that sounds; full scale is 0
PAUSE_FRAMES = 300  # 3 s: longest silence within one answer
NOTHING = 1e-3  # largest sample of a hole, -60 dB
HOLE = range(FRAME // 2, 25 * FRAME)  # samples, 5 to 250 ms; longer ones are pauses
EDGE = FRAME // 10  # samples, 1 ms, before and behind a hole: sound that ends dies away
EDGE_DB = -22.0  # mean square of such an edge
TOP = 0.985  # decoders limit their output to 0.99 or to 1
TOP_ROW = 3  # samples in a row at the top: one or two are a peak that reaches it
TOP_SHARE, TOP_LEAST = 0.0005, 48  # of all samples, and how many: a single shout is no fault
BLOCK = 10  # frames, 100 ms
STEADY_DB = 1.5  # mean change of the bands between blocks: held vowels have more
STEADY_BLOCKS = 10  # 1 s

_BANDS = np.unique(np.geomspace(2, 160, 17).astype(int))  # bins of 50 Hz: 100 Hz to 8 kHz
_WINDOW = np.hanning(2 * FRAME).astype(np.float32)

Float64Array = NDArray[np.float64]


class SoundGuard:
    """Judges one answer. `verdict` covers the samples so far; a fault once found stays."""

    def __init__(self) -> None:
        self.verdict = Verdict.OK
        self.n_top = self.n_samples = self.longest_pause = self.longest_steady = 0
        self.hole_db = -math.inf  # of the harder edges of all holes
        self._last_samples = np.zeros(TOP_ROW - 1, np.float32)
        self._seen = np.zeros(0, np.float32)  # where a hole may have begun
        self._rest = np.zeros(0, np.float32)
        self._last_frame = np.zeros(FRAME, np.float32)
        self._silent = 0  # frames in a row, up to the newest
        self._has_sounded = False
        self._powers: list[Float64Array] = []  # of the bands, of the frames of an unfinished block
        self._block_db: Float64Array | None = None
        self._steady = 0

    def add(self, samples: Float32Array) -> None:
        """The next samples, float32 (n,)."""
        if not len(samples):
            return
        self._count_top(samples)
        self._look_for_holes(samples)
        pending = np.concatenate([self._rest, samples])
        n_frames = len(pending) // FRAME
        frames, self._rest = pending[: n_frames * FRAME], pending[n_frames * FRAME :]
        if n_frames:
            self._look_at(frames.reshape(n_frames, FRAME))
        self.verdict = self._found()

    def _found(self) -> Verdict:
        if self.longest_steady >= STEADY_BLOCKS:
            return Verdict.BUZZ
        if self.hole_db > EDGE_DB or self.longest_pause > PAUSE_FRAMES:
            return Verdict.HOLE
        if self.n_top >= max(TOP_LEAST, TOP_SHARE * self.n_samples):
            return Verdict.CLIPPED
        return Verdict.OK if self.verdict is Verdict.CLIPPED else self.verdict

    def _count_top(self, samples: Float32Array) -> None:
        joined = np.concatenate([self._last_samples, samples])
        is_top = np.abs(joined) >= TOP
        rows = is_top[2:] & is_top[1:-1] & is_top[:-2]
        self.n_top += int(np.count_nonzero(rows))
        self.n_samples += len(samples)
        self._last_samples = joined[1 - TOP_ROW :]

    def _look_for_holes(self, samples: Float32Array) -> None:
        joined = np.concatenate([self._seen, samples])
        is_nothing = np.concatenate([[False], np.abs(joined) <= NOTHING, [False]])
        borders = np.flatnonzero(is_nothing[1:] != is_nothing[:-1]).reshape(-1, 2)
        for start, end in borders:
            if end - start in HOLE and start >= EDGE and end + EDGE <= len(joined):
                edges = joined[start - EDGE : start], joined[end : end + EDGE]
                hardness = min(float(np.square(edge).mean()) for edge in edges)
                self.hole_db = max(self.hole_db, float(to_decibels(hardness)))
        self._seen = joined[-(HOLE.stop + 2 * EDGE) :]

    def _look_at(self, frames: Float32Array) -> None:
        """frames: float32 (n, FRAME)."""
        levels_db = to_decibels(np.square(frames, dtype=np.float64).mean(axis=1))
        windows = np.concatenate([np.vstack([self._last_frame, frames[:-1]]), frames], axis=1)
        spectra = np.fft.rfft(windows * _WINDOW, axis=1)[:, : _BANDS[-1]]
        powers = np.add.reduceat(np.square(np.abs(spectra)), _BANDS[:-1], axis=1)
        self._last_frame = frames[-1]
        for level_db, power in zip(levels_db, powers, strict=True):
            self._follow_level(level_db)
            self._powers.append(power)
            if len(self._powers) == BLOCK:
                self._end_block()

    def _follow_level(self, level_db: float) -> None:
        if level_db <= LOUD_DB:
            self._silent += 1
            return
        if self._has_sounded:
            self.longest_pause = max(self.longest_pause, self._silent)
        self._has_sounded, self._silent = True, 0

    def _end_block(self) -> None:
        mean = np.mean(self._powers, axis=0)
        self._powers.clear()
        before, self._block_db = self._block_db, to_decibels(mean)
        is_loud = not self._silent
        if before is not None and is_loud and np.abs(self._block_db - before).mean() < STEADY_DB:
            self._steady += 1
            self.longest_steady = max(self.longest_steady, self._steady)
        else:
            self._steady = 0
