# pyright: basic
"""What the tokenizers and the speaker encoder made of every clip, as their stages wrote it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.config import Recipe

ENCODED_SPLITS = ("train", "val", "held")


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """Of every clip of a split: `tokens[i]` int32 (5k,), audio tokens from 0."""

    tokens: list[NDArray[np.int32]]


def load_tokens(recipe: Recipe, *splits: str) -> Encoded:
    """Raises FileNotFoundError when the stage `tokens` has not run."""
    tokens = []
    for split in splits:
        with np.load(recipe.directory("tokens") / f"{split}.npz", allow_pickle=False) as stored:
            offsets, flat = stored["offsets"], stored["tokens"]
            tokens += [flat[a:b] for a, b in itertools.pairwise(offsets)]
    return Encoded(tokens)


def load_embeddings(recipe: Recipe, split: str) -> NDArray[np.float32]:
    """float32 (n, 192). Raises FileNotFoundError when the stage `embeddings` has not run."""
    return np.load(recipe.directory("embeddings") / f"{split}.npy", allow_pickle=False)
