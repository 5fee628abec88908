"""Stage `voices`: the built-in reference clips, by speakers outside of the training data."""

from __future__ import annotations

import json
import tempfile
import wave
from pathlib import Path

import numpy as np

from pipeline.text.espeak import Espeak
from pipeline.voice_list import VOICES_DIR
from training.config import Recipe
from training.speech.corpus import f0_of_rate, speakers_of
from training.speech.voices import write_voices

LICENCE = "Synthesised by us with espeak-ng 1.52 (see README.md); free to use for any purpose."
PEAK = 0.5
EDGE_S = 0.1  # silence kept at both ends
LINES = {
    "clara": (235, "The morning train was late again, but nobody on the platform seemed to mind."),
    "david": (100, "Every good story needs a beginning, a middle, and someone who listens."),
    "elena": (190, "She opened the window, and the smell of fresh bread filled the whole kitchen."),
    "felix": (130, "We measured the bridge twice, and both times it was shorter than the river."),
    "grace": (
        280,
        "Please take the blue umbrella with you, it will surely rain this afternoon.",
    ),
    "hugo": (160, "Nothing in this old house is where you would expect it, and that is its charm."),
}  # name → wished median F0 in Hz, transcript


def make_voices(recipe: Recipe) -> None:
    """Write the clips and add them to `voices.json`; entries of other voices stay."""
    speakers = speakers_of(recipe, "held")
    with tempfile.TemporaryDirectory() as directory:
        espeak = Espeak(write_voices(speakers, Path(directory)))
        pitches = {}
        for speaker in speakers:
            spoken = espeak.speak("We measured the bridge twice.", speaker.settings)
            if pitch_hz := f0_of_rate(spoken.samples, spoken.rate_hz):
                pitches[speaker] = pitch_hz
        entries = json.loads((VOICES_DIR / "voices.json").read_text(encoding="utf-8"))
        entries = [entry for entry in entries if entry["name"] not in LINES]
        for name, (wished_hz, transcript) in LINES.items():
            speaker = min(pitches, key=lambda s: abs(np.log(pitches[s] / wished_hz)))
            del pitches[speaker]
            spoken = espeak.speak(transcript, speaker.settings)
            _write(VOICES_DIR / f"{name}.wav", spoken.samples, spoken.rate_hz)
            entries.append(
                {
                    "name": name,
                    "file": f"{name}.wav",
                    "transcript": transcript,
                    "language": "en",
                    "licence": LICENCE,
                }
            )
    text = json.dumps(entries, indent=2, ensure_ascii=False) + "\n"
    (VOICES_DIR / "voices.json").write_text(text, encoding="utf-8")


def _write(path: Path, samples: np.ndarray, rate_hz: int) -> None:
    loud = np.flatnonzero(np.abs(samples) > np.abs(samples).max() * 0.02)
    edge = int(EDGE_S * rate_hz)
    cut = samples[max(0, loud[0] - edge) : loud[-1] + edge].astype(np.float64)
    scaled = np.round(cut / np.abs(cut).max() * PEAK * 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(scaled.tobytes())
