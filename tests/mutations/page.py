"""The tables of docs/threat-model.md: `python -m tests.mutations.page` renews them."""

from __future__ import annotations

from pathlib import Path

from tests.mutations.table import BY_NAME
from tests.mutations.threats import THREATS, Threat, Who

PAGE = Path(__file__).resolve().parents[2] / "docs/threat-model.md"
BEGIN, END = "<!-- tables: python -m tests.mutations.page -->", "<!-- end of tables -->"


def tables() -> str:
    """A heading and a table for everyone who may try something."""
    return "\n".join(_table(who) for who in Who)


def renewed(page: str) -> str:
    """The page with its tables as they should be."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{rest.partition(END)[2]}"


def _table(who: Who) -> str:
    rows = [_row(threat) for threat in THREATS if threat.who is who]
    head = ["| what may be tried | what stops it | which test proves it |", "|---|---|---|"]
    return "\n".join([f"### {who}", "", *head, *rows, ""])


def _row(threat: Threat) -> str:
    tests = dict.fromkeys(test for name in threat.guards for test in BY_NAME[name].tests)
    shown = "<br>".join(f"`{test}`" for test in tests)
    return f"| {threat.tried} | {'; '.join(threat.guards)} | {shown} |"


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
