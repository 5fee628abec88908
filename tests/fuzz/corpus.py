"""The inputs that are kept: honest ones to begin with, and each that was once a fault."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent / "corpus"


def files(name: str) -> list[Path]:
    """Of one target, in their order; a fault's begin with `fault-`."""
    return sorted(path for path in (ROOT / name).iterdir() if path.is_file())


def entries(name: str) -> list[bytes]:
    return [path.read_bytes() for path in files(name)]
