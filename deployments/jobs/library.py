"""Every job of the service, as callers see it: made, looked at, changed, and what came of it.

Whoever runs jobs finds them in the store; `tell` only saves them a moment.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from deployments.config.settings import Settings
from deployments.jobs.documents import (
    Again,
    JobPlan,
    JobSegment,
    JobState,
    PartFacts,
    ResultNote,
    RunNote,
)
from deployments.jobs.parts import Parts
from deployments.jobs.plan import JobOrder, Planner
from deployments.jobs.results import Results
from deployments.jobs.store import JobStore, Standing
from deployments.pronunciation.readings import Readings
from deployments.quotas.spending import spending
from deployments.voices.resolver import VoiceLibrary
from deployments.voices.stored import StoredRoom
from pipeline.errors import InputError, JobStateError, UnsupportedError

logger = logging.getLogger(__name__)

MOST_AGAIN = 2_000  # segments of one job that are made anew, however often each
MOST_REVISIONS = 9_999
Tell = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """A job as it stands. run: what who runs it said last."""

    standing: Standing
    plan: JobPlan
    run: RunNote | None

    @property
    def id(self) -> str:
        return self.standing.name.id

    @property
    def state(self) -> JobState:
        return self.standing.state

    @property
    def is_running(self) -> bool:
        return self.state.is_open and self.run is not None and bool(self.run.runner)


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """A segment and what came of it, if anything did yet."""

    number: int
    segment: JobSegment
    facts: PartFacts | None


class JobLibrary:
    """Use it from one event loop. Raises as JobStore does.

    tell: says to whoever runs jobs that one was made or changed; never raises.
    """

    def __init__(
        self, settings: Settings, voices: VoiceLibrary, readings: Readings, tell: Tell
    ) -> None:
        self._store: JobStore | None = None
        if voices.shelf is not None:
            self._store = JobStore(voices.shelf, settings.jobs.max_kept)
        self.keep_s = settings.jobs.keep_results_s
        self._planner = Planner(settings, voices, readings)
        self._namespace = voices.namespace
        self._tell = tell

    @property
    def store(self) -> JobStore:
        """Raises UnsupportedError where nothing is kept."""
        if self._store is None:
            raise UnsupportedError("this service keeps no jobs (cache.url: none)")
        return self._store

    async def add(self, namespace: str, order: JobOrder) -> Job:
        """Keep a job, to be run by whoever runs jobs. Raises InputError, CapacityError.

        Of a tenant that has all stored that its quota lets it, QuotaSpentError.
        """
        store = self.store
        await StoredRoom(store.shelf).check(namespace, spending())
        plan, segments = await self._planner.plan(namespace, order)
        standing = await store.add(namespace, plan, segments)
        await self._tell(standing.name.id)
        return Job(standing, plan, None)

    async def get(self, namespace: str, asked: str) -> Job:
        """Raises UnknownJobError."""
        return await self._whole(await self.store.get(namespace, asked))

    async def page(
        self, namespace: str, limit: int, after: str | None
    ) -> tuple[Sequence[Job], bool]:
        """The newest first, and whether others follow. after: the last id of the page before."""
        page = await self.store.page(namespace, limit, after)
        jobs = await asyncio.gather(*(self._whole(standing) for standing in page.jobs))
        return jobs, page.has_more

    async def pause(self, namespace: str, asked: str) -> Job:
        """What is in work is finished; nothing new is begun. Raises JobStateError."""
        return await self._changed(namespace, asked, _paused)

    async def resume(self, namespace: str, asked: str) -> Job:
        """Go on; also with the segments that came to nothing. Raises JobStateError."""
        job = await self.get(namespace, asked)
        if job.state.status == "done" and job.state.n_failed:
            parts = await Parts(self.store.shelf).all(job.standing.name, job.state)
            failed = [number for number, facts in parts.items() if facts.fault is not None]
            return await self._changed(namespace, asked, lambda state: _again(state, failed, None))
        return await self._changed(namespace, asked, _resumed)

    async def cancel(self, namespace: str, asked: str) -> Job:
        """Stop for good; what was made stays to be had, part by part. Raises JobStateError."""
        return await self._changed(namespace, asked, _cancelled)

    async def regenerate(self, namespace: str, asked: str, number: int, seed: int | None) -> Job:
        """Make one segment anew, with this seed or another one. Raises JobStateError."""
        job = await self.get(namespace, asked)
        _check_number(number, job.plan)
        return await self._changed(namespace, asked, lambda state: _again(state, [number], seed))

    async def delete(self, namespace: str, asked: str) -> None:
        """Remove it and all that it made."""
        await self.store.delete(namespace, asked)
        await self._tell(asked)

    async def segments(self, job: Job, after: int, limit: int) -> tuple[Sequence[Made], bool]:
        """Segments behind a number, and whether others follow."""
        name, n_segments = job.standing.name, job.plan.n_segments
        numbers = range(after + 1, min(after + 1 + limit, n_segments))
        segments = await self.store.some_segments(name, job.plan, numbers)
        parts = await Parts(self.store.shelf).some(name, job.state, numbers)
        made = [
            Made(number, segment, parts.get(number))
            for number, segment in zip(numbers, segments, strict=True)
        ]
        return made, after + 1 + limit < n_segments

    async def segment(self, job: Job, number: int) -> Made:
        """One. Raises InputError for a number that the job does not have."""
        _check_number(number, job.plan)
        found, _ = await self.segments(job, number - 1, 1)
        return found[0]

    async def part(self, job: Job, number: int) -> bytes:
        """A segment's FLAC file. Raises JobStateError while there is none."""
        made = await self.segment(job, number)
        if made.facts is None or made.facts.fault is not None:
            why = "is not made yet" if made.facts is None else "came to nothing"
            raise JobStateError(f"segment {number} {why}", param="segment")
        return await Parts(self.store.shelf).audio(job.standing.name, made.facts)

    @property
    def results(self) -> Results:
        """What jobs made."""
        return Results(self.store.shelf)

    async def result_note(self, job: Job) -> tuple[int, ResultNote]:
        """Number and facts of the newest one file. Raises JobStateError while there is none."""
        number = job.state.results
        if number is None:
            raise JobStateError(
                f"the job has no results: it is {job.state.status}; parts can be had one by one",
                param="job_id",
            )
        return number, await self.results.note(job.standing.name, number)

    async def forget(self, clip_digest: str, namespace: str | None = None) -> None:
        """Remove every job that speaks in a clip's voice. Raises StageUnavailableError."""
        if self._store is not None:
            await self._store.forget(namespace or self._namespace, clip_digest)

    async def _whole(self, standing: Standing) -> Job:
        plan = await self.store.plan(standing.name)
        return Job(standing, plan, await self.store.run_note(standing.name))

    async def _changed(
        self, namespace: str, asked: str, change: Callable[[JobState], JobState | None]
    ) -> Job:
        standing = await self.store.change(namespace, asked, change)
        await self._tell(standing.name.id)
        return await self._whole(standing)


def _paused(state: JobState) -> JobState | None:
    if state.status == "paused":
        return None
    if not state.is_open:
        raise _refused(state, "paused")
    return _at_status(state, "paused")


def _resumed(state: JobState) -> JobState | None:
    if state.is_open:
        return None
    if state.status != "paused":
        raise _refused(state, "resumed")
    return _at_status(state, "queued")


def _cancelled(state: JobState) -> JobState | None:
    if state.status == "cancelled":
        return None
    if state.status == "done":
        raise _refused(state, "cancelled")
    return _at_status(state, "cancelled")


def _again(state: JobState, numbers: Sequence[int], seed: int | None) -> JobState:
    """The same with segments to be made anew; a job that was done is open again."""
    if state.status == "cancelled":
        raise _refused(state, "gone on with")
    again: dict[str, Again] = {**state.again}
    for number in numbers:
        revision = state.asked_again(number).revision + 1
        if revision > MOST_REVISIONS:
            raise InputError(
                f"segment {number} was made anew {MOST_REVISIONS} times", param="segment"
            )
        again[str(number)] = Again(revision=revision, seed=seed)
    if len(again) > MOST_AGAIN:
        raise InputError(
            f"{len(again)} segments of the job would be made anew, {MOST_AGAIN} are allowed: make "
            "a new job",
            param="segment",
        )
    status = "paused" if state.status == "paused" else "queued"
    update: Mapping[str, object] = {"again": again, "status": status, "at_unix_s": time.time()}
    return state.model_copy(update=update)


def _at_status(state: JobState, status: str) -> JobState:
    return state.model_copy(update={"status": status, "at_unix_s": time.time()})


def _refused(state: JobState, what: str) -> JobStateError:
    return JobStateError(f"a job that is {state.status} cannot be {what}", param="job_id")


def _check_number(number: int, plan: JobPlan) -> None:
    if not 0 <= number < plan.n_segments:
        raise InputError(
            f"the job has no segment {number}; allowed: 0 to {plan.n_segments - 1}",
            param="segment",
        )
