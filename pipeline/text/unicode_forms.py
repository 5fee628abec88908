"""Normalises Unicode: composed, narrow, without invisible characters.

Never guesses at a wrong encoding.
"""

from __future__ import annotations

import functools
import re
import unicodedata

MINUS = "\u2212"  # of a subtraction
_SPACES = re.compile("[\v\f\x1c-\x1f]")  # that `str.split` takes for white space and ftfy for noise
_LINE_ENDS = str.maketrans(dict.fromkeys("\x85\u2028\u2029", "\n"))
_KEYCAP = re.compile("[0-9#*]\ufe0f?\u20e3")
_SELECTORS = re.compile("[\ufe00-\ufe0f\u180b-\u180d\U000e0100-\U000e01ef]")
# Thin and no-break spaces inside a number group its thousands.
_GROUPED = re.compile(r"(?<![\d.,])(\d{1,3}(?:[\u00a0\u2009\u202f]\d{3})+)(?!\d)")
# Letters of scripts that write with full-width marks: ideographs, kana, bopomofo, hangul.
EAST_ASIAN = re.compile("[\u3005-\u3007\u3041-\u312f\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3]")
_WIDE_MARKS = "！（），：；？～"  # ordinary punctuation of East Asian text, a guest's elsewhere
_WIDE_IN_NUMBERS = re.compile("(?<=[0-9０-９])[．：／](?=[0-9０-９])|(?<=[０-９])，(?=[０-９]{3})")
_MINUS = re.compile(
    r"(?:(?P<from>\d+(?:\.\d+)?)(?P<gap>[ ]?))?\u2212"
    r"(?=[ ]?(?P<taken>\d+(?:\.\d+)?)(?P<is>[ ]?=)?)?"
)
_KEPT = "…‥²³¹⁰⁴⁵⁶⁷⁸⁹⁺⁻½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞⅐⅑⅒↉™℠"  # their form carries meaning; later steps read them
_HANGUL_LETTERS = ("\u3131", "\u318e")  # NFKC makes them parts of syllables that are not there
_INVISIBLE = ("Cc", "Cf", "Cn", "Co", "Cs")
_PLAIN_FORMS = {
    "\u00b4": "'", "\u02b9": "'", "\u02bb": "'", "\u02bc": "'", "\u2032": "'", "\u2033": '"',
    "\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2015": "—",
    "\u00b5": "μ", "\u2126": "Ω", "\u2024": ".", "\u2044": "/", "\u2215": "/",
    "\u2116": "No. ", "\ufffd": "",
}  # fmt: skip
_MARK = "Mn"
_SEPARATE = ("<circle>", "<square>")  # "①②" is no twelve


def composed(text: str) -> str:
    """Text → the same text in composed (NFC), narrow form.

    Halves of surrogate pairs are joined or dropped, as are control, format, private and unassigned
    characters. Line ends become "\\n". Superscripts, fractions and "…" stay: they have a meaning of
    their own. Ordinary text comes out as it is.
    """
    if text.isascii() and text.isprintable():
        return text
    text = _SELECTORS.sub("", _KEYCAP.sub(" ", text))
    text = _SPACES.sub(" ", text.translate(_LINE_ENDS))
    text = _ftfy()(text)
    if text.isascii():
        return text
    text = _GROUPED.sub(lambda found: re.sub(r"\s", "", found[1]), text)
    text = _WIDE_IN_NUMBERS.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text)
    text = _MINUS.sub(_minus, text)
    kept = _WIDE_MARKS if EAST_ASIAN.search(text) else ""
    text = "".join([c if c.isascii() or c in kept else _form(c) for c in text])
    return _without_stray_marks(unicodedata.normalize("NFC", text))


def _minus(found: re.Match[str]) -> str:
    """Stays between numbers in "5−3" and "3−5=−2"; elsewhere it is a hyphen, as in "10−20 kg"."""
    if not found["from"]:
        return "-"
    is_taken = found["taken"] and (found["is"] or float(found["from"]) > float(found["taken"]))
    return f"{found['from']}{found['gap']}{MINUS if is_taken else '-'}"


@functools.cache
def _ftfy() -> functools.partial[str]:
    """ftfy without its guesses: no encodings, no entities, no quotation marks."""
    import ftfy

    config = ftfy.TextFixerConfig(
        unescape_html=False,
        fix_encoding=False,
        restore_byte_a0=False,
        replace_lossy_sequences=False,
        decode_inconsistent_utf8=False,
        fix_c1_controls=False,
        fix_character_width=False,
        uncurl_quotes=False,
        explain=False,
    )
    return functools.partial(ftfy.fix_text, config=config)


@functools.lru_cache(maxsize=8192)
def _form(character: str) -> str:
    """The plain form of one character beyond ASCII; empty for an invisible one."""
    category = unicodedata.category(character)
    if character in _PLAIN_FORMS:
        form = _PLAIN_FORMS[character]
    elif category in _INVISIBLE:
        form = ""
    elif category == "Zs":
        form = " "
    elif category == "Nd":
        form = str(unicodedata.decimal(character))
    else:
        form = _compatible(character)
    return form


def _compatible(character: str) -> str:
    """NFKC of one character, where that keeps its meaning."""
    low, high = _HANGUL_LETTERS
    tag = unicodedata.decomposition(character).partition(" ")[0]
    if character in _KEPT or low <= character <= high:
        return character
    if not tag.startswith("<"):
        is_number = "\u2460" <= character <= "\u27bf" and unicodedata.category(character) == "No"
        return f" {int(unicodedata.numeric(character))} " if is_number else character
    plain = unicodedata.normalize("NFKC", character).replace("\u2044", "/")
    if plain.startswith(" "):  # a spacing accent, which is not spoken
        return ""
    return f" {plain} " if tag in _SEPARATE and not plain.isalpha() else plain


def _without_stray_marks(text: str) -> str:
    """Remove accents that compose with no Latin letter: "Z̷a̷l̷g̷o̷" is "Zalgo"."""
    kept: list[str] = []
    base = ""
    for character in text:
        if unicodedata.category(character) == _MARK:
            if base.isascii() or unicodedata.name(base, "").startswith("LATIN"):
                continue
        else:
            base = character
        kept.append(character)
    return "".join(kept)
