"""What runs in the background never ends unseen: it is logged, and goes on."""

from __future__ import annotations

import asyncio
import gc
import threading
import time

import pytest

from cache_store.background import spawn
from cache_store.breaker import Breaker, BreakerPolicy
from cache_store.errors import StoreError
from cache_store.housekeeping import Housekeeper
from cache_store.maintenance import GcPolicy
from cache_store.writeback import WriteBack
from deployments import background
from deployments.background import watched
from deployments.telemetry import gauges as kept_gauges
from tests.cache_helpers import make_key
from tests.waiting import until, wait_until

pytestmark = pytest.mark.unit


class Loop:
    """Ends each of its runs as told; then runs on."""

    def __init__(self, *ends: BaseException | None, lasts_s: float = 0.0) -> None:
        self.began_s: list[float] = []
        self._ends = list(ends)
        self._lasts_s = lasts_s

    async def __call__(self) -> None:
        self.began_s.append(time.monotonic())
        await asyncio.sleep(self._lasts_s)
        if not self._ends:
            await asyncio.sleep(10**6)
        end = self._ends.pop(0)
        if end is not None:
            raise end

    @property
    def pauses_s(self) -> list[float]:
        runs = zip(self.began_s, self.began_s[1:], strict=False)
        return [later - earlier - self._lasts_s for earlier, later in runs]


@pytest.mark.usefixtures("virtual_time")
async def test_a_loop_that_fails_is_logged_with_its_traceback_and_begun_again(caplog):
    loop = Loop(KeyError("a bug"), OSError("no disk"))
    task = watched("the sampler", loop)
    await asyncio.sleep(10)
    assert len(loop.began_s) == 3
    assert loop.pauses_s == pytest.approx([0.5, 1.0])
    assert [record.exc_info[0] for record in caplog.records] == [KeyError, OSError]
    assert all("the sampler failed" in record.getMessage() for record in caplog.records)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.usefixtures("virtual_time")
async def test_pauses_grow_to_a_limit_and_a_long_run_ends_that():
    loop = Loop(*[OSError("down")] * 9)
    task = watched("loop", loop)
    await asyncio.sleep(1000)
    assert max(loop.pauses_s) == pytest.approx(background.LONGEST_PAUSE_S)
    task.cancel()
    steady = Loop(*[OSError("down")] * 9, lasts_s=background.LONGEST_PAUSE_S)
    task = watched("loop", steady)
    await asyncio.sleep(1000)
    assert steady.pauses_s == pytest.approx([background.FIRST_PAUSE_S] * 9)
    task.cancel()


@pytest.mark.usefixtures("virtual_time")
async def test_a_loop_that_returns_is_over():
    loop = Loop(None)
    await watched("loop", loop)
    assert len(loop.began_s) == 1


@pytest.mark.slow
async def test_work_that_nobody_awaits_tells_what_it_raised(caplog):
    lost = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))

    async def fail() -> None:
        raise KeyError("a bug")

    async def end() -> int:
        return 7

    spawn("the publisher", fail())
    spawn("another", asyncio.sleep(60)).cancel()
    assert await spawn("a third", end()) == 7
    await asyncio.sleep(0.01)
    gc.collect()
    [record] = caplog.records
    assert "the publisher failed" in record.getMessage()
    assert record.exc_info[0] is KeyError
    assert lost == []


@pytest.mark.usefixtures("virtual_time")
async def test_a_breaker_whose_probe_has_a_bug_still_closes(caplog):
    ends = [KeyError("a bug"), KeyError("a bug"), None]

    async def probe() -> None:
        if (end := ends.pop(0)) is not None:
            raise end

    breaker = Breaker("the store", probe, BreakerPolicy(failures=1))
    with pytest.raises(StoreError):
        async with breaker.guard():
            raise StoreError("down")
    await asyncio.wait_for(breaker.wait_closed(), 60)
    assert caplog.text.count("the store cannot be probed") == 2


@pytest.mark.usefixtures("virtual_time")
async def test_a_write_with_a_bug_holds_up_nothing_behind_it(caplog):
    written = []

    async def write(key, entry):
        if key == make_key("bad"):
            raise KeyError("a bug")
        written.append(key)

    queue = WriteBack(write, max_bytes=100, max_entries=10, workers=1, tries=3)
    for name in ("bad", "good"):
        queue.offer(make_key(name), b"x")
    assert await queue.close(5) == 0
    assert written == [make_key("good")]
    assert (queue.stats().written, queue.stats().dropped) == (1, 1)
    assert "KeyError" in caplog.text


async def test_a_round_of_housekeeping_with_a_bug_is_not_the_last(caplog):
    class Store:
        rounds = 0

        def list(self, prefix):
            Store.rounds += 1
            raise KeyError("a bug")

    housekeeper = Housekeeper(Store(), GcPolicy(), 0.001)
    housekeeper.start()
    await until(lambda: Store.rounds >= 3)
    await housekeeper.close()
    assert "could not look after" in caplog.text


def test_a_gauge_that_cannot_be_read_is_read_again(monkeypatch):
    said: list[str] = []  # a log record would hold the gauge, and with it the thread
    monkeypatch.setattr(kept_gauges.logger, "exception", said.append)

    class Gauge:
        def __init__(self) -> None:
            self.times = 0

        def publish(self) -> None:
            self.times += 1
            if self.times == 2:
                raise KeyError("a bug")

    gauges, before = [Gauge()], threading.active_count()
    kept_gauges.keep_published(gauges[0], every_s=0.001)
    wait_until(lambda: gauges[0].times >= 4)
    assert said == ["a gauge could not be published"]
    gauges.clear()
    wait_until(lambda: threading.active_count() <= before)
