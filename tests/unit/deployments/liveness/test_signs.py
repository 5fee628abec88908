"""Signs of life: every second of a wait, and nothing else changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from deployments.liveness.signs import ALIVE, EVERY_S, with_signs
from pipeline.errors import StageUnavailableError

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("virtual_time")]


class Stage:
    """Waits, says an item, and so on; counts streams that ended."""

    def __init__(self, *waits_s: float, error: Exception | None = None) -> None:
        self.waits_s, self.error, self.ended = waits_s, error, 0
        self.illness: Exception | None = None

    def check_parts(self) -> None:
        if self.illness is not None:
            raise self.illness

    @with_signs
    async def speak(self, name: str) -> AsyncGenerator[str]:
        try:
            for number, wait_s in enumerate(self.waits_s):
                await asyncio.sleep(wait_s)
                yield f"{name}{number}"
            if self.error is not None:
                raise self.error
        finally:
            self.ended += 1


async def test_items_come_as_they_are_with_a_sign_for_every_second_of_a_wait() -> None:
    stage = Stage(0.0, 3.5 * EVERY_S, 0.0)
    heard = [one async for one in stage.speak("a")]
    assert heard == ["a0", ALIVE, ALIVE, ALIVE, "a1", "a2"]
    assert stage.ended == 1


async def test_an_error_is_the_stages_own() -> None:
    stage = Stage(0.0, error=ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        [one async for one in stage.speak("a")]
    assert stage.ended == 1


async def test_an_error_of_a_replica_that_lost_its_device_is_its_health() -> None:
    stage = Stage(0.0, error=ValueError("no"))
    stage.illness = StageUnavailableError("the vocoder has lost its device")
    with pytest.raises(StageUnavailableError, match="lost its device") as caught:
        [one async for one in stage.speak("a")]
    assert caught.value.__cause__ is stage.error
    assert stage.ended == 1


@pytest.mark.parametrize("heard", [1, 2, 3])
async def test_whoever_leaves_ends_the_stream(heard: int) -> None:
    stage = Stage(0.0, 100.0)
    stream = stage.speak("a")
    for _ in range(heard):
        await anext(stream)
    await stream.aclose()
    assert stage.ended == 1


async def test_whoever_is_cancelled_while_it_waits_ends_the_stream() -> None:
    stage = Stage(100.0)
    waiting = asyncio.ensure_future(anext(stage.speak("a")))
    await asyncio.sleep(0.5 * EVERY_S)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert stage.ended == 1
