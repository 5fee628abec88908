"""What was removed while it was being worked on. Knows no tier, and clips by their owner only."""

from __future__ import annotations

import weakref
from collections.abc import Generator
from contextlib import contextmanager


class Watch:
    """What was removed since one piece of work began; it must not bring that back."""

    __slots__ = ("__weakref__", "_erased")

    def __init__(self, before: Watch | None = None) -> None:
        self._erased: set[str] = set(before._erased if before else ())

    def allows(self, owner: str) -> bool:
        """Whether an entry of `owner` may still be kept. From any thread."""
        return owner not in self._erased

    def erase(self, owner: str) -> None:
        """Entries of `owner` may no longer be kept."""
        self._erased.add(owner)


class Erasures:
    """Tells work under way what is removed meanwhile; forgets it with the work.

    Use from one event loop.
    """

    def __init__(self) -> None:
        self._watches = weakref.WeakSet[Watch]()

    def begin(self) -> Watch:
        """A watch for as long as somebody holds it."""
        watch = Watch()
        self._watches.add(watch)
        return watch

    @contextmanager
    def watch(self, before: Watch | None = None) -> Generator[Watch]:
        """For the length of a piece of work; ask the watch before anything is kept.

        before: of what this is a part of; knows what was removed since that began.
        """
        watch = Watch(before)
        self._watches.add(watch)
        try:
            yield watch
        finally:
            self._watches.discard(watch)

    def erase(self, owner: str) -> None:
        """What is under way keeps nothing of `owner`; what begins from now on may."""
        for watch in self._watches:
            watch.erase(owner)
