# pyright: basic
"""Golden checks of the voice encoder's features and of vq02."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.stepaudio.config import MelConfig
from pipeline.stepaudio.parity.golden import Check, fill
from pipeline.stepaudio.tokenizer.features import (
    clip_prompt_mel,
    clip_speaker_fbank,
    clip_tokenizer_wav,
    whisper_mel,
)
from pipeline.stepaudio.tokenizer.linguistic import LinguisticEncoder, nearest_codes

MEL_TOLERANCE = 1e-3
WAVEFORM_TOLERANCE = 1e-4
HIDDEN_TOLERANCE = 1e-4
INT16_FULL_SCALE = 32_768.0
FRONTEND_CONF = {  # of the released config.yaml; a golden file may bring its own
    "fs": 16_000,
    "window": "hamming",
    "n_mels": 80,
    "frame_length": 25,
    "frame_shift": 10,
    "lfr_m": 7,
    "lfr_n": 6,
}


def check_frontend(npz: Path, device: str = "cpu") -> list[Check]:
    """All features of a `frontend_*.npz`.

    They are computed on the CPU in service, so `device` changes nothing.
    """
    del device
    with np.load(npz, allow_pickle=False) as golden:
        clip = _waveform(golden["wav"])
        rate_hz = int(golden["sample_rate"])
        tokenizer_wav = torch.from_numpy(golden["tokenizer_wav"])
        mel = clip_prompt_mel(clip, rate_hz, MelConfig())
        fbank = clip_speaker_fbank(clip, rate_hz)
        own_wav = clip_tokenizer_wav(clip, rate_hz)
        own_whisper = whisper_mel(tokenizer_wav, len(golden["whisper_mel"]))
        return [
            _difference("prompt_mel", mel[None], golden["prompt_mel"], MEL_TOLERANCE),
            _difference("speaker_fbank", fbank, golden["speaker_fbank"], MEL_TOLERANCE),
            _difference("tokenizer_wav", own_wav, golden["tokenizer_wav"], WAVEFORM_TOLERANCE),
            _difference("whisper_mel", own_whisper, golden["whisper_mel"], MEL_TOLERANCE),
        ]


def check_vq02(json_path: Path, device: str = "cpu") -> list[Check]:
    """Encoder output and codes of a `vq02_*.json` with its .npz and .am.mvn beside it."""
    conf: dict[str, Any] = json.loads(json_path.read_text(encoding="utf-8"))
    seed = conf.pop("seed")
    frontend_conf = conf.pop("frontend_conf", FRONTEND_CONF)
    encoder = LinguisticEncoder(conf, frontend_conf, json_path.with_suffix(".am.mvn"), device)
    fill(encoder.encoder, seed)
    with np.load(json_path.with_suffix(".npz"), allow_pickle=False) as golden:
        waveform = _waveform(golden["wav"])
        hidden = encoder.encode(waveform).cpu()
        codes = nearest_codes(hidden, torch.from_numpy(golden["codebook"]))
        expected_hidden, expected_codes = golden["enc_out"], golden["codes"]
    n_frames = len(expected_codes)
    if n_frames == len(codes) - 1 and encoder.has_short_tail(len(waveform)):
        # StepFun's copy of the front end drops a tail shorter than one stacked frame, the published
        # one fills it up; no token is lost either way, since such a tail never completes a group
        hidden, codes = hidden[:n_frames], codes[:n_frames]
    return [
        _difference("vq02 enc_out", hidden, expected_hidden, HIDDEN_TOLERANCE),
        Check("vq02 codes", _mismatches(codes, expected_codes), 0.0),
    ]


def _waveform(samples: NDArray[np.int16]) -> Tensor:
    return torch.from_numpy(samples.astype(np.float32) / INT16_FULL_SCALE)


def _difference(name: str, own: Tensor, golden: NDArray[np.float32], tolerance: float) -> Check:
    """Largest absolute difference; infinite when the shapes differ."""
    if tuple(own.shape) != golden.shape:
        return Check(name, float("inf"), tolerance)
    return Check(name, float((own - torch.from_numpy(golden)).abs().max()), tolerance)


def _mismatches(own: NDArray[np.integer], golden: NDArray[np.integer]) -> float:
    """Number of differing codes; infinite when the counts differ."""
    return float(np.count_nonzero(own != golden)) if own.shape == golden.shape else float("inf")
