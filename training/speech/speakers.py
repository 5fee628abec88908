"""Speakers mixed from the teacher's voices: who is in training, who is held out, how each sounds.

A training speaker is a weighted mean of training voices, moved in pitch and vocal tract. Held-out
speakers are whole voices, those of the judge are mixed from voices of other languages; no mean for
training touches either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ENGLISH, MANDARIN = "en", "zh"
LANGUAGES = (ENGLISH, MANDARIN)
HELD = ("af_kore", "am_fenrir", "bf_isabella", "bm_fable", "zf_xiaoyi", "zm_yunxia")
MIXED = 6  # voices at most in a mean
CONCENTRATION = 0.5  # of the Dirichlet's weights: below 1, one or two voices are most of a mean
TRACT = (0.92, 1.09)  # formants and pitch by the same factor
TRACT_STEPS = 200  # factors are whole 200ths: so they resample exactly
PITCH_SEMITONES = (-2.5, 2.5)
PITCHED_SHARE = 0.25  # of the speakers are moved in pitch alone as well, by WORLD
PACE = (0.85, 1.2)
TWO_TONGUES = 0.2  # share of speakers that speak the other language too
_LANGUAGE_OF = {"a": ENGLISH, "b": ENGLISH, "z": MANDARIN}


@dataclass(frozen=True, slots=True)
class Speaker:
    """weights: voice → share of its style, together 1. tract: factor of all frequencies.

    pitch: further factor of F0 alone. pace: of the teacher, before `tract` changes it.
    languages: what is spoken.
    """

    weights: Mapping[str, float]
    tract: float
    pitch: float
    pace: float
    languages: tuple[str, ...]


def split_voices(names: Sequence[str]) -> dict[str, list[str]]:
    """The teacher's voices by use: `train`, `held`, and `judge`, those of other languages."""
    uses: dict[str, list[str]] = {"train": [], "held": [], "judge": []}
    for name in sorted(names):
        if name[0] not in _LANGUAGE_OF:
            uses["judge"].append(name)
        else:
            uses["held" if name in HELD else "train"].append(name)
    return uses


def voices_for(language: str, voices: Sequence[str]) -> list[str]:
    """Those that were recorded in the language, or all where none was."""
    return [v for v in voices if _LANGUAGE_OF.get(v[0]) == language] or list(voices)


def style_of(speaker: Speaker, voices: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """The weighted mean of the voices' rows."""
    mean = sum(share * voices[name] for name, share in speaker.weights.items())
    return np.asarray(mean, np.float32)


def mixed_speakers(voices: Sequence[str], count: int, seed: int) -> list[Speaker]:
    """Speakers in pairs of an English and a Mandarin one, each trait spread evenly over all.

    A mean is of voices of one language: across, the teacher's accents mix.
    """
    rng = np.random.default_rng(seed)

    def spread(low: float, high: float) -> NDArray[np.float64]:
        return low + (high - low) * (rng.permutation(count) + rng.random(count)) / count

    tract, pace = np.exp(spread(*np.log(TRACT))), np.exp(spread(*np.log(PACE)))
    moved = 2 ** (spread(*PITCH_SEMITONES) / 12)
    is_pitched = spread(0, 1) < PITCHED_SHARE
    is_both = spread(0, 1) < TWO_TONGUES
    leading = {lang: _rounds(rng, voices, lang, count) for lang in LANGUAGES}
    speakers = []
    for n in range(count):
        own = LANGUAGES[n % len(LANGUAGES)]
        others = LANGUAGES if is_both[n] else (own,)
        speakers.append(
            Speaker(
                weights=_weights(rng, voices, leading[own][n // 2], own),
                tract=round(TRACT_STEPS * tract[n]) / TRACT_STEPS,
                pitch=float(moved[n]) if is_pitched[n] else 1.0,
                pace=float(pace[n]),
                languages=tuple(others),
            )
        )
    return speakers


def whole_speakers(voices: Sequence[str]) -> list[Speaker]:
    """Voices as they are, the two languages in turn as far as they go."""
    own = {language: voices_for(language, voices) for language in LANGUAGES}
    return [
        Speaker({own[language][n]: 1.0}, 1.0, 1.0, 1.0, (language,))
        for n in range(max(map(len, own.values())))
        for language in LANGUAGES
        if n < len(own[language])
    ]


def _rounds(
    rng: np.random.Generator, voices: Sequence[str], language: str, count: int
) -> list[str]:
    """The voice that leads each mean: every voice of the language once before any comes again."""
    own = voices_for(language, voices)
    order: list[str] = []
    while len(order) < count:
        order += [own[int(i)] for i in rng.permutation(len(own))]
    return order


def _weights(
    rng: np.random.Generator, voices: Sequence[str], leading: str, language: str
) -> dict[str, float]:
    """Shares of a mean, the largest that of `leading`."""
    own = [v for v in voices_for(language, voices) if v != leading]
    n_others = min(int(rng.integers(1, MIXED)), len(own))
    chosen = [leading, *(own[int(i)] for i in rng.permutation(len(own))[:n_others])]
    shares = np.sort(rng.dirichlet(np.full(len(chosen), CONCENTRATION)))[::-1]
    return {name: float(share) for name, share in zip(chosen, shares, strict=True)}
