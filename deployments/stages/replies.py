"""One call of a replica across the Ray border: its errors in our tree, its replies as a stream."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
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


class Either(Stream[_AnyChunk]):
    """A stream, or another where the replica did not know what it was asked: one before an update.

    other: opens it.
    """

    def __init__(self, one: Stream[_AnyChunk], other: Callable[[], Stream[_AnyChunk]]) -> None:
        self._chunks = one
        self._other: Callable[[], Stream[_AnyChunk]] | None = other

    async def __anext__(self) -> _AnyChunk:
        other, self._other = self._other, None
        try:
            return await anext(self._chunks)
        except StageError as error:
            if other is None or not _did_not_know(error.__cause__):
                raise
        self._chunks = other()
        return await anext(self._chunks)

    async def aclose(self) -> None:
        await self._chunks.aclose()


def _did_not_know(cause: BaseException | None) -> bool:
    """Whether a replica has no such parameter."""
    return isinstance(cause, RayTaskError) and isinstance(cause.cause, TypeError)
