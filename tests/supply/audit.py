"""Asks pip-audit what is known against the pinned versions: `python -m tests.supply.audit`.

pip-audit alone calls a package that no database knows of "skipped" and passes, as it does where an
index mirrors none. Here that is said, and is no answer. Exit codes: 0 nothing is known against any,
1 something is, 2 there was no answer (`--where-it-can` makes 0 of it).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PINS = Path("constraints.txt")
LEAST_ANSWERED = 0.9  # of the packages: some are on no public index
CLEAN, FOUND, NO_ANSWER = 0, 1, 2
_PATIENCE_S = 300
_HOST_S = 15


@dataclass(frozen=True, slots=True)
class Audit:
    """What came back. known: a line for each weakness."""

    n_asked: int
    n_answered: int
    known: Sequence[str]

    @classmethod
    def of(cls, reply: dict[str, Any]) -> Audit:
        """From pip-audit's JSON."""
        packages = reply.get("dependencies", [])
        answered = [one for one in packages if "skip_reason" not in one]
        known = [
            f"{one['name']} {one['version']}: {flaw['id']}, mended in "
            f"{', '.join(flaw.get('fix_versions', ())) or 'no version yet'}"
            for one in answered
            for flaw in one.get("vulns", ())
        ]
        return cls(len(packages), len(answered), known)

    @property
    def code(self) -> int:
        if self.known:
            return FOUND
        is_answered = self.n_asked and self.n_answered >= LEAST_ANSWERED * self.n_asked
        return CLEAN if is_answered else NO_ANSWER

    @property
    def says(self) -> str:
        head = f"{self.n_answered} of {self.n_asked} packages are known to the database"
        if self.code == NO_ANSWER:
            return f"{head}: no answer. Try again where pypi.org or osv.dev can be reached."
        return "\n".join([f"{head}; {len(self.known)} weaknesses", *self.known])


def main(*words: str) -> int:
    command = [
        *(sys.executable, "-m", "pip_audit", "--requirement", str(PINS), "--no-deps"),
        *("--disable-pip", "--format", "json", "--progress-spinner", "off"),
        *("--timeout", str(_HOST_S)),
    ]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_PATIENCE_S
        )
        audit = Audit.of(json.loads(done.stdout))
    except (subprocess.TimeoutExpired, json.JSONDecodeError):
        audit = Audit(0, 0, ())
    sys.stdout.write(f"{audit.says}\n")
    return CLEAN if audit.code == NO_ANSWER and "--where-it-can" in words else audit.code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
