"""The time that an admission gate lives in: a process's own, or that of a simulation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol


class Turn(Awaitable[None], Protocol):
    """Awaited by one who waits, until it is his turn."""

    def cancelled(self) -> bool: ...

    def set_result(self, result: None, /) -> None: ...


class Timer(Protocol):
    """A call that is still to come."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Monotonic seconds, turns to wait for, and calls at a later time."""

    def now_s(self) -> float: ...

    def turn(self) -> Turn: ...

    def later(self, delay_s: float, call: Callable[[], None]) -> Timer: ...


class LoopClock:
    """Of the event loop that runs."""

    def now_s(self) -> float:
        return time.monotonic()

    def turn(self) -> Turn:
        return asyncio.get_running_loop().create_future()

    def later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        return asyncio.get_running_loop().call_later(delay_s, call)
