"""Decoded channels, and the choice of those that hold a clip's speech."""

from __future__ import annotations

import av
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UndecodableAudioError

_MAX_PEAK = 16.0  # +24 dB over full scale: hotter floats are integers in disguise, or noise
_UNSAFE_PLANES = 8
_FULL_SCALE = {"u8": 2**7, "s16": 2**15, "s32": 2**31, "flt": 1, "dbl": 1}
_MAX_TOLD_APART = 32  # the cost grows with the square; no recorder writes more
_UNUSED_POWER = 10 ** (-20 / 10)  # of the loudest channel's: bleed, hiss, ambience
_OPPOSITE = -0.5  # correlation with the loudest channel, below which a mean would cancel

Float64Array = NDArray[np.float64]


def frame_channels(frame: av.AudioFrame) -> Float64Array:
    """float64 [C, n], full scale ±1. Raises UndecodableAudioError beyond that."""
    frame = _with_safe_planes(frame)
    sample_format = frame.format.name.removesuffix("p")
    values = frame.to_ndarray()  # planar: [C, n]; packed: [1, n * C]
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    channels: Float64Array = values.astype(np.float64)
    if sample_format == "u8":
        channels -= _FULL_SCALE["u8"]
    channels /= _FULL_SCALE[sample_format]
    peak = np.abs(channels).max(initial=0.0)
    if not peak <= _MAX_PEAK:  # also for NaN
        raise UndecodableAudioError(
            f"the clip has a sample of {peak:g} times full scale; "
            f"allowed are finite values up to {_MAX_PEAK:g}"
        )
    return channels


class ChannelTally:
    """Sums over a whole clip, of bounded size, from which its channels are chosen at the end."""

    def __init__(self) -> None:
        self._n_channels = 0
        self._n_samples = 0
        self._sums = np.zeros(0)
        self._products = np.zeros((0, 0))
        self._is_mixed = False

    def add(self, channels: Float64Array) -> None:
        """channels: float64 [C, n] of the next frame."""
        n_channels, n_samples = channels.shape
        if not self._n_samples:
            self._n_channels = n_channels
            self._sums = np.zeros(n_channels)
            self._products = np.zeros((n_channels, n_channels))
        self._n_samples += n_samples
        self._is_mixed |= n_channels != self._n_channels
        if self._is_mixed or not 1 < n_channels <= _MAX_TOLD_APART:
            return
        self._sums += channels.sum(axis=1)
        self._products += channels @ channels.T

    def sounding(self) -> list[int] | None:
        """The channels whose mean is the speech; None for all of them.

        Omitted are channels 20 dB below the loudest one, and those that would cancel it in a mean,
        like the two sides of inverted stereo.
        """
        if self._is_mixed or not 1 < self._n_channels <= _MAX_TOLD_APART:
            return None
        means = self._sums / self._n_samples
        covariance = self._products / self._n_samples - np.outer(means, means)
        power = covariance.diagonal()
        loudest = int(power.argmax())
        if power[loudest] <= 0:
            return None
        is_heard = power >= _UNUSED_POWER * power[loudest]
        reach = np.sqrt(np.maximum(power, 0) * power[loudest])
        is_opposite = covariance[loudest] < _OPPOSITE * reach
        chosen = np.flatnonzero(is_heard & ~is_opposite).tolist()
        return None if len(chosen) == self._n_channels else chosen


def _with_safe_planes(frame: av.AudioFrame) -> av.AudioFrame:
    """The same samples in one plane if there are many.

    PyAV finds the number of planes by a null pointer behind the last; with eight or more there is
    none, and it would read foreign memory.
    """
    if not frame.format.is_planar or frame.layout.nb_channels < _UNSAFE_PLANES:
        return frame
    packed = av.AudioResampler(format=frame.format.packed).resample(frame)
    if len(packed) != 1:
        raise UndecodableAudioError(
            f"the clip has {frame.layout.nb_channels} channels that cannot be told apart"
        )
    return packed[0]
