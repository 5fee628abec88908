"""The report on a clip that is to be kept as a voice: its measures, what is wrong, what to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from pipeline.audio import findings
from pipeline.audio.condition import (
    Conditioning,
    centred,
    speech_span_s,
    tame_clicks,
    trim_ends,
)
from pipeline.audio.decode import ClipLimits, decode_clip
from pipeline.audio.findings import clipped_share, find_faults
from pipeline.audio.levels import FRAME_S, Levels, measure_levels, to_decibels
from pipeline.audio.quality.pitch import suspects_several, window_pitches
from pipeline.contracts import ReferenceClip

SHORT = "short"
LONG = "long"
LITTLE_SPEECH = "little_speech"
SEVERAL_SPEAKERS = "several_speakers"
LOW_RATE = "low_sample_rate"

ADVICE = {
    findings.QUIET: "Record closer to the microphone, or raise its gain; the level is brought up "
    "here, and its noise with it.",
    findings.CLIPPED: "Lower the gain and record again: what was cut off the peaks is gone.",
    findings.NARROW_BAND: "Record with a microphone at 24 kHz or more instead of a telephone or a "
    "heavily compressed file; the voice will sound as dull as the clip.",
    findings.NOISY: "Record in a quiet room, without music, or denoise the clip first (an edit "
    "with mode denoise does).",
    SHORT: "Send 3 to 10 seconds of speech: from less, the voice is guessed.",
    LONG: "Cut it to 3 to 15 seconds of even speech: more makes every first word slower and the "
    "voice no better.",
    LITTLE_SPEECH: "Cut the pauses, or record again with steady speech.",
    SEVERAL_SPEAKERS: "Keep one speaker only: two voices in a clip are mixed in what is spoken "
    "with it. If it is one person with a lively pitch, ignore this.",
    LOW_RATE: "Record at 24 kHz or more: what lies above half the rate is missing in the voice.",
}
_SHORT_S = 3.0
_LONG_S = 20.0
_LEAST_SPEECH_SHARE = 0.5
_LOW_RATE_HZ = 16_000
_SPEECH_LU = 20.0  # frames so far below the loudness still speak
_NOISE_PERCENTILE = 5
_DIGITAL_SILENCE_LUFS = -95.0
_HIGHEST_SNR_DB = 90.0  # of a clip whose pauses hold nothing
_SHORTEST_CUT_S = 0.1  # a trim that takes away less is not worth the word


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. code: a stable word. message: what was found. advice: what to do."""

    code: str
    message: str
    advice: str


@dataclass(frozen=True, slots=True)
class QualityReport:
    """A clip as it was uploaded.

    speech_share: of its length, 0 to 1. snr_db: speech over the quietest frames. clipped_share: of
    its samples. loudness_lufs: integrated, clicks aside. peak_dbfs: highest sample.
    several_speakers: suspected, by pitch. trim_s: the part to keep, (start, stop) in seconds, None
    where it is the whole clip. findings: empty for a good clip.
    """

    duration_s: float
    sample_rate_hz: int
    speech_share: float
    snr_db: float
    clipped_share: float
    loudness_lufs: float
    peak_dbfs: float
    several_speakers: bool
    trim_s: tuple[float, float] | None
    findings: tuple[Finding, ...]


def assess_clip(
    data: bytes,
    limits: ClipLimits | None = None,
    conditioning: Conditioning = Conditioning.SPEECH,
) -> QualityReport:
    """The report on the upload `data`. Raises as decode_clip does. Blocks."""
    picks_channels = conditioning is Conditioning.SPEECH
    return assess(decode_clip(data, limits, picks_channels=picks_channels))


def assess(clip: ReferenceClip) -> QualityReport:
    """The report on a decoded clip. Blocks."""
    rate_hz = clip.sample_rate_hz
    tamed = tame_clicks(centred(clip.samples, rate_hz), rate_hz)
    levels = measure_levels(tamed, rate_hz)
    spoken = measure_levels(trim_ends(tamed, rate_hz, levels), rate_hz)
    measured = QualityReport(
        duration_s=round(clip.duration_s, 3),
        sample_rate_hz=rate_hz,
        speech_share=round(_speech_share(levels, clip.duration_s), 3),
        snr_db=round(_snr_db(spoken), 1),
        clipped_share=round(clipped_share(clip.samples), 6),
        loudness_lufs=round(levels.loudness_lufs(), 1),
        peak_dbfs=round(float(2 * to_decibels(float(np.abs(clip.samples).max()))), 1),
        several_speakers=suspects_several(window_pitches(tamed, rate_hz)),
        trim_s=_trim_s(clip.duration_s, levels),
        findings=(),
    )
    words = find_faults(clip.samples, rate_hz, levels, spoken=spoken)
    found = tuple(Finding(code, says, ADVICE[code]) for code, says in _found(measured, words))
    return replace(measured, findings=found)


def _found(report: QualityReport, words: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    says = {
        findings.QUIET: f"its loudness is {report.loudness_lufs:g} LUFS",
        findings.CLIPPED: f"{report.clipped_share:.2%} of its samples are cut off at the top",
        findings.NARROW_BAND: "it holds nothing of what speech has above 4.5 kHz",
        findings.NOISY: f"its noise lies only {report.snr_db:g} dB below the speech",
    }
    yield from ((word, says[word]) for word in words)
    if report.duration_s * report.speech_share < _SHORT_S:
        yield SHORT, f"it holds {report.duration_s * report.speech_share:.1f} s of speech"
    if report.duration_s > _LONG_S:
        yield LONG, f"it is {report.duration_s:.1f} s long"
    if report.speech_share < _LEAST_SPEECH_SHARE:
        yield LITTLE_SPEECH, f"{report.speech_share:.0%} of it is speech"
    if report.several_speakers:
        yield SEVERAL_SPEAKERS, "its pitch lies at two heights, as of two speakers"
    if report.sample_rate_hz < _LOW_RATE_HZ:
        yield LOW_RATE, f"its sample rate is {report.sample_rate_hz} Hz"


def _speech_share(levels: Levels, duration_s: float) -> float:
    speaks = levels.frames_lufs > levels.loudness_lufs() - _SPEECH_LU
    return min(1.0, float(speaks.sum()) * FRAME_S / duration_s)


def _snr_db(spoken: Levels) -> float:
    heard = spoken.frames_lufs[spoken.frames_lufs > _DIGITAL_SILENCE_LUFS]
    if not len(heard):
        return 0.0
    noise_lufs = float(np.percentile(heard, _NOISE_PERCENTILE))
    return min(_HIGHEST_SNR_DB, max(0.0, spoken.loudness_lufs() - noise_lufs))


def _trim_s(whole_s: float, levels: Levels) -> tuple[float, float] | None:
    start_s, stop_s = speech_span_s(whole_s, levels)
    if whole_s - (stop_s - start_s) < _SHORTEST_CUT_S:
        return None
    return round(start_s, 2), round(stop_s, 2)
