"""What a person sees while a command waits: a bar, or how much has come. Nothing in a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from deployments.commands.options import watching


@contextmanager
def incoming(what: str, total_bytes: int | None = None) -> Iterator[Callable[[int], None]]:
    """Called with the bytes so far. total_bytes: None where nobody knows."""
    from rich.progress import BarColumn, DownloadColumn, FileSizeColumn, Progress, SpinnerColumn
    from rich.progress import TextColumn as Text
    from rich.progress import TimeElapsedColumn as Elapsed

    columns: list[Any] = [SpinnerColumn(), Text("{task.description}")]
    columns += [FileSizeColumn()] if total_bytes is None else [BarColumn(), DownloadColumn()]
    console = watching()
    bar = Progress(
        *columns,
        Elapsed(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task(what, total=total_bytes)
        yield lambda n_bytes: bar.update(task, completed=n_bytes)


@contextmanager
def counted(what: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """Called with how many of `total` are done, and a word about them."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeElapsedColumn as Elapsed

    console = watching()
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Elapsed(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task(what, total=total)
        yield lambda done, said: bar.update(task, completed=done, description=said or what)
