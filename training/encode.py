# pyright: basic
"""Stage `tokens`: what the finished tokenizers make of every clip, with the very classes that serve. Knows no LLM."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.stepaudio.features import clip_speaker_fbank
from pipeline.stepaudio.linguistic import LinguisticTokenizer
from pipeline.stepaudio.semantic import SemanticTokenizer
from pipeline.stepaudio.speaker import SpeakerEncoder
from pipeline.stepaudio.tokens import interleave
from training.config import Recipe
from training.corpus import TOKENIZER_RATE_HZ, load_corpus
from training.export import export_speaker_model, export_tokenizers
from training.mels import to_float
from training.progress import progress

ENCODED_SPLITS = ("train", "val", "held")


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """Of every clip of a split: `tokens[i]` int32 (5k,), audio tokens from 0; `embeddings` float32 (n, 192)."""

    tokens: list[NDArray[np.int32]]
    embeddings: NDArray[np.float32]


def encode_corpus(recipe: Recipe) -> None:
    """Write tokens and speaker embeddings of the splits used later; what is there is kept."""
    layout = export_tokenizers(recipe)
    export_speaker_model(recipe)
    linguistic = LinguisticTokenizer(layout.paraformer, layout.linguistic_codebook)
    semantic = SemanticTokenizer(layout.speech_tokenizer)
    speaker = SpeakerEncoder(layout.speaker_encoder)
    for split in ENCODED_SPLITS:
        path = recipe.directory("tokens") / f"{split}.npz"
        if path.is_file():
            continue
        corpus = load_corpus(recipe, split)
        tokens, embeddings = [], []
        for i in progress(range(len(corpus)), f"tokens {split}", len(corpus)):
            samples = to_float(corpus[i].audio16)
            samples = samples / samples.abs().max() * 0.999
            tokens.append(interleave(linguistic.encode(samples), semantic.encode(samples)))
            with torch.inference_mode():
                embeddings.append(speaker.encode(clip_speaker_fbank(samples, TOKENIZER_RATE_HZ)))
        offsets = np.cumsum([0] + [len(t) for t in tokens])
        np.savez(path, tokens=np.concatenate(tokens), offsets=offsets, embeddings=np.stack(embeddings))


def load_encoded(recipe: Recipe, split: str) -> Encoded:
    """Raises FileNotFoundError when the stage `tokens` has not run."""
    with np.load(recipe.directory("tokens") / f"{split}.npz") as stored:
        offsets, flat = stored["offsets"], stored["tokens"]
        tokens = [flat[a:b] for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
        return Encoded(tokens, stored["embeddings"])
