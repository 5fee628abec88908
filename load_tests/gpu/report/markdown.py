"""Numbers and tables in Markdown."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence

WIDTH = 120  # of a line of prose
_PATH = re.compile(r"(?<![\w:/])/(?:[\w.+-]+/)+([\w.+-]*)")  # absolute, not of an address


def figure(value: float | None, missing: str = "") -> str:
    """Three digits or so, the way a table reads best."""
    if value is None:
        return missing
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 1 else f"{value:.3g}"


def cell(text: str) -> str:
    """Text that cannot end its cell."""
    return text.replace("|", "\\|").replace("\n", " ")


def code(text: str) -> str:
    """As code, whatever is in it."""
    inner = text.replace("`", "'").replace("\n", " ")
    return f"`{inner}`"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> list[str]:
    """Lines of a table; the first `left` columns are text, the others numbers."""
    marks = ["---" if i < left else "---:" for i in range(len(header))]
    lines = [header, marks, *([cell(value) for value in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines] + [""]


def paragraph(text: str) -> list[str]:
    """Prose as lines of a page, whatever its line breaks were."""
    wrap = textwrap.TextWrapper(WIDTH, break_long_words=False, break_on_hyphens=False)
    return [*wrap.wrap(" ".join(text.split())), ""]


def folded(title: str, lines: Sequence[str]) -> list[str]:
    """Something that opens at a click."""
    return [f"<details><summary>{title}</summary>", "", *lines, "</details>", ""]


def without_paths(text: str) -> str:
    """Absolute paths shortened to their last part: they say nothing elsewhere."""
    return _PATH.sub(r"\1", text)


def link(source: Mapping[str, str]) -> str:
    """A source by its title."""
    return f"[{source['title'].replace('[', '(').replace(']', ')')}]({source['url']})"
