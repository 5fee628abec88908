# pyright: basic
"""Opens FunASR's AutoModel on a directory: offline, complete, and with our own features."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from torch import Tensor, nn

from pipeline.errors import CheckpointError
from pipeline.stepaudio.asr.directory import WEIGHTS, check_model_directory
from pipeline.stepaudio.tokenizer.features import kaldi_fbank

MS_PER_S = 1000
_NESTED = ("state_dict", "model_state_dict", "model")  # where trainers put the weights
_OF_PARALLEL = "module."
# Of the package, for directories that it cannot make a model of.
_UNLOADABLE = (
    AssertionError, AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError,
)  # fmt: skip
_REASON_CHARS = 300
_SHOWN = 3  # parameters that an error names


def open_funasr(directory: Path, device: str, threads: int) -> Any:
    """The AutoModel of a model directory. Loads the whole package, which takes seconds.

    Nothing is fetched and no code of the directory runs. Raises CheckpointError for a directory
    that holds no whole model: FunASR itself would fill the gaps with random weights.
    """
    check_model_directory(directory)
    with _own_root_logger():
        funasr = importlib.import_module("funasr.auto.auto_model")
        features: Any = importlib.import_module("funasr.utils.fbank")
        features.fbank = _fbank
        try:
            model = funasr.AutoModel(
                model=str(directory),
                device=device,
                ncpu=threads,
                disable_update=True,
                disable_pbar=True,
                log_level="ERROR",
                ignore_init_mismatch=False,
            )
        except _UNLOADABLE as error:
            reason = " ".join(str(error).split())[:_REASON_CHARS]
            raise CheckpointError(f"FunASR cannot load {directory}: {reason}") from error
    _check_weights(model.model, Path(model.kwargs.get("init_param") or directory / WEIGHTS))
    return model


def _fbank(
    waveform: Tensor,
    *,
    num_mel_bins: int,
    frame_length: float,
    frame_shift: float,
    window_type: str,
    sample_frequency: float,
    snip_edges: bool = True,
    **_: Any,
) -> Tensor:
    """In place of torchaudio's, which the package asks for: milliseconds; dither is left out.

    [1, n] → [n_frames, n_mels]. Raises ValueError for what ours cannot do.
    """
    if not snip_edges:
        raise ValueError("only whole frames are computed (snip_edges)")
    return kaldi_fbank(
        waveform[0],
        int(sample_frequency),
        num_mel_bins,
        window_type,
        float(frame_length) / MS_PER_S,
        float(frame_shift) / MS_PER_S,
    )


def _check_weights(model: nn.Module, path: Path) -> None:
    """Raises CheckpointError when the file lacks parameters, which are random then."""
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    for name in _NESTED:
        stored = stored.get(name, stored)
    names = {name.removeprefix(_OF_PARALLEL) for name in stored}
    wanted = [name for name, _ in model.named_parameters()]
    lacking = [name for name in wanted if name not in names]
    if lacking:
        raise CheckpointError(
            f"{path} is no whole recogniser: it lacks {len(lacking)} of {len(wanted)} parameters, "
            f"{', '.join(lacking[:_SHOWN])}, …"
        )


@contextmanager
def _own_root_logger() -> Iterator[None]:
    """The package sets up the root logger when it is imported; what was there comes back."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
