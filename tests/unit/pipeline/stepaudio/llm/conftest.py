"""Engines on a small random Step1."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from pipeline.stepaudio.llm.engine.engine import Engine
from pipeline.stepaudio.llm.runner import Step1Runner
from pipeline.stepaudio.llm.step1 import Step1Config, Step1ForCausalLM
from pipeline.stepaudio.parity.golden import fill
from tests.unit.pipeline.stepaudio.llm.engines import VOCAB_SIZE, VOCABULARY, MakeEngine
from tests.waiting import GIVE_UP_S


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """A model this small only waits for a second thread, and a busy machine makes that long."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture(scope="module")
def model(one_thread: None) -> Step1ForCausalLM:
    config = Step1Config(
        hidden_size=48,
        intermediate_size=64,
        num_attention_heads=6,
        num_attention_groups=2,
        num_hidden_layers=2,
        vocab_size=VOCAB_SIZE,
        max_seq_len=1024,
    )
    model = Step1ForCausalLM(config).eval().requires_grad_(False)
    fill(model, 11)
    return model


@pytest.fixture
def make_engine(model: Step1ForCausalLM) -> Iterator[MakeEngine]:
    engines: list[Engine] = []

    def make(**options: float) -> Engine:
        settings = {
            "slots": 4,
            "max_context_tokens": 600,
            "queue_size": 64,
            "queue_timeout_s": 30.0,
            "prefill_chunk_tokens": 64,
            "chunk_tokens": 15,
        }
        engines.append(Engine(model, VOCABULARY, **{**settings, **options}))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


@pytest.fixture
def may_step(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Steps wait for it: a test that clears it keeps whoever has a slot there."""
    plain, allowed = Step1Runner.step, threading.Event()
    allowed.set()

    def step(*args: object, **kwargs: object) -> torch.Tensor:
        assert allowed.wait(GIVE_UP_S)
        return plain(*args, **kwargs)

    monkeypatch.setattr(Step1Runner, "step", step)
    yield allowed
    allowed.set()
