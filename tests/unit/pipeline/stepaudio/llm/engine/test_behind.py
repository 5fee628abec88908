"""A stream that nobody listens to goes on only as far as it holds nobody else up."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from pipeline.contracts import Sampling
from pipeline.stepaudio.llm.engine import slot as slots
from pipeline.stepaudio.llm.engine.scheduler import Scheduler
from pipeline.stepaudio.llm.engine.slot import EngineRequest

pytestmark = pytest.mark.unit


def request(loop: asyncio.AbstractEventLoop, *, is_behind: bool) -> EngineRequest:
    draws: Any = Sampling()
    return EngineRequest(
        np.arange(4, dtype=np.int32), draws, 50, loop, asyncio.Queue(), 0.0, "", is_behind
    )


async def test_it_has_part_in_a_step_now_and_then(monkeypatch: pytest.MonkeyPatch):
    loop = asyncio.get_running_loop()
    scheduler = Scheduler(4, 4, stop_id=-1)
    behind, first = (request(loop, is_behind=is_behind) for is_behind in (True, False))
    scheduler.submit(behind)

    def at_work() -> list[EngineRequest]:
        work = scheduler.next_work()
        assert work is not None
        return [one.request for one in (*work.joining, *work.ready)]

    assert at_work() == [behind]
    assert at_work() == [behind], "nobody else is there"
    scheduler.submit(first)
    assert at_work() == [first]
    monkeypatch.setattr(slots, "_BEHIND_S", 0.0)
    assert at_work() == [behind, first], "it must end one day"
    monkeypatch.undo()
    assert at_work() == [first]
    scheduler.release(first)
    assert at_work() == [behind]
    scheduler.close()
