"""The language model across the border, on a handle without a cluster: one call, and who leaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator

import numpy as np
import pytest

from deployments.liveness.signs import with_signs
from deployments.stages.clients import (
    RemoteLM,
)
from deployments.telemetry.transfers import Stamped, stamped
from pipeline.contracts import (
    Sampling,
    TokenChunk,
)
from pipeline.errors import (
    CapacityError,
    StageError,
    StageTimeoutError,
    StageUnavailableError,
)
from tests.fakes import FakeHandle
from tests.unit.deployments.stages.remote import LIMITS, LLM, Healthy, Uncounted, gone

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("virtual_time")]


def lm_of(handle: FakeHandle) -> RemoteLM:
    return RemoteLM(handle, LIMITS, Uncounted())  # type: ignore[arg-type]


async def test_an_answer_is_one_call_however_slowly_it_is_read() -> None:
    llm = LLM(n_groups=40)
    handle = FakeHandle(llm)
    n_tokens = 0
    lm = lm_of(handle).of("ab" * 32)
    async for chunk in lm.stream(np.zeros(3, np.int32), Sampling()):
        n_tokens += len(chunk.ids)
        await asyncio.sleep(2 * LIMITS.chunk_timeout_s)
    assert n_tokens == 200
    assert llm.clip_digest == "ab" * 32
    assert handle.sessions == ["ab" * 32]  # what a replica is preferred by
    assert [method for method, _ in handle.calls] == ["stream_aloud"]
    assert handle.cancelled == 1


class TellingLLM(Healthy):
    """asked: what it was told beside the prompt."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []

    async def stream_aloud(self, *args: object) -> AsyncGenerator[Stamped[TokenChunk]]:
        self.asked.append(args[3:])
        for last in (False, True):
            yield stamped(TokenChunk(np.zeros(5, np.int32), last))


class OlderLLM(Healthy):
    """One of before an update: it gives no signs of life, and knows nothing of when it is due."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []

    async def stream(
        self, prompt_ids: np.ndarray, sampling: Sampling, clip_digest: str, is_behind: bool = False
    ) -> AsyncGenerator[Stamped[TokenChunk]]:
        del prompt_ids, sampling, clip_digest
        self.asked.append((is_behind,))
        await asyncio.sleep(LIMITS.chunk_timeout_s - 0.1)
        for last in (False, True):
            yield stamped(TokenChunk(np.zeros(5, np.int32), last))


@pytest.mark.parametrize("is_behind", [False, True])
@pytest.mark.parametrize("left_s", [None, 2.5])
async def test_when_an_answer_is_due_goes_along_and_an_older_replica_does_without(
    is_behind: bool, left_s: float | None
) -> None:
    due_s = None if left_s is None else time.monotonic() + left_s
    for llm, asked in ((TellingLLM(), (is_behind, left_s)), (OlderLLM(), (is_behind,))):
        lm = lm_of(FakeHandle(llm)).of("ab" * 32, is_behind=is_behind, due_s=due_s)
        chunks = [one async for one in lm.stream(np.zeros(3, np.int32), Sampling())]
        assert [one.last for one in chunks] == [False, True]
        assert llm.asked == [asked]


async def test_an_answer_that_breaks_off_is_not_asked_for_again() -> None:
    handle = FakeHandle(SilentLLM(TypeError("of its own")))
    with pytest.raises(StageError):
        async for _ in lm_of(handle).stream(np.zeros(3, np.int32), Sampling()):
            pass
    assert [method for method, _ in handle.calls] == ["stream_aloud"]


class SilentLLM(LLM):
    """Says one group, and then nothing or that it is gone."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__(1)
        self.error = error

    async def stream_aloud(self, *args: object) -> AsyncGenerator[Stamped[TokenChunk]]:
        del args
        yield stamped(TokenChunk(np.zeros(5, np.int32), last=False))
        if self.error is not None:
            raise self.error
        await asyncio.sleep(100)


class BusyLLM(SilentLLM):
    """It lives."""

    stream_aloud = with_signs(SilentLLM.stream_aloud)


@pytest.mark.parametrize(
    ("llm", "kind"),
    [
        (BusyLLM(), StageTimeoutError),
        (SilentLLM(), StageUnavailableError),
        (SilentLLM(gone()), StageUnavailableError),
        (SilentLLM(CapacityError("full")), CapacityError),
    ],
    ids=["late", "silent", "gone", "full"],
)
async def test_an_answer_that_breaks_off_leaves_nothing(
    llm: SilentLLM, kind: type[Exception]
) -> None:
    handle = FakeHandle(llm)
    chunks = lm_of(handle).stream(np.zeros(3, np.int32), Sampling())
    await anext(chunks)
    with pytest.raises(kind):
        await anext(chunks)
    assert handle.cancelled == 1
    await chunks.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(chunks)
    assert handle.cancelled == 1


async def test_an_answer_closed_before_it_was_read_was_never_asked_for() -> None:
    handle = FakeHandle(LLM(n_groups=1))
    chunks = lm_of(handle).stream(np.zeros(3, np.int32), Sampling())
    await chunks.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(chunks)
    assert (handle.calls, handle.cancelled) == ([], 0)


async def test_whoever_is_cancelled_while_waiting_for_tokens_tells_the_llm() -> None:
    handle = FakeHandle(SilentLLM())
    chunks = lm_of(handle).stream(np.zeros(3, np.int32), Sampling())
    await anext(chunks)
    waiting = asyncio.ensure_future(anext(chunks))
    await asyncio.sleep(0.1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert handle.cancelled == 1


class BrokenLLM(LLM):
    async def stream_aloud(self, *args: object) -> AsyncGenerator[Stamped[TokenChunk]]:
        del args
        yield stamped(TokenChunk(np.zeros(5, np.int32), last=False))


async def test_tokens_without_an_end_are_an_error() -> None:
    with pytest.raises(StageError, match="without its last chunk"):
        async for _ in lm_of(FakeHandle(BrokenLLM(1))).stream(np.zeros(3, np.int32), Sampling()):
            pass
