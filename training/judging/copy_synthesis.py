# pyright: basic
"""HiFT judged alone: original mel → waveform, beside Griffin-Lim."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.stepaudio.config import VocoderConfig
from pipeline.stepaudio.layout import CheckpointLayout, resolve_model
from pipeline.stepaudio.tokenizer.features import slaney_filters
from pipeline.stepaudio.vocoder.hift.generator import Hift, source_noise
from pipeline.stepaudio.weights import load_strict, read_torch
from training.config import Recipe
from training.speech.clips import HOP_SAMPLES, RATE_HZ, TOKENIZER_RATE_HZ
from training.speech.corpus import load_corpus
from training.speech.mels import mel_of, to_float

if TYPE_CHECKING:
    from training.judging.listening import Listener

COPIES = 24  # clips of each split
GRIFFIN_LIM_ROUNDS = 40
N_FFT = 1920


def load_generator(model: str) -> Hift:
    """HiFT of a checkpoint."""
    layout = CheckpointLayout.at(resolve_model(model))
    config = VocoderConfig.load(layout.vocoder)
    hift = Hift(config.hift, config.f0_predictor)
    load_strict(hift, read_torch(layout.hift_weights), str(layout.hift_weights))
    return hift.eval()


@torch.inference_mode()
def copy(hift: Hift, samples: torch.Tensor) -> NDArray[np.float32]:
    """24 kHz samples → the same through mel and HiFT."""
    mel = mel_of(samples).T[None]
    source = hift.m_source
    noise = source_noise(0, 0, mel.shape[2], source.samples_per_frame, source.n_sines)
    return hift(mel, noise)[0].numpy()


def griffin_lim(samples: torch.Tensor) -> NDArray[np.float32]:
    """24 kHz samples → the same through mel and Griffin-Lim."""
    import librosa

    mel = mel_of(samples).exp().numpy().T
    inverse = np.linalg.pinv(slaney_filters(RATE_HZ, N_FFT, 80, 0.0, 8000.0))
    magnitude = np.maximum(inverse @ mel, 1e-8)
    return librosa.griffinlim(
        magnitude, n_iter=GRIFFIN_LIM_ROUNDS, hop_length=HOP_SAMPLES, n_fft=N_FFT, random_state=0
    )


def judge_copies(recipe: Recipe, model: str, listener: Listener) -> dict[str, dict[str, float]]:
    """Figures of HiFT and of Griffin-Lim on seen and held-out voices."""
    hift = load_generator(model)
    results = {}
    for split in ("val", "held"):
        corpus = load_corpus(recipe, split)
        chosen = np.random.default_rng(1).permutation(len(corpus))[:COPIES]
        rows: dict[str, list[dict[str, float]]] = {"hift": [], "griffin_lim": []}
        for index in chosen:
            original = to_float(corpus[int(index)].audio24)
            rows["hift"].append(_compared(original.numpy(), copy(hift, original), listener))
            rows["griffin_lim"].append(_compared(original.numpy(), griffin_lim(original), listener))
        for name, list_ in rows.items():
            means = {key: float(np.mean([row[key] for row in list_])) for key in list_[0]}
            results[f"{split}_{name}"] = means
    return results


def _compared(
    original: NDArray[np.float32], made: NDArray[np.float32], listener: Listener
) -> dict[str, float]:
    from pesq import pesq  # pyright: ignore[reportMissingImports] of the training extra
    from pystoi import stoi  # pyright: ignore[reportMissingImports] of the training extra

    from training.judging.listening import to_16k

    length = min(len(original), len(made))
    a, b = original[:length], made[:length].astype(np.float32)
    pitch_a, pitch_b = listener.pitch_hz(a), listener.pitch_hz(b)
    mel_a, mel_b = (mel_of(torch.from_numpy(x.copy())) for x in (a, b))
    a16, b16 = to_16k(a).numpy(), to_16k(b).numpy()
    return {
        "stoi": float(stoi(a16, b16, TOKENIZER_RATE_HZ)),
        "level_db": float(10 * np.log10(np.mean(b**2) / np.mean(a**2))),
        "mel_l1": float((mel_a - mel_b).abs().mean()),
        "pesq": float(pesq(TOKENIZER_RATE_HZ, a16, b16, "wb")),
        "mos_change": listener.mos(b) - listener.mos(a),
        "pitch_cents": float(1200 * abs(np.log2(pitch_b / pitch_a)))
        if pitch_a and pitch_b
        else 0.0,
    }
