"""What SSML's `<say-as>` stands for, in words."""

from __future__ import annotations

import re
from types import ModuleType

from pipeline.errors import MAX_FOUND, UnsupportedError
from pipeline.text.chinese import forms as chinese
from pipeline.text.english import forms as english

_SPELT = ("characters", "character", "spell-out", "verbatim")
_NUMBERS = frozenset(("cardinal", "number", "ordinal"))
_WRITTEN = ("time", "unit", "currency", "money", "address", "name", "text")
KINDS = (
    *_SPELT, "digits", "cardinal", "number", "ordinal", "telephone", "date", "fraction", *_WRITTEN,
)  # fmt: skip
_NUMBER = re.compile(
    r"\s*(?P<sign>[-+−]?)\s*(?P<number>\d{1,3}(?:[,，]\d{3})+|\d+)(?P<rest>\.\d+)?\s*"
)
_FRACTION = re.compile(r"\s*(?:(?P<whole>\d+)\s*[+ ]\s*)?(?P<over>\d+)\s*/\s*(?P<under>\d+)\s*")
_DATE_FORMATS = ("mdy", "dmy", "ymd", "ydm", "md", "dm", "ym", "my", "y", "m", "d")
_SEPARATORS = re.compile(r"[\s.,/年月日号-]+")


def said_as(text: str, kind: str, how: str, language: str) -> str:
    """A text that is of a kind, in words of a language (`zh`, else English).

    how: the format of a date, such as "dmy", or of a number. What is not of the kind stays as it
    is. Raises InputError for a kind that is not served.
    """
    kind = kind.strip().lower()
    if kind not in KINDS:
        raise UnsupportedError(
            f"<say-as interpret-as={kind[:MAX_FOUND]!r}> is not served; allowed: {', '.join(KINDS)}"
        )
    forms = chinese if language == "zh" else english
    if kind in _SPELT or (kind == "number" and how == "digits"):
        spelt = (forms.with_words(one) for one in text.upper() if one.strip())
        return " ".join(spelt)
    if kind == "digits":
        return forms.digits(text)
    if kind == "telephone":
        return forms.telephone(text)
    return _counted(text, kind, forms) or forms.with_words(_dated(text, kind, how.strip().lower()))


def _counted(text: str, kind: str, forms: ModuleType) -> str | None:
    """A number or a fraction in words; None for what is none."""
    if kind == "fraction" and (found := _FRACTION.fullmatch(text)):
        return str(forms.fraction(found["whole"], found["over"], found["under"]))
    found = _NUMBER.fullmatch(text) if kind in _NUMBERS else None
    if found is None:
        return None
    number = found["number"].replace(",", "").replace("，", "")
    if kind == "ordinal" and not found["rest"]:
        return str(forms.ordinal(number))
    sign = found["sign"].replace("−", "-")
    return str(forms.number(sign, number + (found["rest"] or "")))


def _dated(text: str, kind: str, order: str) -> str:
    """A date of numbers in the given order → one that has no other reading."""
    parts = _SEPARATORS.split(text.strip())
    if kind != "date" or order not in _DATE_FORMATS or not all(part.isdecimal() for part in parts):
        return text
    if len(parts) != len(order):
        return text
    given = dict(zip(order, parts, strict=True))
    if "y" in given and len(given["y"]) <= len("26"):
        given["y"] = f"20{given['y']:0>2}"
    return "-".join(f"{given[one]:0>2}" for one in "ymd" if one in given)
