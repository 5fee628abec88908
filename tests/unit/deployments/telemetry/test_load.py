"""Waiting, running and handing over, as the stages count them."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
import weakref

import numpy as np
import pytest

from deployments.config.stages import Kind
from deployments.telemetry.gauges import keep_published
from deployments.telemetry.load import Busy, LoadGauges, StageLoad
from deployments.telemetry.transfers import Hop, Stamped, Transfers, stamped
from pipeline.contracts import TokenChunk
from pipeline.errors import CapacityError
from pipeline.stepaudio.tokenizer.clip_queue import ClipQueue
from tests.unit.deployments.telemetry.conftest import Seen
from tests.unit.pipeline.stepaudio.tokenizer.test_clip_queue import Encoder, clip, settle
from tests.vocoder_files import make_voice
from tests.waiting import GIVE_UP_S, wait_until

pytestmark = pytest.mark.unit


@pytest.mark.usefixtures("virtual_time")
async def test_a_turn_counts_as_waiting_and_then_as_running(seen: Seen) -> None:
    load, admission = StageLoad(Kind.VOCODER), asyncio.Semaphore(1)
    leave = asyncio.Event()

    async def stay() -> None:
        async with load.admitted(admission):
            await leave.wait()

    tasks = [asyncio.create_task(stay()) for _ in range(3)]
    await asyncio.sleep(0.02)
    assert (load.running, load.waiting) == (1, 2)
    tasks[2].cancel()
    await asyncio.sleep(0)
    assert (load.running, load.waiting) == (1, 1)
    leave.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (load.running, load.waiting) == (0, 0)
    waits = [seconds for seconds, _ in seen["timbre_stage_queue_s"]]
    assert len(waits) == 2
    assert waits == pytest.approx([0.0, 0.02], abs=1e-6)
    assert not admission.locked()


async def test_a_clip_waits_until_its_batch_begins(seen: Seen) -> None:
    load, encoder = StageLoad(Kind.TOKENIZER), Encoder()
    queue = ClipQueue(encoder, 1, 3.0)

    async def encode() -> str:
        result = await load.waited(queue.begin(clip(1.0)))
        with load.counted(running=1):
            return await result

    tasks = [asyncio.create_task(encode()) for _ in range(6)]
    counts = []
    for _ in range(4):
        await settle()
        counts.append((load.running, load.waiting))
        encoder.end()
    assert counts == [(1, 5), (3, 2), (2, 0), (0, 0)]
    await asyncio.gather(*tasks)
    assert [stage for _, stage in seen["timbre_stage_queue_s"]] == ["tokenizer"] * 6


async def test_no_turn_in_time_is_a_capacity_error(seen: Seen) -> None:
    load, admission = StageLoad(Kind.VOCODER), asyncio.Semaphore(0)
    with pytest.raises(CapacityError, match="vocoder is full"):
        async with load.admitted(admission, 0.01):
            pytest.fail("it had no turn")
    assert (load.running, load.waiting) == (0, 0)
    assert seen["timbre_stage_queue_s"] == []


async def test_a_timeout_inside_a_turn_is_not_its_own(seen: Seen) -> None:
    load, admission = StageLoad(Kind.LLM), asyncio.Semaphore(1)
    with pytest.raises(TimeoutError):
        async with load.admitted(admission, 5.0):
            raise TimeoutError
    assert load.running == 0
    assert not admission.locked()


def test_what_is_handed_over_is_weighed_and_timed(seen: Seen) -> None:
    transfers, voice = Transfers(), make_voice(4)
    assert transfers.received(Hop.ROUTER_VOCODER, Stamped(voice, time.time() - 3600)) is voice
    n_bytes = 2 * (8 + 12) + 4 * (27 * 80 + 192)
    assert seen["timbre_transfer_bytes"] == [(n_bytes, "router_vocoder")]
    assert seen["timbre_transfer_s"][0][0] == pytest.approx(3600, abs=300)


def test_a_clock_that_lags_counts_as_no_time(seen: Seen) -> None:
    chunk = TokenChunk(np.zeros(0, np.int32), last=True)
    Transfers().received(Hop.LLM_VOCODER, Stamped(chunk, time.time() + 60))
    assert seen == {"timbre_transfer_s": [(0.0, "llm_vocoder")]}


def test_stamped_records_travel() -> None:
    chunk = TokenChunk(np.arange(5, dtype=np.int32), last=False)
    sent = pickle.loads(pickle.dumps(stamped(chunk)))  # noqa: S301 - our own bytes
    assert sent.value.ids.tolist() == [0, 1, 2, 3, 4]
    assert sent.sent_s <= time.time()


def test_gauges_are_published_again_until_nobody_holds_them() -> None:
    published = threading.Event()

    class Gauge:
        def publish(self) -> None:
            published.set()

    gauge = Gauge()
    keep_published(gauge, 0.01)
    assert published.is_set()
    published.clear()
    assert published.wait(GIVE_UP_S)
    held = weakref.ref(gauge)
    del gauge
    wait_until(lambda: held() is None)  # its thread may be publishing it
    published.clear()
    assert not published.wait(0.1)


def test_load_is_read_whenever_it_is_published(seen: Seen) -> None:
    now = [(1, 2)]
    gauges = LoadGauges(Kind.LLM, lambda: now[-1])
    now.append((0, 0))  # a slot that became free after its stream had ended
    gauges.publish()
    assert seen["timbre_num_requests_running"] == [(1, "llm"), (0, "llm")]
    assert seen["timbre_num_requests_waiting"] == [(2, "llm"), (0, "llm")]


@pytest.mark.usefixtures("virtual_time", "seen")
async def test_a_look_sees_the_most_since_the_last_one() -> None:
    load, places = StageLoad(Kind.VOCODER), asyncio.Semaphore(2)

    async def stay(for_s: float) -> None:
        async with load.admitted(places, 5.0):
            await asyncio.sleep(for_s)

    assert load.look() == Busy(0, 0, 0.0)
    async with asyncio.TaskGroup() as group:
        for for_s in (1.0, 1.0, 2.0):
            group.create_task(stay(for_s))
        await asyncio.sleep(0.75)
        busy = load.look()
        assert (busy.running, busy.refused) == (2, 0)
        assert busy.queue_age_s == pytest.approx(0.75, abs=0.01)
        await asyncio.sleep(0.75)
        assert load.look() == Busy(2, 0, 0.0)
        assert load.look() == Busy(1, 0, 0.0)
    assert load.look().running == 1
    assert load.look() == Busy(0, 0, 0.0)


@pytest.mark.usefixtures("seen")
async def test_a_look_sees_who_was_refused_once() -> None:
    class Full:
        async def acquire(self) -> None:
            raise CapacityError("full")

        def release(self) -> None: ...

    load = StageLoad(Kind.VOCODER)
    for permit, timeout_s in ((Full(), None), (asyncio.Semaphore(0), 0.01)):
        with pytest.raises(CapacityError):
            async with load.admitted(permit, timeout_s):
                pytest.fail("it had no turn")
    load.refused()
    assert [load.look().refused for _ in range(2)] == [3, 0]
