# pyright: basic
"""Stages `tokens` and `embeddings`.

Every clip through the finished encoders, by the classes that serve.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from pipeline.stepaudio.tokenizer.features import clip_speaker_fbank
from pipeline.stepaudio.tokenizer.linguistic import LinguisticTokenizer
from pipeline.stepaudio.tokenizer.semantic import SemanticTokenizer
from pipeline.stepaudio.tokenizer.speaker import SpeakerEncoder
from pipeline.stepaudio.tokens import interleave
from training.config import Recipe
from training.export_encoders import export_speaker_model, export_tokenizers
from training.progress import progress
from training.speech.clips import TOKENIZER_RATE_HZ, Clip
from training.speech.corpus import load_corpus
from training.speech.encoded import ENCODED_SPLITS
from training.speech.mels import to_float
from training.speech.streams import PEAK


def encode_tokens(recipe: Recipe) -> None:
    """Stage `tokens`: write the audio tokens of the splits used later; what is there is kept."""
    layout = export_tokenizers(recipe)
    linguistic = LinguisticTokenizer(layout.paraformer, layout.linguistic_codebook)
    semantic = SemanticTokenizer(layout.speech_tokenizer)
    for split in ENCODED_SPLITS:
        path = recipe.directory("tokens") / f"{split}.npz"
        if path.is_file():
            continue
        corpus, tokens = load_corpus(recipe, split), []
        for i in progress(range(len(corpus)), f"tokens {split}", len(corpus)):
            samples = _as_served(corpus[i])
            tokens.append(interleave(linguistic.encode(samples), semantic.encode(samples)))
        offsets = np.cumsum([0] + [len(t) for t in tokens])
        np.savez(path, tokens=np.concatenate(tokens), offsets=offsets)


def encode_speakers(recipe: Recipe) -> None:
    """Stage `embeddings`: write the speaker embedding of every clip; what is there is kept."""
    speaker = SpeakerEncoder(export_speaker_model(recipe))
    for split in ENCODED_SPLITS:
        path = recipe.directory("embeddings") / f"{split}.npy"
        if path.is_file():
            continue
        corpus = load_corpus(recipe, split)
        numbers = progress(range(len(corpus)), f"embeddings {split}", len(corpus))
        fbanks = (clip_speaker_fbank(_as_served(corpus[i]), TOKENIZER_RATE_HZ) for i in numbers)
        np.save(path, np.stack([speaker.encode(fbank) for fbank in fbanks]))


def _as_served(clip: Clip) -> Tensor:
    samples = to_float(clip.audio16)
    return samples / samples.abs().max() * PEAK
