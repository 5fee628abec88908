"""The section of the settings that describes the recogniser."""

from __future__ import annotations

from deployments.config.section import Positive, Seconds
from deployments.config.stage_settings import StageResources


class AsrSettings(StageResources):
    """Tells what is said in clips that came without a transcript, by a deployment of its own."""

    enabled: bool = False
    """Deploy it, as ASR. Off, such clips are refused as ever."""
    model: str | None = None
    """Directory of a FunASR model. Left out: the one that the tokenizer of `model` is a part of,
    which hears Mandarin, Cantonese and English and writes no punctuation."""
    max_clips: Positive = 16
    """Clips in one replica, running and waiting; further ones get 503."""
    timeout_s: Seconds = 30.0
    """Longest wait for the words of a clip."""
