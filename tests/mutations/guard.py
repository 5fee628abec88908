"""One guard: where it stands, how it is taken out, and which tests notice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Guard:
    """What keeps somebody from something.

    old: its code, which stands in `file` exactly once. new: the same without the guard. tests: each
    must fail without it; `path::function` or `path::Class::function` below tests/unit.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
