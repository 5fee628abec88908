"""Writes the generated parts of docs/ anew."""

from __future__ import annotations

from tests.conftest import ROOT
from tests.documents.pages import PAGES, renewed

for path in PAGES:
    (ROOT / path).write_text(renewed(path), encoding="utf-8")
