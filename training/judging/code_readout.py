# pyright: basic
"""What the tokenizers' codes say: phones read from codes alone against what was said.

`python -m training.judging.code_readout` prints phone and mark errors on seen and held-out voices,
for any state of training. The readout is the net's own linear layer, on code vectors: nothing that
the codes do not carry can be read.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import typer
from torch import Tensor

from pipeline.stepaudio.tokenizer.features import whisper_mel
from pipeline.text.sounds.symbols import PAUSES, sounds_of
from training.config import DEFAULT_CONFIG, load_recipe
from training.judging.phoneme_judge import errors, phone_ids
from training.models.linguistic_tokenizer import LinguisticNet, load_linguistic
from training.models.semantic_tokenizer import SemanticNet, load_semantic
from training.speech.alignment import MARK_ID
from training.speech.clips import Clip, Corpus
from training.speech.corpus import load_corpus
from training.speech.mels import to_float
from training.speech.streams import PEAK

CLIPS = 48  # of each split
SPLITS = ("val", "held")


@dataclass(frozen=True, slots=True)
class CodeErrors:
    """Edits per phone, edits per mark, and codes in use."""

    phones: float
    marks: float
    codes: int


Read = Callable[[Clip], tuple[Tensor, Tensor, Tensor]]


def collapsed(classes: Sequence[int]) -> list[int]:
    """Classes of equal steps → one of each run, without 0."""
    return [value for value, _ in itertools.groupby(classes) if value]


def mark_ids(text: str) -> list[int]:
    """The tones and stresses of a text's vowels, one of each run of vowels that carry the same."""
    sounds = [s for s in sounds_of(text) if s.symbol not in PAUSES]
    return collapsed([MARK_ID[s.mark] for s in sounds])


@torch.inference_mode()
def code_errors(read: Read, corpus: Corpus, clips: int = CLIPS) -> CodeErrors:
    """Over clips spread over the whole corpus."""
    chosen = np.linspace(0, len(corpus) - 1, min(clips, len(corpus))).astype(int)
    wrong, said, wrong_marks, marks, used = 0, 0, 0, 0, set()
    for index in chosen:
        clip = corpus[int(index)]
        codes, phones, carried = read(clip)
        used |= set(codes.tolist())
        wanted, wanted_marks = phone_ids(clip.text), mark_ids(clip.text)
        wrong += errors(collapsed(phones.tolist()), wanted)
        wrong_marks += errors(collapsed(carried.tolist()), wanted_marks)
        said, marks = said + len(wanted), marks + len(wanted_marks)
    return CodeErrors(wrong / said, wrong_marks / max(1, marks), len(used))


def _samples(clip: Clip) -> Tensor:
    samples = to_float(clip.audio16)
    return samples / samples.abs().max() * PEAK


def main(arguments: list[str] | None = None) -> None:
    """Parse, read, print."""
    parser = argparse.ArgumentParser(
        prog="python -m training.judging.code_readout", description=__doc__
    )
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG)
    parser.add_argument("--work-dir", type=Path)
    parser.add_argument("--clips", type=int, default=CLIPS, help="of each split")
    parser.add_argument("--only", choices=("vq06", "vq02"), help="where the other is not trained")
    chosen = parser.parse_args(arguments)
    recipe = load_recipe(chosen.config, work_dir=chosen.work_dir)
    torch.set_num_threads(int(recipe.tree["threads"]))
    readers: dict[str, Read] = {}
    if chosen.only != "vq02":
        semantic = load_semantic(recipe)

        def read06(clip: Clip) -> tuple[Tensor, Tensor, Tensor]:
            return read_codes(
                semantic, semantic.head, semantic(whisper_mel(_samples(clip))[None])[0]
            )

        readers["vq06"] = read06
    if chosen.only != "vq06":
        linguistic = load_linguistic(recipe)

        def read02(clip: Clip) -> tuple[Tensor, Tensor, Tensor]:
            return read_codes(linguistic, linguistic.phones, linguistic(_samples(clip)))

        readers["vq02"] = read02
    for name, read in readers.items():
        for split in SPLITS:
            found = code_errors(read, load_corpus(recipe, split), chosen.clips)
            typer.echo(
                f"{name} {split}: phone error {found.phones:.3f}, mark error {found.marks:.3f}, "
                f"{found.codes} codes"
            )


def read_codes(
    net: SemanticNet | LinguisticNet, head: torch.nn.Linear, vectors: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Codes of vectors [T, D], and the classes read from their codebook rows, slots in a row."""
    codes = net.quantizer.codes(vectors)
    rows = net.quantizer.codebook[codes] if net.quantizer.is_ready else vectors
    phones, marks = head(rows), net.marks(rows)
    slots = marks.shape[1] // len(MARK_ID)
    return (
        codes,
        phones.reshape(len(rows) * slots, -1).argmax(1),
        marks.reshape(len(rows) * slots, -1).argmax(1),
    )


if __name__ == "__main__":
    main()
