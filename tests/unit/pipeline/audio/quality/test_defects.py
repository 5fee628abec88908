"""Faults of finished speech by its sound: what is found, and that recordings are not accused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.audio.decode import decode_clip
from pipeline.audio.quality.defects import SoundGuard
from pipeline.audio.resample import StreamResampler
from pipeline.contracts import OUTPUT_SAMPLE_RATE_HZ, Float32Array, Verdict
from pipeline.voice_list import VOICES_DIR, load_voices

pytestmark = pytest.mark.unit

RATE_HZ = OUTPUT_SAMPLE_RATE_HZ
VOICES = load_voices(VOICES_DIR)


def speech(path: Path) -> Float32Array:
    clip = decode_clip(path.read_bytes())
    resampler = StreamResampler(clip.sample_rate_hz, RATE_HZ)
    return np.concatenate([resampler.process(clip.samples), resampler.finish()])


def judged(samples: Float32Array, size: int = 7_001) -> SoundGuard:
    guard = SoundGuard()
    for start in range(0, len(samples), size):
        guard.add(samples[start : start + size])
    return guard


@pytest.fixture(scope="module")
def spoken() -> Float32Array:
    return speech(VOICES["bruno"].path)


@pytest.mark.parametrize("name", sorted(VOICES))
def test_a_voice_is_good_as_it_is_and_at_any_level(name: str) -> None:
    samples = speech(VOICES[name].path)
    for gain in (0.1, 1.0, 0.98 / float(np.abs(samples).max())):
        assert judged(samples * np.float32(gain)).verdict is Verdict.OK


def test_recordings_of_people_are_good(shared_dir: Path) -> None:
    for path in sorted((shared_dir / "audio").glob("*.wav")):
        assert judged(speech(path)).verdict is Verdict.OK, path.name


def loudest(samples: Float32Array) -> int:
    """Where half a second of the loudest speech begins."""
    energy = np.cumsum(np.square(samples, dtype=np.float64))
    return int((energy[RATE_HZ // 2 :] - energy[: -RATE_HZ // 2]).argmax())


def buzz(length_s: float) -> Float32Array:
    times = np.arange(round(length_s * RATE_HZ)) / RATE_HZ
    return (0.3 * (2 * (120 * times % 1) - 1)).astype(np.float32)


def noise(length_s: float) -> Float32Array:
    rng = np.random.default_rng(0)
    return (0.1 * rng.standard_normal(round(length_s * RATE_HZ))).astype(np.float32)


@pytest.mark.parametrize("sound", [buzz, noise])
def test_a_steady_sound_is_buzz_and_a_short_one_is_not(spoken: Float32Array, sound) -> None:
    at = loudest(spoken)
    for length_s, verdict in ((0.5, Verdict.OK), (1.5, Verdict.BUZZ)):
        made = np.concatenate([spoken[:at], sound(length_s), spoken[at:]])
        assert judged(made).verdict is verdict


@pytest.mark.parametrize("length_s", [0.01, 0.1, 0.2])
def test_a_gap_within_a_vowel_is_a_hole(spoken: Float32Array, length_s: float) -> None:
    peaks = np.abs(spoken) > 0.7 * np.abs(spoken).max()
    found = 0
    for at in np.flatnonzero(peaks)[:: max(1, peaks.sum() // 8)]:
        made = spoken.copy()
        made[at : at + round(length_s * RATE_HZ)] = 0
        found += judged(made).verdict is Verdict.HOLE
    assert found  # one side may end where the wave is small


def test_a_gap_between_two_halves_of_a_steady_vowel_is_a_hole() -> None:
    made = buzz(0.6)
    made[6_000:7_200] = 0
    assert judged(made).verdict is Verdict.HOLE


def test_a_long_silence_within_speech_is_a_hole_and_one_at_an_end_is_not(
    spoken: Float32Array,
) -> None:
    nothing = np.zeros(4 * RATE_HZ, np.float32)
    assert judged(np.concatenate([spoken, nothing, spoken])).verdict is Verdict.HOLE
    assert judged(np.concatenate([nothing, spoken, nothing])).verdict is Verdict.OK
    pause = np.zeros(2 * RATE_HZ, np.float32)
    assert judged(np.concatenate([spoken, pause, spoken])).verdict is Verdict.OK


def test_cut_off_peaks_are_clipping_and_a_single_peak_is_not(spoken: Float32Array) -> None:
    gain = np.float32(3 / np.abs(spoken).max())
    assert judged(np.clip(spoken * gain, -0.99, 0.99)).verdict is Verdict.CLIPPED
    made = spoken.copy()
    made[1_000:1_005] = 0.99
    assert judged(made).verdict is Verdict.OK


def test_borders_of_pieces_change_nothing(spoken: Float32Array) -> None:
    made = np.concatenate([np.clip(spoken * 4, -0.99, 0.99), np.zeros(100, np.float32), buzz(1.2)])
    measures = [
        (g.n_top, g.hole_db, g.longest_pause, g.longest_steady, g.verdict)
        for g in (judged(made, size) for size in (977, 7_001, len(made)))
    ]
    assert len(set(measures)) == 1


def test_nothing_is_good() -> None:
    assert judged(np.zeros(0, np.float32)).verdict is Verdict.OK
    assert judged(np.zeros(10 * RATE_HZ, np.float32)).verdict is Verdict.OK
