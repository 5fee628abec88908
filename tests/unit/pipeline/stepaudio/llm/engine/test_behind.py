"""A stream that nobody listens to goes on only as far as it holds nobody else up."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import numpy as np
import pytest

from pipeline.contracts import Sampling
from pipeline.stepaudio.llm.engine import slot as slots
from pipeline.stepaudio.llm.engine.scheduler import Scheduler
from pipeline.stepaudio.llm.engine.slot import EngineRequest

pytestmark = pytest.mark.unit


def request(
    loop: asyncio.AbstractEventLoop, *, is_behind: bool, due_s: float = math.inf
) -> EngineRequest:
    draws: Any = Sampling()
    return EngineRequest(
        np.arange(4, dtype=np.int32), draws, 50, loop, asyncio.Queue(), 0.0, "", is_behind, due_s
    )


async def test_who_is_due_first_has_the_next_slot():
    loop = asyncio.get_running_loop()
    scheduler = Scheduler(1, 8, stop_id=-1)
    whenever, later, sooner, same = (
        request(loop, is_behind=False, due_s=due_s) for due_s in (math.inf, 9.0, 3.0, 3.0)
    )
    behind = request(loop, is_behind=True, due_s=1.0)
    asked = [behind, whenever, later, sooner, same]
    for one in asked:
        scheduler.submit(one)
    served: list[EngineRequest] = []
    for _ in asked:
        work = scheduler.next_work()
        assert work is not None
        (slot,) = (*work.joining, *work.ready)
        served.append(slot.request)
        scheduler.free(slot)
    assert served == [sooner, same, later, whenever, behind]
    scheduler.close()


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
