"""Writes the generated parts of docs/ anew."""

from __future__ import annotations

from tests.documents.pages import PAGES, ROOT, renewed

for path in PAGES:
    (ROOT / path).write_text(renewed(path), encoding="utf-8")
