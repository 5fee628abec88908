"""Names of models by content: what may be reused of what they made depends on it."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from blake3 import blake3

from pipeline.stepaudio.layout import CheckpointLayout

PREFIX_VERSION = 1  # raise when keys and values of the same prompt have other bits
SPEECH_VERSION = 1  # raise when the same request and seed sound otherwise


def lm_fingerprint(layout: CheckpointLayout, how: Mapping[str, object]) -> str:
    """Hex BLAKE3 of an LLM's weights and configs. how: what of its settings changes its tokens."""
    return _model_fingerprint([layout.lm_config, *layout.lm_shards], how)


def vocoder_fingerprint(layout: CheckpointLayout, how: Mapping[str, object]) -> str:
    """The same of the vocoder, and of what prompts are written with, which is the same process's.

    how: what of its settings changes samples.
    """
    prompts = [layout.lm_config, layout.text_tokenizer, layout.generation_config]
    sound = [layout.vocoder_config, layout.flow_weights, layout.hift_weights]
    return _model_fingerprint([*prompts, *sound], how)


def prefix_fingerprint(layout: CheckpointLayout, how: Mapping[str, object]) -> str:
    """The same of an LLM's keys and values, whose very bits must be those of another machine.

    how: what of its settings changes them: threads and chunks of prefill, too.
    """
    import torch

    vectors = torch.backends.cpu.get_cpu_capability()
    return lm_fingerprint(layout, {**how, "prefix": PREFIX_VERSION, "vectors": vectors})


def content_fingerprint(versions: object, files: Iterable[Path]) -> str:
    """Hex BLAKE3 over `versions` as they print, and name and content of the files, in order."""
    whole = blake3(repr(versions).encode())
    for path in files:
        status = path.stat()
        content = _content_digest(path, status.st_size, status.st_mtime_ns)
        whole.update(path.name.encode() + b"\0" + content)
    return whole.hexdigest()


@lru_cache(maxsize=64)
def _content_digest(path: Path, size_bytes: int, changed_ns: int) -> bytes:
    """Kept while the file stays as it is: several names cover the same weights."""
    del size_bytes, changed_ns
    return blake3(max_threads=blake3.AUTO).update_mmap(path).digest()


def _model_fingerprint(files: Iterable[Path], how: Mapping[str, object]) -> str:
    versions = (SPEECH_VERSION, importlib.metadata.version("torch"), sorted(how.items()))
    return content_fingerprint(versions, (path for path in files if path.is_file()))
