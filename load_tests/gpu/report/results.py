"""The kit's JSON files, read back: what each section found on which card.

A rehearsal counts as not measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ORDER = (
    *("device", "kernels", "llm", "vocoder", "chain"),
    *("beside", "tokenizer", "parity", "train"),
)
# of a document: everything else is a fact of its section
_COMMON = {
    *("section", "rehearsal", "commit", "dirty", "command", "date", "device", "took_s"),
    *("cpus", "threads", "load_average", "python", "torch", "transformers"),
    *("rows", "tables", "failures", "left_out"),
}


@dataclass(frozen=True, slots=True)
class SectionResult:
    """One gpu_NAME.json."""

    name: str
    document: Mapping[str, Any]
    """As the kit wrote it; a killed section may have nothing but its failures."""

    @property
    def rows(self) -> Sequence[Mapping[str, Any]]:
        """what, value, unit, bar, better, is_met."""
        return self.document.get("rows", [])

    @property
    def tables(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Profiles by name."""
        return self.document.get("tables", {})

    @property
    def failures(self) -> Sequence[Mapping[str, str]]:
        """part, traceback."""
        return self.document.get("failures", [])

    @property
    def left_out(self) -> Sequence[str]:
        return self.document.get("left_out", [])

    @property
    def facts(self) -> Mapping[str, Any]:
        """Facts that the section recorded."""
        return {k: v for k, v in self.document.items() if k not in _COMMON and v not in ({}, "")}

    def value(self, what: str) -> float | None:
        """The row of this name, or of this name and a remark behind a comma; None without one."""
        for row in self.rows:
            if row["what"] == what or row["what"].startswith(what + ","):
                return row["value"]
        return None


@dataclass(frozen=True, slots=True)
class Results:
    """The results of one card."""

    sections: Mapping[str, SectionResult] = field(default_factory=dict)
    rehearsed: Sequence[str] = ()
    """Sections with only a rehearsal."""

    @classmethod
    def load(cls, directory: Path) -> Results:
        """The gpu_*.json of a directory, in the kit's order; none where there are none."""
        sections, rehearsed = {}, []
        for path in sorted(directory.glob("gpu_*.json"), key=_place):
            document = json.loads(path.read_text(encoding="utf-8"))
            name = path.stem.removeprefix("gpu_")
            if document.get("rehearsal"):
                rehearsed.append(name)
            else:
                sections[name] = SectionResult(name, document)
        return cls(sections, tuple(rehearsed))

    @property
    def device(self) -> str:
        """The card's driver name; empty without results."""
        found = (section.document.get("device", "") for section in self.sections.values())
        return next(filter(None, found), "")

    @property
    def names(self) -> list[str]:
        """The kit's sections, measured or not, and any other that there is."""
        return [*ORDER, *(name for name in self.sections if name not in ORDER)]

    def value(self, section: str, what: str) -> float | None:
        """A row's value, None where it or its section is missing."""
        found = self.sections.get(section)
        return None if found is None else found.value(what)

    def values(self, section: str) -> dict[str, float]:
        """All rows of a section."""
        found = self.sections.get(section)
        return {row["what"]: row["value"] for row in found.rows} if found else {}


def _place(path: Path) -> tuple[int, str]:
    name = path.stem.removeprefix("gpu_")
    return (ORDER.index(name) if name in ORDER else len(ORDER), name)
