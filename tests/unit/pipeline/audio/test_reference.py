"""Clips as people record them: what the encoder gets, and what the caller is told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.audio.condition import Conditioning, limit_peaks, tame_clicks
from pipeline.audio.decode import ClipLimits, decode_clip
from pipeline.audio.findings import CLIPPED, NARROW_BAND, NOISY, QUIET
from pipeline.audio.levels import measure_levels
from pipeline.audio.reference import read_reference
from pipeline.audio.resample import StreamResampler
from pipeline.contracts import ReferenceClip
from pipeline.errors import SilentAudioError
from pipeline.voice_list import VOICES_DIR, load_voices
from tests.audio_files import libav, wav

pytestmark = pytest.mark.unit
VOICES = load_voices(VOICES_DIR)
NAMES = sorted(VOICES)


def voice(name: str = "bruno") -> ReferenceClip:
    return decode_clip(VOICES[name].path.read_bytes())


def lufs(clip: ReferenceClip) -> float:
    return measure_levels(clip.samples, clip.sample_rate_hz).loudness_lufs()


def resampled(samples: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    resampler = StreamResampler(from_hz, to_hz)
    return np.concatenate([resampler.process(samples), resampler.finish()])


@pytest.mark.parametrize("name", NAMES)
def test_an_ordinary_clip_passes_bit_for_bit(name: str) -> None:
    upload = VOICES[name].path.read_bytes()
    read = read_reference(upload)
    decoded = decode_clip(upload)
    assert read.clip.digest == decoded.digest
    np.testing.assert_array_equal(read.clip.samples, decoded.samples)
    assert read.warnings == ()


def test_human_clips_pass_bit_for_bit(shared_dir: Path) -> None:
    for name in json.loads((shared_dir / "audio" / "transcripts.json").read_text()):
        upload = (shared_dir / "audio" / name).read_bytes()
        read = read_reference(upload)
        assert read.clip.digest == decode_clip(upload).digest
        assert read.warnings == ()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("gain_db", [-40, -30, -15])
def test_quiet_speech_is_brought_to_the_usual_loudness(name: str, gain_db: int) -> None:
    clip = voice(name)
    quiet = clip.samples * 10 ** (gain_db / 20)
    read = read_reference(wav(quiet[np.newaxis], clip.sample_rate_hz, 24))
    assert lufs(read.clip) == pytest.approx(-23, abs=0.3)
    assert np.abs(read.clip.samples).max() < 1
    assert (QUIET in read.warnings) == (lufs(clip) + gain_db < -40)
    gain = read.clip.samples @ quiet / (quiet @ quiet)
    np.testing.assert_allclose(read.clip.samples, gain * quiet, atol=0.01)  # and is the same speech


def test_speech_much_too_loud_is_made_quieter() -> None:
    clip = voice()
    hot = np.clip(clip.samples * 4, -1, 1)
    read = read_reference(wav(hot[np.newaxis], clip.sample_rate_hz))
    assert lufs(read.clip) == pytest.approx(-23, abs=0.3)
    assert read.warnings == (CLIPPED,)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", [1, 20, 800])  # a spark, a click, a knock
@pytest.mark.parametrize("gain_db", [-30, -3])
def test_a_click_does_not_set_the_level(name: str, width: int, gain_db: int) -> None:
    """The encoder scales by the peak: it must be near that of the speech."""
    clip = voice(name)
    clicked = clip.samples * 10 ** (gain_db / 20)
    speech_peak = np.abs(clicked).max()
    for start in (22_050, 44_100, 66_150, len(clicked) - width):
        clicked[start : start + width] += 0.95 * np.hanning(width + 2)[1:-1]
    read = read_reference(wav(clicked[np.newaxis], clip.sample_rate_hz))
    elsewhere = slice(clip.sample_rate_hz + width, 2 * clip.sample_rate_hz)
    gain = float(
        read.clip.samples[elsewhere] @ clicked[elsewhere] / np.square(clicked[elsewhere]).sum()
    )
    peak = np.abs(read.clip.samples).max()
    assert peak < (2.2 if gain_db == -30 else 3) * gain * speech_peak
    if gain_db == -30:
        assert lufs(read.clip) == pytest.approx(-23, abs=3)
        assert QUIET in read.warnings


@pytest.mark.parametrize("offset", [0.006, -0.3])
def test_a_constant_offset_is_taken_out(offset: float) -> None:
    clip = voice()
    silent = np.zeros(clip.sample_rate_hz, np.float32)
    recorded = np.concatenate([silent, clip.samples, silent])[np.newaxis]
    plain = read_reference(wav(recorded, clip.sample_rate_hz, -32)).clip
    read = read_reference(wav(recorded + np.float32(offset), clip.sample_rate_hz, -32))
    assert read.warnings == ()
    assert len(read.clip.samples) == len(plain.samples)  # silence at the ends is found all the same
    np.testing.assert_allclose(read.clip.samples, plain.samples, atol=0.001)


def test_only_clicks_are_silence() -> None:
    rng = np.random.default_rng(2)
    nothing = rng.normal(0, 1e-5, (1, 48_000))
    nothing[0, 5_000::20_000] = 0.9
    with pytest.raises(SilentAudioError, match="silent but for clicks"):
        read_reference(wav(nothing, 24_000, -32))
    released = read_reference(wav(nothing, 24_000, -32), conditioning=Conditioning.RELEASED)
    assert released.clip.samples.max() > 0.8


@pytest.mark.slow
@pytest.mark.parametrize(
    "noise", [0.0, *(pytest.param(level, marks=pytest.mark.slow) for level in (0.0005, 0.002))]
)
@pytest.mark.parametrize("ends_s", [(3.0, 5.0), (0.0, 2.0), (1.0, 0.0)])
def test_long_silence_at_the_ends_is_cut(noise: float, ends_s: tuple[float, float]) -> None:
    clip = voice("clara")
    rate_hz = clip.sample_rate_hz
    before, after = (np.zeros(round(s * rate_hz)) for s in ends_s)
    long = np.concatenate([before, clip.samples, after])
    long += np.random.default_rng(4).normal(0, noise, len(long)) if noise else 0
    if ends_s[0]:
        long[500:540] = 0.3  # the key that starts the recording
    read = read_reference(wav(long[np.newaxis], rate_hz))
    extra_s = 0.3 * sum(end_s > 0 for end_s in ends_s)
    assert read.clip.duration_s == pytest.approx(clip.duration_s + extra_s, abs=0.2)
    # cut, and nothing else
    expected = np.rint(long * 32_768).astype(np.float32) / 32_768
    loudest = int(np.abs(read.clip.samples).argmax())
    start = next(
        at
        for at in np.flatnonzero(expected == read.clip.samples[loudest]) - loudest
        if at >= 0 and np.array_equal(expected[at : at + len(read.clip.samples)], read.clip.samples)
    )
    assert start / rate_hz == pytest.approx(max(0.0, ends_s[0] - 0.3), abs=0.1)
    assert read.warnings == ()


def test_a_short_word_in_silence_keeps_a_second() -> None:
    clip = voice()
    rate_hz = clip.sample_rate_hz
    word = np.concatenate([clip.samples[rate_hz : rate_hz + 8_000], np.zeros(5 * rate_hz)])
    read = read_reference(wav(word[np.newaxis], rate_hz))
    assert read.clip.duration_s == pytest.approx(1.0, abs=0.01)


def channels_of(samples: np.ndarray, *gains: float) -> np.ndarray:
    return np.stack([gain * samples for gain in gains])


@pytest.mark.slow
@pytest.mark.parametrize(
    "gains",
    [
        (0, 0, 1, 0, 0, 0),  # a meeting recorder's centre
        (1, 0),
        (0, 1),
        (1, -1),  # a balanced plug in a stereo socket
        (1, -0.9, 0),
        (0.01, 1, -1, 1),
        (1, 0.05),
    ],
)
def test_channels_that_do_not_speak_change_nothing(gains: tuple[float, ...]) -> None:
    clip = voice()
    many = channels_of(clip.samples, *gains)
    read = read_reference(wav(many, clip.sample_rate_hz))
    np.testing.assert_array_equal(read.clip.samples, clip.samples)
    assert read.clip.digest == clip.digest
    assert read.warnings == ()


@pytest.mark.parametrize("n_channels", [2, 6])
def test_channels_that_speak_are_averaged_as_ever(n_channels: int) -> None:
    clip = voice()
    rate_hz = clip.sample_rate_hz
    same = wav(channels_of(clip.samples, *[1.0] * n_channels), rate_hz)
    assert read_reference(same).clip.digest == clip.digest
    softer = wav(channels_of(clip.samples, 1.0, *[0.5] * (n_channels - 1)), rate_hz)
    assert read_reference(softer).clip.digest == decode_clip(softer).digest


def test_speech_in_two_channels_by_turns_keeps_both() -> None:
    first, second = voice("bruno"), voice("hugo")
    pause = np.zeros_like
    left = np.concatenate([first.samples, pause(second.samples)])
    right = np.concatenate([pause(first.samples), second.samples])
    upload = wav(np.stack([left, right]), first.sample_rate_hz)
    assert read_reference(upload).clip.digest == decode_clip(upload).digest


@pytest.mark.slow
def test_channels_of_a_lossy_codec() -> None:
    clip = voice()
    samples = resampled(clip.samples, clip.sample_rate_hz, 48_000)
    six = channels_of(samples, 0, 0, 1, 0, 0, 0)
    for container, encoder in (("ipod", "aac"), ("webm", "libopus"), ("ac3", "ac3")):
        read = read_reference(libav(six, 48_000, container, encoder, "5.1"))
        assert lufs(read.clip) == pytest.approx(lufs(clip), abs=1)


def test_released_does_none_of_it() -> None:
    clip = voice()
    rate_hz = clip.sample_rate_hz
    quiet = np.concatenate([np.zeros(3 * rate_hz), clip.samples * 0.01])
    quiet[2 * rate_hz] = 0.9
    upload = wav(channels_of(quiet, 0, 1), rate_hz)
    read = read_reference(upload, conditioning=Conditioning.RELEASED)
    assert read.clip.digest == decode_clip(upload).digest
    assert QUIET in read.warnings


def test_the_fingerprint_names_the_choice() -> None:
    assert Conditioning.SPEECH.fingerprint != Conditioning.RELEASED.fingerprint


@pytest.mark.parametrize("name", NAMES)
def test_a_telephone_is_heard(name: str) -> None:
    clip = voice(name)
    rate_hz = clip.sample_rate_hz
    narrow = resampled(clip.samples, rate_hz, 8_000)
    assert read_reference(wav(narrow[np.newaxis], 8_000)).warnings == (NARROW_BAND,)
    wide = resampled(narrow, 8_000, rate_hz)
    assert read_reference(wav(wide[np.newaxis], rate_hz)).warnings == (NARROW_BAND,)


@pytest.mark.parametrize("name", NAMES)
def test_noise_is_heard(name: str) -> None:
    clip = voice(name)
    power = np.square(clip.samples).mean()
    rng = np.random.default_rng(8)
    for snr_db, warnings in ((5, (NOISY,)), (10, (NOISY,)), (25, ())):
        noise = rng.normal(0, np.sqrt(power) * 10 ** (-snr_db / 20), len(clip.samples))
        noisy = (clip.samples + noise)[np.newaxis]
        assert read_reference(wav(noisy, clip.sample_rate_hz, -32)).warnings == warnings, snr_db


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("later_gain", [1.0, 0.25])
def test_clipping_is_heard(name: str, later_gain: float) -> None:
    clip = voice(name)
    hot = clip.samples / np.abs(clip.samples).max()
    as_loud = wav(hot[np.newaxis] * later_gain, clip.sample_rate_hz)
    clipped = wav(np.clip(hot[np.newaxis] * 4, -1, 1) * later_gain, clip.sample_rate_hz)
    assert CLIPPED not in read_reference(as_loud).warnings
    assert CLIPPED in read_reference(clipped).warnings


def test_several_warnings_come_in_order() -> None:
    clip = voice()
    narrow = resampled(clip.samples, clip.sample_rate_hz, 8_000)
    noise = np.random.default_rng(1).normal(0, np.sqrt(np.square(narrow).mean()), len(narrow))
    bad = np.clip((narrow + noise) * 8, -1, 1) * 0.005
    found = read_reference(wav(bad[np.newaxis], 8_000, -32)).warnings
    assert found == (QUIET, CLIPPED, NARROW_BAND, NOISY)


def test_short_limits_and_short_clips() -> None:
    clip = voice()
    for n_samples in (300, 1_000, 11_100):
        short = clip.samples[20_000 : 20_000 + n_samples]
        read = read_reference(
            wav(short[np.newaxis], clip.sample_rate_hz), ClipLimits(min_duration_s=0.001)
        )
        assert len(read.clip.samples) == n_samples


def test_a_limiter_bends_only_what_is_loud() -> None:
    samples = np.linspace(-2, 2, 1_001, dtype=np.float32)
    limited = limit_peaks(samples, 1.0)
    soft = np.abs(samples) <= 0.7
    np.testing.assert_array_equal(limited[soft], samples[soft])
    assert np.abs(limited).max() <= 1
    assert np.all(np.diff(limited) >= 0)
    assert limit_peaks(samples, 2.0) is samples
    assert tame_clicks(samples[:3], 24_000).tolist() == samples[:3].tolist()
