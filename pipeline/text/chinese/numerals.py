"""Numbers as Chinese words: cardinals, decimals, digits one by one, years."""

from __future__ import annotations

_DIGITS = "零一二三四五六七八九"
_TELEPHONE_DIGITS = "零幺二三四五六七八九"
_PLACES = ("", "十", "百", "千")
_SCALES = ("", "万", "亿", "万亿")
_MOST_DIGITS = 4 * len(_SCALES)  # more are read one by one
_SCALE_DIGITS = 4
_TWO = "2"


def cardinal(digits: str) -> str:
    """Digits, without signs → "一千二百三十四"; a leading zero is read digit by digit."""
    if len(digits) > _MOST_DIGITS or (digits[0] == "0" and len(digits) > 1):
        return spelt(digits)
    if digits == "0":
        return _DIGITS[0]
    first = len(digits) % _SCALE_DIGITS or _SCALE_DIGITS
    groups = [digits[:first]]
    groups += [digits[at : at + _SCALE_DIGITS] for at in range(first, len(digits), _SCALE_DIGITS)]
    words, is_gap = "", False
    for index, group in enumerate(groups):
        scale = _SCALES[len(groups) - 1 - index]
        number = group.lstrip("0")
        if not number:
            is_gap = bool(words)
            continue
        if words and (is_gap or len(number) < _SCALE_DIGITS):
            words += _DIGITS[0]
        two = number == _TWO and scale
        words += ("两" if two else _below_ten_thousand(number, is_first=not words)) + scale
        is_gap = False
    return words


def decimal(number: str) -> str:
    """A number such as "1,234.5", ".5" or "1,234" → its words."""
    whole, point, fraction = number.replace(",", "").partition(".")
    words = cardinal(whole or "0")
    return f"{words}点{spelt(fraction)}" if point else words


def counted(number: str) -> str:
    """A number in front of what it counts: "2" → "两"."""
    return "两" if number == _TWO else decimal(number)


def spelt(digits: str) -> str:
    """Digits one by one, as of years and codes."""
    return "".join(_DIGITS[int(digit)] for digit in digits)


def dialled(digits: str) -> str:
    """Digits one by one, as of telephone numbers."""
    return "".join(_TELEPHONE_DIGITS[int(digit)] for digit in digits)


def _below_ten_thousand(digits: str, *, is_first: bool) -> str:
    """Of 1 to 4 digits without leading zeros."""
    words, is_gap = "", False
    for index, digit in enumerate(digits):
        place = len(digits) - 1 - index
        if digit == "0":
            is_gap = True
            continue
        if is_gap:
            words += _DIGITS[0]
        is_gap = False
        if digit == "1" and place == 1 and not words and is_first:
            words += _PLACES[1]
        elif digit == _TWO and place == len(_PLACES) - 1:
            words += "两" + _PLACES[place]
        else:
            words += _DIGITS[int(digit)] + _PLACES[place]
    return words
