"""Sentences to speak.

Our own generator, a word list, and optionally verses of a public-domain book. Knows no audio.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from pipeline.errors import ConfigError

MAX_WORDS = 20
PHRASES = Path(__file__).parent / "phrases.yaml"
SHARES = {"own": 0.45, "verse": 0.40, "words": 0.15}
PAUSED = 0.15  # share of word borders of a long word salad that get a comma
_VERSE_LABEL = re.compile(r"^\S+\s+")


@dataclass(frozen=True, slots=True)
class TextSources:
    """verses: lines of prose, may be empty. words: dictionary words, may be empty."""

    verses: tuple[str, ...]
    words: tuple[str, ...]

    @classmethod
    def read(cls, word_list: str, verses: str) -> TextSources:
        """Paths as the recipe names them; an empty one is left out.

        Raises ConfigError for a file that is not there.
        """
        return cls(
            verses=tuple(_VERSE_LABEL.sub("", line) for line in _lines(verses)),
            words=tuple(word for word in _lines(word_list) if word.isascii()),
        )


def sentences(sources: TextSources, seed: int) -> Iterator[str]:
    """Endless, 1 to 20 words each, with punctuation; the same seed gives the same ones."""
    rng = np.random.default_rng(seed)
    makers = {"own": _own, "verse": _verse, "words": _words}
    usable = ["own"]
    usable += ["verse"] if sources.verses else []
    usable += ["words"] if sources.words else []
    shares = np.array([SHARES[name] for name in usable])
    while True:
        maker = makers[usable[rng.choice(len(usable), p=shares / shares.sum())]]
        sentence = maker(rng, sources).strip()
        if sentence and len(sentence.split()) <= MAX_WORDS:
            yield sentence[0].upper() + sentence[1:]


@functools.cache
def _phrases() -> dict[str, list[str]]:
    return yaml.safe_load(PHRASES.read_text(encoding="utf-8"))


def _lines(path: str) -> list[str]:
    if not path:
        return []
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise ConfigError(f"the text source {path} cannot be read: {error}") from error


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _phrase(rng: np.random.Generator, *kinds: str) -> str:
    """One of the phrases of these kinds."""
    return _pick(rng, [phrase for kind in kinds for phrase in _phrases()[kind]])


def _clause(rng: np.random.Generator) -> str:
    clause = " ".join(_phrase(rng, kind) for kind in ("subjects", "verbs", "objects"))
    return f"{clause} {_phrase(rng, 'tails')}" if rng.random() < 0.5 else clause


def _own(rng: np.random.Generator, _: TextSources) -> str:
    form = rng.random()
    if form < 0.12:
        fragment = _phrase(rng, "openers", "tails", "objects", "subjects")
        return fragment + _pick(rng, ".!?")
    if form < 0.24:
        return f"{_phrase(rng, 'questions')} {_clause(rng)}?"
    if form < 0.40:
        return f"{_phrase(rng, 'openers')}, {_clause(rng)}."
    if form < 0.65:
        comma = "," if rng.random() < 0.6 else ""
        return f"{_clause(rng)}{comma} {_phrase(rng, 'links')} {_clause(rng)}."
    return _clause(rng) + _pick(rng, "...!")


def _verse(rng: np.random.Generator, sources: TextSources) -> str:
    words = _pick(rng, sources.verses).split()
    length = min(len(words), 1 + int(rng.integers(MAX_WORDS)))
    first = int(rng.integers(len(words) - length + 1))
    span = " ".join(words[first : first + length]).strip(" ,;:.!?()")
    return span + _pick(rng, [".", ".", "?"])


def _words(rng: np.random.Generator, sources: TextSources) -> str:
    chosen = [_pick(rng, sources.words) for _ in range(1 + int(rng.integers(6)))]
    commas = ["," if rng.random() < PAUSED else "" for _ in chosen[1:]] + ["."]
    return " ".join(word + comma for word, comma in zip(chosen, commas, strict=True))
