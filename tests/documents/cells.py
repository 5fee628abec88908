"""Tables in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_PAGE = re.compile(r"docs/([a-z0-9_/-]+\.md)")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """With a line's end."""
    lines = [" | ".join(row) for row in (head, *rows)]
    lines.insert(1, "|".join("---" for _ in head))
    return "\n".join(f"| {line} |" if "---" not in line else f"|{line}|" for line in lines) + "\n"


def cell(text: str) -> str:
    """On one line; other pages of docs/ are linked."""
    line = " ".join(text.split()).replace("|", "\\|")
    return _PAGE.sub(r"[\g<0>](\1)", line)
