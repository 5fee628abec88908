# pyright: basic
"""A corpus that no speech synthesizer made: buzzes whose spectrum and codes follow made-up phones.

In the files of the recipe's corpus, its tokens and its embeddings, so that any stage can be tried
where there is no teacher. There is as much to learn as it takes for a loss to fall.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.stepaudio.tokenizer.waveform import resample
from pipeline.stepaudio.tokens import interleave
from pipeline.text.sounds.symbols import BORDER, PHONES
from training.config import Recipe
from training.speech.alignment import CLASS_ID
from training.speech.clips import HOP_SAMPLES, RATE_HZ, TOKENIZER_RATE_HZ, Clip, write_shard
from training.speech.corpus import SPEAKER_SEEDS, SPLITS
from training.speech.encoded import ENCODED_SPLITS

FRAME_S = HOP_SAMPLES / RATE_HZ
CLIP_S = (1.6, 4.0)
PHONE_S = (0.06, 0.14)
WORD_PHONES = (2, 6)
EDGE_S = 0.06  # of silence at both ends
HARMONICS = 12
PITCH_HZ = (90.0, 230.0)
UNVOICED = 5  # every so many phones are noise
VQ02_S, VQ06_S = 0.06, 0.04
PITCHES = 4  # that vq02 tells apart
EMBEDDING = 192
LEVEL = 0.08


@dataclass(frozen=True)
class CorpusSize:
    """speakers: of each split. clips: of each speaker."""

    speakers: int
    clips: int


def write_made_up_corpus(recipe: Recipe, size: CorpusSize) -> None:
    """Every split with its tokens and embeddings, as the stages before would have left them."""
    voices = np.random.default_rng(recipe.seed).standard_normal((2, size.speakers, EMBEDDING))
    for number, split in enumerate(SPLITS):
        rng = np.random.default_rng((recipe.seed, number))
        is_training = SPEAKER_SEEDS.get(split) == SPEAKER_SEEDS["train"]
        own = voices[0 if is_training else 1].astype(np.float32)
        speakers = [speaker for speaker in range(size.speakers) for _ in range(size.clips)]
        clips = [_clip(speaker, rng) for speaker in speakers]
        directory = recipe.directory("corpus") / split
        directory.mkdir()
        write_shard(directory / "00000", clips)
        if split in ENCODED_SPLITS:
            tokens = [_tokens(clip) for clip in clips]
            offsets = np.cumsum([0] + [len(t) for t in tokens])
            path = recipe.directory("tokens") / f"{split}.npz"
            np.savez(path, tokens=np.concatenate(tokens), offsets=offsets)
            np.save(recipe.directory("embeddings") / f"{split}.npy", own[speakers])


def _clip(speaker: int, rng: np.random.Generator) -> Clip:
    ids, starts_s, text = _phones(rng.uniform(*CLIP_S), rng)
    n_frames = int((starts_s[-1] + EDGE_S) / FRAME_S)
    frame_s = (np.arange(n_frames) + 0.5) * FRAME_S
    frame_ids = ids[np.searchsorted(starts_s, frame_s, side="right") - 1]
    base_hz = PITCH_HZ[0] * (PITCH_HZ[1] / PITCH_HZ[0]) ** ((speaker * 0.382) % 1)
    pitch_hz = base_hz * 2 ** (0.2 * np.sin(2 * np.pi * (0.7 * frame_s + rng.random())))
    f0 = np.where((frame_ids > 0) & (frame_ids % UNVOICED > 0), pitch_hz, 0)
    samples = _sound(frame_ids, pitch_hz, f0 > 0, rng)
    at16 = resample(torch.from_numpy(samples), RATE_HZ, TOKENIZER_RATE_HZ).numpy()
    return Clip(
        audio24=(samples * 32767).astype(np.int16),
        audio16=(at16 * 32767).astype(np.int16),
        voice=speaker,
        text=text,
        words=text,
        phone_ids=ids,
        phone_marks=np.zeros(len(ids), np.int8),
        phone_starts_s=starts_s,
        symbol_starts_s=np.zeros(len(text) + 2, np.float32),
        f0=f0.astype(np.float32),
    )


def _phones(
    duration_s: float, rng: np.random.Generator
) -> tuple[NDArray[np.int16], NDArray[np.float32], str]:
    """Classes, 0 at both ends, where they begin, and what is written."""
    words, ids, starts_s, now_s = [], [0], [0.0], EDGE_S
    while now_s < duration_s:
        symbols = [PHONES[i] for i in rng.integers(len(PHONES), size=rng.integers(*WORD_PHONES))]
        words.append("".join(symbols))
        for symbol in symbols:
            ids.append(CLASS_ID[symbol])
            starts_s.append(now_s)
            now_s += rng.uniform(*PHONE_S)
    ends = np.array([*ids, 0], np.int16), np.array([*starts_s, now_s], np.float32)
    return *ends, BORDER.join(words)


def _sound(
    ids: NDArray[np.int16],
    pitch_hz: NDArray[np.floating],
    voiced: NDArray[np.bool_],
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Harmonics with two formants of the frame's class, or noise.

    Of each frame → float32 (n · 480,).
    """
    number = np.arange(1, HARMONICS + 1)
    low_hz, high_hz = 250 + ids * 97 % 600, 900 + ids * 331 % 1600
    distance = [np.log2(number * pitch_hz[:, None] / f[:, None]) for f in (low_hz, high_hz)]
    strength = sum(np.exp(-4 * d * d) for d in distance) + 0.02
    strength = strength / np.linalg.norm(strength, axis=1, keepdims=True) * voiced[:, None]
    noise = np.where((ids > 0) & ~voiced, 0.3 + ids % 3 * 0.2, 0.003)
    cycles = np.cumsum(np.repeat(pitch_hz / RATE_HZ, HOP_SAMPLES))
    waves = np.sin(2 * np.pi * cycles[:, None] * number)
    sound = (waves * np.repeat(strength, HOP_SAMPLES, axis=0)).sum(1)
    sound += rng.standard_normal(len(sound)) * np.repeat(noise, HOP_SAMPLES)
    return np.clip(LEVEL * sound, -1, 1).astype(np.float32)


def _tokens(clip: Clip) -> NDArray[np.int32]:
    """The phone at the time; vq02 tells how high the voice is as well."""
    times02, times06 = (np.arange(int(clip.duration_s / step)) * step for step in (VQ02_S, VQ06_S))
    pitch_hz = clip.f0[(times02 / FRAME_S).astype(int).clip(max=len(clip.f0) - 1)]
    height = np.digitize(pitch_hz, np.geomspace(*PITCH_HZ, PITCHES - 1))
    return interleave(clip.labels(times02) * PITCHES + height, clip.labels(times06))
