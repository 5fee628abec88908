"""Synthetic speakers: espeak variants with drawn formants, pitch, range and rate. Knows no audio.

Variants are small text files; espeak finds them in a data directory that links to the package's
own.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.text.espeak import EspeakVoice

FORMANTS = 7
PITCH_HZ = (78.0, 220.0)  # espeak's base pitch of a variant, drawn evenly in log
FORMANT_SCALE = (0.86, 1.2)
INTONED_SHARE = 0.06  # have another of espeak's melodies


@dataclass(frozen=True, slots=True)
class Speaker:
    """settings: how to call espeak. variant: the text of its voice file."""

    settings: EspeakVoice
    variant: str


def draw_speakers(n_speakers: int, seed: int, prefix: str) -> list[Speaker]:
    """Speakers whose pitch, rate, range and formant scale each cover their span evenly.

    In independent orders.
    """
    rng = np.random.default_rng(seed)

    def spread(low: float, high: float) -> np.ndarray:
        return (
            low + (high - low) * (rng.permutation(n_speakers) + rng.random(n_speakers)) / n_speakers
        )

    base_hz = np.exp(spread(*np.log(PITCH_HZ)))
    pitches, ranges, rates = spread(20, 80), spread(15, 85), spread(135, 195)
    # tall voices tend to be low: half of the formant scale follows the pitch
    scale = np.exp(
        0.5 * spread(*np.log(FORMANT_SCALE))
        + 0.5 * np.interp(np.log(base_hz), np.log(PITCH_HZ), np.log(FORMANT_SCALE))
    )
    return [
        Speaker(
            EspeakVoice(f"en-us+{prefix}{i}", round(rates[i]), round(pitches[i]), round(ranges[i])),
            _variant(rng, f"{prefix}{i}", float(base_hz[i]), float(scale[i])),
        )
        for i in range(n_speakers)
    ]


def _variant(rng: np.random.Generator, name: str, base_hz: float, scale: float) -> str:
    top_hz = base_hz * rng.uniform(1.25, 1.7)
    lines = ["language variant", f"name {name}", f"pitch {base_hz:.0f} {top_hz:.0f}"]
    for formant in range(FORMANTS):
        frequency = 100 * scale * np.exp(rng.normal(0, 0.03))
        height, width = rng.uniform(85, 112), rng.uniform(85, 125)
        lines.append(f"formant {formant} {frequency:.0f} {height:.0f} {width:.0f}")
    lines.append(f"flutter {rng.integers(1, 4)}")
    lines.append(f"roughness {rng.integers(0, 2)}")
    lines.append(f"voicing {rng.integers(90, 116)}")
    lines.append(f"consonants {rng.integers(85, 116)} {rng.integers(85, 116)}")
    if rng.random() < 0.15:
        levels = " ".join(str(rng.integers(0, 3)) for _ in range(8))
        lines.append(f"breath {levels}")
    if rng.random() < INTONED_SHARE:
        lines.append(f"intonation {rng.integers(1, 5)}")
    return "\n".join(lines) + "\n"


def write_voices(speakers: list[Speaker], directory: Path) -> Path:
    """Lay out a data directory with the speakers' variants; returns what `Espeak` takes."""
    import espeakng_loader

    package = Path(espeakng_loader.get_data_path())
    data = directory / "espeak-ng-data"
    shutil.rmtree(data, ignore_errors=True)
    (data / "voices").mkdir(parents=True)
    for item in package.iterdir():
        if item.name != "voices":
            (data / item.name).symlink_to(item)
    shutil.copytree(package / "voices" / "!v", data / "voices" / "!v")
    for speaker in speakers:
        variant = speaker.settings.name.partition("+")[2]
        (data / "voices" / "!v" / variant).write_text(speaker.variant, encoding="utf-8")
    return directory
