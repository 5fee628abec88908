# pyright: basic
"""What evaluation hears: trials, clips as waveforms, and phones, identity and pitch in them."""

from __future__ import annotations

import io
import wave
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.stepaudio.tokenizer.waveform import resample
from training.judging.phoneme_judge import Judge
from training.speech.clips import RATE_HZ, TOKENIZER_RATE_HZ, Clip
from training.speech.world import f0_of


@dataclass(frozen=True, slots=True)
class Trial:
    """One clone: reference clip and its words, what to say, the same sentence by the original.

    Another voice's clip.
    """

    reference: Clip
    original: Clip
    other: Clip


class Listener:
    """Judge, speaker similarity and pitch on waveforms."""

    def __init__(self, judge: Judge) -> None:
        from resemblyzer import VoiceEncoder  # pyright: ignore[reportMissingImports] of the training extra

        self._judge = judge
        self._voice = VoiceEncoder("cpu", verbose=False)

    def phones(self, samples24: NDArray[np.float32]) -> list[int]:
        return self._judge.hear(to_16k(samples24))

    def identity(self, samples24: NDArray[np.float32]) -> NDArray[np.float32]:
        """Resemblyzer's unit vector."""
        from resemblyzer import normalize_volume  # pyright: ignore[reportMissingImports] of the training extra

        samples = to_16k(samples24).numpy()
        return self._voice.embed_utterance(normalize_volume(samples, -30, increase_only=False))

    @staticmethod
    def pitch_hz(samples24: NDArray[np.float32]) -> float:
        """Median F0 of the voiced frames, 0 where none is."""
        f0 = f0_of(samples24)
        return float(np.median(f0[f0 > 0])) if (f0 > 0).any() else 0.0

    @staticmethod
    def mos(samples24: NDArray[np.float32]) -> float:
        """DNSMOS, overall, 1 to 5."""
        from speechmos import dnsmos  # pyright: ignore[reportMissingImports] of the training extra

        samples = to_16k(samples24).numpy().clip(-1, 1)
        return float(dnsmos.run(samples, TOKENIZER_RATE_HZ)["ovrl_mos"])


def to_16k(samples24: NDArray[np.float32]) -> torch.Tensor:
    """24 → 16 kHz."""
    return resample(torch.from_numpy(np.array(samples24, np.float32)), RATE_HZ, TOKENIZER_RATE_HZ)


def audio(clip: Clip) -> NDArray[np.float32]:
    """A corpus clip as float32 at 24 kHz."""
    return clip.audio24.astype(np.float32) / np.float32(32768)


def wav_bytes(samples: NDArray[np.float32], rate_hz: int = RATE_HZ) -> bytes:
    """16-bit mono WAV."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes((samples.clip(-1, 1) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def read_wav(data: bytes) -> NDArray[np.float32]:
    """16-bit mono WAV, whatever length its header claims → float32."""
    start = data.index(b"data") + 8
    body = data[start : start + (len(data) - start) // 2 * 2]
    return np.frombuffer(body, "<i2").astype(np.float32) / np.float32(32768)
