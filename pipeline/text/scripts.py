"""Scripts of a text's letters, and those that a front end speaks."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass

from pipeline.errors import TextError

_NAMES = {
    "CJK": "Chinese", "HANGUL": "Korean", "HIRAGANA": "Japanese", "KATAKANA": "Japanese",
    "KATAKANA-HIRAGANA": "Japanese", "IDEOGRAPHIC": "Chinese", "LATIN": "Latin",
    "FEMININE": "Latin", "MASCULINE": "Latin", "MODIFIER": "Latin", "BOPOMOFO": "Bopomofo",
}  # fmt: skip
_MOST_FOREIGN = 0.25  # of the letters; more make the text one of another language
_LONE_GREEK = re.compile(r"(?<![^\W\d_])[\u0370-\u03ff](?![\u0370-\u03ff])")  # "π", "Δx"
_MARKS = ("Mn", "Mc")
_PLAIN_LATIN = "\u00ff"  # espeak spells letters beyond, "s cedilla", or names their code


@dataclass(frozen=True, slots=True)
class Spoken:
    """The scripts that a front end speaks."""

    scripts: frozenset[str]
    """Names of scripts, see `script_of`."""
    languages: str
    """Languages that a refusal lists."""

    def require(self, text: str) -> None:
        """Raises TextError when more than a quarter of the letters are of scripts not spoken.

        Greek letters that stand alone do not count.
        """
        scripts = Counter(map(script_of, filter(str.isalpha, _LONE_GREEK.sub("", text))))
        foreign = {name: n for name, n in scripts.items() if name not in self.scripts}
        if sum(foreign.values()) > _MOST_FOREIGN * scripts.total():
            found = max(foreign, key=lambda name: foreign[name])
            raise TextError(
                f"the text is in {found} script, which is not spoken; spoken are {self.languages}"
            )


@functools.lru_cache(maxsize=8192)
def script_of(letter: str) -> str:
    """The script of a letter, from its Unicode name: "Arabic", "Latin", "Chinese"."""
    word = unicodedata.name(letter, "unknown").split()[0]
    return _NAMES.get(word, word.capitalize())


def latinised(text: str, spoken: Spoken) -> str:
    """Text with its few letters of other scripts in plain Latin ones.

    A Greek letter that stands alone becomes its name, other letters what sounds like them.
    """
    if text.isascii():
        return text
    text = _LONE_GREEK.sub(_greek_name, text)
    return "".join([c if c <= _PLAIN_LATIN else _latin(c, spoken) for c in text])


def _greek_name(found: re.Match[str]) -> str:
    words = unicodedata.name(found[0]).split()
    name = words[words.index("LETTER") + 1].lower() if "LETTER" in words else ""
    after = found.string[found.end() : found.end() + 1]
    before = found.string[found.start() - 1 : found.start()] if found.start() else ""
    return (" " if before.isalnum() else "") + name + (" " if after.isalnum() else "")


@functools.lru_cache(maxsize=8192)
def _latin(character: str, spoken: Spoken) -> str:
    from anyascii import anyascii

    if unicodedata.category(character) in _MARKS:
        return ""
    is_letter = character.isalpha()
    script = script_of(character) if is_letter else ""
    if not is_letter or (script in spoken.scripts and script != "Latin"):
        return character
    return anyascii(character)
