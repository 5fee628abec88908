"""Requests to an engine on a small random Step1, and how to read their answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import numpy as np

from pipeline.contracts import Sampling, TokenChunk
from pipeline.stepaudio.llm.engine.engine import Engine
from pipeline.stepaudio.llm.sampling import AudioVocabulary

BASE = 9
VOCABULARY = AudioVocabulary(audio_base=BASE, stop_id=3)
VOCAB_SIZE = BASE + 5120 + 40
POISON = BASE + 5120 + 7  # a text token that no answer holds

MakeEngine = Callable[..., Engine]


def prompt(n_tokens: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(BASE, VOCAB_SIZE - 40, n_tokens).astype(np.int32)


async def collect(chunks: AsyncIterator[TokenChunk]) -> list[int]:
    ids: list[int] = []
    ended = False
    async for chunk in chunks:
        assert not ended
        assert len(chunk.ids) % 5 == 0
        ids += chunk.ids.tolist()
        ended = chunk.last
    assert ended
    return ids


def request(seed: int) -> tuple[np.ndarray, Sampling]:
    """A request whose prompt length, temperature and truncation vary with the seed."""
    sampling = Sampling(
        temperature=(0.7, 1.3, 0.0)[seed % 3],
        seed=seed,
        max_tokens=30 + 5 * (seed % 7),
        top_k=(0, 0, 50, 0)[seed % 4],
        top_p=(1.0, 0.8)[seed % 2],
    )
    return prompt(3 + 37 * seed % 300, seed), sampling


def voiced(seed: int, *, is_short: bool = False) -> tuple[np.ndarray, Sampling]:
    """A request in one of three voices: its prompt starts with the voice's turn.

    is_short: little else, and an answer of one or two groups.
    """
    ids, sampling = request(seed)
    voice = np.append(prompt(60 + 40 * (seed % 3), 1000 + seed % 3), VOCABULARY.stop_id)
    if is_short:
        ids, sampling = ids[:20], replace(sampling, max_tokens=5 + 5 * (seed % 2))
    return np.concatenate([voice, ids]).astype(np.int32)[:400], sampling
