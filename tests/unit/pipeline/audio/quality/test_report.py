"""The report on a clip: what is measured of it, and each fault with what to do about it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pipeline.audio.decode import decode_clip
from pipeline.audio.findings import CLIPPED, NARROW_BAND, NOISY, QUIET
from pipeline.audio.quality.pitch import suspects_several, window_pitches
from pipeline.audio.quality.report import (
    ADVICE,
    LITTLE_SPEECH,
    LONG,
    LOW_RATE,
    SEVERAL_SPEAKERS,
    SHORT,
    QualityReport,
    assess,
    assess_clip,
)
from pipeline.contracts import Float32Array, ReferenceClip
from pipeline.errors import SilentAudioError, UndecodableAudioError
from pipeline.voice_list import load_voices
from tests.audio_files import wav

pytestmark = pytest.mark.unit
VOICES = {name: voice.path.read_bytes() for name, voice in load_voices().items()}
CLIPS = {name: decode_clip(data) for name, data in VOICES.items()}
RATE_HZ = CLIPS["bruno"].sample_rate_hz
BRUNO = CLIPS["bruno"].samples
RNG = np.random.default_rng(3)


def report_on(samples: Float32Array, rate_hz: int = RATE_HZ) -> QualityReport:
    return assess(ReferenceClip(samples.astype(np.float32), rate_hz, "0" * 64))


def codes(report: QualityReport) -> set[str]:
    return {finding.code for finding in report.findings}


@pytest.mark.parametrize("name", list(VOICES))
def test_the_built_in_voices_are_good(name: str):
    report = assess_clip(VOICES[name])
    assert codes(report) == set()
    assert report.duration_s == pytest.approx(CLIPS[name].duration_s, abs=1e-3)
    assert report.sample_rate_hz == RATE_HZ
    assert report.speech_share > 0.7
    assert report.snr_db > 12
    assert not report.several_speakers


def hushed(samples: Float32Array, gap_s: float) -> Float32Array:
    gap = np.zeros(round(gap_s * RATE_HZ), np.float32)
    return np.concatenate([gap, samples, gap])


MADE_WORSE = {
    QUIET: BRUNO * 0.005,
    CLIPPED: np.clip(BRUNO * 8, -0.7, 0.7),
    NOISY: BRUNO + 0.1 * np.abs(BRUNO).max() * RNG.standard_normal(len(BRUNO)),
    SHORT: BRUNO[: 2 * RATE_HZ],
    LONG: np.tile(BRUNO, 5),
    LITTLE_SPEECH: hushed(BRUNO, 4.0),
    SEVERAL_SPEAKERS: np.concatenate([BRUNO, CLIPS["clara"].samples]),
}


@pytest.mark.parametrize("code", list(MADE_WORSE))
def test_a_fault_is_named_with_what_to_do_about_it(code: str):
    report = report_on(MADE_WORSE[code])
    assert code in codes(report)
    found = next(finding for finding in report.findings if finding.code == code)
    assert found.message
    assert found.advice == ADVICE[code]


def test_a_telephone_clip_is_narrow_and_of_a_low_rate():
    every_third = BRUNO[::3]
    assert {NARROW_BAND, LOW_RATE} <= codes(report_on(every_third, RATE_HZ // 3))


def test_long_silence_at_the_ends_is_to_be_trimmed():
    assert report_on(BRUNO).trim_s is None
    report = report_on(hushed(BRUNO, 2.0))
    assert report.trim_s is not None
    start_s, stop_s = report.trim_s
    assert 1.5 < start_s < 2.5
    assert stop_s < report.duration_s - 1.5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (one, other)
        for one, other in itertools.combinations(CLIPS, 2)
        if abs(
            np.median(window_pitches(CLIPS[one].samples, RATE_HZ))
            - np.median(window_pitches(CLIPS[other].samples, RATE_HZ))
        )
        > 7
    ],
)
def test_two_voices_of_different_pitch_are_suspected(one: str, other: str):
    joined = np.concatenate([CLIPS[one].samples, CLIPS[other].samples])
    assert suspects_several(window_pitches(joined, RATE_HZ))


def test_one_human_speaker_is_not_suspected(shared_dir):
    for path in sorted((shared_dir / "audio").glob("*.wav")):
        assert not assess_clip(path.read_bytes()).several_speakers, path.name


@pytest.mark.parametrize("hz", [80.0, 120.0, 210.0, 330.0])
def test_the_pitch_of_a_buzz_is_its_own(hz: float):
    t = np.arange(2 * RATE_HZ) / RATE_HZ
    buzz = sum(np.sin(2 * np.pi * hz * k * t) / k for k in range(1, 8)).astype(np.float32)
    pitches = window_pitches(buzz, RATE_HZ)
    assert len(pitches) >= 3
    assert np.allclose(2 ** (pitches / 12), hz, rtol=0.02)


@pytest.mark.parametrize("samples", [np.zeros(10), RNG.standard_normal(RATE_HZ)])
def test_what_has_no_pitch_has_none(samples: np.ndarray):
    assert not suspects_several(window_pitches(samples.astype(np.float32), RATE_HZ))


def test_a_clip_that_cannot_be_used_is_refused_as_ever():
    with pytest.raises(SilentAudioError):
        assess_clip(wav(np.zeros((1, RATE_HZ)), RATE_HZ))
    with pytest.raises(UndecodableAudioError):
        assess_clip(b"no clip at all")
