"""From an upload to the clip for the encoder, with warnings about it.

Decodes, then conditions as configured, which is cheap: some 20 ms for the longest clip.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.audio.condition import (
    Conditioning,
    bring_to_loudness,
    centred,
    tame_clicks,
    trim_ends,
)
from pipeline.audio.decode import ClipLimits, clip_digest, decode_clip
from pipeline.audio.findings import find_faults
from pipeline.audio.levels import SILENT_LUFS, measure_levels
from pipeline.contracts import ReferenceClip
from pipeline.errors import SilentAudioError


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """A clip that was read."""

    clip: ReferenceClip
    """The clip for the encoder."""
    warnings: tuple[str, ...]
    """Of pipeline.audio.findings."""


def read_reference(
    data: bytes,
    limits: ClipLimits | None = None,
    conditioning: Conditioning = Conditioning.SPEECH,
) -> Reference:
    """Raises as decode_clip does; with SPEECH also SilentAudioError for a clip of clicks alone."""
    is_for_speech = conditioning is Conditioning.SPEECH
    decoded = decode_clip(data, limits, picks_channels=is_for_speech)
    rate_hz = decoded.sample_rate_hz
    tamed = tame_clicks(centred(decoded.samples, rate_hz), rate_hz)
    levels = measure_levels(tamed, rate_hz)
    spoken = trim_ends(tamed, rate_hz, levels)
    spoken_levels = levels if spoken is tamed else measure_levels(spoken, rate_hz)
    warnings = find_faults(decoded.samples, rate_hz, levels, spoken=spoken_levels)
    if not is_for_speech:
        return Reference(decoded, warnings)
    loudness_lufs = levels.loudness_lufs()
    if loudness_lufs <= SILENT_LUFS:
        raise SilentAudioError(
            f"the clip is silent but for clicks: its loudness without them is {SILENT_LUFS:g} LUFS "
            "or less"
        )
    samples = bring_to_loudness(spoken, loudness_lufs)
    if samples is decoded.samples:
        return Reference(decoded, warnings)
    clip = ReferenceClip(samples, rate_hz, clip_digest(samples, rate_hz))
    return Reference(clip, warnings)
