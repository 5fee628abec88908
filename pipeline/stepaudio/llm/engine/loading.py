# pyright: basic
"""Loads the engine of a checkpoint directory."""

from __future__ import annotations

from typing import Protocol

import torch

from pipeline.stepaudio.layout import CheckpointLayout
from pipeline.stepaudio.llm.engine.engine import Engine
from pipeline.stepaudio.llm.prompt import PromptBuilder
from pipeline.stepaudio.llm.step1 import load_step1


class EngineSettings(Protocol):
    """What `load_engine` reads: the engine's own arguments and where the model runs."""

    @property
    def device(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def threads(self) -> int: ...
    @property
    def slots(self) -> int: ...
    @property
    def max_context_tokens(self) -> int: ...
    @property
    def queue_size(self) -> int: ...
    @property
    def queue_timeout_s(self) -> float: ...
    @property
    def prefill_chunk_tokens(self) -> int: ...
    @property
    def chunk_tokens(self) -> int: ...
    @property
    def prefix_cache_bytes(self) -> int: ...
    @property
    def quantization(self) -> str: ...


def load_engine(layout: CheckpointLayout, settings: EngineSettings) -> Engine:
    """The engine of a checkpoint. Sets torch's threads for the process. Raises CheckpointError."""
    torch.set_num_threads(settings.threads)
    vocabulary = PromptBuilder(layout.text_tokenizer).vocabulary
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[settings.dtype]
    return Engine(
        load_step1(layout.editx, settings.device, dtype),
        vocabulary,
        slots=settings.slots,
        max_context_tokens=settings.max_context_tokens,
        queue_size=settings.queue_size,
        queue_timeout_s=settings.queue_timeout_s,
        prefill_chunk_tokens=settings.prefill_chunk_tokens,
        chunk_tokens=settings.chunk_tokens,
        prefix_cache_bytes=settings.prefix_cache_bytes,
        quantization=settings.quantization,
        takes_weights=True,
    )
