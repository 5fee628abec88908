"""One job being run: segments that are still to be made, as long as the job is this runner's.

Where it was left is found in the store: a segment whose facts are there is not made again. The
store being away stops nothing that is made already and begins nothing new.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Literal, TypeVar

from deployments.config.job_settings import JobSettings
from deployments.jobs.documents import JobPlan, JobSegment, JobState, PartFacts, RunNote
from deployments.jobs.leases import Lease, Leases
from deployments.jobs.parts import Parts, counted
from deployments.jobs.results import Results
from deployments.jobs.speaking import Part, SegmentSpeaker, failed_part
from deployments.jobs.store import JobStore, Standing
from deployments.jobs.traffic import Gate
from deployments.marks.signing import Signer
from pipeline.errors import (
    CapacityError,
    InputError,
    StageError,
    StageUnavailableError,
    UnknownVoiceError,
)

logger = logging.getLogger(__name__)

BEATS = 3  # renewals within a lease
AFFORD_S = 10.0  # at most, between looks whether a quota has more
AGAIN_S, LONGEST_AGAIN_S = 0.25, 15.0  # after a stage failed, or while the store is away

Value = TypeVar("Value")


class JobRun:
    """From taking a job to its end here: done, stopped, or another's.

    Use it from one event loop.
    """

    def __init__(
        self,
        lease: Lease,
        settings: JobSettings,
        store: JobStore,
        leases: Leases,
        speaker: SegmentSpeaker,
        gate: Gate,
        signer: Signer | None = None,
    ) -> None:
        """signer: of the job's file."""
        self._lease = lease
        self._name = lease.name
        self._settings = settings
        self._store = store
        self._parts = Parts(store.shelf)
        self._leases = leases
        self._speaker = speaker
        self._gate = gate
        self._signer = signer
        self._found: dict[int, PartFacts] = {}
        self._state = JobState(status="queued", at_unix_s=0.0)
        self._doing: Literal["speaking", "waiting", "joining"] = "speaking"
        self._n_away = 0
        self._is_there = asyncio.Event()
        self._is_there.set()
        self._look = asyncio.Event()
        self._began_s = time.monotonic()
        self._chars_made = self._chars_left = 0
        self._noted: set[str] = set()
        self._feeding: asyncio.Task[None] | None = None
        self._in_work: set[asyncio.Task[None]] = set()
        self._broken: BaseException | None = None

    def poke(self) -> None:
        """Somebody changed the job: look at once."""
        self._look.set()

    async def perform(self) -> None:
        """Run it. Raises LeaseLostError when another one took it."""
        making = asyncio.create_task(self._perform())
        beating = asyncio.create_task(self._beat(making))
        try:
            await asyncio.wait([making, beating], return_when=asyncio.FIRST_COMPLETED)
            if beating.done():
                beating.result()
            elif not making.cancelled():
                making.result()
        finally:
            await _cancelled(making, beating)
            await self._let_go()

    async def _let_go(self) -> None:
        """Others may have it; of a job that was removed, what was written meanwhile goes, too."""
        with suppress(StageUnavailableError):  # then the lease lapses, and the sweep removes it
            standing = await self._store.find(self._name)
            if standing is None or standing.state.status == "deleted":
                await self._store.shelf.settle()  # a write that was cancelled goes on in its thread
                await self._store.erase(self._name)
            else:
                await self._leases.release(self._lease)

    async def _perform(self) -> None:
        while True:
            standing = await self._patient(lambda: self._store.noticed(self._name))
            if standing is None:
                return
            self._state = standing.state
            plan = await self._patient(lambda: self._store.plan(self._name))
            await self._make_all(plan)
            self._doing = "joining"
            if await self._patient(partial(self._finished, plan)):
                return

    async def _make_all(self, plan: JobPlan) -> None:
        """Every segment that is still to be made of what is wanted now, unless it is stopped."""
        segments = await self._patient(lambda: self._store.segments(self._name, plan))
        self._found = await self._patient(lambda: self._parts.all(self._name, self._state))
        todo = [number for number in range(len(segments)) if number not in self._found]
        self._chars_left = sum(len(segments[number].text) for number in todo)
        self._began_s, self._chars_made, self._doing = time.monotonic(), 0, "speaking"
        self._feeding = asyncio.create_task(self._feed(plan, segments, todo))
        try:
            await asyncio.wait([self._feeding])
            if not self._feeding.cancelled():
                self._feeding.result()
            while self._in_work and self._broken is None:
                await asyncio.wait(self._in_work, return_when=asyncio.FIRST_COMPLETED)
            if self._broken is not None:
                raise self._broken
        finally:
            await _cancelled(self._feeding, *self._in_work)

    async def _feed(
        self, plan: JobPlan, segments: Sequence[JobSegment], todo: Sequence[int]
    ) -> None:
        for number in todo:
            await self._is_there.wait()
            await self._enter()
            task = asyncio.create_task(self._make(plan, segments[number], number))
            self._in_work.add(task)
            task.add_done_callback(self._over)

    async def _enter(self) -> None:
        """Return with a place to speak, and when its tenant's quota lets more be spoken.

        No place is held while that is waited for.
        """
        while True:
            await self._gate.enter(self._waits)
            try:
                wait_s = await self._patient(self._wait_s)
            except BaseException:
                self._gate.leave()
                raise
            if not wait_s:
                return
            self._gate.leave()
            self._waits(True)
            await asyncio.sleep(min(wait_s, AFFORD_S))

    async def _wait_s(self) -> float:
        return await self._speaker.wait_s(self._name.namespace)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._gate.leave()
        self._in_work.discard(task)
        if not task.cancelled() and task.exception() is not None and self._feeding is not None:
            self._broken = self._broken or task.exception()
            self._feeding.cancel()

    def _waits(self, is_waiting: bool) -> None:
        self._doing = "waiting" if is_waiting else "speaking"

    async def _make(self, plan: JobPlan, segment: JobSegment, number: int) -> None:
        """One segment, kept."""
        again = self._state.asked_again(number)
        known = await self._patient(lambda: self._parts.find(self._name, number, again.revision))
        if known is None:
            logger.info("%s: segment %d begins", self._name.id, number)
            part = await self._allowed(await self._made(plan, segment, number), segment)
            facts = part.facts.model_copy(update={"revision": again.revision})
            known = await self._patient(lambda: self._parts.keep(self._name, facts, part.audio))
        self._found[number] = known
        self._chars_made += len(segment.text)
        self._chars_left -= len(segment.text)

    async def _made(self, plan: JobPlan, segment: JobSegment, number: int) -> Part:
        """One segment, however often stages fail; a full service does not count."""
        steps = plan.steps(segment, number, self._state.asked_again(number))
        failures = 0
        while True:
            try:
                return await self._speaker.make(
                    self._name.namespace, segment, number, steps, is_marked=plan.is_marked
                )
            except InputError as error:
                return Part(failed_part(number, error.message, error.code, error.param), b"")
            except CapacityError:
                pause_s = AGAIN_S
            except StageError as error:
                failures += 1
                logger.warning("%s, segment %d: %s", self._name.id, number, error)
                if failures >= self._settings.tries:
                    return Part(failed_part(number, error.message, error.code, None), b"")
                pause_s = min(AGAIN_S * 2**failures, LONGEST_AGAIN_S)
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter

    async def _allowed(self, part: Part, segment: JobSegment) -> Part:
        """A part that may be kept.

        A removal of its voice that comes from now on finds the job; one that came before shows in
        the store, whether its word came here or not.
        """
        clip_digest = part.facts.clip_digest
        if not clip_digest:
            return part
        if clip_digest not in self._noted:
            await self._patient(lambda: self._store.note_clip(self._name, clip_digest))
            self._noted.add(clip_digest)
        check = partial(self._speaker.check_voice, self._name.namespace, segment.voice)
        try:
            await self._patient(check)
        except UnknownVoiceError as error:
            fault = (error.message, error.code, error.param)
            return Part(failed_part(part.facts.number, *fault), b"")
        return part

    async def _finished(self, plan: JobPlan) -> bool:
        """Join what there is and say that it is done; False when there is more to do."""
        seen = await self._store.noticed(self._name)
        if seen is None:
            return True
        if seen.state.again != self._state.again or len(self._found) < plan.n_segments:
            return False
        results = seen.number + 1
        if any(facts.fault is None for facts in self._found.values()):
            segments = await self._store.segments(self._name, plan)
            made = Results(self._store.shelf, self._signer)
            await made.build(self._name, results, plan, segments, self._found)
        if plan.webhook is not None:
            await self._store.hook(self._name)
        return await self._store.write(seen, self._done(seen, results)) is not None

    def _done(self, seen: Standing, results: int) -> JobState:
        _, n_bad, n_failed = counted(self._found)
        return seen.state.model_copy(
            update={
                "status": "done",
                "at_unix_s": time.time(),
                "n_bad": n_bad,
                "n_failed": n_failed,
                "n_over": sum(facts.over_s > 0 for facts in self._found.values()),
                "results": results if n_failed < len(self._found) else None,
            }
        )

    async def _beat(self, making: asyncio.Task[None]) -> None:
        """Say that it goes on, and see whether it is to go on.

        A paused job finishes what is in work; of one that was cancelled or removed nobody wants it.
        """
        while True:
            try:
                await self._leases.renew(self._lease, self._note())
                standing = await self._store.find(self._name)
            except StageUnavailableError as error:
                logger.debug("%s: the store does not answer: %s", self._name.id, error)
            else:
                status = "deleted" if standing is None else standing.state.status
                if status in {"cancelled", "deleted"}:
                    making.cancel()
                    return
                if status == "paused" and self._feeding is not None:
                    self._feeding.cancel()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.lease_s / BEATS):
                    await self._look.wait()
            self._look.clear()

    def _note(self) -> RunNote:
        n_done, n_bad, n_failed = counted(self._found)
        eta_s = None
        if self._chars_made:
            took_s = time.monotonic() - self._began_s
            eta_s = round(took_s / self._chars_made * self._chars_left, 1)
        return RunNote(
            runner=self._lease.note.runner,
            token=secrets.token_hex(8),
            n_done=n_done,
            n_bad=n_bad,
            n_failed=n_failed,
            eta_s=eta_s,
            doing="storing" if self._n_away else self._doing,
        )

    async def _patient(self, ask: Callable[[], Awaitable[Value]]) -> Value:
        """What the store says, however long it is away. Nothing new begins meanwhile."""
        failures = 0
        try:
            while True:
                try:
                    return await ask()
                except StageUnavailableError:
                    if not failures:
                        self._n_away += 1
                        self._is_there.clear()
                    failures += 1
                await asyncio.sleep(min(AGAIN_S * 2 ** min(failures, 4), 4.0))
        finally:
            if failures:
                self._n_away -= 1
                if not self._n_away:
                    self._is_there.set()


async def _cancelled(*tasks: asyncio.Task[Any]) -> None:
    """Cancel what still runs, and wait for it."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
