"""A section of the GPU kit that writes into a test's directory."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from load_tests.gpu.sections.section import Section
from load_tests.gpu.sizes import REHEARSAL


def rehearsed(tmp_path: Path, name: str, *, golden: Path | None = None) -> Section:
    """On the CPU, at small sizes."""
    path = tmp_path / f"gpu_{name}.json"
    deadline_s = time.monotonic() + 300
    return Section(name, "cpu", REHEARSAL, path, deadline_s, commit="abc", golden=golden)


def written(section: Section) -> dict[str, Any]:
    """What is on disk."""
    return json.loads(section.path.read_text())
