"""Conditioning of a decoded clip before the encoder: offset, clicks, silent ends, loudness.

The encoder normalises by peak, like the released one: a click makes the speech beside it quiet, and
a quiet clip stays quiet in the reply, and a constant offset hides silence and changes the codes.
Here an offset is taken out, clicks are limited, long silence at the ends is trimmed, and unusual
loudness is corrected. An ordinary clip passes unchanged, bit for bit.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np

from pipeline.audio.levels import FRAME_S, Levels
from pipeline.contracts import Float32Array

VERSION = "2"  # raise when the same clip is conditioned to other samples

QUIETEST_LUFS = -28.0  # between these two, speech keeps its loudness
LOUDEST_LUFS = -14.0
TARGET_LUFS = -23.0  # of EBU R128; what ordinary clips have once the encoder has limited their peak
_GAIN_STEP_DB = 0.1  # coarser than rounding, which differs between processors
_HIGHEST_PEAK = 0.98
_KNEE = 0.7  # share of a ceiling below which its limiter does nothing

_USUAL_OFFSET = 0.004  # of full scale; good converters leave less, and so does a voice
_OFFSET_FRAME_S = 0.05  # some periods of a voice, whose mean is nothing

_CLICK_FRAME_S = 0.005
_LASTING_S = 0.25  # anything louder for this long in all is no click
_LASTING_SHARE = 0.1  # of a short clip
_CLICK_RATIO = 10 ** (10 / 20)  # speech stays 3 dB below it, over the clips that come with timbre
_TAMED_RATIO = 10 ** (6 / 20)  # about where speech has its highest peaks

_LONG_SILENCE_S = 0.5  # at an end; less is left alone
_KEPT_SILENCE_S = 0.3
_LEAST_KEPT_S = 1.0
_SILENT_BELOW_SPEECH_LU = 35.0
_NOISE_PERCENTILE = 10
_NOISE_SWING_LU = 6.0  # of a steady noise about its quiet frames
_NOISE_BELOW_SPEECH_LU = 25.0  # louder noise cannot be told from soft speech
_NEAR_FRAMES = 5
_LEAST_SOUNDING = 3  # of those; a click at the end of a recording is shorter
SAFE_PEAK = 0.89  # -1 dBFS: what a lossy codec adds to a peak still fits


class Conditioning(StrEnum):
    """SPEECH: all of the above, on the channels with sound. RELEASED: none of it."""

    SPEECH = "speech"
    RELEASED = "released"

    @property
    def fingerprint(self) -> str:
        """Name and version of the conditioning, for cache keys."""
        return f"{self}-{VERSION}" if self is Conditioning.SPEECH else str(self)


def centred(samples: Float32Array, sample_rate_hz: int) -> Float32Array:
    """float32 (n,) about zero, n at least 1; `samples` itself when its offset is usual."""
    size = min(round(_OFFSET_FRAME_S * sample_rate_hz), len(samples))
    frames = samples[: len(samples) // size * size].reshape(-1, size)
    offset = float(np.median(frames.mean(axis=1, dtype=np.float64)))  # clicks turn few frames'
    return samples if abs(offset) <= _USUAL_OFFSET else samples - np.float32(offset)


def tame_clicks(samples: Float32Array, sample_rate_hz: int) -> Float32Array:
    """float32 (n,), with peaks far above all lasting sound limited; often `samples` itself."""
    size = max(1, round(_CLICK_FRAME_S * sample_rate_hz))
    n_frames = -(-len(samples) // size)
    lasting_frames = min(round(_LASTING_S / _CLICK_FRAME_S), int(n_frames * _LASTING_SHARE))
    if not lasting_frames:
        return samples
    frames = np.zeros((n_frames, size), np.float32)
    frames.reshape(-1)[: len(samples)] = samples
    peaks = np.maximum(frames.max(axis=1), -frames.min(axis=1))
    lasting_peak = float(np.partition(peaks, -lasting_frames - 1)[-lasting_frames - 1])
    clicks = np.flatnonzero(peaks > _CLICK_RATIO * lasting_peak)
    if not len(clicks):
        return samples
    frames[clicks] = limit_peaks(frames[clicks], _TAMED_RATIO * lasting_peak)
    return frames.reshape(-1)[: len(samples)]


def limit_peaks(samples: Float32Array, ceiling: float) -> Float32Array:
    """float32 of any shape, below `ceiling`; changes only values near it or above.

    May return `samples`.
    """
    size = np.abs(samples)
    if size.max(initial=0.0) <= ceiling:
        return samples
    knee = _KNEE * ceiling
    room = max(ceiling - knee, np.finfo(np.float32).tiny)
    loud = size > knee
    limited = samples.copy()
    bent = knee + room * np.tanh((size[loud] - knee) / room)
    limited[loud] = np.copysign(bent, samples[loud])
    return limited


def trim_ends(samples: Float32Array, sample_rate_hz: int, levels: Levels) -> Float32Array:
    """float32 (m,): `samples` without long silence, or steady noise, before and after the speech.

    levels: of `samples`.
    """
    start_s, stop_s = speech_span_s(len(samples) / sample_rate_hz, levels)
    return samples[round(start_s * sample_rate_hz) : round(stop_s * sample_rate_hz)]


def speech_span_s(whole_s: float, levels: Levels) -> tuple[float, float]:
    """Where `trim_ends` cuts a clip of `whole_s` seconds."""
    sounding = sounding_frames(levels)
    if not len(sounding):
        return 0.0, whole_s
    first_s, last_s = float(sounding[0]) * FRAME_S, float(sounding[-1] + 1) * FRAME_S
    start_s = first_s - _KEPT_SILENCE_S if first_s > _LONG_SILENCE_S else 0.0
    stop_s = last_s + _KEPT_SILENCE_S if whole_s - last_s > _LONG_SILENCE_S else whole_s
    stop_s = min(max(stop_s, start_s + _LEAST_KEPT_S), whole_s)
    return max(0.0, min(start_s, stop_s - _LEAST_KEPT_S)), stop_s


def bring_to_loudness(samples: Float32Array, loudness_lufs: float) -> Float32Array:
    """float32 (n,) of about TARGET_LUFS; `samples` itself when its loudness is usual."""
    if QUIETEST_LUFS <= loudness_lufs <= LOUDEST_LUFS:
        return samples
    steps = round((TARGET_LUFS - loudness_lufs) / _GAIN_STEP_DB)
    gain = 10 ** (steps * _GAIN_STEP_DB / 20)
    return limit_peaks(samples * np.float32(gain), _HIGHEST_PEAK)


def sounding_frames(levels: Levels) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Indices of frames that are not silent, in runs; single ones do not count."""
    frames_lufs = levels.frames_lufs
    speech_lufs = levels.loudness_lufs()
    noise_lufs = np.percentile(frames_lufs, _NOISE_PERCENTILE) + _NOISE_SWING_LU
    silent_lufs = max(
        speech_lufs - _SILENT_BELOW_SPEECH_LU,
        min(noise_lufs, speech_lufs - _NOISE_BELOW_SPEECH_LU),
    )
    is_loud = frames_lufs > silent_lufs
    near = np.convolve(is_loud, np.ones(_NEAR_FRAMES))[_NEAR_FRAMES // 2 :][: len(is_loud)]
    return np.flatnonzero(is_loud & (near >= _LEAST_SOUNDING))
