"""Written forms of Chinese as words, by wetext: dates, sums, measures, numbers.

wetext is quadratic in a text's length, so it reads one form at a time, with the neighbouring
characters that decide its reading ("2个", "第3次").
"""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wetext import Normalizer

_HAN = "[\u3400-\u4dbf\u4e00-\u9fff]"
_FORM = (
    r"(?<![A-Za-z0-9.])[-+]?[$€£¥]?[0-9]{1,20}(?![0-9])(?:[.,:/~-][0-9]{1,20}(?![0-9])){0,4}"
    r"[ ]?(?:%|°C|°F|°|[a-zA-Z]{1,4}(?:/[a-z]{1,2})?[²³]?(?![A-Za-z]))?"
)
_SPAN = re.compile(rf"{_HAN}{{0,2}}{_FORM}(?:{_HAN}{{1,4}}{_FORM}){{0,3}}{_HAN}{{0,4}}")
_VULGAR = re.compile("(?<![0-9])[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞⅐⅑⅒]")
_MOST_FORMS = 100  # in one text: each takes half a millisecond, and digits can be spoken too


def with_words(text: str) -> str:
    """Chinese text → the same with its numbers as words.

    Pinyin with tones ("guo4") stays, and so do the forms behind the hundredth.
    """
    text = _VULGAR.sub(
        lambda found: unicodedata.normalize("NFKC", found[0]).replace("\u2044", "/"), text
    )
    return _SPAN.sub(lambda found: _read(found[0]), text, count=_MOST_FORMS)


def warm() -> None:
    """Loads wetext's graphs, 0.4 s and 40 MB."""
    _normalizer()


@functools.cache
def _normalizer() -> Normalizer:
    from wetext import Normalizer

    return Normalizer(lang="zh", operator="tn")


@functools.lru_cache(maxsize=1024)
def _read(form: str) -> str:
    return str(_normalizer().normalize(form))
