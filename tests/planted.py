"""Secrets that tests hand to the service, and the search for them in whatever it writes.

Who makes a secret plants it here; then no test may print or log it, and no log of a service of this
run may hold it. Keys of the API need no planting: they are known by their form, whoever made them.
What is looked for is the text itself: not its base64, and not where nobody logs (metrics, stores).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

LEAST_CHARS = 12  # shorter ones may stand anywhere by chance
_LOGS = frozenset({".log", ".out", ".err", ".txt"})
_RAY = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray"  # noqa: S108 - where Ray keeps its logs
_BLOCK_BYTES = 2**20
_API_KEY = re.compile(rb"tk_[0-9a-f]{16}_[0-9a-f]{64}")
_API_KEY_BYTES = 84
_secrets: dict[str, str] = {}
_places: set[Path] = set()
_began_unix_s = time.time()


def plant(kind: str, secret: str) -> str:
    """The secret itself. kind: what it is, for whoever reads of a leak."""
    assert len(secret) >= LEAST_CHARS, f"{kind}: too short to be searched for"
    _secrets[secret] = kind
    return secret


def watch(directory: Path) -> None:
    """Look for secrets in the logs below it at the end of the run, and in Ray's own since then."""
    _places.add(directory)


def leaks_in(text: str) -> list[str]:
    """Kinds of the secrets that a text holds."""
    return sorted(set(_kinds_of(text.encode(errors="replace"))))


def leaks_of_the_run() -> list[str]:
    """`kind in file`, of every log of the services that were watched."""
    sessions = list(_RAY.glob("session_*/logs")) if _places else []
    recent = [one for one in sessions if one.stat().st_mtime >= _began_unix_s]
    return sorted(leak for place in (*_places, *recent) for leak in leaks_below(place))


def leaks_below(directory: Path) -> Iterator[str]:
    """`kind in file`, of the logs below a directory."""
    for path in sorted(directory.rglob("*")):
        if path.suffix not in _LOGS or not path.is_file() or path.is_symlink():
            continue
        try:
            found = set(_kinds_in(path))
        except OSError:  # rotated away, or another user's
            continue
        yield from (f"{kind} in {path}" for kind in sorted(found))


def _kinds_in(path: Path) -> Iterator[str]:
    longest = max(_API_KEY_BYTES, *(len(secret.encode()) for secret in _secrets), 0)
    rest = b""
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            window = rest + block
            yield from _kinds_of(window)
            rest = window[-longest:]


def _kinds_of(text: bytes) -> Iterator[str]:
    yield from (kind for secret, kind in _secrets.items() if secret.encode() in text)
    if b"tk_" in text and _API_KEY.search(text):
        yield "an API key"


def refuse_leaks(report: pytest.TestReport) -> None:
    """Make a failure of a test that printed or logged a secret."""
    leaks = {kind for _, text in report.sections for kind in leaks_in(text)}
    if leaks and report.passed:
        report.outcome = "failed"
        report.longrepr = f"printed or logged: {', '.join(sorted(leaks))}"
