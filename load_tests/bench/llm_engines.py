"""A model under measurement: engines on it, and prompts for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from load_tests.bench.llm_baselines import Prompts
from pipeline.stepaudio.llm.engine.engine import AudioVocabulary, Engine
from pipeline.stepaudio.llm.step1 import Step1Config, Step1ForCausalLM
from pipeline.stepaudio.tokens import AUDIO_TOKENS, GROUP_TOKENS


def random_step1(config: Step1Config, device: str, dtype: torch.dtype) -> Step1ForCausalLM:
    """A model of these sizes with seeded random weights."""
    torch.manual_seed(0)
    with torch.device(device):
        torch.set_default_dtype(dtype)
        model = Step1ForCausalLM(config)
        torch.set_default_dtype(torch.float32)
        for name, parameter in model.named_parameters():
            if not name.endswith("norm.weight"):
                torch.nn.init.normal_(parameter, std=0.02)
    return model.eval().requires_grad_(False)


@dataclass(frozen=True)
class Bench:
    """A model and what to do with it."""

    model: Step1ForCausalLM
    vocabulary: AudioVocabulary
    batches: list[int]
    n_tokens: int
    repeats: int
    prefill_chunk_tokens: int
    n_arrivals: int
    is_tiny: bool
    context_tokens: int = 2048
    left_out: list[str] = field(default_factory=list)

    @property
    def is_cuda(self) -> bool:
        return self.model.device.type == "cuda"

    @contextmanager
    def engine(self, slots: int, **options: Any) -> Iterator[Engine]:
        """An engine that never stops by itself, so that contenders draw equally many tokens."""
        settings = {
            "max_context_tokens": self.context_tokens,
            "queue_size": 2000,
            "queue_timeout_s": 600.0,
            "prefill_chunk_tokens": self.prefill_chunk_tokens,
            "chunk_tokens": GROUP_TOKENS,
        }
        engine = Engine(self.model, self.vocabulary, slots=slots, **{**settings, **options})
        engine._sampler._masks[:, self.vocabulary.stop] = -torch.inf
        try:
            yield engine
        finally:
            engine.close()

    def prompts(self, n: int, length: int) -> Prompts:
        """Prompts of which none has a prefix in common with another."""
        rng = np.random.default_rng(n)
        base = self.vocabulary.audio_base
        return rng.integers(base, base + AUDIO_TOKENS, (n, length)).tolist()
