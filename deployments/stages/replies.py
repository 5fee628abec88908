"""One call of a replica across the Ray border: its errors in our tree, its replies as a stream."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol, TypeVar, cast

from ray.exceptions import (
    NodeDiedError,
    OutOfMemoryError,
    OwnerDiedError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    ReplicaUnavailableError,
)
from ray.serve.handle import DeploymentResponseGenerator

from deployments.liveness.patience import Patience, heard
from deployments.liveness.signs import Alive
from deployments.telemetry.transfers import Stamped
from pipeline.contracts import Stream
from pipeline.errors import (
    CapacityError,
    StageError,
    StageTimeoutError,
    StageUnavailableError,
    TimbreError,
)

UNKNOWN_METHOD = re.compile("Tried to call a method '.*' that does not exist")  # Serve's words
_REPLICA_IS_GONE = (
    RayActorError,
    NodeDiedError,
    OutOfMemoryError,  # Ray killed its process to save the machine
    OwnerDiedError,
    WorkerCrashedError,
    DeploymentUnavailableError,
    ReplicaUnavailableError,
)


@contextlib.contextmanager
def stage_errors(stage: str) -> Iterator[None]:
    """Turn what Ray raises for a call into `stage` into our tree.

    Our own errors come back as they were. What anything else says stays out of the message.
    """
    try:
        yield
    except RayTaskError as error:
        if isinstance(error.cause, TimbreError):
            raise error.cause from error
        raise StageError(f"the {stage} failed", detail=repr(error.cause)) from error
    except _REPLICA_IS_GONE as error:
        raise StageUnavailableError(f"the {stage}'s replica went away") from error
    except BackPressureError as error:
        raise CapacityError(f"the {stage}'s queue is full; retry in a moment") from error
    except TimeoutError as error:
        raise StageTimeoutError(f"the {stage} did not answer in time") from error
    except (RayError, RayServeException) as error:
        raise StageError(f"the {stage} failed", detail=repr(error)) from error


class _Chunk(Protocol):
    """What stages send piece by piece."""

    @property
    def last(self) -> bool: ...


_AnyChunk = TypeVar("_AnyChunk", bound=_Chunk)


class Replies(Stream[_AnyChunk]):
    """Chunks of one stream of a replica, up to the last one. Closing it tells the replica.

    ask: opens the stream, when the first chunk is wanted. received: unwraps what came.
    Raises what `stage_errors` has, StageUnavailableError for a replica that is silent, StageError
    for a stream that ends without its last chunk.
    """

    def __init__(
        self,
        stage: str,
        ask: Callable[[], object],
        received: Callable[[Stamped[_AnyChunk]], _AnyChunk],
        patience: Patience,
    ) -> None:
        self._stage, self._ask, self._received = stage, ask, received
        self._patience, self._timeout_s = patience, patience.first_s
        self._response: DeploymentResponseGenerator[Stamped[_AnyChunk] | Alive] | None = None
        self._is_over = False

    async def __anext__(self) -> _AnyChunk:
        if self._is_over:
            await self.aclose()
            raise StopAsyncIteration
        if self._response is None:  # its type does not say that `stream=True` returns this
            self._response = cast(
                "DeploymentResponseGenerator[Stamped[_AnyChunk] | Alive]", self._ask()
            )
        try:
            with stage_errors(self._stage):
                async with asyncio.timeout(self._timeout_s):
                    sent = await heard(self._stage, self._response, self._patience.silence_s)
        except BaseException as error:
            await self.aclose()
            if not isinstance(error, StopAsyncIteration):
                raise
            raise StageError(f"the {self._stage} ended a stream without its last chunk") from error
        chunk = self._received(sent)
        self._is_over, self._timeout_s = chunk.last, self._patience.next_s
        return chunk

    async def aclose(self) -> None:
        self._is_over = True
        if self._response is not None:
            self._response.cancel()
            self._response = None


class RepliesAloud(Stream[_AnyChunk]):
    """`Replies` of a replica that gives signs of life, or of one of before an update.

    ask_older: opens the stream of a replica that has no such method as `ask` calls: it gives none.
    """

    def __init__(
        self,
        stage: str,
        ask: Callable[[], object],
        ask_older: Callable[[], object],
        received: Callable[[Stamped[_AnyChunk]], _AnyChunk],
        patience: Patience,
    ) -> None:
        self._chunks = Replies(stage, ask, received, patience)
        self._older: Callable[[], Replies[_AnyChunk]] | None = partial(
            Replies[_AnyChunk], stage, ask_older, received, patience.without_signs
        )

    async def __anext__(self) -> _AnyChunk:
        older, self._older = self._older, None
        try:
            return await anext(self._chunks)
        except StageError as error:
            if older is None or not did_not_know(error):
                raise
        self._chunks = older()
        return await anext(self._chunks)

    async def aclose(self) -> None:
        await self._chunks.aclose()


def did_not_know(error: StageError) -> bool:
    """Whether a call failed, see `stage_errors`, because the replica has no such method."""
    failed = error.__cause__
    cause = failed.cause if isinstance(failed, RayTaskError) else None
    return isinstance(cause, RayServeException) and UNKNOWN_METHOD.match(str(cause)) is not None
