# pyright: basic
"""Spectral features of a reference clip: prompt mel, Whisper log-mel, Kaldi fbank.

Waveforms are float32 tensors of shape (n_samples,) on the CPU.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pipeline.stepaudio.config import FBANK_MELS, TOKENIZER_RATE_HZ, WHISPER_MELS, MelConfig
from pipeline.stepaudio.tokenizer.waveform import limit_peak, normalise_peak, resample, trim_silence

WHISPER_FFT_SAMPLES = 400
WHISPER_HOP_SAMPLES = 160
WHISPER_RANGE = 8.0  # decades (log10) kept below the loudest bin

FBANK_LOWEST_HZ = 20.0
FBANK_PREEMPHASIS = 0.97
FBANK_FRAME_S = 0.025
FBANK_HOP_S = 0.010
POVEY_POWER = 0.85
HAMMING = (0.54, 0.46)

SLANEY_LINEAR_HZ = 200.0 / 3.0  # hertz per mel below the break
SLANEY_BREAK_HZ = 1000.0
SLANEY_LOG_STEP = np.log(6.4) / 27.0  # above it


def prompt_mel(waveform: Tensor, config: MelConfig) -> Tensor:
    """Natural-log magnitude mel of a waveform at the configured rate. (n,) → (n_frames, num_mels).

    The waveform must be longer than (n_fft - hop) / 2 samples, the width of the reflected edges.
    """
    edge = (config.n_fft - config.hop_size) // 2
    padded = F.pad(waveform[None], (edge, edge), mode="reflect")[0]
    window = torch.hann_window(config.win_size)
    spectrum = torch.view_as_real(
        torch.stft(
            padded,
            config.n_fft,
            config.hop_size,
            config.win_size,
            window,
            center=config.center,
            return_complex=True,
        )
    )
    magnitude = torch.sqrt(spectrum.pow(2).sum(-1) + 1e-9)  # [bins, frames]
    highest_hz = config.sampling_rate / 2 if config.fmax is None else config.fmax
    filters = slaney_filters(
        config.sampling_rate, config.n_fft, config.num_mels, config.fmin, highest_hz
    )
    return (torch.from_numpy(filters) @ magnitude).clamp(min=1e-5).log().T.contiguous()


def whisper_mel(waveform: Tensor, n_mels: int = WHISPER_MELS) -> Tensor:
    """Whisper's log-mel of a 16 kHz waveform, scaled to about ±1. (n,) → (n_mels, n // 160)."""
    window = torch.hann_window(WHISPER_FFT_SAMPLES)
    spectrum = torch.stft(
        waveform, WHISPER_FFT_SAMPLES, WHISPER_HOP_SAMPLES, window=window, return_complex=True
    )
    power = spectrum[..., :-1].abs() ** 2
    nyquist_hz = TOKENIZER_RATE_HZ / 2
    filters = slaney_filters(TOKENIZER_RATE_HZ, WHISPER_FFT_SAMPLES, n_mels, 0.0, nyquist_hz)
    level = (torch.from_numpy(filters) @ power).clamp(min=1e-10).log10()
    return (torch.maximum(level, level.max() - WHISPER_RANGE) + 4.0) / 4.0


def kaldi_fbank(
    waveform: Tensor,
    sample_rate_hz: int = TOKENIZER_RATE_HZ,
    n_mels: int = FBANK_MELS,
    window_type: str = "povey",
    frame_s: float = FBANK_FRAME_S,
    hop_s: float = FBANK_HOP_S,
) -> Tensor:
    """Kaldi's log mel filter bank without dither, whole frames only. (n,) → (n_frames, n_mels).

    Raises ValueError for a window other than povey and hamming.
    """
    frame, hop = int(sample_rate_hz * frame_s), int(sample_rate_hz * hop_s)
    if len(waveform) < frame:
        return torch.empty(0, n_mels)
    n_fft = 1 << (frame - 1).bit_length()
    frames = waveform.unfold(0, frame, hop)
    frames = frames - frames.mean(dim=1, keepdim=True)
    previous = F.pad(frames[None], (1, 0), mode="replicate")[0, :, :-1]
    frames = (frames - FBANK_PREEMPHASIS * previous) * _kaldi_window(window_type, frame)
    power = torch.fft.rfft(F.pad(frames, (0, n_fft - frame))).abs().pow(2.0)
    energies = power @ _kaldi_filters(sample_rate_hz, n_fft, n_mels).T
    return energies.clamp(min=torch.finfo(torch.float32).eps).log()


def speaker_fbank(waveform: Tensor) -> Tensor:
    """Input of the speaker encoder from a 16 kHz waveform: fbank minus its mean over time.

    (n,) → (n_frames, 80).
    """
    fbank = kaldi_fbank(waveform)
    return fbank - fbank.mean(dim=0, keepdim=True)


def clip_prompt_mel(clip: Tensor, sample_rate_hz: int, config: MelConfig) -> Tensor:
    """Prompt mel of a mono clip at any rate, peak rule and resampling included.

    (n,) → (n_frames, num_mels).
    """
    return prompt_mel(resample(limit_peak(clip), sample_rate_hz, config.sampling_rate), config)


def clip_speaker_fbank(clip: Tensor, sample_rate_hz: int) -> Tensor:
    """Speaker features of a mono clip at any rate. (n,) → (n_frames, 80)."""
    return speaker_fbank(resample(limit_peak(clip), sample_rate_hz, TOKENIZER_RATE_HZ))


def clip_tokenizer_wav(clip: Tensor, sample_rate_hz: int) -> Tensor:
    """The 16 kHz waveform that both tokenizers read: normalised and trimmed. (n,) → (m,)."""
    limited = limit_peak(clip)
    resampled = resample(limited, sample_rate_hz, TOKENIZER_RATE_HZ, kernel_dtype=torch.float64)
    return trim_silence(normalise_peak(resampled), TOKENIZER_RATE_HZ)


@lru_cache(maxsize=8)
def slaney_filters(
    sample_rate_hz: int, n_fft: int, n_mels: int, lowest_hz: float, highest_hz: float
) -> NDArray[np.float32]:
    """Triangular mel filters of unit area, equal to librosa's default.

    → float32 (n_mels, n_fft // 2 + 1).
    """
    bins_hz = np.fft.rfftfreq(n_fft, 1.0 / sample_rate_hz)
    edges_mel = np.linspace(_slaney_mel(lowest_hz), _slaney_mel(highest_hz), n_mels + 2)
    edges_hz = _slaney_hz(edges_mel)
    widths_hz = np.diff(edges_hz)
    ramps = edges_hz[:, None] - bins_hz[None, :]
    rising = -ramps[:-2] / widths_hz[:-1, None]
    falling = ramps[2:] / widths_hz[1:, None]
    filters = np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
    filters *= (2.0 / (edges_hz[2:] - edges_hz[:-2]))[:, None]
    return filters


def _slaney_mel(hz: float) -> float:
    if hz < SLANEY_BREAK_HZ:
        return hz / SLANEY_LINEAR_HZ
    return SLANEY_BREAK_HZ / SLANEY_LINEAR_HZ + np.log(hz / SLANEY_BREAK_HZ) / SLANEY_LOG_STEP


def _slaney_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    break_mel = SLANEY_BREAK_HZ / SLANEY_LINEAR_HZ
    log_part = SLANEY_BREAK_HZ * np.exp(SLANEY_LOG_STEP * (mel - break_mel))
    return np.where(mel >= break_mel, log_part, mel * SLANEY_LINEAR_HZ)


def _kaldi_window(window_type: str, frame: int) -> Tensor:
    if window_type == "povey":
        return torch.hann_window(frame, periodic=False).pow(POVEY_POWER)
    if window_type == "hamming":
        return torch.hamming_window(frame, False, *HAMMING)
    raise ValueError(f"window {window_type!r} is not one of povey, hamming")


@lru_cache(maxsize=8)
def _kaldi_filters(sample_rate_hz: int, n_fft: int, n_mels: int) -> Tensor:
    """Kaldi's triangles on its mel scale, 20 Hz to Nyquist.

    → float32 (n_mels, n_fft // 2 + 1), last column 0.
    """
    low, high = (1127.0 * np.log(1.0 + hz / 700.0) for hz in (FBANK_LOWEST_HZ, sample_rate_hz / 2))
    step = (high - low) / (n_mels + 1)
    left = low + torch.arange(n_mels)[:, None] * step
    centre, right = (low + (torch.arange(n_mels)[:, None] + k) * step for k in (1.0, 2.0))
    bins_hz = sample_rate_hz / n_fft * torch.arange(n_fft / 2)
    mel = 1127.0 * (1.0 + bins_hz / 700.0).log()[None]
    triangles = torch.minimum((mel - left) / (centre - left), (right - mel) / (right - centre))
    return F.pad(triangles.clamp(min=0.0), (0, 1))
