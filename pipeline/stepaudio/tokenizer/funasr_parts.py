# pyright: basic
"""Imports two classes of the funasr package without the rest of it."""

from __future__ import annotations

import importlib
import sys
from functools import lru_cache
from importlib import util
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from pipeline.stepaudio.tokenizer.features import kaldi_fbank

_UNUSED = ("funasr.frontends.eend_ola_feature",)  # for diarization; needs librosa

INT16_SCALE = 1 << 15  # Kaldi features are of int16-sized samples
MS_PER_S = 1000


@lru_cache(maxsize=1)
def funasr_classes() -> tuple[Any, Any]:
    """(SANMEncoderChunkOpt, WavFrontendOnline with our fbank) of the published funasr package.

    `import funasr` imports all its models, which takes seconds and prints; the two modules take a
    tenth of a second. They are imported below a package whose `__init__` did not run; then the
    module table is restored, so that a later `import funasr` works. Modules that they import but
    never call are replaced by empty ones meanwhile.
    """
    spec = util.find_spec("funasr")
    if spec is None:
        raise ImportError("the funasr package is not installed")
    saved = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_funasr(name)}
    sys.modules["funasr"] = util.module_from_spec(spec)
    sys.modules |= {name: ModuleType(name) for name in _UNUSED}
    try:
        encoder = importlib.import_module("funasr.models.scama.encoder")
        frontend = importlib.import_module("funasr.frontends.wav_frontend")
    finally:
        for name in [name for name in sys.modules if _is_funasr(name)]:
            del sys.modules[name]
        sys.modules.update(saved)
    return encoder.SANMEncoderChunkOpt, _with_own_fbank(frontend.WavFrontendOnline)


def _is_funasr(module_name: str) -> bool:
    return module_name.partition(".")[0] == "funasr"


def _with_own_fbank(frontend_class: Any) -> Any:
    """The front end with its call of torchaudio (or a substitute) replaced by `kaldi_fbank`."""

    class OwnFbankFrontend(frontend_class):
        def forward_fbank(
            self, input: Tensor, input_lengths: Tensor, cache: dict[str, Any], **_: Any
        ) -> tuple[Tensor, Tensor, Tensor]:
            """As the base class: the samples left over come in front of `input` [1, n_samples]."""
            samples = torch.cat((cache["input_cache"], input), dim=1)
            frame, hop = self.frame_sample_length, self.frame_shift_sample_length
            n_frames = self.compute_frame_num(samples.shape[1], frame, hop)
            cache["input_cache"] = samples[:, n_frames * hop :]
            if not n_frames:
                return torch.empty(0), torch.empty(0), torch.empty(0)
            fbank = kaldi_fbank(
                samples[0] * INT16_SCALE,
                self.fs,
                self.n_mels,
                self.window,
                self.frame_length / MS_PER_S,
                self.frame_shift / MS_PER_S,
            )
            used = samples[:, : (n_frames - 1) * hop + frame]
            return used, fbank[None], torch.tensor([len(fbank)])

    return OwnFbankFrontend
