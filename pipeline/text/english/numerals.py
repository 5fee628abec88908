"""Numbers as English words: cardinals, ordinals, years, digits one by one.

Our own thirty lines rather than a library: num2words takes 0.1 ms a number and says "and" in the
British way, wetext's English is quadratic in a text's length and stops at unknown signs.
"""

from __future__ import annotations

_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SCALES = ("", "thousand", "million", "billion", "trillion")
_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth",
    "nine": "ninth", "twelve": "twelfth",
}  # fmt: skip
_MOST_DIGITS = 3 * len(_SCALES)  # more are read one by one
_YEARS = range(1100, 2100)  # read in two halves
_PLAIN_YEARS = range(2000, 2010)
_CENTURY = 100
_FIRST_TEN = 10


SIGN_WORDS = {"-": "minus ", "+": "plus "}


def cardinal(digits: str) -> str:
    """Digits, without signs → "one thousand two hundred thirty-four".

    A leading zero, and more than fifteen digits, are read digit by digit.
    """
    if len(digits) > _MOST_DIGITS or (digits[0] == "0" and len(digits) > 1):
        return spelt(digits)
    number = int(digits)
    words: list[str] = []
    for scale in reversed(range(len(_SCALES))):
        part = number // 1000**scale % 1000
        if part:
            words += [_below_thousand(part), _SCALES[scale]]
    return " ".join(filter(None, words)) or _ONES[0]


def decimal(number: str) -> str:
    """A number such as "1,234.5", ".5" or "1,234" → its words."""
    whole, point, fraction = number.replace(",", "").partition(".")
    words = cardinal(whole or "0")
    return f"{words} point {spelt(fraction)}" if point else words


def ordinal(digits: str) -> str:
    """Digits → "twenty-first"."""
    head, gap, last = _split_last(cardinal(digits))
    if last in _ORDINALS:
        return head + gap + _ORDINALS[last]
    return head + gap + (last[:-1] + "ieth" if last.endswith("y") else last + "th")


def year(digits: str) -> str:
    """Digits of a year → "nineteen ninety-nine", "twenty twenty-six", "two thousand five"."""
    number = int(digits)
    if number not in _YEARS or number in _PLAIN_YEARS or len(digits) != len("1999"):
        return cardinal(digits)
    century, rest = divmod(number, _CENTURY)
    if not rest:
        return f"{_below_thousand(century)} hundred"
    link = " oh " if rest < _FIRST_TEN else " "
    return _below_thousand(century) + link + _below_thousand(rest)


def in_pairs(digits: str) -> str:
    """Three or four digits as of rooms and flights: "one oh one", "seven forty-seven"."""
    head, tail = digits[:-2], digits[-2:]
    if tail == "00" and head[0] != "0":
        return f"{cardinal(head)} hundred"
    if digits[0] == "0":
        return spelt(digits)
    rest = f"oh {cardinal(tail[1])}" if tail[0] == "0" else cardinal(tail)
    return f"{cardinal(head)} {rest}"


def plural(words: str) -> str:
    """Number words → their plural, as of decades: "nineties", "hundreds"."""
    return (
        words[:-1] + "ies" if words.endswith("y") else words + ("es" if words[-1] == "x" else "s")
    )


def spelt(digits: str) -> str:
    """Digits one by one."""
    return " ".join(_ONES[int(digit)] for digit in digits)


def _below_thousand(number: int) -> str:
    hundreds, rest = divmod(number, _CENTURY)
    words = [f"{_ONES[hundreds]} hundred"] if hundreds else []
    if rest:
        tens, ones = divmod(rest, _FIRST_TEN)
        if rest < len(_ONES):
            words.append(_ONES[rest])
        else:
            words.append(_TENS[tens] + (f"-{_ONES[ones]}" if ones else ""))
    return " ".join(words)


def _split_last(words: str) -> tuple[str, str, str]:
    """The last number word, and what stands before it."""
    for gap in ("-", " "):
        head, found, last = words.rpartition(gap)
        if found and " " not in last:
            return head, gap, last
    return "", "", words
