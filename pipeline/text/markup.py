"""Removes markup from a text: tags of HTML and SSML, then Markdown by markdown-it.

Everything that is not markup is left as it is, in any language.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pipeline.text.tags import joined, paused, without_tags

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

# A text without any of these is no Markdown, and its lines stay unchanged.
_MARK = re.compile(
    r"""[*_`~\[\]|]|\\[!-/:-@\[-`{-~]|&\#?\w{1,32};|<[a-z]+:
    |^[ ]{0,3}(?:\#|[-+>]|=+[ ]*$|\d{1,9}[.)](?:\s|$))""",
    re.MULTILINE | re.VERBOSE,
)
_BULLET = re.compile(r"^([ \t]*)[•‣⁃◦▪▫●○■□◆◇★☆➢➤►▶✓✔✗✘☐☑☒✅❌·→][\ufe0f \t]+", re.MULTILINE)
_DEFINITION = re.compile(
    r"^[ ]{0,3}\[(?!\^)[^\[\]\n]+\]:[ \t]*<?(?:[a-z]+:|www\.|[/#.])\S*.*$", re.MULTILINE
)
_FOOTNOTE = re.compile(r"^[ ]{0,3}\[\^[^\[\]\s]+\]:", re.MULTILINE)
_FOOTNOTE_MARK = re.compile(r"\[\^[^\[\]\s]+\]")
_REFERENCE = re.compile(r"(\[[^\[\]\n]*\])[ ]?\[[^\[\]\n]*\]")
_BOX = re.compile(r"^([ \t]*(?:[-+*]|\d+[.)])[ ]+)\[[ xX]\][ ]+", re.MULTILINE)
_PRODUCT = re.compile(r"(?<=\d)([ ]?)\*([ ]?)(?=\d)")
_MOST_BRACKETS = 400  # the search for links is quadratic in their number
_MOST_NESTED = 40


def without_markup(text: str) -> str:
    """Text without the signs of Markdown, HTML and SSML, one block a line.

    Links and images are their words, headings and items of lists are sentences, rules are nothing,
    cells of a table are parts of a sentence. The number of an item is said where it stands alone.
    Text without markup comes out as it is.
    """
    text = without_tags(text)
    text = _BULLET.sub(r"\1- ", text)
    if not _MARK.search(text):
        return text
    lead = len(text) - len(text.lstrip())
    text = _PRODUCT.sub(r"\1×\2", _BOX.sub(r"\1", text[lead:]))
    if "[" in text:
        text = _without_references(text)
    return joined(_blocks(_markdown().parse(text)))


def _without_references(text: str) -> str:
    """Text without footnote marks and definitions of links; a link by reference is its words."""
    text, n_definitions = _DEFINITION.subn("", text)
    text = _FOOTNOTE_MARK.sub("", _FOOTNOTE.sub("\n\n", text))
    if n_definitions:
        text = _REFERENCE.sub(lambda found: found[1][1:-1], text)
    if text.count("[") > _MOST_BRACKETS:
        return text.replace("[", r"\[")
    return text


@functools.cache
def _markdown() -> MarkdownIt:
    """The shared parser: it keeps no state between texts, so threads may share it."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": _MOST_NESTED})
    # Indentation is layout here, and "[Laughter]: ..." defines no link.
    return parser.enable(["table", "strikethrough"]).disable(["code", "reference"])


def _blocks(tokens: Sequence[Token]) -> Iterable[str]:
    """The texts of paragraphs, headings, items, code blocks and rows, in their order."""
    row: list[str] = []
    number = ""
    lone = _lone_items(tokens)
    for index, token in enumerate(tokens):
        if token.type == "list_item_open" and token.info:
            number = f"{token.info}{token.markup} " if index in lone else ""
            if tokens[index + 1].type == "list_item_close":
                yield number
        elif token.type == "inline":
            words = number + _words(token.children or ())
            number = ""
            if tokens[index - 1].type in ("th_open", "td_open"):
                row.append(words)
            else:
                yield words
        elif token.type == "tr_close":
            yield " ".join((*map(paused, row[:-1]), *row[-1:]))
            row = []
        elif token.type == "fence":
            yield token.content


def _lone_items(tokens: Sequence[Token]) -> set[int]:
    """Indices of items that are the only one of their list, as in "1986. A great year"."""
    lone: set[int] = set()
    open_lists: list[list[int]] = []
    for index, token in enumerate(tokens):
        if token.type.endswith("_list_open"):
            open_lists.append([])
        elif token.type == "list_item_open":
            open_lists[-1].append(index)
        elif token.type.endswith("_list_close"):
            items = open_lists.pop()
            lone.update(items if len(items) == 1 else ())
    return lone


def _words(children: Iterable[Token]) -> str:
    said = ""
    for child in children:
        if child.type in ("softbreak", "hardbreak"):
            said += "\n"
        elif child.type == "image":
            said += _words(child.children or ())
        else:
            said += child.content
    return said
