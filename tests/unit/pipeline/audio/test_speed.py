from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.audio.resample import StreamResampler
from pipeline.audio.speed import SpeedChanger
from pipeline.errors import UnsupportedError
from tests.audio_files import tone

pytestmark = pytest.mark.unit

RATE_HZ = 24_000


def changed(samples: np.ndarray, speed: float, cut: int = 2_880) -> np.ndarray:
    changer = SpeedChanger(speed)
    parts = [changer.process(samples[i : i + cut]) for i in range(0, len(samples), cut)]
    return np.concatenate([*parts, changer.finish()])


@pytest.mark.parametrize("speed", [0.25, 0.4, 0.5, 0.9, 1.1, 2.0, 2.5, 4.0])
def test_length_changes_and_pitch_stays(speed: float) -> None:
    samples = tone(RATE_HZ, 2)[0].astype(np.float32)
    found = changed(samples, speed)
    assert found.dtype == np.float32
    assert len(found) == round(len(samples) / speed)
    spectrum = np.abs(np.fft.rfft(found * np.hanning(len(found))))
    assert abs(spectrum.argmax() * RATE_HZ / len(found) - 220) < 2
    assert found.std() == pytest.approx(samples.std(), rel=0.03)
    assert np.abs(found[-len(found) // 20 :]).max() > 0.3  # the end is speech, not padding


@pytest.mark.parametrize("speed", [0.5, 2.0])
def test_events_stay_in_their_places(speed: float) -> None:
    samples = tone(RATE_HZ, 2)[0].astype(np.float32)
    samples[: RATE_HZ // 2] *= 0.01
    samples[RATE_HZ : RATE_HZ * 3 // 2] *= 0.01
    loud = np.abs(changed(samples, speed)) > 0.1
    edges = np.flatnonzero(loud) / RATE_HZ * speed
    assert edges[0] == pytest.approx(0.5, abs=0.06)
    assert not ((edges > 1.07) & (edges < 1.43)).any()


@pytest.mark.parametrize("n_samples", [0, 1, 100, 1_200, 4_800])
def test_short_streams_have_the_right_length(n_samples: int) -> None:
    samples = tone(RATE_HZ, 1)[0].astype(np.float32)[:n_samples]
    for speed in (0.25, 0.7, 1.3, 4.0):
        assert len(changed(samples, speed)) == round(n_samples / speed)


def test_speed_one_hands_through() -> None:
    changer = SpeedChanger(1.0)
    samples = tone(RATE_HZ, 0.1)[0].astype(np.float32)
    assert changer.process(samples) is samples
    assert len(changer.finish()) == 0


def test_sound_comes_early() -> None:
    for speed, latest in ((0.25, 0.1), (2.0, 0.1), (4.0, 0.22)):
        changer = SpeedChanger(speed)
        samples = tone(RATE_HZ, latest)[0].astype(np.float32)
        assert len(changer.process(samples)) > 0


@pytest.mark.parametrize("speed", [0.0, 0.249, 4.01, -1.0, float("nan"), float("inf")])
def test_speeds_out_of_range_are_refused(speed: float) -> None:
    with pytest.raises(UnsupportedError, match=r"allowed is 0\.25 to 4"):
        SpeedChanger(speed)


cuts_of_a_second = st.lists(st.integers(0, 5_000), min_size=1, max_size=12)


@settings(max_examples=20, deadline=None)
@given(speed=st.floats(0.25, 4.0), cuts=cuts_of_a_second)
def test_speed_does_not_depend_on_cuts(speed: float, cuts: list[int]) -> None:
    samples = tone(RATE_HZ, 0.5)[0].astype(np.float32)
    changer = SpeedChanger(speed)
    parts = [
        changer.process(part) for part in np.split(samples, np.minimum(np.cumsum(cuts), 12_000))
    ]
    found = np.concatenate([*parts, changer.finish()])
    np.testing.assert_array_equal(found, changed(samples, speed, cut=12_000))


@settings(max_examples=20, deadline=None)
@given(
    to_hz=st.sampled_from([8_000, 16_000, 22_050, 24_000, 44_100, 48_000]), cuts=cuts_of_a_second
)
def test_resampling_does_not_depend_on_cuts(to_hz: int, cuts: list[int]) -> None:
    samples = tone(RATE_HZ, 0.5)[0].astype(np.float32)
    whole = StreamResampler(RATE_HZ, to_hz)
    expected = np.concatenate([whole.process(samples), whole.finish()])
    resampler = StreamResampler(RATE_HZ, to_hz)
    pieces = np.split(samples, np.minimum(np.cumsum(cuts), 12_000))
    found = np.concatenate([*map(resampler.process, pieces), resampler.finish()])
    np.testing.assert_array_equal(found, expected)
    assert len(found) == round(12_000 * to_hz / RATE_HZ)


@pytest.mark.parametrize("to_hz", [12_345, 16_000, 44_100, 48_000])
def test_resampling_keeps_the_wave(to_hz: int) -> None:
    t = np.arange(RATE_HZ) / RATE_HZ
    resampler = StreamResampler(RATE_HZ, to_hz)
    wave = np.sin(2 * np.pi * 440 * t).astype(np.float32)
    found = np.concatenate([resampler.process(wave), resampler.finish()])
    expected = np.sin(2 * np.pi * 440 * np.arange(to_hz) / to_hz)
    middle = slice(to_hz // 10, -to_hz // 10)
    np.testing.assert_allclose(found[middle], expected[middle], atol=2e-3)
