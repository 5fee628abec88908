"""Progress bars, or plain lines without a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def progress(items: Iterable[Item], title: str, total: int) -> Iterator[Item]:
    """The items, with a bar on stderr."""
    from tqdm import tqdm

    yield from tqdm(items, desc=title, total=total, mininterval=2.0, dynamic_ncols=True)
