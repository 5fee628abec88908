"""Progress reporting for hashing and downloads."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self


class ByteProgress(Protocol):
    """Receives the start of each file, then the numbers of its bytes."""

    def begin(self, name: str, total_bytes: int, done_bytes: int = 0) -> None:
        """A file starts; `done_bytes` of it exist already."""
        ...

    def advance(self, n_bytes: int) -> None:
        """Further bytes of the current file; negative when some must be repeated."""
        ...


class NoProgress:
    """Shows nothing."""

    def begin(self, name: str, total_bytes: int, done_bytes: int = 0) -> None:
        """Nothing to show."""

    def advance(self, n_bytes: int) -> None:
        """Nothing to show."""


class BarProgress:
    """One bar per file on standard error; a context manager. Silent without a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def begin(self, name: str, total_bytes: int, done_bytes: int = 0) -> None:
        self._task = self._progress.add_task(name, total=total_bytes, completed=done_bytes)

    def advance(self, n_bytes: int) -> None:
        if self._task is not None:
            self._progress.advance(self._task, n_bytes)
