"""Validates the paths of a remote file list before they become local files."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import Path

from pipeline.errors import DownloadError

_MAX_BYTES = 255  # of one name, on most file systems


def check_paths(paths: Iterable[str], whose: str) -> None:
    """Raises DownloadError for a path that is not relative, `/`-separated and of plain names."""
    for path in paths:
        problem = _problem(path)
        if problem is not None:
            raise DownloadError(f"{whose} lists {path!r}, which is refused: {problem}")


def check_distinct(paths: Iterable[str], whose: str) -> None:
    """Raises DownloadError when two paths collide on some file system, or one is a directory.

    Some file systems ignore letter case, the form of accents, and dots and spaces at a name's end.
    """
    seen: dict[str, str] = {}
    for path in paths:
        if (other := seen.setdefault(_folded(path), path)) is not path:
            raise DownloadError(f"{whose} lists both {other!r} and {path!r}: refused")
    for key, path in seen.items():
        if any(f"{key}/" == other[: len(key) + 1] for other in seen):
            raise DownloadError(f"{whose} lists {path!r} as a file and as a directory: refused")


def check_place(directory: Path, target: Path) -> None:
    """Raises DownloadError when a symbolic link moves `target` out of `directory`."""
    if not target.resolve().is_relative_to(directory.resolve()):
        raise DownloadError(f"{target} is behind a link that leaves {directory}: refused")


def _problem(path: str) -> str | None:
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in path):
        return "it holds control characters"
    if "\\" in path or ":" in path:
        return "it holds a separator of other systems"
    names = path.split("/")
    if any(name.rstrip(". ") == "" for name in names):
        return "it is not a relative path of plain names"
    if any(len(name.encode()) > _MAX_BYTES for name in names):
        return "a name is too long"
    return None


def _folded(path: str) -> str:
    names = unicodedata.normalize("NFC", path).casefold().split("/")
    return "/".join(name.rstrip(". ") for name in names)
