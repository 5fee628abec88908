"""Removes tags of HTML, SSML and other XML; blocks become sentences.

A "<" that begins no plausible tag is a character of the text.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

from pipeline.text.pauses import pause_of
from pipeline.text.unicode_forms import EAST_ASIAN

_NAME = r"[A-Za-z][A-Za-z0-9:.-]*"
_ATTRIBUTE = r"""\s++[\w:.-]++(?:\s*+=\s*+(?:"[^"<]*+"|'[^'<]*+'|[^\s"'<>=]++))?+"""
_TAG = re.compile(rf"<(?P<end>/?)(?P<name>{_NAME})(?P<given>(?:{_ATTRIBUTE})*+)\s*+/?>")
_GIVEN = re.compile(r"""([\w:.-]+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'<>=]+))""")
_END = re.compile(rf"</({_NAME})")
_DECLARATION = re.compile(r"<\?[A-Za-z][^<>]*>|<![A-Za-z][^<>]*>")
_CDATA = re.compile(r"<!\[CDATA\[|\]\]>")
_UNSAID = re.compile(
    r"<(!--|(?:script|style|template|svg|head|metadata|desc)\b)(?!\s*/>)", re.IGNORECASE
)
_COMMENT = "!--"
_SPELT = ("characters", "character", "spell-out", "verbatim", "digits")
_BLOCKS = frozenset((
    "address", "article", "aside", "blockquote", "body", "caption", "dd", "div", "dl", "dt",
    "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6",
    "header", "hr", "html", "li", "main", "nav", "ol", "option", "p", "s", "section", "speak",
    "summary", "table", "tbody", "tfoot", "thead", "title", "tr", "ul",
))  # fmt: skip
_INLINE = frozenset((
    "a", "abbr", "audio", "b", "base", "bdi", "bdo", "big", "br", "break", "button", "canvas",
    "center", "cite", "code", "col", "colgroup", "data", "del", "desc", "details", "dfn",
    "dialog", "em", "embed", "emphasis", "font", "head", "i", "iframe", "img", "input", "ins",
    "kbd", "label", "lang", "legend", "lexicon", "link", "lookup", "map", "mark", "math",
    "media", "meta", "metadata", "meter", "noscript", "object", "output", "par", "param",
    "phoneme", "picture", "pre", "progress", "prosody", "q", "rp", "rt", "ruby", "samp",
    "say-as", "script", "select", "seq", "small", "source", "span", "strike", "strong", "style",
    "sub", "sup", "svg", "td", "template", "textarea", "th", "time", "token", "track", "tt",
    "u", "var", "video", "voice", "w", "wbr",
))  # fmt: skip
_ELEMENTS = _BLOCKS | _INLINE
_CELLS = ("td", "th")
_QUOTES = "\"'”’»)]）」』*_`~"  # that may stand behind the mark that ends a sentence
_MARKS = ".!?…:;,。！？：；，、"


def without_tags(text: str) -> str:
    """Text without tags, comments, scripts and styles.

    Ends of blocks are ends of sentences, SSML's `<break>` is a pause, `<sub alias>` its alias,
    `<say-as>` of characters or digits is spelt, an image is its `alt`. Entities stay.
    """
    if "<" not in text:
        return text
    text = _DECLARATION.sub(" ", _without_unsaid(_CDATA.sub(" ", text)))
    endings = {name.lower() for name in _END.findall(text)}
    reading = _Reading()
    at = 0
    for tag in _TAG.finditer(text):
        if _is_tag(tag, endings):
            reading.add(text[at : tag.start()])
            reading.pass_tag(tag)
            at = tag.end()
    reading.add(text[at:])
    return reading.finished()


class _Reading:
    """The spoken text collected so far."""

    def __init__(self) -> None:
        self._blocks: list[str] = []
        self._block = ""
        self._special = ""  # `sub` or `say-as`: its text is not spoken literally
        self._how = ""  # of `say-as`

    def add(self, text: str) -> None:
        if self._special == "say-as":
            self._block += _said_as(text, self._how)
        elif self._special != "sub":
            self._block += text

    def pass_tag(self, tag: re.Match[str]) -> None:
        name, given = tag["name"].lower(), _given(tag["given"])
        if tag["end"] and name == self._special:
            self._special = ""
        if name in _BLOCKS:
            self._blocks.append(self._block)
            self._block = ""
        elif tag["end"]:
            return
        elif name == "br":
            self._block += "\n"
        elif name == "break":
            written = f"<break time={given.get('time', '')!r}>"
            self._block += pause_of(given.get("strength"), given.get("time"), written)
        elif name in _CELLS:
            self._block = paused(self._block) + " "
        elif name == "img":
            self._block += given.get("alt", "")
        elif name == "sub" and "alias" in given:
            self._special = name
            self._block += given["alias"]
        elif name == "say-as":
            self._special, self._how = name, given.get("interpret-as", "")

    def finished(self) -> str:
        return joined((*self._blocks, self._block))


def _without_unsaid(text: str) -> str:
    """Text without comments and elements without spoken words."""
    kept: list[str] = []
    at = 0
    unended: set[str] = set()  # searched for once: a text of openings alone stays linear
    for opening in _UNSAID.finditer(text):
        name = opening[1].lower()
        if opening.start() < at or name in unended:
            continue
        end = "-->" if name == _COMMENT else rf"</{name}\s*>"
        ending = re.compile(end, re.IGNORECASE).search(text, opening.end())
        if ending is None:
            unended.add(name)
            continue
        kept.append(text[at : opening.start()])
        at = ending.end()
    return " ".join((*kept, text[at:])).replace("<!--", " ")


def _is_tag(tag: re.Match[str], endings: set[str]) -> bool:
    """Whether it is one: "<b>" is a tag, "<y and y>" a comparison."""
    name, given = tag["name"].lower(), tag["given"]
    if tag["end"] or "=" in given or name in endings or ":" in name or tag[0].endswith("/>"):
        return True
    return name in _ELEMENTS and not given.strip()


def _given(attributes: str) -> dict[str, str]:
    return {
        name.lower(): html.unescape(double or single or bare)
        for name, double, single, bare in _GIVEN.findall(attributes)
    }


def _said_as(text: str, how: str) -> str:
    if how in _SPELT:
        return " ".join(text.replace(" ", ""))
    if how == "ordinal" and text.strip().isdecimal():
        return text.strip() + _ordinal_ending(int(text))
    return text


def _ordinal_ending(number: int) -> str:
    if number % 100 in range(11, 14):
        return "th"
    return {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


def joined(blocks: Iterable[str]) -> str:
    """Blocks, one a line, blank ones left out; where another follows, its sentence is closed."""
    kept = [block for block in blocks if block.strip()]
    return "\n".join((*map(closed, kept[:-1]), *kept[-1:]))


def closed(text: str) -> str:
    """Text whose last sentence has its mark; empty and marked text stay as they are."""
    return _marked(text, ".", "。")


def paused(text: str) -> str:
    """Text that ends in a pause."""
    return _marked(text, ",", "，")


def _marked(text: str, narrow: str, wide: str) -> str:
    text = text.rstrip()
    last = text.rstrip(_QUOTES)[-1:]
    if not last or last in _MARKS:
        return text
    return text + (wide if EAST_ASIAN.match(last) else narrow)
