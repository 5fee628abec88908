# pyright: basic
"""Stage `voices`: the built-in reference clips, by the teacher in voices held out of training."""

from __future__ import annotations

import json
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.text.front_end import two_language_words
from pipeline.text.sounds.reading import read_aloud
from pipeline.voice_list import VOICES_DIR
from training.config import Recipe
from training.speech.speakers import ENGLISH, MANDARIN, Speaker, style_of
from training.speech.teacher import RATE_HZ, Teacher, voices_of
from training.speech.world import moved

LICENCE = (
    "Synthesised by us with Kokoro-82M (Apache-2.0, see README.md); free to use for any purpose."
)
PEAK = 0.5
EDGE_S = 0.1  # silence kept at both ends


@dataclass(frozen=True, slots=True)
class Line:
    """A built-in voice: shares of held-out voices, factor of all frequencies, what it says."""

    weights: dict[str, float]
    tract: float
    language: str
    transcript: str


LINES = {
    "aria": Line(
        {"af_kore": 1.0}, 1.0, ENGLISH,
        "A good voice needs only a few seconds to be remembered by all who hear it.",
    ),
    "bruno": Line(
        {"am_fenrir": 1.0}, 1.0, ENGLISH,
        "Please leave the keys on the kitchen table, and close the garden gate behind you.",
    ),
    "clara": Line(
        {"bf_isabella": 1.0}, 1.0, ENGLISH,
        "The morning train was late again, but nobody on the platform seemed to mind.",
    ),
    "david": Line(
        {"bm_fable": 1.0}, 1.0, ENGLISH,
        "Every good story needs a beginning, a middle, and someone who listens.",
    ),
    "elena": Line(
        {"zf_xiaoyi": 1.0}, 1.0, MANDARIN,
        "她打开窗户，新鲜面包的香味一下子充满了整个厨房。",
    ),
    "felix": Line(
        {"zm_yunxia": 1.0}, 0.94, MANDARIN,
        "那座桥我们量了两次，两次都比河面还要短一些。",
    ),
    "grace": Line(
        {"zf_xiaoyi": 0.5, "af_kore": 0.5}, 1.05, MANDARIN,
        "请把那把蓝色的雨伞带上, it will surely rain this afternoon.",
    ),
    "hugo": Line(
        {"zm_yunxia": 0.4, "bm_fable": 0.6}, 0.93, ENGLISH,
        "Nothing in this old house is where you would expect it, 这正是它的魅力。",
    ),
}  # fmt: skip


def make_voices(recipe: Recipe) -> None:
    """Write the clips and add them to `voices.json`; entries of other voices stay."""
    teacher = Teacher(recipe.directory("corpus") / "teacher.onnx")
    voices = voices_of(Path(recipe["teacher"]["voices"]))
    entries = json.loads((VOICES_DIR / "voices.json").read_text(encoding="utf-8"))
    entries = [entry for entry in entries if entry["name"] not in LINES]
    for name, line in LINES.items():
        speaker = Speaker(line.weights, line.tract, 1.0, 1.0, (line.language,))
        sounds = read_aloud(two_language_words(line.transcript))
        spoken = teacher.speak(sounds, style_of(speaker, voices), speaker.pace / speaker.tract)
        _write(VOICES_DIR / f"{name}.wav", moved(spoken.samples, speaker.tract, speaker.pitch))
        entries.append(
            {
                "name": name,
                "file": f"{name}.wav",
                "transcript": line.transcript,
                "language": line.language,
                "licence": LICENCE,
            }
        )
    text = json.dumps(sorted(entries, key=lambda e: e["name"]), indent=2, ensure_ascii=False)
    (VOICES_DIR / "voices.json").write_text(text + "\n", encoding="utf-8")


def _write(path: Path, samples: NDArray[np.float32]) -> None:
    loud = np.flatnonzero(np.abs(samples) > np.abs(samples).max() * 0.02)
    edge = int(EDGE_S * RATE_HZ)
    cut = samples[max(0, loud[0] - edge) : loud[-1] + edge].astype(np.float64)
    scaled = np.round(cut / np.abs(cut).max() * PEAK * 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(scaled.tobytes())
