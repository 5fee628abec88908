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
_LEAST_KANA = 0.2  # for each ideograph of Japanese; Chinese shops write "の"
_LONE_GREEK = re.compile(
    r"(?<![A-Za-z\u00c0-\u03ff])[\u0370-\u03ff](?![\u0370-\u03ff])"
)  # "π", "Δx"
_MARKS = ("Mn", "Mc")
_PLAIN_LATIN = "\u00ff"  # espeak spells letters beyond, "s cedilla", or names their code


_IDEOGRAPH = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")
_KANA = re.compile("[\u3041-\u30fa\u30fc-\u30ff]")
_HANGUL = re.compile("[\uac00-\ud7a3]")
_WIDE_MARK = re.compile("[，。！？；：、]")
# Parts of addresses and units are of no language.
_LATIN_WORD = re.compile(
    r"(?<![@./\\:\d_-])[A-Za-z\u00c0-\u024f]{2,}+(?![@\d/\\_]|://|\.[a-z])|[AaI](?=[ ])"
)


def language_of(text: str) -> str:
    """The language of most words: `en`, `zh`, `ja` or `ko`; of a text without words `en`."""
    n_latin = len(_LATIN_WORD.findall(text))
    n_han, n_kana = len(_IDEOGRAPH.findall(text)), len(_KANA.findall(text))
    n_hangul = len(_HANGUL.findall(text))
    if n_hangul > max(n_latin, n_han, n_kana):
        return "ko"
    if n_kana > n_latin and n_kana >= _LEAST_KANA * n_han:
        return "ja"
    is_even = n_han == n_latin and _WIDE_MARK.search(text) is not None
    return "zh" if n_han > n_latin or is_even else "en"


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
