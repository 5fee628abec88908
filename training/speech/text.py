"""Sentences to speak in English, Mandarin or both.

Our own generator, word lists, and optionally verses of a public-domain book.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from pipeline.errors import ConfigError
from training.speech.numbers import english_number, mandarin_number
from training.speech.speakers import ENGLISH, MANDARIN

MAX_WORDS = 25
MOST_IDEOGRAPHS = 45
PHRASES = {
    ENGLISH: Path(__file__).parent / "phrases.yaml",
    MANDARIN: Path(__file__).parent / "phrases_zh.yaml",
}
SHARES = {"own": 0.42, "lines": 0.24, "words": 0.18, "numbers": 0.10, "mixed": 0.06}
PAUSED = 0.15  # share of word borders of a long word salad that get a comma
_VERSE_LABEL = re.compile(r"^\S+\s+")
_IDEOGRAPH = re.compile("[\u4e00-\u9fff]")


@dataclass(frozen=True, slots=True)
class TextSources:
    """lines: of prose or verse, may be empty. words: of a dictionary, may be empty."""

    lines: tuple[str, ...]
    words: tuple[str, ...]

    @classmethod
    def read(cls, word_list: str, verses: str) -> TextSources:
        """English. Paths as the recipe names them; an empty one is left out.

        Raises ConfigError for a file that is not there.
        """
        return cls(
            lines=tuple(_VERSE_LABEL.sub("", line) for line in _lines(verses)),
            words=tuple(word for word in _lines(word_list) if word.isascii()),
        )

    @classmethod
    def mandarin(cls) -> TextSources:
        """Words of jieba's dictionary."""
        return cls(lines=(), words=_common_words())


def sentences(sources: TextSources, language: str, seed: int) -> Iterator[str]:
    """Endless, from single words to MAX_WORDS, with punctuation; a seed gives the same ones."""
    rng = np.random.default_rng(seed)
    makers = _MAKERS[language]
    empty = {name for name in ("lines", "words") if not getattr(sources, name)}
    usable = [name for name in SHARES if name in makers and name not in empty]
    shares = np.array([SHARES[name] for name in usable])
    while True:
        maker = makers[usable[rng.choice(len(usable), p=shares / shares.sum())]]
        sentence = maker(rng, sources).strip()
        if sentence and length_of(sentence) <= 1:
            yield sentence[0].upper() + sentence[1:]


def length_of(sentence: str) -> float:
    """Length as a share of the longest allowed."""
    n_ideographs = len(_IDEOGRAPH.findall(sentence))
    n_words = len(_IDEOGRAPH.sub(" ", sentence).split())
    return n_ideographs / MOST_IDEOGRAPHS + n_words / MAX_WORDS


@functools.cache
def _phrases(language: str) -> dict[str, list[str]]:
    return yaml.safe_load(PHRASES[language].read_text(encoding="utf-8"))


@functools.cache
def _common_words() -> tuple[str, ...]:
    """The 40,000 commonest words of up to four ideographs in jieba's dictionary (MIT)."""
    import jieba

    with jieba.get_dict_file() as file:
        rows = [line.decode("utf-8").split(" ") for line in file]
    known = [(-int(row[1]), row[0]) for row in rows]
    usable = [(n, word) for n, word in known if re.fullmatch("[\u4e00-\u9fff]{1,4}", word)]
    return tuple(word for _, word in sorted(usable)[:40_000])


def _lines(path: str) -> list[str]:
    if not path:
        return []
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise ConfigError(f"the text source {path} cannot be read: {error}") from error


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _phrase(rng: np.random.Generator, language: str, *kinds: str) -> str:
    """One of the phrases of these kinds."""
    return _pick(rng, [phrase for kind in kinds for phrase in _phrases(language)[kind]])


def _clause(rng: np.random.Generator) -> str:
    clause = " ".join(_phrase(rng, ENGLISH, kind) for kind in ("subjects", "verbs", "objects"))
    return f"{clause} {_phrase(rng, ENGLISH, 'tails')}" if rng.random() < 0.5 else clause


def _clause_zh(rng: np.random.Generator, thing: str = "") -> str:
    subject, verb = (_phrase(rng, MANDARIN, kind) for kind in ("subjects", "verbs"))
    tail = _phrase(rng, MANDARIN, "tails") if rng.random() < 0.5 else ""
    return subject + tail + verb + (thing or _phrase(rng, MANDARIN, "objects"))


def _own(rng: np.random.Generator, _: TextSources) -> str:
    form = rng.random()
    if form < 0.12:
        fragment = _phrase(rng, ENGLISH, "openers", "tails", "objects", "subjects")
        return fragment + _pick(rng, ".!?")
    if form < 0.24:
        return f"{_phrase(rng, ENGLISH, 'questions')} {_clause(rng)}?"
    if form < 0.40:
        return f"{_phrase(rng, ENGLISH, 'openers')}, {_clause(rng)}."
    if form < 0.65:
        comma = "," if rng.random() < 0.6 else ""
        return f"{_clause(rng)}{comma} {_phrase(rng, ENGLISH, 'links')} {_clause(rng)}."
    return _clause(rng) + _pick(rng, "...!")


def _own_zh(rng: np.random.Generator, _: TextSources) -> str:
    form = rng.random()
    if form < 0.12:
        fragment = _phrase(rng, MANDARIN, "openers", "tails", "objects", "subjects")
        return fragment + _pick(rng, "。！？")
    if form < 0.20:
        return f"{_phrase(rng, MANDARIN, 'questions')}{_clause_zh(rng)}？"
    if form < 0.28:
        return f"{_clause_zh(rng)}{_phrase(rng, MANDARIN, 'endings')}{_pick(rng, '？？。！')}"
    if form < 0.42:
        return f"{_phrase(rng, MANDARIN, 'openers')}，{_clause_zh(rng)}。"
    if form < 0.65:
        return f"{_clause_zh(rng)}{_phrase(rng, MANDARIN, 'links')}{_clause_zh(rng)}。"
    return _clause_zh(rng) + _pick(rng, "。。。！")


def _line(rng: np.random.Generator, sources: TextSources) -> str:
    words = _pick(rng, sources.lines).split()
    length = min(len(words), 1 + int(rng.integers(MAX_WORDS)))
    first = int(rng.integers(len(words) - length + 1))
    span = " ".join(words[first : first + length]).strip(" ,;:.!?()")
    return span + _pick(rng, [".", ".", "?"])


def _words(rng: np.random.Generator, sources: TextSources) -> str:
    chosen = [_pick(rng, sources.words) for _ in range(1 + int(rng.integers(6)))]
    commas = ["," if rng.random() < PAUSED else "" for _ in chosen[1:]] + ["."]
    return " ".join(word + comma for word, comma in zip(chosen, commas, strict=True))


def _words_zh(rng: np.random.Generator, sources: TextSources) -> str:
    """Common words more often than rare ones, as the cube of an even draw."""
    places = (rng.random(1 + int(rng.integers(8))) ** 3 * len(sources.words)).astype(int)
    chosen = [sources.words[i] for i in places]
    commas = ["，" if rng.random() < PAUSED else "" for _ in chosen[1:]] + ["。"]
    return "".join(word + comma for word, comma in zip(chosen, commas, strict=True))


def _numbers(rng: np.random.Generator, _: TextSources) -> str:
    return english_number(rng, _phrase(rng, ENGLISH, "subjects"))


def _numbers_zh(rng: np.random.Generator, _: TextSources) -> str:
    return mandarin_number(rng, _phrase(rng, MANDARIN, "subjects"))


def _mixed(rng: np.random.Generator, _: TextSources) -> str:
    place = _phrase(rng, MANDARIN, "places")
    return _pick(
        rng,
        (
            f"{_clause(rng)} in {place}.",
            f"The word for it is {_phrase(rng, MANDARIN, 'objects')}.",
            f"{_phrase(rng, MANDARIN, 'openers')}, {_clause(rng)}.",
            f"Have you ever been to {place}?",
        ),
    )


def _mixed_zh(rng: np.random.Generator, _: TextSources) -> str:
    thing = _phrase(rng, MANDARIN, "english")
    return _pick(
        rng,
        (
            f"{_clause_zh(rng, thing)}。",
            f"{thing} 这个词怎么说？",
            f"{_clause_zh(rng)}，{thing}！",
            f"{_phrase(rng, MANDARIN, 'subjects')}说 {thing}，{_clause_zh(rng)}。",
        ),
    )


_Maker = Callable[[np.random.Generator, TextSources], str]
_MAKERS: dict[str, dict[str, _Maker]] = {
    ENGLISH: {
        "own": _own, "lines": _line, "words": _words, "numbers": _numbers, "mixed": _mixed,
    },
    MANDARIN: {
        "own": _own_zh, "words": _words_zh, "numbers": _numbers_zh, "mixed": _mixed_zh,
    },
}  # fmt: skip
