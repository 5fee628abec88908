"""Our three packages have everyday names: tells when Python finds somebody else's instead.

Imports none of them, so that the first import of ours can ask.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.machinery import PathFinder
from pathlib import Path

OWN_PACKAGES = ("deployments", "pipeline", "cache_store")
ROOT = Path(__file__).resolve().parents[1]  # the directory that holds ours


def stranger_on(path: Sequence[str] | None = None) -> str | None:
    """A sentence that names the file, when a package of another program comes before ours.

    path: directories in Python's order; None is this process's own path. Directories without ours
    or anybody's package of these names are good.
    """
    for name in OWN_PACKAGES:
        spec = PathFinder.find_spec(name, path)
        if spec is None or spec.origin is None:  # a bare folder: a package behind it comes first
            continue
        if Path(spec.origin).resolve().parent not in {ROOT, ROOT / name}:
            return (
                f"timbre needs its own package {name!r} ({ROOT / name}), but Python finds "
                f"{spec.origin} first; rename that one, start elsewhere, or take its directory "
                "off PYTHONPATH"
            )
    return None
