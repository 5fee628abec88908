"""The pages of docs/ with a generated part: path → what makes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.conftest import ROOT
from tests.documents import settings_page, troubleshooting_page

BEGIN, END = "<!-- generated: python -m tests.documents -->", "<!-- end of generated -->"
PAGES: Mapping[str, Callable[[], str]] = {
    "docs/settings.md": settings_page.part,
    "docs/troubleshooting.md": troubleshooting_page.part,
}


def renewed(path: str) -> str:
    """The whole page with its generated part as it should be."""
    before, _, rest = (ROOT / path).read_text(encoding="utf-8").partition(BEGIN)
    return f"{before}{BEGIN}\n\n{PAGES[path]()}\n{END}{rest.partition(END)[2]}"
