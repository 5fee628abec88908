"""Numbers that are names: rooms, flights, postal codes, PINs, orders, emergency calls."""

from __future__ import annotations

import re

from pipeline.text.english.numerals import in_pairs, spelt

_CALLED = re.compile(
    r"\b(?P<before>(?:[Dd]ial|[Cc]all(?:ing|ed)?|[Pp]hone|[Tt]ext) )"
    r"(?P<number>\d11|988)(?![\w-]|[.,]\d)"
)
_PLACE = re.compile(
    r"\b(?P<before>(?:[Rr]oom|[Ss]uite|[Aa]pt\.?|[Aa]partment|[Uu]nit|[Ff]lat|[Ff]light|[Gg]ate|[Hh]ighway|Hwy\.?"
    r"|[Rr]oute|[Ii]nterstate|[Bb]us|[Bb]oeing|[Cc]hannel|[Cc]ourse|[Ff]orm|[Ww]arehouse|[Ss]tudio"
    r"|Airbus|Mazda|Peugeot|Porsche|Area Code|[Aa]rea code) #?[A-Z]{0,2}-?)"
    r"(?P<number>\d{3,4})(?![\w%/:-]|[.,]\d)"
)
_POSTAL = re.compile(
    r"(?:\b(?P<before>(?:ZIP|[Zz]ip|[Pp]ostal)(?: [Cc]ode)?:? (?:is )?)|(?<=\b[A-Z]{2} ))"
    r"(?P<number>\d{5})(?:-(?P<more>\d{4}))?(?![\w%,.-]*\d)"
)
_CODE = re.compile(
    r"\b(?P<before>(?:PIN|[Cc]ode|[Pp]assword|[Pp]asscode|ID|[Aa]ccount|[Cc]onfirmation|[Tt]racking|[Ss]erial"
    r"|[Oo]rder|[Tt]icket|[Ii]nvoice|[Cc]ase|[Rr]eference|[Bb]ooking|[Mm]ember(?:ship)?|[Ee]xtension|ext\.)"
    r"(?: (?:[Nn]umber|[Cc]ode|[Nn]o\.?|ID))?(?: is|:)? (?:number |#)?)"
    r"(?P<number>\d{4,20})(?![\w%/:-]|[.,]\d)"
)
_MODEL = re.compile(r"\b(?P<before>[A-Z]{1,3})-(?P<number>[1-9]\d{2})(?![\w%/:-]|[.,]\d)")
_HOUSE = re.compile(r"(?<![\w.,$€£-])(?P<number>[1-9]\d{2})(?P<letter>[A-Z])(?=[ ,.;]|$)")
_LINES = re.compile(r"(?<![\w.,-])(?P<number>240|360|480|720|1080|1440|2160)(?P<kind>[pi])(?!\w)")


def with_codes(text: str) -> str:
    """Text with such numbers as words, digit by digit or in pairs."""
    text = _CALLED.sub(lambda found: found["before"] + spelt(found["number"]), text)
    text = _POSTAL.sub(_postal, text)
    text = _CODE.sub(lambda found: found["before"] + _grouped(found["number"]), text)
    text = _PLACE.sub(_placed, text)
    text = _MODEL.sub(lambda found: f"{found['before']} {in_pairs(found['number'])}", text)
    text = _LINES.sub(lambda found: f"{in_pairs(found['number'])} {found['kind']}", text)
    return _HOUSE.sub(lambda found: f"{in_pairs(found['number'])} {found['letter']}", text)


def _placed(found: re.Match[str]) -> str:
    before = found["before"].rstrip("-")
    return before + (" " if before[-1].isalpha() else "") + in_pairs(found["number"])


def _postal(found: re.Match[str]) -> str:
    more = f", {spelt(found['more'])}" if found["more"] else ""
    return (found["before"] or "") + spelt(found["number"]) + more


def _grouped(digits: str) -> str:
    """A pause behind each third; four and five stay together."""
    groups: list[str] = []
    while len(digits) > len("12345"):
        groups.append(digits[:3])
        digits = digits[3:]
    return ", ".join(map(spelt, (*groups, digits)))
