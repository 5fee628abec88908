"""Removes unspoken signs: emoji, rules, dot leaders, bullets, repeated marks."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable

from pipeline.text.pauses import PROTECTED as PAUSE
from pipeline.text.unicode_forms import EAST_ASIAN

# Tags that a checkpoint acts on, and control symbols that its prompt must be able to refuse.
_PROTECTED = re.compile(rf"(\[[A-Za-z-]+\]|<audio_\d+>|<\|\w+\|>|{PAUSE})")

_RULE = re.compile(r"^[ \t]*+(?:[-=_*#~+—–|:]{3,}+[ \t]*+)++$", re.MULTILINE)
_LEADER = re.compile(
    r"[ \t]*(?:[.…·․‥]{4,}+|…{3,}+|(?<![.·_])(?:[.·_] ){3,}+[.·_]*+)[ \t]*(?P<end>$|(?=[\n)]))?"
)
_DRAWN = re.compile(r"([=_*#~|\\^])\1{2,}+|([-+/<>—–])\2{3,}+")
_DRAWN_OF_SEVERAL = re.compile(
    r"[-=_*#~+<>|\\/^•·:—–]{5,}+"
    r"|(?<!\S)(?:[-=_*#~+|•·—–][ \t]++){3,}+(?:[-=_*#~+|•·—–](?!\S))?"
)
_REPEATED = re.compile(r"([^\w\s])\1{3,}+")
_CRIES = re.compile(r"[!?！？]{3,}+")
_COMMAS = re.compile(r"([,;、，；。：])(?:[ \t]*+\1)++")
_ARROW = re.compile(
    r"[ \t]*+(?:<?[-=]{1,3}>|<-{1,3}(?=[ \t])|[←-⇿⟵-⟿➔➘-➾⬅-⬇⮕])++[ \t]*+(?P<end>$|(?=\n))?"
)
_EMOTICON = re.compile(
    r"(?<!\S)(?:[:;=][-'^]?[)(DPpOo|]|<3|\^[_.]?\^|:'\(|[¯\\_]*\(ツ\)[_/¯]*)(?!\S)"
)
_SHORTCODE = re.compile(r"(?<![\w:]):(?:[a-z][a-z0-9_+-]*+|[+-]1):(?![\w:])")
_BULLET = re.compile(r"(?<=\S)[ \t]++[•‣⁃◦▪▫●○■□◆◇|¦│┃‖·]++[ \t]++(?=\S)")
_EMPTY = re.compile(r"\([ \t]*\)|“[ \t]*”|\[[ \t]*\]|（[ \t]*）")
_UNSAID = frozenset("|¦\\*`^{}¨¯¸†‡※¶•‣⁃◦‖")
_UNSAID_WITH_SPACE = frozenset("_#~<>")
_SAID_SYMBOLS = frozenset("°©")  # pictures by category that languages have words for
_MEANT = frozenset("°～〜")
_WIDE_MARKS = frozenset("，。：；！？、（）「」『』《》“”…")
_PICTURES = ("So", "Sk")
_MATHEMATICS = "Sm"
_MONEY = "Sc"
_GAP = "\x00"  # where a sign was: a space, but none before a mark or between ideographs
_GAPS = re.compile(rf"[ \t]*{_GAP}[ \t{_GAP}]*(?P<mark>(?=[,.;:!?…)\]，。；：！？、]|$|\n))?")


def outside_tags(change: Callable[[str], str], text: str) -> str:
    """Text changed everywhere but in "[Laughter]" and its like, and in control symbols."""
    return "".join(
        part if index % 2 else change(part) for index, part in enumerate(_PROTECTED.split(text))
    )


def protected_spans(text: str) -> list[tuple[int, int]]:
    """Where these stand, in their order."""
    return [found.span() for found in _PROTECTED.finditer(text)]


def without_drawings(text: str) -> str:
    """Text without drawn, unspoken signs; line ends stay.

    Rules go, dot leaders and arrows become a pause, runs of "!" and "?" one of each. Emoji, box
    drawing and other pictures go with their space. Signs with a meaning and ordinary punctuation
    stay as they are.
    """
    text = _LEADER.sub(_leader, _RULE.sub("", text))
    text = _EMOTICON.sub(_GAP, _SHORTCODE.sub(_GAP, text))
    text = _DRAWN_OF_SEVERAL.sub(_GAP, _DRAWN.sub(_GAP, text))
    text = _COMMAS.sub(r"\1", _CRIES.sub(lambda found: "".join(dict.fromkeys(found[0])), text))
    text = _BULLET.sub(", ", _ARROW.sub(_arrow, text))
    text = "".join([c if c.isascii() else _not_drawn(c) for c in text])
    return _REPEATED.sub(r"\1", _closed_gaps(text))


def without_signs(text: str) -> str:
    """Text without the signs that no front end turned into words."""
    text = "".join([_said(c) for c in text])
    return _EMPTY.sub("", _closed_gaps(text))


@functools.lru_cache(maxsize=8192)
def _not_drawn(character: str) -> str:
    is_picture = unicodedata.category(character) in _PICTURES
    return _GAP if is_picture and character not in _SAID_SYMBOLS else character


@functools.lru_cache(maxsize=8192)
def _said(character: str) -> str:
    if character.isalnum() or character.isspace():
        return character
    if character in _UNSAID_WITH_SPACE:
        return _GAP
    category = unicodedata.category(character)
    is_sign = category in (*_PICTURES, _MONEY) or (
        category == _MATHEMATICS and not character.isascii()
    )
    return _GAP if character in _UNSAID or (is_sign and character not in _MEANT) else character


def _before(found: re.Match[str]) -> str:
    """The character before the match; white space beyond it belongs to the match."""
    return found.string[found.start() - 1 : found.start()] if found.start() else ""


def _leader(found: re.Match[str]) -> str:
    """A pause before what follows; at the end of a line what it looks like, "..."."""
    is_wide = EAST_ASIAN.match(_before(found))
    if is_wide:
        return "……"
    return "..." if found["end"] is not None else ", "


def _arrow(found: re.Match[str]) -> str:
    before = _before(found)
    if found["end"] is not None or not (before.isalnum() or before in ")\"'”’"):
        return _GAP
    return "，" if EAST_ASIAN.match(before) else ", "


def _closed_gaps(text: str) -> str:
    return _GAPS.sub(_closed_gap, text) if _GAP in text else text


def _closed_gap(found: re.Match[str]) -> str:
    text, start, end = found.string, found.start(), found.end()
    if found["mark"] is not None and end < len(text):
        return ""
    around = (text[start - 1 : start] if start else "", text[end : end + 1])
    return "" if all(EAST_ASIAN.match(c) or c in _WIDE_MARKS for c in around) else " "
