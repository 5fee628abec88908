"""Resampling, loudness and trimming against plain definitions."""

from __future__ import annotations

import math

import librosa
import numpy as np
import pytest
import torch

from pipeline.stepaudio.tokenizer import waveform as wave

pytestmark = pytest.mark.unit


def noise(n_samples: int, seed: int = 0) -> torch.Tensor:
    random = np.random.RandomState(seed)
    return torch.from_numpy(random.standard_normal(n_samples).astype(np.float32) * 0.1)


def sinc_sum(samples: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    """The windowed-sinc definition, one output sample at a time, float64."""
    divisor = math.gcd(from_hz, to_hz)
    source, target = from_hz // divisor, to_hz // divisor
    cutoff = min(source, target) * 0.99
    places = np.arange(len(samples))
    out = np.empty(math.ceil(len(samples) * target / source))
    for j in range(len(out)):
        t = (places / source - j / target) * cutoff
        weight = np.sinc(t) * np.cos(np.clip(t, -6, 6) * np.pi / 12) ** 2
        out[j] = (samples * np.where(np.abs(t) < 6, weight, 0.0)).sum() * cutoff / source
    return out


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("from_hz", "to_hz"),
    [
        (44_100, 16_000),
        (44_100, 24_000),
        (48_000, 16_000),
        (192_000, 24_000),
        (8_000, 16_000),
        (8_000, 24_000),
        (22_050, 24_000),
        (11_025, 16_000),  # 640 phases: one block
        (7_919, 16_000),  # 16000 phases: many blocks
        (16_001, 1_999),  # both prime to each other, downwards
    ],
)
def test_resampling_is_the_windowed_sinc_sum(from_hz: int, to_hz: int, dtype: torch.dtype) -> None:
    samples = noise(1_203)
    expected = sinc_sum(samples.double().numpy(), from_hz, to_hz)
    resampled = wave.resample(samples, from_hz, to_hz, dtype)
    assert resampled.dtype == torch.float32
    assert resampled.shape == expected.shape
    # torchaudio computes a tap's phase in float32, which costs digits when there are many phases
    np.testing.assert_allclose(resampled.numpy(), expected, rtol=0, atol=5e-5)


def test_block_size_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = noise(5_000)
    whole = wave.resample(samples, 44_100, 16_000)
    monkeypatch.setattr(wave, "PHASES_PER_BLOCK", 7)
    assert torch.allclose(wave.resample(samples, 44_100, 16_000), whole, rtol=0, atol=1e-7)


@pytest.mark.slow
def test_coprime_rates_stay_small_and_fast() -> None:
    """One dense kernel for 191999 → 16000 Hz would take 12 GB."""
    assert len(wave.resample(noise(191_999), 191_999, 16_000)) == 16_000


def test_same_rate_is_untouched() -> None:
    samples = noise(100)
    assert torch.equal(wave.resample(samples, 16_000, 16_000), samples)


def test_a_tone_keeps_its_frequency_and_level() -> None:
    time_s = torch.arange(8_000) / 8_000
    tone = 0.5 * torch.sin(2 * math.pi * 440 * time_s)
    up = wave.resample(tone, 8_000, 24_000)
    expected = 0.5 * torch.sin(2 * math.pi * 440 * torch.arange(24_000) / 24_000)
    assert (up - expected)[300:-300].abs().max() < 1e-3


@pytest.mark.parametrize(("peak", "expected"), [(0.9, 0.6), (0.61, 0.6), (0.6, 0.6), (0.2, 0.2)])
def test_peak_is_limited(peak: float, expected: float) -> None:
    samples = noise(1_000)
    samples = samples / samples.abs().max() * peak
    assert wave.limit_peak(samples).abs().max().item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("peak", "expected"), [(0.6, 0.999), (0.02, 0.999), (0.005, 0.4995), (0, 0)]
)
def test_peak_is_normalised(peak: float, expected: float) -> None:
    samples = torch.tensor([0.0, -peak, peak / 2])
    assert wave.normalise_peak(samples).abs().max().item() == pytest.approx(expected)


def spoken(lead: int, loud: int, tail: int) -> torch.Tensor:
    """Quiet noise, loud noise, quiet noise: numbers of samples."""
    level = torch.cat([torch.full((lead,), 0.001), torch.ones(loud), torch.full((tail,), 0.001)])
    return noise(lead + loud + tail) * level


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lead", "loud", "tail"),
    [(8_000, 16_000, 8_000), (0, 16_000, 0), (100, 5_000, 9_000), (9_000, 3_001, 50), (0, 700, 0)],
)
def test_trim_equals_the_reference_on_librosa(lead: int, loud: int, tail: int) -> None:
    samples = spoken(lead, loud, tail)
    _, (start, stop) = librosa.effects.trim(
        samples.numpy(), top_db=20, frame_length=512, hop_length=128
    )
    n_units = math.ceil((stop - start) / 240)
    first, length = start - 800, n_units * 240 + 800 + 3_520
    padded = np.pad(samples.numpy(), (max(-first, 0), length))
    expected = padded[max(first, 0) :][:length]
    assert np.array_equal(wave.trim_silence(samples, 16_000).numpy(), expected)


def test_digital_silence_is_all_kept() -> None:
    """No frame is quieter than the loudest, so nothing is silence."""
    trimmed = wave.trim_silence(torch.zeros(2_400), 16_000)
    assert len(trimmed) == 2_400 + 800 + 3_520
