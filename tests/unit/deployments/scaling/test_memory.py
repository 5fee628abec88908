"""A replica that outgrows its memory: noticed when it stays so, gone when another stands in."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest

from deployments.config.scaling_settings import StageMemory
from deployments.config.settings import load_settings
from deployments.scaling.memory import LAST_PATIENCE, LOOKS, MemoryState, MemoryWatch
from deployments.telemetry.processes import ProcessUse
from pipeline.errors import ConfigError, StageError

pytestmark = pytest.mark.unit

GIB = 2**30
PATIENCE_S = 100.0
FRESH = MemoryState("fresh", is_spent=False, is_leaving=False)
SPENT = MemoryState("spent", is_spent=True, is_leaving=False)
LEAVING = MemoryState("leaving", is_spent=True, is_leaving=True)


class Machine:
    """What a replica takes, its clock, and the other replicas."""

    def __init__(self) -> None:
        self.rss_gib, self.gpu_gib = 1.0, 0.0
        self.now_s = 0.0
        self.others: list[MemoryState] = []
        self.asked = 0

    def read(self) -> ProcessUse:
        private, gpu = int(self.rss_gib * GIB), int(self.gpu_gib * GIB)
        return ProcessUse(1, "", private, 50 * GIB, 60 * GIB, gpu, 10, 10)

    async def ask(self) -> Sequence[MemoryState]:
        self.asked += 1
        return self.others

    def watch(self, **bounds: float) -> MemoryWatch:
        bound = StageMemory(**bounds)
        return MemoryWatch("llm", bound, PATIENCE_S, self.ask, self.read, lambda: self.now_s)


async def leaves(watch: MemoryWatch, *, is_idle: bool = False) -> bool:
    try:
        await watch.check(is_idle=is_idle)
    except StageError:
        return True
    return False


async def spent(machine: Machine, watch: MemoryWatch) -> None:
    machine.rss_gib = 3.0
    for _ in range(LOOKS):
        assert not await leaves(watch)
    assert watch.is_spent


async def test_a_peak_is_no_growth() -> None:
    machine = Machine()
    watch = machine.watch(rss_gib=2.0)
    machine.others = [FRESH]
    for rss_gib in (3.0, 3.0, 1.0, 3.0, 3.0, 1.0):
        machine.rss_gib = rss_gib
        assert not await leaves(watch, is_idle=True)
    assert not watch.is_spent
    assert machine.asked == 0, "nobody is asked in vain"


async def test_what_is_shared_does_not_count() -> None:
    """The object store and mapped weights are in every process's resident memory."""
    machine = Machine()
    watch = machine.watch(rss_gib=2.0)
    for _ in range(2 * LOOKS):
        assert not await leaves(watch)
    assert not watch.is_spent


async def test_one_of_several_leaves_at_once(caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine()
    watch = machine.watch(rss_gib=2.0)
    machine.others = [FRESH]
    machine.rss_gib = 3.0
    with caplog.at_level(logging.WARNING):
        assert [await leaves(watch) for _ in range(LOOKS + 2)] == [False] * (LOOKS - 1) + [True] * 3
    assert watch.state("me") == MemoryState("me", is_spent=True, is_leaving=True)
    (line,) = caplog.messages
    assert line == "llm outgrew memory.rss_gib is 2, and it takes 3.00: it is replaced"


async def test_once_it_leaves_it_leaves() -> None:
    """Serve wants three failures one after the other."""
    machine = Machine()
    watch = machine.watch(rss_gib=2.0)
    await spent(machine, watch)
    machine.others = [FRESH]
    assert await leaves(watch)
    machine.others, machine.rss_gib = [], 1.0
    assert await leaves(watch)
    assert await leaves(watch)


async def test_one_goes_at_a_time() -> None:
    machine = Machine()
    watch = machine.watch(rss_gib=2.0)
    await spent(machine, watch)
    machine.others = [FRESH, LEAVING]
    assert not await leaves(watch, is_idle=True)
    machine.others = [FRESH, SPENT]
    assert await leaves(watch)


@pytest.mark.parametrize("others", [[], [SPENT]], ids=["alone", "all spent"])
async def test_without_anybody_to_stand_in_it_waits(others: list[MemoryState]) -> None:
    machine = Machine()
    machine.others = others
    watch = machine.watch(rss_gib=2.0)
    await spent(machine, watch)
    machine.now_s = PATIENCE_S - 1
    assert not await leaves(watch, is_idle=True)
    machine.now_s = PATIENCE_S
    assert not await leaves(watch), "who is spoken to is not left"
    assert await leaves(watch, is_idle=True)


async def test_not_for_ever() -> None:
    machine = Machine()
    watch = machine.watch(rss_gib=2.0)
    await spent(machine, watch)
    machine.now_s = LAST_PATIENCE * PATIENCE_S
    assert await leaves(watch)


async def test_the_gpu_has_a_bound_of_its_own() -> None:
    machine = Machine()
    machine.others = [FRESH]
    watch = machine.watch(gpu_gib=20.0)
    machine.rss_gib = 500.0
    assert not await leaves(watch)
    machine.gpu_gib = 20.5
    assert [await leaves(watch) for _ in range(LOOKS)][-1]


async def test_without_bounds_nobody_looks() -> None:
    machine = Machine()
    watch = machine.watch()
    machine.read = lambda: pytest.fail("it looked")  # type: ignore[method-assign]
    assert not await leaves(watch)


def test_a_bound_below_what_a_start_takes_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"memory\.llm\.rss_gib is 0\.5, and it takes 1\.00: that"
    ):
        Machine().watch(rss_gib=0.5)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ({"memory": {"llm": {"rss_gib": 0}}}, "memory.llm.rss_gib: Input should be greater than 0"),
        ({"memory": {"lmm": {}}}, "memory.lmm: unknown key; valid here: asr, jobs, llm"),
        ({"memory": {"llm": {"gpu_gib": 4}}}, "memory.llm.gpu_gib is 4 and must be below"),
        ({"memory": {"router": {"gpu_gib": 4}}}, "memory.router.gpu_gib is 4"),
        (
            {
                "llm": {"device": "cuda", "gpu_memory_gib": 4},
                "memory": {"llm": {"gpu_gib": 4}},
            },
            "gpu_memory_gib, which is 4",
        ),
        ({"scaling": {"llm": {"busy": 1.2}}}, "scaling.llm.busy"),
        ({"scaling": {"vocoder": {"sleeps": True}}}, "scaling.vocoder.sleeps: unknown key"),
    ],
)
def test_mistakes_in_the_settings_are_sentences(args: dict, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(args)
    assert says in caught.value.message


def test_a_bound_of_a_gpu_below_its_cap_is_taken() -> None:
    llm = {"device": "cuda", "gpu_memory_gib": 20}
    settings = load_settings({"llm": llm, "memory": {"llm": {"gpu_gib": 18}}})
    assert settings.memory.llm.gpu_gib == 18
