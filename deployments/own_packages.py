"""Detects foreign packages with the names of our three, which Python would import instead.

Imports none of them, so that it can run before their first import.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.machinery import PathFinder
from pathlib import Path

OWN_PACKAGES = ("deployments", "pipeline", "cache_store")
ROOT = Path(__file__).resolve().parents[1]  # the directory of our packages


def stranger_on(path: Sequence[str] | None = None) -> str | None:
    """A sentence that names the file, when a foreign package comes before ours.

    path: directories in Python's order; None is this process's own path. Directories without any
    package of these names are fine.
    """
    for name in OWN_PACKAGES:
        spec = PathFinder.find_spec(name, path)
        if spec is None or spec.origin is None:  # a bare folder: a later package goes before it
            continue
        if Path(spec.origin).resolve().parent not in {ROOT, ROOT / name}:
            return (
                f"timbre needs its own package {name!r} ({ROOT / name}), but Python finds "
                f"{spec.origin} first; rename that one, start elsewhere, or take its directory "
                "off PYTHONPATH"
            )
    return None
