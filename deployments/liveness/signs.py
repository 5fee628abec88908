"""Signs of life in a stage's streams: the replica has the call, and works on it or has it wait.

An answer may take a minute where a stage is busy, and a machine that lost its power or its network
closes no connection. By time alone whoever calls cannot tell the two. So a replica says every
second of a wait that it has the call. One that says nothing for `limits.silence_timeout_s` has not,
and another is asked.

Methods with signs are named `..._aloud`, beside the same ones without: during an update, callers of
before it understand no signs, and replicas of before it give none, which they show at once by not
having such a method.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from pipeline.errors import StageError, StageUnavailableError

EVERY_S = 1.0

Args = ParamSpec("Args")
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Alive:
    """The replica has the call."""


ALIVE = Alive()


class Replica(Protocol):
    """What hosts a stage."""

    def check_parts(self) -> None:
        """Raises StageUnavailableError when it can serve nobody any more, StageError for a hang."""
        ...


Host = TypeVar("Host", bound=Replica)


def with_signs(
    stream: Callable[Concatenate[Host, Args], AsyncGenerator[Item]],
) -> Callable[Concatenate[Host, Args], AsyncGenerator[Item | Alive]]:
    """A replica's stream with a sign of life for every second that an item is waited for.

    A reader that leaves ends the stream, as it would without. What fails in a replica that can
    serve nobody any more (its device is lost) is an error of its health, so that another is asked.
    """

    @wraps(stream)
    async def signed(
        replica: Host, *args: Args.args, **kwargs: Args.kwargs
    ) -> AsyncGenerator[Item | Alive]:
        async with aclosing(stream(replica, *args, **kwargs)) as items:
            while True:
                coming = asyncio.ensure_future(_next(items))
                try:
                    while not (await asyncio.wait([coming], timeout=EVERY_S))[0]:
                        yield ALIVE
                finally:
                    if not coming.done():
                        coming.cancel()
                        await asyncio.wait([coming])
                try:
                    item = coming.result()
                except Exception as error:
                    _blame(replica, error)
                    raise
                if isinstance(item, _End):
                    return
                yield item

    return signed


def _blame(replica: Replica, error: Exception) -> None:
    """Raises StageUnavailableError if it was the replica's state that made the call fail."""
    try:
        replica.check_parts()
    except StageUnavailableError as illness:
        raise illness from error
    except StageError:
        return  # another call hangs: this one failed by itself


class _End:
    """Of a stream: a task cannot raise StopAsyncIteration."""


async def _next(items: AsyncGenerator[Item]) -> Item | _End:
    return await anext(items, _End())
