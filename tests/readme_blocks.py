"""What the README shows: its fenced blocks, and the commands of those in bash."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.conftest import ROOT


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block. language: empty for a drawing. line: where it begins, from 1."""

    language: str
    text: str
    line: int

    @property
    def commands(self) -> list[str]:
        """Of a bash block: each as it stands there, without comments that follow it."""
        return list(_commands(self.text))


def blocks(name: str) -> list[Block]:
    """The fenced blocks of a Markdown file at the top of the repository."""
    found = []
    for token in _tokens(name):
        if token.type == "fence":
            first_line = token.map[0] + 1 if token.map else 0
            found.append(Block(token.info.strip(), token.content, first_line))
    return found


def code_spans(name: str) -> list[str]:
    """`code` within the sentences and tables of such a file, on one line each."""
    children = [child for token in _tokens(name) for child in token.children or ()]
    return [" ".join(child.content.split()) for child in children if child.type == "code_inline"]


def _tokens(name: str) -> list[Token]:
    text = (ROOT / name).read_text(encoding="utf-8")
    return MarkdownIt("commonmark").enable("table").parse(text)


def _commands(text: str) -> Iterator[str]:
    pending = ""
    for line in text.splitlines():
        pending += line
        if _is_whole(pending):
            if words := shlex.split(pending, comments=True):
                yield pending if "#" not in pending else shlex.join(words)
            pending = ""
        else:
            pending += "\n"
    if pending:
        raise ValueError(f"a command without its end: {pending}")


def _is_whole(command: str) -> bool:
    if command.endswith("\\"):
        return False
    try:
        shlex.split(command, comments=True)
    except ValueError:  # a quote that is still open
        return False
    return True
