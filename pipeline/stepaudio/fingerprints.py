"""Names of the models that speak, by content: what may be reused of their answers depends on it."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping
from pathlib import Path

from blake3 import blake3

from pipeline.stepaudio.layout import CheckpointLayout

SPEECH_VERSION = 1  # raise when the same request and seed sound otherwise


def lm_fingerprint(layout: CheckpointLayout, how: Mapping[str, object]) -> str:
    """Hex BLAKE3 of an LLM's weights and configs. how: what of its settings changes its tokens."""
    return _fingerprint([layout.lm_config, *layout.lm_shards], how)


def vocoder_fingerprint(layout: CheckpointLayout, how: Mapping[str, object]) -> str:
    """The same of the vocoder, and of what prompts are written with, which is the same process's.

    how: what of its settings changes samples.
    """
    prompts = [layout.lm_config, layout.text_tokenizer, layout.generation_config]
    sound = [layout.vocoder_config, layout.flow_weights, layout.hift_weights]
    return _fingerprint([*prompts, *sound], how)


def _fingerprint(files: Iterable[Path], how: Mapping[str, object]) -> str:
    versions = (SPEECH_VERSION, importlib.metadata.version("torch"), sorted(how.items()))
    whole = blake3(repr(versions).encode())
    for path in files:
        if path.is_file():  # a checkpoint may do without some
            content = blake3(max_threads=blake3.AUTO).update_mmap(path)
            whole.update(path.name.encode() + b"\0" + content.digest())
    return whole.hexdigest()
