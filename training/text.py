"""Sentences to speak: our own generator, a word list, and optionally verses of a public-domain book. Knows no audio."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import ConfigError

MAX_WORDS = 20
SHARES = {"own": 0.45, "verse": 0.40, "words": 0.15}
PAUSED = 0.15  # share of word borders of a long word salad that get a comma
_VERSE_LABEL = re.compile(r"^\S+\s+")

_SUBJECTS = (
    "the teacher|my sister|our neighbour|the old captain|a young doctor|the driver|her brother|the children|"
    "nobody|everyone|that woman|the musician|a stranger|the engineer|this machine|the morning train|their dog|"
    "the committee|a good friend|the weather|our company|the new manager|his grandmother|the boy next door|"
    "the government|my uncle|the river|she|he|they|we|I|you|it|Mary|George|Alice|Tom|the voice|someone"
).split("|")
_VERBS = (
    "likes|found|will bring|has forgotten|bought|could not see|remembers|would rather have|sold|painted|"
    "wanted to fix|is looking for|asked about|carried|should check|moved|opened|closed|never noticed|"
    "talked about|has been watching|broke|cleaned|described|left|lost|measured|needs|pulled|pushed|reached|"
    "saved|served|threw away|touched|used|is waiting for|wrote about|explains|joined|changed|visited|"
    "hears|knows|chose|fetched|gave up|hurried past|just finished|kept|laughed at|might enjoy"
).split("|")
_OBJECTS = (
    "the red book|a cup of tea|the broken window|their house|some fresh bread|the last question|a long story|"
    "the garden gate|an orange|the blue boat|my shoes|the whole project|a small village|the usual answer|"
    "five chairs|the heavy box|a quiet place|the judge|the television|the third chapter|fish and chips|"
    "two bottles of water|the kitchen table|her warm jacket|the noise|a bag of apples|an old song|the map|"
    "the other side|a thousand stars|the zoo|a yellow umbrella|the beach|his huge toy|the law|a measure of sugar|"
    "some cheese|the church|a bridge|the keys|your phone|twenty letters|the picture|this vision|our future"
).split("|")
_TAILS = (
    "in the morning|before lunch|near the station|with great care|after the show|at home|on Tuesday|every day|"
    "without any help|for the first time|in the middle of the night|under the trees|as soon as possible|"
    "by the window|last year|for a while|because it was late|when the rain stopped|if there is time|again|"
    "on the way to school|from the beginning|in February|together|at nine o'clock|very slowly|quite often|"
    "during the winter|around the corner|to be honest|as usual|beyond the mountain|through the door|now"
).split("|")
_OPENERS = (
    "well|yes|no|listen|you know|of course|in fact|after all|however|this time|perhaps|sometimes|"
    "good morning|thank you|please wait|believe me|to my surprise|in the end|by the way|oh"
).split("|")
_QUESTIONS = (
    "do you think|did you hear that|why do they say|can you tell me whether|who said that|is it true that|"
    "how do we know that|would you mind if|where was it that|are you sure that"
).split("|")
_LINKS = "and|but|so|because|while|although|then|or|until|since".split("|")


@dataclass(frozen=True, slots=True)
class TextSources:
    """verses: lines of prose, may be empty. words: dictionary words, may be empty."""

    verses: tuple[str, ...]
    words: tuple[str, ...]

    @classmethod
    def read(cls, word_list: str, verses: str) -> TextSources:
        """Paths as the recipe names them; an empty one is left out. Raises ConfigError for a file that is not there."""
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


def _lines(path: str) -> list[str]:
    if not path:
        return []
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise ConfigError(f"the text source {path} cannot be read: {error}") from error


def _pick(rng: np.random.Generator, options: tuple[str, ...] | list[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _clause(rng: np.random.Generator) -> str:
    clause = f"{_pick(rng, _SUBJECTS)} {_pick(rng, _VERBS)} {_pick(rng, _OBJECTS)}"
    return f"{clause} {_pick(rng, _TAILS)}" if rng.random() < 0.5 else clause


def _own(rng: np.random.Generator, _: TextSources) -> str:
    form = rng.random()
    if form < 0.12:
        return _pick(rng, [*_OPENERS, *_TAILS, *_OBJECTS, *_SUBJECTS]) + _pick(rng, [".", "!", "?"])
    if form < 0.24:
        return f"{_pick(rng, _QUESTIONS)} {_clause(rng)}?"
    if form < 0.40:
        return f"{_pick(rng, _OPENERS)}, {_clause(rng)}."
    if form < 0.65:
        comma = "," if rng.random() < 0.6 else ""
        return f"{_clause(rng)}{comma} {_pick(rng, _LINKS)} {_clause(rng)}."
    return _clause(rng) + _pick(rng, [".", ".", ".", "!"])


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
