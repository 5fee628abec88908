"""The commands of docs/operations, and where each is executed.

Before every bash block stands a comment: `<!-- executed: WHERE -->`, WHERE one of EXECUTED, or
`<!-- not executable here: WHY -->`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.conftest import ROOT
from tests.readme_blocks import blocks

OPERATIONS = ROOT / "docs" / "operations"
EXECUTED = {
    "store": "tests/unit/deploy/test_runbooks.py, on a store and no service",
    "cluster": "tests/storm/test_production.py, on three machines under load",
    "storm": "tests/storm/test_storm.py, as one of its faults",
    "image": "tests/image, in a chroot",
}
_MARK = re.compile(r"<!-- (executed|not executable here): (.+) -->")


@dataclass(frozen=True, slots=True)
class RunbookStep:
    """A block of commands. page: within docs/operations. where: empty where it cannot be."""

    page: str
    text: str
    line: int
    where: str
    why_not: str


def steps(page: str) -> list[RunbookStep]:
    """Of one page, in order. Raises ValueError for a block without a mark."""
    path = OPERATIONS / page
    lines = path.read_text(encoding="utf-8").splitlines()
    found: list[RunbookStep] = []
    for block in blocks(str(path.relative_to(ROOT))):
        if block.language != "bash":
            continue
        above = next((line for line in reversed(lines[: block.line - 1]) if line.strip()), "")
        mark = _MARK.fullmatch(above.strip())
        if mark is None:
            raise ValueError(f"{page}:{block.line}: nothing says where these commands are executed")
        kind, what = mark.groups()
        where, why_not = (what, "") if kind == "executed" else ("", what)
        found.append(RunbookStep(page, block.text, block.line, where, why_not))
    return found


def pages() -> list[str]:
    return sorted(str(path.relative_to(OPERATIONS)) for path in OPERATIONS.rglob("*.md"))


def executed(page: str, where: str) -> list[RunbookStep]:
    """Those of a page that are executed there."""
    return [step for step in steps(page) if step.where == where]
