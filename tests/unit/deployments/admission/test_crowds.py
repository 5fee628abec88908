"""Crowds at a made-up vocoder in virtual time: who is let in hears all without a pause."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import numpy as np
import pytest

from deployments.admission.costs import FIXED_ROWS, ROW_S, ServiceCosts
from deployments.admission.gate import AdmissionGate, Permit, Places
from deployments.admission.line import Demand
from deployments.config.admission_settings import AdmissionSettings
from pipeline.errors import CapacityError
from pipeline.serving.terms import Service, Terms

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("virtual_time")]

CHUNKS = (18, 15, 21, 30, 48, 64)
STREAM, WHOLE, BATCH = Terms(), Terms(Service.WHOLE), Terms(Service.BATCH)


@dataclass(slots=True, eq=False)
class Job:
    permit: Permit
    rows: int
    done: asyncio.Future[None]

    def wanted_s(self) -> float:
        return self.permit.listener.wanted_s(time.monotonic())


@dataclass(slots=True)
class Heard:
    """first_s: of the audio of each who was let in. refused_s: how long each refusal took."""

    first_s: list[float] = field(default_factory=list[float])
    refused_s: list[float] = field(default_factory=list[float])
    retry_after_s: list[float] = field(default_factory=list[float])
    underruns: int = 0
    good_s: float = 0.0


class Machine:
    """One worker that does the chunk that is wanted first, in `row_s` a row more or less."""

    def __init__(self, row_s: float, seed: int = 0) -> None:
        self.costs = ServiceCosts()
        self.costs.decoded(64, 1, 75 * row_s)
        self.costs.begin()
        self.gate = AdmissionGate(AdmissionSettings(), Places(8, None, 40), self.costs)
        self.heard = Heard()
        self._row_s, self._random = row_s, np.random.default_rng(seed)
        self._jobs: list[Job] = []
        self._more = asyncio.Event()
        self.task = asyncio.create_task(self._work())

    async def _work(self) -> None:
        while True:
            while not self._jobs:
                self._more.clear()
                await self._more.wait()
            job = min(self._jobs, key=Job.wanted_s)
            self._jobs.remove(job)
            took_s = (job.rows + FIXED_ROWS) * self._row_s * self._random.uniform(0.85, 1.2)
            await asyncio.sleep(took_s)
            self.costs.decoded(job.rows, 1, took_s)
            job.done.set_result(None)

    async def ask(self, terms: Terms = STREAM, audio_s: float | None = None) -> None:
        """One answer, of a length that its text does not tell exactly."""
        asked_s, length_s = time.monotonic(), audio_s or self._random.uniform(3, 8)
        guess_s = length_s * self._random.uniform(0.8, 1.2)
        permit = self.gate.permit(terms, Demand(1, guess_s, CHUNKS))
        try:
            await permit.acquire()
        except CapacityError as error:
            self.heard.refused_s.append(time.monotonic() - asked_s)
            self.heard.retry_after_s.append(error.retry_after_s or 0.0)
            return
        try:
            await asyncio.sleep(self._random.uniform(0.1, 0.25))
            await self._speak(permit, round(length_s / ROW_S), asked_s)
        finally:
            permit.release()
        self.heard.underruns += permit.listener.underruns
        self.heard.good_s += 0.0 if permit.listener.underruns else length_s

    async def _speak(self, permit: Permit, left: int, asked_s: float) -> None:
        sizes = list(CHUNKS)
        while left:
            rows = min(sizes[0], left)
            job = Job(permit, rows, asyncio.get_running_loop().create_future())
            self._jobs.append(job)
            self._more.set()
            await job.done
            if not permit.listener.pieces:
                self.heard.first_s.append(time.monotonic() - asked_s)
            permit.listener.heard(rows * ROW_S, time.monotonic())
            left -= rows
            sizes = sizes[1:] or sizes


async def crowd(machine: Machine, n: int) -> None:
    await asyncio.gather(*(machine.ask() for _ in range(n)))


async def flood(machine: Machine, rate_hz: float, length_s: float, terms: Terms = STREAM) -> None:
    """Whoever comes comes, whatever becomes of others."""
    times, asked = np.random.default_rng(1), list[asyncio.Task[None]]()
    ends_s = time.monotonic() + length_s
    while time.monotonic() < ends_s:
        asked.append(asyncio.create_task(machine.ask(terms)))
        await asyncio.sleep(times.exponential(1 / rate_hz))
    await asyncio.wait(asked)


@pytest.mark.parametrize("n", [1, 3, 4, 8, 16])
@pytest.mark.parametrize("row_s", [0.0025, 0.005, 0.008])
async def test_who_is_let_in_hears_all_without_a_pause(n: int, row_s: float) -> None:
    machine = Machine(row_s)
    for _ in range(3):
        await crowd(machine, n)
    heard = machine.heard
    assert heard.underruns == 0
    assert heard.refused_s == [0.0] * len(heard.refused_s)
    assert max(heard.first_s) < 2.5 * 1.2
    assert len(heard.first_s) + len(heard.refused_s) == 3 * n
    if n == 1:
        assert not heard.refused_s


async def test_five_times_too_much_is_served_as_well_as_just_enough() -> None:
    row_s, length_s = 0.006, 120.0
    peak = Machine(row_s)
    for rate_hz in (0.3, 0.4, 0.5, 0.6):
        one = Machine(row_s)
        await flood(one, rate_hz, length_s)
        peak = max(peak, one, key=lambda machine: machine.heard.good_s)
    over = Machine(row_s)
    await flood(over, 3.0, length_s)
    assert over.heard.underruns == 0
    assert over.heard.good_s >= 0.9 * peak.heard.good_s
    assert max(over.heard.refused_s) == 0.0
    assert all(1 <= after_s <= 30 for after_s in over.heard.retry_after_s)
    over.heard.first_s.clear()
    await asyncio.sleep(10)
    await over.ask()
    assert over.heard.first_s[0] < 1.0


async def test_batches_and_whole_answers_make_nobody_run_dry() -> None:
    machine = Machine(0.006)
    behind = [asyncio.create_task(machine.ask(BATCH, 20.0)) for _ in range(4)]
    whole = [asyncio.create_task(machine.ask(WHOLE, 6.0)) for _ in range(4)]
    await asyncio.sleep(0.5)
    await flood(machine, 0.4, 60.0)
    await asyncio.wait([*behind, *whole])
    assert machine.heard.underruns == 0
