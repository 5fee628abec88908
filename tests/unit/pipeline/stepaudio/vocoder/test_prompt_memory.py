"""Kept values: found again, bounded in bytes, and told apart by all that matters."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from pipeline.forgotten import HOLD_S, Forgotten
from pipeline.stepaudio.vocoder.prompt_memory import (
    OwnedMemory,
    PromptMemory,
    tensor_bytes,
    voice_key,
)
from tests.vocoder_files import make_voice

pytestmark = pytest.mark.unit


def test_a_kept_value_is_the_same_object() -> None:
    memory = PromptMemory(1_000)
    first = memory.get_or_make("a", lambda: torch.zeros(10))
    assert memory.get_or_make("a", lambda: torch.ones(10)) is first
    assert (memory.hits, memory.used_bytes) == (1, 40)


def test_bytes_are_bounded_and_the_oldest_use_goes_first() -> None:
    memory = PromptMemory(100)
    for key in ("a", "b", "a", "c"):  # 40 bytes each: b was used longest ago
        memory.get_or_make(key, lambda: torch.zeros(10))
        assert memory.used_bytes <= 100
    hits = memory.hits
    memory.get_or_make("a", lambda: torch.zeros(10))
    assert memory.hits == hits + 1
    memory.get_or_make("b", lambda: torch.zeros(10))
    assert memory.hits == hits + 1


def test_what_is_too_large_is_not_kept_and_drops_nothing() -> None:
    memory = PromptMemory(50)
    memory.get_or_make("a", lambda: torch.zeros(10))
    memory.get_or_make("huge", lambda: torch.zeros(100))
    assert memory.used_bytes == 40


def test_nested_tensors_are_counted() -> None:
    @dataclass(frozen=True)
    class Pair:
        left: torch.Tensor
        right: tuple[torch.Tensor, ...]
        n: int

    assert tensor_bytes(Pair(torch.zeros(2), (torch.zeros(3), torch.zeros(1)), 7)) == 24


def test_every_part_of_a_voice_counts() -> None:
    voice = make_voice()
    changed = [
        replace(voice, vq02=voice.vq02 + 1),
        replace(voice, vq06=voice.vq06[:-1]),
        replace(voice, prompt_mel=np.nextafter(voice.prompt_mel, np.float32(9))),
        replace(voice, speaker_embedding=-voice.speaker_embedding),
    ]
    assert len({voice_key(one) for one in [voice, *changed]}) == 5
    assert voice_key(voice) == voice_key(make_voice())


def test_what_is_forgotten_goes_and_what_was_being_made_does_not_come_back() -> None:
    memory = PromptMemory(1_000)
    mine, theirs = OwnedMemory(memory, "mine"), OwnedMemory(memory, "theirs")
    mine.get_or_make("a", lambda: torch.zeros(10))
    theirs.get_or_make("b", lambda: torch.zeros(10))

    def made_while_forgetting() -> torch.Tensor:
        memory.forget("mine")
        return torch.zeros(10)

    assert len(mine.get_or_make("c", made_while_forgetting)) == 10
    mine.get_or_make("a", lambda: torch.ones(10))
    assert (memory.used_bytes, memory.hits) == (40, 0)
    theirs.get_or_make("b", lambda: torch.ones(10))
    assert memory.hits == 1


def test_tenants_share_no_state_of_a_voice_that_both_have() -> None:
    memory = PromptMemory(1_000)
    clip = "ab" * 32
    usual, acme, other = (OwnedMemory(memory, f"{one}{clip}") for one in ("", "acme:", "other:"))
    acme.get_or_make("state", lambda: torch.zeros(10))
    assert "state" in acme
    assert "state" not in other
    assert "state" not in usual
    assert bool(other.get_or_make("state", lambda: torch.ones(10)).all())
    memory.forget(f"acme:{clip}")
    assert "state" not in acme
    assert "state" in other


def test_names_are_let_go_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr("pipeline.forgotten.time.monotonic", lambda: now_s)
    forgotten = Forgotten()
    forgotten.add("a")
    assert "a" in forgotten
    assert "b" not in forgotten
    now_s += HOLD_S
    assert "a" not in forgotten
    forgotten.add("b")
    assert list(forgotten._until_s) == ["b"]
