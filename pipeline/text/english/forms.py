"""Written forms of English as spoken words.

Our own rules: wetext reads "$1.25" as "one point two five dollars" and "1990s" as seconds, fails on
signs outside its alphabet, and takes half a second for four thousand characters.
"""

from __future__ import annotations

import re
import unicodedata

from pipeline.text.english.abbreviations import written_out
from pipeline.text.english.amounts import (
    NUMBER,
    UNIT,
    unit_name,
    with_inches,
    with_measures,
    with_money,
)
from pipeline.text.english.calendar_forms import with_dates, with_times
from pipeline.text.english.codes import with_codes
from pipeline.text.english.numerals import (
    SIGN_WORDS,
    cardinal,
    decimal,
    in_pairs,
    ordinal,
    plural,
    spelt,
    year,
)
from pipeline.text.english.sign_words import with_operators, with_powers, with_slashes

_STARTS = r"(?<![\w.,])"
_SPACED_THOUSANDS = re.compile(
    r"(?<![\w.,])[1-9]\d{0,2}(?:(?: \d{3}){2,}|(?: 000)+)(?![\w-]|[ .,:]\d)"
)
_TELEPHONE = re.compile(
    r"(?<![\w.,/])(?:\+\d{7,15}(?!\w)|\d{1,6}(?:-\d{1,6}){3,5}(?![\w%/-]|[.,:]\d)"
    r"|(?:\+?\d{1,3}[ .-])?(?:\(\d{1,5}\)[ .-]?)?\d{2,6}(?:[ .-]\d{2,6}){0,5}"
    r"(?![\w%/]|[.,:]\d|-\w))"
)
_TELEPHONE_SHAPE = re.compile(
    r"(?:\+|\(|0\d+[ .-]).*"
    r"|(?:1[ .-])?(?:\(\d{3}\)[ .-]?|\d{3}[ .-])\d{3}[ .-]\d{4}|\d{3}-\d{4}"  # North America
    r"|\d{4}(?:[ -]\d{4}){2,}(?:[ -]\d{1,4})?|\d+(?:-\d+){2,}"  # cards, parts of codes
)
_TELEPHONE_DIGITS = range(7, 20)
_VULGAR = re.compile(r"(?:(\d)[ ]?)?([½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞⅐⅑⅒])(?=(\w)?)")
_STEP = re.compile(r"\b((?:[Ss]tep|[Pp]age|[Pp]art|[Ss]lide|[Ee]pisode) \d+)/(\d+)(?![\d/])")
_SIDES = re.compile(rf"((?<![\w.,])(?:{NUMBER})[ ]?(?:{UNIT}))[ ]?[x×][ ]?(?=\d)")
_HALVES = re.compile(r"(?<![\w.,-])50-50(?![\w-])")
_HUNDREDS = re.compile(r"(?<![\w.,$€£])(\d{1,3}(?:,000)+|[1-9]0{2,6})s(?= of\b)")
_FRACTION = re.compile(
    rf"(?<![\w.,/])(?:(?P<whole>\d+)[ -])?(?P<over>\d{{1,4}})/(?P<under>\d{{1,4}})"
    rf"(?:[ ]?(?P<unit>{UNIT}))?(?![\w/]|[.,]\d)"
)
_ORDINAL = re.compile(r"(?<![\w.])(\d{1,3}(?:,\d{3})+|\d+)(?:st|nd|rd|th)(?!\w)")
_VERSION = re.compile(r"\b[Vv](?=\d+\.\d)")
_POINTED = re.compile(r"(?<![\d.,])\d+(?:\.\d+){2,}(?!\w|,\d)")
_RATIO = re.compile(rf"(?<![\w.,:])(?:{NUMBER})(?::(?:{NUMBER})){{1,3}}(?![\w:])")
_SCIENTIFIC = re.compile(
    rf"{_STARTS}(?P<number>\d+(?:\.\d+)?)[eE](?P<sign>[+-]?)(?P<power>\d{{1,3}})"
    rf"(?:[ ]?(?P<unit>{UNIT}))?(?!\w|\.\d)"
)
_LASTING = re.compile(
    r"(?<![\w.,])(?:(?P<hours>\d{1,3})[ ]?h(?:rs?)?[ ]?)?"
    r"(?P<minutes>\d{1,3})[ ]?m(?:in)?(?:[ ]?(?P<seconds>\d{1,2})[ ]?s)?(?![\w/²³])"
)
_DECADES = re.compile(r"(?<![\w.,])([2-9]0)s (and|or|to) ([2-9]0)s(?!\w)")
_TOLL_FREE = re.compile(r"(?<![\w.,-])1-(8(?:00|88|77|66|55|44|33)|900)-(?=[A-Z]{3,})")
_RANGE = re.compile(
    rf"(?<![\w.,-])(?P<low>{NUMBER})[ ]?[-–—][ ]?(?P<high>{NUMBER})(?![\w-]|[.,:/]\d)"
)
_SCALED = re.compile(rf"{_STARTS}(?:({NUMBER})(k)|(\d+\.\d+)([MB]))(?!\w)")
_SCALES = {"k": "thousand", "M": "million", "B": "billion"}
_COMMA = re.compile(r"(?<=\d),(?=\d)(?!\d{3}(?!\d))|(?<=\w):(?=\d)")  # "1,2" and "host:80"
_NUMBER = re.compile(
    rf"(?<![A-Za-z0-9_])(?<!\d\.)(?P<sign>(?<![\w).])[-+](?=[\d.]))?(?P<number>{NUMBER})"
    r"(?![A-Za-z0-9_]|\.\d)"
)
_OUT_OF = (10, 100)
_SPOKEN_FRACTIONS = range(2, 21)  # twentieths are said, twenty-thirds are not
_LONGEST_CARDINAL = 9  # digits; more without commas are a code
_YEAR_DIGITS = 4
_ADDRESS_PARTS = 4


def with_words(text: str) -> str:
    """English text → the same with its written forms as words.

    Money, dates, times, telephone numbers, measures, fractions, ranges, ordinals, numbers,
    abbreviations, addresses, signs between numbers. Letters mixed with digits ("A4") stay.
    """
    text = with_operators(written_out(text))
    if any(character.isnumeric() for character in text):
        text = _with_numbers(text)
    return with_slashes(with_powers(with_money(text)))


def digits(text: str) -> str:
    """The digits of a text, one by one; other characters but white space and hyphens stay."""
    return " ".join(
        spelt(c) if c.isascii() and c.isdecimal() else c for c in text if c not in " -\t"
    )


def telephone(text: str) -> str:
    """The digits of a text in groups, as a telephone number is said."""
    plus = "plus " if text.lstrip().startswith("+") else ""
    return plus + ", ".join(map(_in_groups, re.findall(r"[0-9]+", text)))


def number(sign: str, digits: str) -> str:
    """A number; the sign is "-", "+" or nothing."""
    return SIGN_WORDS.get(sign, "") + decimal(digits)


def fraction(whole: str | None, over: str, under: str) -> str:
    """ "1", "3", "4" → "one and three quarters"."""
    return _FRACTION.sub(_fraction, f"{whole} {over}/{under}" if whole else f"{over}/{under}")


def _with_numbers(text: str) -> str:
    """From the longest forms to the shortest: each leaves no digits for the next."""
    text = _SPACED_THOUSANDS.sub(lambda found: found[0].replace(" ", ""), text)
    text = _SCIENTIFIC.sub(_scientific, _LASTING.sub(_lasting, text))
    text = _DECADES.sub(
        lambda found: f"{plural(cardinal(found[1]))} {found[2]} {plural(cardinal(found[3]))}", text
    )
    text = _TOLL_FREE.sub(lambda found: f"one {in_pairs(found[1])} ", text)
    text = _HALVES.sub("fifty-fifty", with_inches(text))
    text = _SIDES.sub(r"\1 by ", _HUNDREDS.sub(_hundreds, text))
    text = with_money(with_times(with_dates(with_codes(text))))
    text = _TELEPHONE.sub(_telephone, text)
    text = _VULGAR.sub(_vulgar, text)
    text = _FRACTION.sub(_fraction, _STEP.sub(r"\1 of \2", text))
    text = with_powers(with_measures(text))
    text = _ORDINAL.sub(lambda found: ordinal(found[1].replace(",", "")), text)
    text = _POINTED.sub(_pointed, _VERSION.sub("version ", text))
    text = _RATIO.sub(_ratio, text)
    text = _RANGE.sub(lambda found: f"{_read(found['low'])} to {_read(found['high'])}", text)
    text = _SCALED.sub(_scaled, text)
    text = _COMMA.sub(", ", text)
    return _NUMBER.sub(
        lambda found: SIGN_WORDS.get(found["sign"] or "", "") + _read(found["number"]), text
    )


def _ratio(found: re.Match[str]) -> str:
    return " to ".join(map(decimal, found[0].split(":")))


def _scientific(found: re.Match[str]) -> str:
    sign = SIGN_WORDS["-"] if found["sign"] == "-" else ""
    unit = f" {unit_name(found['unit'], is_one=False)}" if found["unit"] else ""
    power = f"ten to the power of {sign}{cardinal(str(int(found['power'])))}"
    return f"{decimal(found['number'])} times {power}{unit}"


def _lasting(found: re.Match[str]) -> str:
    """ "1h 30m", "2m 30s"; "30m" alone is a length."""
    if not found["hours"] and not found["seconds"]:
        return found[0]
    given = found.groupdict()
    return " ".join(
        f"{cardinal(str(int(given[unit])))} {unit if int(given[unit]) != 1 else unit[:-1]}"
        for unit in ("hours", "minutes", "seconds")
        if given[unit]
    )


def _hundreds(found: re.Match[str]) -> str:
    words = cardinal(found[1].replace(",", "")).removeprefix("one ")
    return plural(words)


def _read(number: str) -> str:
    """A number that stands alone: four digits are read as a year, many as a code."""
    if not number.isdecimal():
        return decimal(number)
    if len(number) == _YEAR_DIGITS:
        return year(number)
    if len(number) > _LONGEST_CARDINAL and not number.endswith("000"):
        return _in_groups(number)
    return cardinal(number)


def _telephone(found: re.Match[str]) -> str:
    written = found[0]
    groups = re.findall(r"\d+", written)
    if sum(map(len, groups)) not in _TELEPHONE_DIGITS or not _TELEPHONE_SHAPE.fullmatch(written):
        return written
    return ("plus " if written[0] == "+" else "") + ", ".join(map(_in_groups, groups))


def _in_groups(digits: str) -> str:
    """Digits one by one, a pause behind each third; four stay together."""
    groups: list[str] = []
    while len(digits) > _YEAR_DIGITS:
        groups.append(digits[:3])
        digits = digits[3:]
    return ", ".join(map(spelt, (*groups, digits)))


def _scaled(found: re.Match[str]) -> str:
    return f"{decimal(found[1] or found[3])} {_SCALES[found[2] or found[4]]}"


def _pointed(found: re.Match[str]) -> str:
    """ "2.0.1" is a version, "192.168.1.1" an address, "12.345.678" a number."""
    groups = found[0].split(".")
    if all(len(group) == len("000") for group in groups[1:]):
        return cardinal("".join(groups))
    link = " dot " if len(groups) == _ADDRESS_PARTS else " point "
    return link.join(map(cardinal, groups))


def _vulgar(found: re.Match[str]) -> str:
    """ "2½" → "2 1/2"."""
    plain = unicodedata.normalize("NFKC", found[2]).replace("\u2044", "/")
    return (f"{found[1]} " if found[1] else "") + plain + (" " if found[3] else "")


def _fraction(found: re.Match[str]) -> str:
    over, under = int(found["over"]), int(found["under"])
    if over == under or (under in _OUT_OF and not found["whole"]):
        link = " " if under not in _OUT_OF else " out of "
        words = f"{cardinal(found['over'])}{link}{cardinal(found['under'])}"
    elif over > under or under not in _SPOKEN_FRACTIONS:
        words = f"{cardinal(found['over'])} over {cardinal(found['under'])}"
    else:
        words = _part(over, under)
    if found["whole"]:
        words = f"{cardinal(found['whole'])} and {'a half' if words == 'one half' else words}"
    unit = found["unit"]
    return words + (
        f" {unit_name(unit, is_one=not found['whole'] and over < under)}" if unit else ""
    )


def _part(over: int, under: int) -> str:
    name = {2: "half", 4: "quarter"}.get(under) or ordinal(str(under))
    many = "halves" if name == "half" else name + "s"
    return f"{cardinal(str(over))} {name if over == 1 else many}"
