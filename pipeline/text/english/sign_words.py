"""Arithmetic and similar signs as English words, where they stand for words."""

from __future__ import annotations

import re

from pipeline.text.english.amounts import NUMBER
from pipeline.text.english.numerals import decimal
from pipeline.text.unicode_forms import MINUS

_OPERAND = r"[\w(√$€£-]"


def _comparison(sign: str) -> str:
    """ "a < b", "< 5", "p<.05", "x<y"; not "Home>Settings"."""
    return (
        rf"(?<=[\w)]) {sign} (?={_OPERAND})|(?<![\w{sign}]){sign}[ ]?(?=[\d$€£])"
        rf"|(?<=[\w)]){sign}(?=[.\d])|(?<=\b[a-zA-Z]){sign}(?=[a-zA-Z]\b)"
    )


_GRADE = re.compile(r"(?<=\b[A-DF])([+-])(?=[ .,;:!?)]|$)(?<!\w\w.)")
_HASHTAG = re.compile(r"(?<![\w#&/])#(?P<tag>[^\W\d]\w*)")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[A-Za-z])(?=\d)|_")
_TIMES = re.compile(rf"(?<![\w.,])({NUMBER})[x×](?!\w|\.\d)")
_OPERATORS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (r"(?<=\b[CF])#(?!\w)", " sharp"),
        (r"\b0x(?=[0-9A-Fa-f]+\b)", "zero x "),
        (r"(?<=\bUTC|\bGMT)\+(?=\d)", " plus "),
        (r"(?<=\bUTC|\bGMT)-(?=\d)", " minus "),
        (r"(?<![\w#])#[ ]?(?=\d)", "number "),
        (r"(?<![\w/@])@(?=[A-Za-z])", "at "),
        (r"(?<!\S)\.(?=[A-Za-z]{2,6}\b)", "dot "),
        (r"(?<=[\w)²³⁴⁵⁶⁷⁸⁹]) \+ (?=[\w(])", " plus "),
        (rf"[ ]?(?:≤|<=)[ ]?(?={_OPERAND})", " less than or equal to "),
        (rf"[ ]?(?:≥|>=)[ ]?(?={_OPERAND})", " greater than or equal to "),
        (rf"[ ]?(?:≠|!=)[ ]?(?={_OPERAND})", " not equal to "),
        (_comparison("<"), " less than "),
        (_comparison(">"), " greater than "),
        (rf"(?<=[\w)%])[ ]?={{1,2}}[ ]?(?={_OPERAND})", " equals "),
        (r"[ ]?(?:±|\+/-)[ ]?", " plus or minus "),
        (r"[ ]?÷[ ]?|(?<=\d) / (?=\d)", " divided by "),
        (r"(?<![\w~])[~≈∼][ ]?(?=[\d$€£])", "about "),
        (r"[ ]?[≈≅][ ]?", " approximately equals "),
        (r"√[ ]?", "square root of "),
        ("∞", "infinity"),
        (r"(?<=[Ss]ection )§§?[ ]?(?=\d)", ""),
        (r"§§?[ ]?(?=\d)", "section "),
        (r"¶[ ]?(?=\d)", "paragraph "),
        ("©[ ]?", "copyright "),
        (r"(?<=\d)[ ]?[x×][ ]?(?=\d)|(?<=[\w)])[ ]?×[ ]?(?=[\w(])", " times "),
        (r"(?<=\d)(?<!\d:\d\d)(?<!\.\d\d\d)[ ]?\+[ ]?(?=\d)|(?<=\d) \+ (?=\d)", " plus "),
        (r"(?<=\d)\+(?![\w+])|(?<=\d[KkMmBb%])\+(?![\w+])", " plus"),
        (rf"[ ]?{MINUS}[ ]?", " minus "),
        (r"(?<=\d) - (?=\d+(?: equals|\?))", " minus "),
    )
)
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_RAISED = "[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+"
_FOOTNOTE = re.compile(rf"(?<=[A-Za-z]{{3}}){_RAISED}|(?<=[.,;:!?”\"]){_RAISED}")
_POWER = re.compile(rf"(?<=[\w)])(?:\^\{{?([-+]?(?:\d+|[a-z]))\}}?(?!\w)|({_RAISED}))")
_POWER_NAMES = {"2": "squared", "3": "cubed"}
_SLASH = re.compile(
    r"(?<=[^\W\d_])[ ]?/[ ]?(?=[^\W\d_])|(?<![\w)])/++(?=[\w\s]|$)|(?<=\w)/++(?=[\w\s]|$)"
)


def with_operators(text: str) -> str:
    """Text with signs that belong to numbers as words; the numbers stay: "<5" → "less than 5"."""
    text = _HASHTAG.sub(lambda found: f"hashtag {_HUMP.sub(' ', found['tag'])}", text)
    text = _GRADE.sub(lambda found: " plus" if found[1] == "+" else " minus", text)
    text = _TIMES.sub(lambda found: f"{found[1]} times", text)
    for pattern, words in _OPERATORS:
        text = pattern.sub(words, text)
    return text


def with_powers(text: str) -> str:
    """Text with powers as words and without footnote marks; a base of digits stays."""
    return _POWER.sub(_power, _FOOTNOTE.sub("", text))


def with_slashes(text: str) -> str:
    """Text with a space for "/" between words."""
    return _SLASH.sub(" ", text)


def _power(found: re.Match[str]) -> str:
    exponent = (found[1] or found[2]).translate(_SUPERSCRIPTS)
    if exponent in _POWER_NAMES:
        return f" {_POWER_NAMES[exponent]}"
    sign = "minus " if exponent[0] == "-" else ""
    digits = exponent.lstrip("+-")
    return f" to the power of {sign}{decimal(digits) if digits.isdecimal() else digits}"
