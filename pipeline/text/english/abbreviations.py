"""Expands English titles, abbreviations, Roman numerals and web addresses into words."""

from __future__ import annotations

import re

from pipeline.text.addresses import EMAIL, with_said_addresses
from pipeline.text.english.numerals import cardinal, ordinal

_TITLES = {
    "Mr": "Mister", "Mrs": "Missus", "Ms": "Miz", "Dr": "Doctor", "Prof": "Professor",
    "Rev": "Reverend", "Capt": "Captain", "Lt": "Lieutenant", "Sgt": "Sergeant", "Col": "Colonel",
    "Gen": "General", "Gov": "Governor", "Sen": "Senator", "Rep": "Representative", "Mt": "Mount",
    "St": "Saint", "Hon": "Honorable", "Pres": "President",
}  # fmt: skip
_BEFORE_NUMBER = {
    "No": "number", "Nos": "numbers", "nos": "numbers", "Ext": "Extension", "Sec": "Section",
    "sec": "section",
    "Approx": "Approximately", "Est": "Established", "Op": "Opus", "op": "opus", "p": "page",
    "pp": "pages", "ch": "chapter", "Ch": "Chapter",
    "vol": "volume", "Vol": "Volume", "fig": "figure", "Fig": "Figure", "figs": "figures",
    "Figs": "Figures", "eq": "equation", "Eq": "Equation", "tel": "telephone", "Tel": "Telephone",
    "ca": "about", "c": "about", "est": "established", "ext": "extension",
    "approx": "approximately",
}  # fmt: skip
_ANYWHERE = {
    "e.g.": "for example", "i.e.": "that is", "etc.": "et cetera", "vs.": "versus", "vs": "versus",
    "approx.": "approximately", "cf.": "compare", "temp.": "temperature", "max.": "maximum",
    "avg.": "average", "esp.": "especially", "govt.": "government", "misc.": "miscellaneous",
    "Co.": "Company", "Hwy.": "Highway", "Ln.": "Lane", "Apt.": "Apartment", "apt.": "apartment",
    "dept.": "department", "incl.": "including",
    "a.k.a.": "also known as", "w/o": "without", "w/": "with", "b/c": "because", "c/o": "care of",
    "Inc.": "Incorporated", "Ltd.": "Limited", "Corp.": "Corporation", "Bros.": "Brothers",
    "Ave.": "Avenue", "Blvd.": "Boulevard", "Rd.": "Road", "Jr.": "Junior", "Sr.": "Senior",
    "et al.": "and others", "km/h": "kilometers per hour", "m/s": "meters per second",
    "401k": "four oh one K", "401(k)": "four oh one K",
    "24/7": "twenty-four seven", "9/11": "nine eleven",
}  # fmt: skip
_ANYWHERE |= {
    short.capitalize(): words.capitalize() for short, words in _ANYWHERE.items() if short.islower()
}
_TITLE = re.compile(
    rf"\b({'|'.join(_TITLES)})\.(?=[ ]?[A-Z]|[ ](?:&|and)[ ][A-Z])|\b(Mr|Mrs|Ms|Dr)(?=[ ][A-Z])"
)
_STREET = re.compile(r"(?<=[a-z] )St\b\.?(?=[,;:.!?]|[ ](?:[a-z]|and\b)|$)")
_DRIVE = re.compile(
    r"\b(?!(?:The|A|Our|My|Her|His|Dear)\b)(?P<name>[A-Z][a-z]+) Dr\b\.?"
    r"(?=[,;:!?]|$|[ ](?:[a-z]|[A-Z]{2}\b))"
)
_NUMBERED = re.compile(rf"\b({'|'.join(_BEFORE_NUMBER)})\.:?[ ]?(?=[#+($]?\d)")
_SHORT = re.compile(
    r"(?<![\w./])(?<!\d )(?:"
    + "|".join(re.escape(short) for short in sorted(_ANYWHERE, key=len, reverse=True))
    + r")(?![\w/])"
)
_ROMAN = re.compile(
    r"\b(?P<before>[A-Za-z]{3,}) (?P<roman>(?:XL|L?X{0,3})(?:IX|IV|V?I{0,3}))(?![\w'’-])"
)
_SIZES = frozenset(("L", "XL", "XXL", "XXX", "LI"))
_COUNTED = frozenset((
    "chapter", "part", "volume", "book", "phase", "type", "act", "war", "section", "article",
    "level", "stage", "appendix", "episode", "season", "grade", "class", "mark", "title", "scene",
))  # fmt: skip
_RULERS = frozenset((
    "henry", "louis", "charles", "george", "edward", "william", "james", "elizabeth", "richard",
    "philip", "frederick", "napoleon", "alexander", "peter", "catherine", "pius", "benedict",
    "paul", "francis", "leo", "gregory", "nicholas", "leopold", "ferdinand", "gustav", "christian",
    "ramses", "ptolemy", "innocent", "clement", "urban", "wilhelm", "felipe", "carl", "harald",
))  # fmt: skip
_ROMAN_DIGITS = {"I": 1, "V": 5, "X": 10, "L": 50}
_SAID_IN_ADDRESS = {
    ".": "dot", "_": "underscore", "-": "dash", "+": "plus", "%": "percent", "/": "slash",
    "?": "question mark", "=": "equals", "&": "and", "#": "hash", "~": "tilde", ":": "colon",
    "@": "at", "\\": "backslash",
}  # fmt: skip
_AHEAD = 3  # characters in which a next sentence begins


def written_out(text: str) -> str:
    """Text with addresses, titles, abbreviations and Roman numerals as words."""
    text = with_said_addresses(EMAIL.sub(_email, text), _address)
    text = _NUMBERED.sub(lambda found: _BEFORE_NUMBER[found[1]] + " ", text)
    text = _DRIVE.sub(r"\g<name> Drive", _STREET.sub("Street", text))
    text = _TITLE.sub(lambda found: _TITLES[found[1] or found[2]], text)
    text = _SHORT.sub(_short, text)
    return _ROMAN.sub(_roman, text)


def _email(found: re.Match[str]) -> str:
    return f"{_address(found['user'])} at {_address(found['host'])}"


def _address(address: str) -> str:
    said = "".join(
        f" {_SAID_IN_ADDRESS[character]} " if character in _SAID_IN_ADDRESS else character
        for character in address
    )
    return " ".join(said.split())


def _short(found: re.Match[str]) -> str:
    """An abbreviation's full stop also ends the sentence when nothing or a capital follows."""
    after = found.string[found.end() : found.end() + _AHEAD].lstrip(" ")[:1]
    ends = found[0] == "etc." and (not after or after.isupper() or after == "\n")
    return _ANYWHERE[found[0]] + ("." if ends else "")


def _roman(found: re.Match[str]) -> str:
    """ "World War II" is counted, "Henry VIII" is the eighth; "I" is mostly no number."""
    roman, before = found["roman"], found["before"]
    is_counted = before.lower() in _COUNTED
    is_ruler = before.lower() in _RULERS and before[0].isupper()
    is_pronoun = (
        roman == "I"
        and before != "War"
        and (before.islower() or found.string[found.end() + 1 : found.end() + 2].islower())
    )
    is_read = is_counted or is_ruler or (len(roman) > 1 and before[0].isupper())
    if not roman or roman in _SIZES or is_pronoun or not is_read:
        return found[0]
    values = [_ROMAN_DIGITS[letter] for letter in roman]
    pairs = zip(values, [*values[1:], 0], strict=True)
    number = str(sum(-value if value < after else value for value, after in pairs))
    return f"{before} {'the ' + ordinal(number) if is_ruler else cardinal(number)}"
