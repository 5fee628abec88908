"""Runs jobs as they come: takes what nobody runs, and what a dead one left."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets

from cache_store.background import spawn
from deployments.config.job_settings import JobSettings
from deployments.jobs.leases import Lease, LeaseLostError, Leases
from deployments.jobs.run import JobRun
from deployments.jobs.speaking import SegmentSpeaker
from deployments.jobs.store import JobName, JobStore
from deployments.jobs.traffic import Gate, Traffic
from deployments.marks.signing import Signer
from pipeline.errors import StageUnavailableError, TimbreError

logger = logging.getLogger(__name__)

LOOK_S = 1.0  # between looks for jobs; whoever makes one says so besides
REST_S = 5.0  # after a job that broke off: its next runner may have more luck
SWEEP_S = 600.0


class JobRunner:
    """Every job of one replica. Use it from one event loop."""

    def __init__(
        self,
        settings: JobSettings,
        store: JobStore,
        speaker: SegmentSpeaker,
        traffic: Traffic,
        signer: Signer | None = None,
    ) -> None:
        """signer: of the jobs' files."""
        self._settings = settings
        self._signer = signer
        self._store = store
        self._speaker = speaker
        self.name = f"runner_{secrets.token_hex(8)}"
        self._leases = Leases(store.shelf, self.name, settings.lease_s)
        self._gate = Gate(traffic, settings.concurrency, settings.patience_s)
        self._runs: dict[JobName, tuple[JobRun, asyncio.Task[None]]] = {}
        self._resting: dict[JobName, float] = {}
        self._poked = asyncio.Event()
        self._is_away = False

    @property
    def in_work(self) -> int:
        """Segments."""
        return self._gate.in_work

    @property
    def running(self) -> int:
        """Jobs."""
        return len(self._runs)

    def poke(self, job: str | None = None) -> None:
        """A job was made or changed: look at once. job: which."""
        self._poked.set()
        for name, (run, _) in self._runs.items():
            if job in (None, name.id):
                run.poke()

    async def run(self) -> None:
        """Until cancelled; jobs that run are then left to others."""
        try:
            while True:
                await self._look_patiently()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._poked.wait()
                self._poked.clear()
        finally:
            await self.close()

    async def sweep(self) -> None:
        """Remove what is too old, until cancelled."""
        while True:
            try:
                n_removed = await self._store.sweep(self._settings.keep_results_s)
            except TimbreError as error:
                logger.warning("old jobs could not be removed: %s", error)
            else:
                if n_removed:
                    logger.info("removed %d old jobs", n_removed)
            await asyncio.sleep(SWEEP_S)

    async def close(self) -> None:
        """Let go of every job."""
        tasks = [task for _, task in self._runs.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _look_patiently(self) -> None:
        """The log tells when the store goes away, and when it is back."""
        try:
            await self._look()
        except StageUnavailableError as error:
            if not self._is_away:
                logger.warning("jobs cannot be looked for: %s", error)
            self._is_away = True
        else:
            if self._is_away:
                logger.info("jobs can be looked for again")
            self._is_away = False

    async def _look(self) -> None:
        now_s = asyncio.get_running_loop().time()
        for name in await self._store.open_jobs():
            if len(self._runs) >= self._settings.max_running:
                return
            if name in self._runs or self._resting.get(name, 0.0) > now_s:
                continue
            self._resting.pop(name, None)
            try:
                await self._take(name)
            except StageUnavailableError:
                raise
            except Exception:  # what is wrong with it keeps others from nothing
                logger.exception("job %s cannot be looked at", name.id)
                self._rest(name)

    async def _take(self, name: JobName) -> None:
        """Begin it, unless it is over or another's."""
        if await self._store.noticed(name) is None:
            return
        lease = await self._leases.take(name)
        if lease is not None:
            logger.info("job %s: taken", name.id)
            self._begin(name, lease)

    def _rest(self, name: JobName) -> None:
        self._resting[name] = asyncio.get_running_loop().time() + REST_S

    def _begin(self, name: JobName, lease: Lease) -> None:
        at_hand = (self._store, self._leases, self._speaker, self._gate, self._signer)
        run = JobRun(lease, self._settings, *at_hand)
        self._runs[name] = run, spawn(f"job {name.id}", self._perform(name, run))

    async def _perform(self, name: JobName, run: JobRun) -> None:
        try:
            await run.perform()
        except LeaseLostError:
            logger.info("job %s: another runner has it", name.id)
        except Exception:  # whatever it is, not again at once
            logger.exception("job %s broke off", name.id)
            self._rest(name)
        else:
            logger.info("job %s: nothing left to do", name.id)
        finally:
            del self._runs[name]
            self._poked.set()
