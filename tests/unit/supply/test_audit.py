"""An audit that nobody answered is no clean one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.supply import audit
from tests.supply.audit import CLEAN, FOUND, NO_ANSWER, Audit

pytestmark = pytest.mark.unit
GOOD = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}
UNKNOWN = {"name": "c", "skip_reason": "not found on PyPI"}


@pytest.mark.parametrize(
    ("packages", "code"),
    [
        ([GOOD] * 10, CLEAN),
        ([GOOD] * 9 + [UNKNOWN], CLEAN),
        ([GOOD] * 8 + [UNKNOWN] * 2, NO_ANSWER),
        ([UNKNOWN] * 10, NO_ANSWER),
        ([], NO_ANSWER),
        ([UNKNOWN] * 9 + [BAD], FOUND),
    ],
)
def test_what_counts_as_an_answer(packages: list[dict[str, Any]], code: int):
    found = Audit.of({"dependencies": packages})
    assert found.code == code
    assert ("no answer" in found.says) == (code == NO_ANSWER)


def test_a_weakness_is_named_with_its_mend():
    assert "b 2: CVE-1, mended in 3" in Audit.of({"dependencies": [BAD]}).says


def test_without_a_network_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys):
    class Failed:
        stdout = ""

    monkeypatch.setattr(audit.subprocess, "run", lambda *_, **__: Failed())
    assert (audit.main(), audit.main("--where-it-can")) == (NO_ANSWER, CLEAN)
    assert "no answer" in capsys.readouterr().out
