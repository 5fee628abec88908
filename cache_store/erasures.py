"""Removals during running work, so that the work does not store removed clips again."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager


class Watch:
    """Owners removed since one piece of work began; it must not store entries of theirs."""

    __slots__ = ("_erased",)

    def __init__(self, before: Watch | None = None) -> None:
        self._erased: set[str] = set(before._erased if before else ())

    def allows(self, owner: str) -> bool:
        """Whether an entry of `owner` may still be stored. Safe from any thread."""
        return owner not in self._erased

    def erase(self, owner: str) -> None:
        """Entries of `owner` may no longer be stored."""
        self._erased.add(owner)


class Erasures:
    """Tells running work which owners are removed meanwhile.

    Use from one event loop.
    """

    def __init__(self) -> None:
        self._watches: set[Watch] = set()

    @contextmanager
    def watch(self, before: Watch | None = None) -> Generator[Watch]:
        """A watch for one piece of work, to be asked before anything is stored.

        before: the watch of the enclosing work; its removals count too.
        """
        watch = Watch(before)
        self._watches.add(watch)
        try:
            yield watch
        finally:
            self._watches.discard(watch)

    def erase(self, owner: str) -> None:
        """Running work may store nothing of `owner`; work that begins later may."""
        for watch in self._watches:
            watch.erase(owner)
