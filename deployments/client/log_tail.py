"""A log file as it grows."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

POLL_S = 0.25


def last_lines(log: Path, most: int) -> list[str]:
    """Raises OSError."""
    with log.open(encoding="utf-8", errors="replace") as file:
        return [line.rstrip("\n") for line in deque(file, maxlen=most)]


def further_lines(log: Path, is_going_on: Callable[[], bool], from_byte: int) -> Iterator[str]:
    """Lines that are written from there on, until nothing goes on any more. Raises OSError."""
    with log.open(encoding="utf-8", errors="replace") as file:
        file.seek(from_byte)
        rest = ""
        while True:
            is_last = not is_going_on()
            rest += file.read()
            *whole, rest = rest.split("\n")
            yield from whole
            if is_last:
                return
            time.sleep(POLL_S)
