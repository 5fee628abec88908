"""What happens to audio on its way: codecs, cuts, other speeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from pipeline.audio.decode import ClipLimits, decode_clip
from pipeline.audio.encode import make_encoder
from pipeline.audio.speed import SpeedChanger
from pipeline.contracts import OUTPUT_SAMPLE_RATE_HZ, Float32Array

CUT_S = 2.0
_LIMITS = ClipLimits(min_duration_s=0.1, max_duration_s=600)

Treated = tuple[Float32Array, int]  # samples (n,) and their rate


def through(
    audio_format: str, samples: Float32Array, *, rate_hz: int | None = None, bit_rate: int | None
) -> Treated:
    """Encoded and decoded."""
    encoder = make_encoder(audio_format, sample_rate_hz=rate_hz, bit_rate=bit_rate)
    data = encoder.encode(samples) + encoder.finish()
    if audio_format == "pcmu":
        return _from_mu_law(data), encoder.sample_rate_hz
    clip = decode_clip(data, _LIMITS)
    return clip.samples, clip.sample_rate_hz


def faster(speed: float, samples: Float32Array) -> Treated:
    """Played at another speed."""
    changer = SpeedChanger(speed)
    played = np.concatenate([changer.process(samples), changer.finish()])
    return played, OUTPUT_SAMPLE_RATE_HZ


def cut(samples: Float32Array) -> Treated:
    """Two seconds of it; where, follows from the samples."""
    n_cut = int(CUT_S * OUTPUT_SAMPLE_RATE_HZ)
    most = max(len(samples) - n_cut, 0)
    start = int(abs(float(samples.sum())) * 1e4) % (most + 1)
    return samples[start : start + n_cut], OUTPUT_SAMPLE_RATE_HZ


def _from_mu_law(data: bytes) -> Float32Array:
    """ITU-T G.711, float32 (n,)."""
    coded = ~np.frombuffer(data, np.uint8)
    sign, segment, step = coded & 0x80, (coded >> 4) & 7, (coded & 0x0F).astype(np.int32)
    value = (((step << 3) + 0x84) << segment) - 0x84
    return (np.where(sign, -value, value) / 32_768).astype(np.float32)


def untouched(samples: Float32Array) -> Treated:
    """As it left."""
    return samples, OUTPUT_SAMPLE_RATE_HZ


TREATMENTS: Mapping[str, Callable[[Float32Array], Treated]] = {
    "as it left": untouched,
    "mp3 64k": partial(through, "mp3", bit_rate=64_000),
    "opus 32k": partial(through, "opus", bit_rate=32_000),
    "mu-law 8 kHz": partial(through, "pcmu", bit_rate=None),
    "a cut of 2 s": cut,
    "speed 0.8": partial(faster, 0.8),
    "speed 1.25": partial(faster, 1.25),
}
