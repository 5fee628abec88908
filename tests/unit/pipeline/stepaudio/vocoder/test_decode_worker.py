"""One thread, the most wanted job first, equal kinds together; failures reach those who wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import replace

import pytest

from pipeline.stepaudio.vocoder.decode_worker import SOONER_S, DecodeWorker, Job
from tests.waiting import GIVE_UP_S, wait_until

pytestmark = pytest.mark.unit


class Busy:
    """A worker held by its first job until `go` is set; records what ran together."""

    def __init__(self, max_together: int) -> None:
        self.go = threading.Event()
        self.batches: list[list[object]] = []
        self.began: list[str] = []
        self.ran: list[str] = []
        self.worker = DecodeWorker[str](
            self.together, max_together, lambda: self.began.append("begun")
        )
        self.first = self.worker.submit(Job(self.hold))

    def hold(self) -> str:
        self.go.wait(GIVE_UP_S)
        return "held"

    def together(self, members: Sequence[object]) -> list[str]:
        self.batches.append(list(members))
        if "bad" in members:
            raise ValueError("one of them is bad")
        return [f"{member} together" for member in members]

    def is_closed(self) -> bool:
        """Whether the worker takes no more jobs; what waited is cancelled then."""
        try:
            self.worker.submit(self.job("too late"))
        except RuntimeError:
            return True
        return False

    def job(self, name: str, kind: object = "chunk", wanted_s: float | None = None) -> Job[str]:
        return Job(lambda: self.alone(name), kind, name, wanted_s)

    def alone(self, name: str) -> str:
        self.ran.append(name)
        return f"{name} alone"


@pytest.fixture(params=[3])
def busy(request: pytest.FixtureRequest) -> Iterator[Busy]:
    busy = Busy(request.param)
    yield busy
    busy.go.set()
    busy.worker.close()


def test_equal_kinds_run_together_in_order(busy: Busy) -> None:
    kinds = ["chunk", None, "chunk", "other", "chunk", "chunk", None]
    futures = [busy.worker.submit(busy.job(str(i), kind)) for i, kind in enumerate(kinds)]
    busy.go.set()
    results = [future.result(GIVE_UP_S) for future in futures]
    assert busy.batches == [["0", "2", "4"]]
    together = {0, 2, 4}
    expected = [f"{i} {'together' if i in together else 'alone'}" for i in range(len(kinds))]
    assert results == expected
    assert busy.began == ["begun"]


def test_what_chunks_took_is_told_before_they_are_handed_out(busy: Busy) -> None:
    told: list[tuple[int, int, float]] = []
    busy.worker.timed = lambda *one: told.append(one)
    jobs = [Job(lambda: "alone", "chunk", name, rows=10) for name in ("0", "bad", "2")]
    silent = busy.worker.submit(busy.job("no rows", None, wanted_s=0.0))
    failing = [busy.worker.submit(replace(job, kind="bad ones", wanted_s=1.0)) for job in jobs[:2]]
    whole = [busy.worker.submit(replace(job, wanted_s=2.0)) for job in (jobs[0], jobs[2])]
    busy.go.set()
    assert silent.result(GIVE_UP_S) == "no rows alone"
    for future in failing:
        with pytest.raises(ValueError, match="bad"):
            future.result(GIVE_UP_S)
    assert whole[0].result(GIVE_UP_S) == "0 together"
    ((rows, chunks, took_s),) = told
    assert (rows, chunks) == (20, 2)
    assert 0 <= took_s < GIVE_UP_S


@pytest.mark.parametrize("busy", [1], indirect=True)
def test_one_at_most_never_runs_together(busy: Busy) -> None:
    futures = [busy.worker.submit(busy.job(str(i))) for i in range(3)]
    busy.go.set()
    assert [future.result(GIVE_UP_S) for future in futures] == ["0 alone", "1 alone", "2 alone"]
    assert busy.batches == []


@pytest.mark.parametrize("busy", [1], indirect=True)
def test_what_is_wanted_first_runs_first(busy: Busy) -> None:
    """One that names no time is wanted when it is submitted; among equals the oldest goes first."""
    now_s = time.monotonic()
    for name, wanted_s in (
        ("ahead", now_s + 9.0),
        ("begins", now_s + 3.0),
        ("at once", None),
        ("begins, too", now_s + 3.0),
        ("late already", now_s - 1.0),
    ):
        last = busy.worker.submit(busy.job(name, wanted_s=wanted_s))
    busy.go.set()
    last.result(GIVE_UP_S)
    wait_until(lambda: "ahead" in busy.ran)
    assert busy.ran == ["late already", "at once", "begins", "begins, too", "ahead"]


def test_a_job_gives_way_to_what_is_wanted_much_sooner(busy: Busy) -> None:
    told: list[tuple[int, int, float]] = []
    busy.worker.timed = lambda *one: told.append(one)
    now_s, pause_s = time.monotonic(), 0.05
    waits = threading.Event()
    gave: list[bool] = []

    def in_steps() -> str:
        gave.append(busy.worker.give_way())  # nobody is there
        waits.set()
        assert busy.go.wait(GIVE_UP_S)
        gave.append(busy.worker.give_way())
        busy.ran.append("far")
        return "far"

    def urgent(name: str) -> str:
        time.sleep(pause_s)
        return busy.alone(name)

    busy.go.set()
    busy.first.result(GIVE_UP_S)
    busy.go.clear()
    far = busy.worker.submit(Job(in_steps, wanted_s=now_s + 20, rows=1))
    assert waits.wait(GIVE_UP_S)
    later = [
        busy.worker.submit(Job(lambda name=name: urgent(name), wanted_s=now_s + in_s))
        for name, in_s in (("second", 2.0), ("first", 1.0), ("hardly sooner", 20 - SOONER_S / 2))
    ]
    busy.go.set()
    assert far.result(GIVE_UP_S) == "far"
    assert later[2].result(GIVE_UP_S) == "hardly sooner alone"
    assert gave == [False, True]
    assert busy.ran == ["first", "second", "far", "hardly sooner"]
    ((_, _, took_s),) = told
    assert took_s < time.monotonic() - now_s - 2 * pause_s  # the others' time is not its own


def test_a_failure_of_who_is_let_by_is_their_own(busy: Busy) -> None:
    def bad() -> str:
        raise ValueError("bad")

    let_by: list[Future[str]] = []

    def in_steps() -> str:
        let_by.append(busy.worker.submit(Job(bad)))
        return f"went on after {busy.worker.give_way()}"

    far = busy.worker.submit(Job(in_steps, wanted_s=time.monotonic() + 20))
    busy.go.set()
    assert far.result(GIVE_UP_S) == "went on after True"
    with pytest.raises(ValueError, match="bad"):
        let_by[0].result(GIVE_UP_S)


def test_a_batch_is_of_the_most_wanted_of_its_kind(busy: Busy) -> None:
    now_s = time.monotonic()
    wanted_s = {"a": 4.0, "b": 2.0, "c": 3.0, "d": 1.0}
    futures = [
        busy.worker.submit(busy.job(name, wanted_s=now_s + in_s)) for name, in_s in wanted_s.items()
    ]
    busy.go.set()
    assert futures[0].result(GIVE_UP_S) == "a alone"
    assert busy.batches == [["d", "b", "c"]]


def test_a_failure_reaches_everyone_in_the_batch_and_nobody_else(busy: Busy) -> None:
    futures = [busy.worker.submit(busy.job(name)) for name in ("a", "bad", "c", "d")]
    busy.go.set()
    for future in futures[:3]:
        with pytest.raises(ValueError, match="bad"):
            future.result(GIVE_UP_S)
    assert futures[3].result(GIVE_UP_S) == "d alone"


def test_a_cancelled_job_is_left_out(busy: Busy) -> None:
    futures = [busy.worker.submit(busy.job(name)) for name in ("a", "b", "c")]
    assert futures[1].cancel()
    busy.go.set()
    assert futures[2].result(GIVE_UP_S) == "c together"
    assert busy.batches == [["a", "c"]]


def test_cancelled_jobs_take_nobodys_place_in_a_batch(busy: Busy) -> None:
    """Three run together: the two that nobody wants any more make room for two others."""
    futures = {name: busy.worker.submit(busy.job(name)) for name in "abcde"}
    for name in "ac":
        assert futures[name].cancel()
    busy.go.set()
    assert futures["e"].result(GIVE_UP_S) == "e together"
    assert busy.batches == [["b", "d", "e"]]
    assert busy.ran == []


def test_closing_drops_what_waits(busy: Busy) -> None:
    waiting = busy.worker.submit(busy.job("late"))
    closing = threading.Thread(target=busy.worker.close)
    closing.start()
    wait_until(busy.is_closed)
    busy.go.set()
    closing.join(GIVE_UP_S)
    assert busy.first.result(GIVE_UP_S) == "held"
    with pytest.raises(CancelledError):
        waiting.result(GIVE_UP_S)
