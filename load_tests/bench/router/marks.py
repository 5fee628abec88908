"""Moments of requests in the processes of a service, by the clock that a machine's processes share.

A process collects its own and a thread writes them now and then, one JSON list a line.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DIRECTORY = "ROUTER_BENCH_MARKS"  # the variable that says where the files go
WRITE_S = 0.25


@dataclass(frozen=True, slots=True, order=True)
class Moment:
    """at_s: of `time.monotonic`, which on Linux counts from the machine's start."""

    at_s: float
    name: str


class Marks:
    """Of this process. Call it with a name; from any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._new: list[tuple[float, str]] = []
        threading.Thread(target=self._write_now_and_then, daemon=True).start()

    def __call__(self, name: str) -> None:
        """Now."""
        self._new.append((time.monotonic(), name))

    def _write_now_and_then(self) -> None:
        while True:
            time.sleep(WRITE_S)
            new, self._new = self._new, []
            if new:
                with self._path.open("a") as lines:
                    lines.writelines(json.dumps(moment) + "\n" for moment in new)


@functools.cache
def opened() -> Marks:
    """The marks of this process, in the directory that its environment names."""
    return Marks(Path(os.environ[DIRECTORY]) / f"{os.getpid()}.jsonl")


def read(directory: Path) -> list[Moment]:
    """What all processes wrote, in order."""
    lines = (line for path in directory.glob("*.jsonl") for line in path.read_text().splitlines())
    return sorted(Moment(*json.loads(line)) for line in lines)


def mark_calls(owner: type, method: str, name: Callable[[Any], str], *, is_end: bool) -> None:
    """Mark every call of a class's method: its end, or its beginning.

    name: of the mark, by the instance that is called.
    """
    inner, mark = getattr(owner, method), opened()

    async def awaited(self: Any, *args: Any, **fields: Any) -> Any:
        if not is_end:
            mark(name(self))
        result = await inner(self, *args, **fields)
        if is_end:
            mark(name(self))
        return result

    def called(self: Any, *args: Any, **fields: Any) -> Any:
        mark(name(self))
        return inner(self, *args, **fields)

    outer = awaited if inspect.iscoroutinefunction(inner) else called
    setattr(owner, method, functools.wraps(inner)(outer))
