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

FRAME = OUTPUT_SAMPLE_RATE_HZ // 50  # samples: 20 ms
LOUD_DB = -45.0  # mean square of a frame that sounds; full scale is 0
PAUSE_FRAMES = 150  # 3 s: longest silence within one answer
NOTHING = 1e-3  # largest sample of a hole, -60 dB
HOLE = range(FRAME // 4, 25 * FRAME // 2)  # samples, 5 to 250 ms; longer ones are pauses
EDGE = FRAME // 20  # samples, 1 ms, before and behind a hole: sound that ends by itself dies away
EDGE_DB = -22.0  # mean square of such an edge
TOP = 0.985  # decoders limit their output to 0.99 or to 1
TOP_ROW = 3  # samples in a row at the top: one or two are a peak that reaches it
TOP_SHARE, TOP_LEAST = 0.0005, 48  # of all samples, and how many: a single shout is no fault
BLOCK = 5  # frames, 100 ms
STEADY_DB = 2.0  # mean change of the bands between blocks; speech stays below it for one block
STEADY_BLOCKS = 8  # in a row, 0.9 s

_BANDS = np.unique(np.geomspace(2, 160, 17).astype(int))  # bins of 50 Hz: 100 Hz to 8 kHz
_WINDOW = np.hanning(FRAME).astype(np.float32)

Float64Array = NDArray[np.float64]


class SoundGuard:
    """Judges one answer. `verdict` covers the samples so far.

    The measures behind it: n_top, samples in rows at the top; hole_db, the softer edge of the
    hardest hole; longest_pause, in frames; longest_steady, in blocks.
    """

    def __init__(self) -> None:
        self.n_samples = self.n_top = self.longest_pause = self.longest_steady = 0
        self.hole_db = -math.inf
        self._last_samples = np.zeros(TOP_ROW - 1, np.float32)
        self._seen = np.zeros(0, np.float32)  # where a hole may have begun
        self._rest = np.zeros(0, np.float32)  # less than a block
        self._silent: int | None = None  # frames in a row up to the newest; None before any sound
        self._bands_db: Float64Array | None = None  # of the newest block; None where it is silent
        self._steady = 0

    @property
    def verdict(self) -> Verdict:
        """The worst fault found."""
        if self.longest_steady >= STEADY_BLOCKS:
            return Verdict.BUZZ
        if self.hole_db > EDGE_DB or self.longest_pause > PAUSE_FRAMES:
            return Verdict.HOLE
        is_clipped = self.n_top >= max(TOP_LEAST, TOP_SHARE * self.n_samples)
        return Verdict.CLIPPED if is_clipped else Verdict.OK

    def add(self, samples: Float32Array) -> None:
        """The next samples, float32 (n,)."""
        if not len(samples):
            return
        self._count_top(samples)
        self._look_for_holes(samples)
        pending = np.concatenate([self._rest, samples])
        n_blocks = len(pending) // (BLOCK * FRAME)
        whole, self._rest = np.split(pending, [n_blocks * BLOCK * FRAME])
        if n_blocks:
            self._look_at(whole.reshape(n_blocks, BLOCK, FRAME))

    def _count_top(self, samples: Float32Array) -> None:
        joined = np.concatenate([self._last_samples, samples])
        is_top = np.abs(joined) >= TOP
        self.n_top += int(np.count_nonzero(is_top[2:] & is_top[1:-1] & is_top[:-2]))
        self.n_samples += len(samples)
        self._last_samples = joined[1 - TOP_ROW :]

    def _look_for_holes(self, samples: Float32Array) -> None:
        joined = np.concatenate([self._seen, samples])
        is_nothing = np.concatenate([[False], np.abs(joined) <= NOTHING, [False]])
        starts, ends = np.flatnonzero(is_nothing[1:] != is_nothing[:-1]).reshape(-1, 2).T
        lengths = ends - starts
        is_hole = (lengths >= HOLE.start) & (lengths < HOLE.stop)
        is_hole &= (starts >= EDGE) & (ends + EDGE <= len(joined))
        for start, end in zip(starts[is_hole], ends[is_hole], strict=True):
            edges = joined[start - EDGE : start], joined[end : end + EDGE]
            softer = min(float(np.square(edge).mean()) for edge in edges)
            self.hole_db = max(self.hole_db, float(to_decibels(softer)))
        self._seen = joined[-(HOLE.stop + 2 * EDGE) :]

    def _look_at(self, blocks: Float32Array) -> None:
        """blocks: float32 (n, BLOCK, FRAME)."""
        is_loud = to_decibels(np.square(blocks).mean(axis=2, dtype=np.float64)) > LOUD_DB
        for frame_is_loud in is_loud.reshape(-1):
            self._follow_level(is_loud=bool(frame_is_loud))
        spectra = np.fft.rfft(blocks * _WINDOW, axis=2)[:, :, : _BANDS[-1]]
        powers = np.add.reduceat(np.square(np.abs(spectra)), _BANDS[:-1], axis=2).mean(axis=1)
        for bands_db, frames_are_loud in zip(to_decibels(powers), is_loud, strict=True):
            self._follow_bands(bands_db if frames_are_loud.all() else None)

    def _follow_level(self, *, is_loud: bool) -> None:
        if is_loud:
            self.longest_pause = max(self.longest_pause, self._silent or 0)
            self._silent = 0
        elif self._silent is not None:
            self._silent += 1

    def _follow_bands(self, bands_db: Float64Array | None) -> None:
        before, self._bands_db = self._bands_db, bands_db
        is_steady = (
            before is not None
            and bands_db is not None
            and float(np.abs(bands_db - before).mean()) < STEADY_DB
        )
        self._steady = self._steady + 1 if is_steady else 0
        self.longest_steady = max(self.longest_steady, self._steady)
