"""Spectral features against librosa's filters and plain float64 definitions."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch

from pipeline.stepaudio.config import MelConfig
from pipeline.stepaudio.tokenizer.features import (
    clip_prompt_mel,
    clip_tokenizer_wav,
    kaldi_fbank,
    prompt_mel,
    slaney_filters,
    speaker_fbank,
    whisper_mel,
)

pytestmark = pytest.mark.unit


def noise(n_samples: int, seed: int = 0) -> torch.Tensor:
    random = np.random.RandomState(seed)
    return torch.from_numpy(random.standard_normal(n_samples).astype(np.float32) * 0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rate_hz", "n_fft", "n_mels", "lowest_hz", "highest_hz"),
    [
        (24_000, 1920, 80, 0.0, 8000.0),
        (16_000, 400, 128, 0.0, 8000.0),
        (22_050, 1024, 20, 60.0, 900.0),
    ],
)
def test_slaney_filters_equal_librosas(
    rate_hz: int, n_fft: int, n_mels: int, lowest_hz: float, highest_hz: float
) -> None:
    expected = librosa.filters.mel(
        sr=rate_hz, n_fft=n_fft, n_mels=n_mels, fmin=lowest_hz, fmax=highest_hz
    )
    assert np.array_equal(slaney_filters(rate_hz, n_fft, n_mels, lowest_hz, highest_hz), expected)


def plain_fbank(samples: np.ndarray, rate_hz: int, n_mels: int, window: str) -> np.ndarray:
    """Kaldi's definition frame by frame, float64."""
    frame, hop = rate_hz // 40, rate_hz // 100
    n_fft = 512 if frame > 256 else 256
    phase = 2 * np.pi * np.arange(frame) / (frame - 1)
    taper = {
        "povey": (0.5 - 0.5 * np.cos(phase)) ** 0.85,
        "hamming": 0.54 - 0.46 * np.cos(phase),
    }[window]

    def mel(hz: np.ndarray | float) -> np.ndarray:
        return 1127 * np.log(1 + np.asarray(hz) / 700)

    edges = np.linspace(mel(20), mel(rate_hz / 2), n_mels + 2)
    bins = mel(np.arange(n_fft // 2) * rate_hz / n_fft)
    rows = []
    for start in range(0, len(samples) - frame + 1, hop):
        part = samples[start : start + frame]
        part = part - part.mean()
        part = (part - 0.97 * np.concatenate([part[:1], part[:-1]])) * taper
        power = np.abs(np.fft.rfft(part, n_fft))[:-1] ** 2
        rows.append(
            [
                np.interp(bins, edges[k : k + 3], [0, 1, 0], left=0, right=0) @ power
                for k in range(n_mels)
            ]
        )
    return np.log(np.maximum(rows, np.finfo(np.float32).eps))


@pytest.mark.parametrize(
    ("rate_hz", "n_mels", "window"),
    [(16_000, 80, "povey"), (16_000, 80, "hamming"), (8_000, 24, "povey")],
)
def test_fbank_is_kaldis(rate_hz: int, n_mels: int, window: str) -> None:
    samples = noise(4_321) * 32_768
    fbank = kaldi_fbank(samples, rate_hz, n_mels, window)
    expected = plain_fbank(samples.double().numpy(), rate_hz, n_mels, window)
    assert fbank.shape == expected.shape
    np.testing.assert_allclose(fbank.numpy(), expected, rtol=0, atol=2e-3)


def test_fbank_takes_whole_frames_only() -> None:
    assert kaldi_fbank(noise(399)).shape == (0, 80)
    assert kaldi_fbank(noise(400)).shape == (1, 80)
    assert kaldi_fbank(noise(559)).shape == (1, 80)


def test_fbank_refuses_an_unknown_window() -> None:
    with pytest.raises(ValueError, match="triangle"):
        kaldi_fbank(noise(400), window_type="triangle")


def test_speaker_features_have_no_mean() -> None:
    assert speaker_fbank(noise(8_000)).mean(dim=0).abs().max() < 1e-5


def test_prompt_mel_has_fifty_frames_a_second() -> None:
    mel = clip_prompt_mel(noise(44_100), 44_100, MelConfig())
    assert mel.shape == (50, 80)
    assert mel.is_contiguous()


def test_prompt_mel_is_floored_in_silence_and_follows_its_config() -> None:
    config = MelConfig(
        sampling_rate=16_000, n_fft=512, hop_size=128, win_size=512, num_mels=40, fmax=None
    )
    mel = prompt_mel(torch.zeros(1_280), config)
    assert mel.shape == (10, 40)
    assert mel.max().item() == pytest.approx(np.log(1e-5), abs=0.2)  # the 1e-9 in the root


def test_whisper_mel_spans_two_units_at_most() -> None:
    mel = whisper_mel(noise(16_000))
    assert mel.shape == (128, 100)
    loud_then_silent = torch.cat([noise(8_000), torch.zeros(8_000)])
    mel = whisper_mel(loud_then_silent)
    assert (mel.max() - mel.min()).item() == pytest.approx(2.0)


def test_tokenizer_wav_has_one_loudness() -> None:
    quiet, loud = (clip_tokenizer_wav(noise(24_000) * gain, 24_000) for gain in (0.1, 1.0))
    assert torch.allclose(quiet, loud, atol=1e-5)
    assert quiet.abs().max().item() == pytest.approx(0.999)
