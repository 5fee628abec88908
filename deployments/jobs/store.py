"""Where jobs lie: beside the voices, in the same store. Nothing is ever overwritten.

A plan is written once; how a job stands is a journal; a marker says that somebody is to run it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from pydantic import ValidationError

from cache_store.keys import ClipKey
from deployments.jobs.documents import JobPlan, JobSegment, JobState, RunNote
from deployments.voices.documents import Document, new_id
from deployments.voices.journal import Journals, entry_path, last_numbers
from deployments.voices.shelf import JOBS_ROOT as ROOT
from deployments.voices.shelf import MAX_DOCUMENT_BYTES, Shelf
from pipeline.errors import (
    MAX_FOUND,
    CapacityError,
    StageError,
    StageUnavailableError,
    UnknownJobError,
)

logger = logging.getLogger(__name__)

MOST_PAGE_BYTES = MAX_DOCUMENT_BYTES - 4 * 2**10  # of segments, as JSON
MOST_PLAN_BYTES = MOST_PAGE_BYTES - 16 * 2**10  # of a plan before it says where its pages begin
WRITTEN_AFTER_S = 3_600.0  # a job takes less to write: a mark alone is nobody's after that
STATES_KEPT = 16  # of a job at least
TRIES = 20  # of a change that others keep overtaking
_AT_ONCE = 64
_ID = re.compile(r"job_[0-9a-f]{32}")
_OPEN, _HOOKS = f"{ROOT}/.open", f"{ROOT}/.hooks"  # no namespace begins so


@dataclass(frozen=True, slots=True)
class JobName:
    """A job of a tenant."""

    namespace: str
    id: str

    def place(self, kind: str) -> str:
        """Directory of one kind of what is kept of it."""
        return f"{ROOT}/{self.namespace}/{kind}/{self.id}"

    @property
    def marker(self) -> str:
        """Lies there while somebody is to run it."""
        return f"{_OPEN}/{self.namespace}.{self.id}"

    @property
    def hook(self) -> str:
        """Lies there while somebody is to be told of its end."""
        return f"{_HOOKS}/{self.namespace}.{self.id}"


@dataclass(frozen=True, slots=True)
class Standing:
    """A job's newest state. number: in its journal."""

    name: JobName
    number: int
    state: JobState


@dataclass(frozen=True, slots=True)
class Page:
    """Some jobs, the newest first. has_more: others follow the last one."""

    jobs: Sequence[Standing]
    has_more: bool


class JobStore:
    """Jobs of every namespace; no method reaches from one into another but those of runners.

    Raises as Shelf does, and UnknownJobError for an id that the namespace has no job of.
    """

    def __init__(self, shelf: Shelf, max_kept: int) -> None:
        self.shelf = shelf
        self._journals = Journals(shelf)
        self._max_kept = max_kept

    async def add(self, namespace: str, plan: JobPlan, segments: Sequence[JobSegment]) -> Standing:
        """Keep a job; when it returns, whoever runs jobs finds it. Raises CapacityError."""
        if await self._is_full(namespace):
            raise CapacityError(
                f"{self._max_kept} jobs are kept; delete some that ended, or wait until they go"
            )
        name = JobName(namespace, new_id("job"))
        pages = await asyncio.to_thread(pages_of, segments)
        await self.shelf.publish(name.marker, {})  # what is left half written is found by it
        for number, page in enumerate(pages, 1):
            await self._journals.append(name.place("plans"), number, {"segments": page})
        begins = accumulate((len(page) for page in pages[:-1]), initial=0)
        plan = plan.model_copy(update={"page_begins": tuple(begins)})
        await self._journals.append(name.place("plans"), 0, plan.written())
        state = JobState(status="queued", at_unix_s=time.time())
        await self._journals.append(name.place("states"), 0, state.written())
        return Standing(name, 0, state)

    async def get(self, namespace: str, asked: str) -> Standing:
        """How it stands now. Raises UnknownJobError."""
        found = None
        if _ID.fullmatch(asked):
            found = await self.find(JobName(namespace, asked))
        if found is None or found.state.status == "deleted":
            raise UnknownJobError(
                f"no job has the id {asked[:MAX_FOUND]!a}: it never was, or it was removed",
                param="job_id",
            )
        return found

    async def find(self, name: JobName) -> Standing | None:
        """The same, deleted ones too; None when there is none."""
        entry = await self._journals.last(name.place("states"))
        if entry is None:
            return None
        return Standing(name, entry.number, JobState.read(entry.document))

    async def plan(self, name: JobName) -> JobPlan:
        """Raises UnknownJobError when it is gone."""
        entry = await self._journals.at(name.place("plans"), 0)
        if entry is None:
            raise UnknownJobError("the job was removed", param="job_id")
        return JobPlan.read(entry.document)

    async def segments(self, name: JobName, plan: JobPlan) -> list[JobSegment]:
        """All of a plan, in order. Raises UnknownJobError when they are gone."""
        return await self.some_segments(name, plan, range(plan.n_segments))

    async def some_segments(self, name: JobName, plan: JobPlan, wanted: range) -> list[JobSegment]:
        """Those of a range; reads no other pages. Raises UnknownJobError when they are gone."""
        if not wanted:
            return []
        first, last = (bisect_right(plan.page_begins, at) for at in (wanted[0], wanted[-1]))
        found: list[JobSegment] = []
        for number in range(first, last + 1):
            path = entry_path(name.place("plans"), number)
            page = await self.shelf.read(path, is_remembered=False)
            if page is None:
                raise UnknownJobError("the job was removed", param="job_id")
            found += [JobSegment.read(one) for one in page["segments"]]
        begin = plan.page_begins[first - 1]
        return found[wanted.start - begin : wanted.stop - begin]

    async def page(self, namespace: str, limit: int, after: str | None = None) -> Page:
        """The newest first. after: an id, of which the page holds what is older."""
        last = await self._last(namespace)
        found: list[Standing] = []
        for directory in sorted(last, reverse=True):
            name = JobName(namespace, directory.rpartition("/")[2])
            if after is not None and name.id >= after:
                continue
            entry = await self._journals.at(directory, last[directory])
            if entry is not None and entry.document["status"] != "deleted":
                found.append(Standing(name, entry.number, JobState.read(entry.document)))
            if len(found) > limit:
                break
        return Page(found[:limit], len(found) > limit)

    async def change(
        self, namespace: str, asked: str, change: Callable[[JobState], JobState | None]
    ) -> Standing:
        """Write what `change` makes of the newest state; nothing for None. Raises what it raises.

        A job that is to be run from then on is marked so.
        """
        for _ in range(TRIES):
            seen = await self.get(namespace, asked)
            changed = change(seen.state)
            if changed is None:
                return seen
            written = await self.write(seen, changed)
            if written is not None:
                return written
        raise CapacityError("this job is being changed by others; retry in a moment")

    async def write(self, seen: Standing, changed: JobState) -> Standing | None:
        """The next state after the one that was seen; None when somebody was faster."""
        number = seen.number + 1
        place = seen.name.place("states")
        if not await self._journals.append(place, number, changed.written()):
            return None
        if changed.is_open:
            await self.shelf.publish(seen.name.marker, {})
        else:
            await self._unmark(seen.name)
        if number % STATES_KEPT == 0:
            await self._journals.shorten(place, number - STATES_KEPT)
        return Standing(seen.name, number, changed)

    async def run_note(self, name: JobName) -> RunNote | None:
        """What who runs it, or ran it last, said last."""
        entry = await self._journals.last(name.place("runs"))
        return None if entry is None else RunNote.read(entry.document)

    async def open_jobs(self) -> list[JobName]:
        """Jobs that somebody is to run, of every namespace, the oldest first."""
        return await self._marked(_OPEN)

    async def hook(self, name: JobName) -> None:
        """Somebody is to be told of its end."""
        await self.shelf.publish(name.hook, {})

    async def unhook(self, name: JobName) -> None:
        """Nobody is, any more."""
        await self.shelf.delete(name.hook)

    async def hooks(self) -> list[JobName]:
        """Jobs of whose end somebody is to be told."""
        return await self._marked(_HOOKS)

    async def noticed(self, name: JobName) -> Standing | None:
        """An open job as it stands; one that is not open after all loses its mark."""
        found = await self.find(name)
        if found is not None and found.state.is_open:
            return found
        if found is not None:
            await self._unmark(name)
        elif _age_s(name.id) >= WRITTEN_AFTER_S:  # whoever made it died over it
            await self.erase(name)
            await self._unmark(name)
        return None

    async def delete(self, namespace: str, asked: str) -> None:
        """From its return on nobody finds it; what is kept of it goes."""
        gone = await self.change(
            namespace,
            asked,
            lambda _: JobState(status="deleted", at_unix_s=time.time()),
        )
        await self.erase(gone.name)

    async def erase(self, name: JobName) -> None:
        """Remove all that is kept of it but how it stands."""
        for kind in ("parts", "audio", "results", "plans", "runs"):
            paths = await self.shelf.paths(name.place(kind))
            for start in range(0, len(paths), _AT_ONCE):
                some = paths[start : start + _AT_ONCE]
                await asyncio.gather(*(self.shelf.delete(path) for path in some))

    async def note_clip(self, name: JobName, clip_digest: str) -> None:
        """Write down that a job speaks in a clip's voice, so that a removal finds it."""
        await self.shelf.publish(f"{_clips(name.namespace, clip_digest)}/{name.id}", {})

    async def forget(self, namespace: str, clip_digest: str) -> None:
        """Remove every job that speaks in a clip's voice."""
        place = _clips(namespace, clip_digest)
        for job in await self.shelf.names(place):
            if _ID.fullmatch(job):
                try:
                    await self.delete(namespace, job)
                except UnknownJobError:
                    await self.erase(JobName(namespace, job))
            await self.shelf.delete(f"{place}/{job}")

    async def sweep(self, keep_s: float) -> int:
        """Remove jobs that ended so long ago, and the last of those deleted; how many."""
        n_removed = 0
        for namespace in await self.shelf.names(ROOT):
            if namespace.startswith("."):
                continue
            for directory, number in (await self._last(namespace)).items():
                name = JobName(namespace, directory.rpartition("/")[2])
                try:
                    n_removed += await self._swept(name, number, keep_s)
                except StageUnavailableError:
                    raise
                except (StageError, ValidationError) as error:  # it keeps no other here
                    logger.warning("job %s cannot be read and stays: %s", name.id, error)
        return n_removed

    async def _swept(self, name: JobName, number: int, keep_s: float) -> bool:
        entry = await self._journals.at(name.place("states"), number)
        if entry is None or not _is_old(JobState.read(entry.document), keep_s):
            return False
        found = await self.find(name)
        if found is None or not _is_old(found.state, keep_s):
            return False  # somebody opened it again
        await self.erase(name)
        for path in await self.shelf.paths(name.place("states")):
            await self.shelf.delete(path)
        return True

    async def _marked(self, place: str) -> list[JobName]:
        found: list[JobName] = []
        for marker in await self.shelf.names(place):
            namespace, _, job = marker.partition(".")
            if _ID.fullmatch(job):
                found.append(JobName(namespace, job))
        return sorted(found, key=lambda name: name.id)

    async def _unmark(self, name: JobName) -> None:
        """Somebody may have opened it again at the same moment: then the mark is put back."""
        await self.shelf.delete(name.marker)
        found = await self.find(name)
        if found is not None and found.state.is_open:
            await self.shelf.publish(name.marker, {})

    async def _is_full(self, namespace: str) -> bool:
        """Deleted jobs leave a state behind for a while: they are told apart where it matters."""
        last = list((await self._last(namespace)).items())
        if len(last) < self._max_kept:
            return False
        n_kept = 0
        for start in range(0, len(last), _AT_ONCE):
            some = last[start : start + _AT_ONCE]
            entries = await asyncio.gather(*(self._journals.at(*one) for one in some))
            n_kept += sum(
                one is not None and one.document["status"] != "deleted" for one in entries
            )
        return n_kept >= self._max_kept

    async def _last(self, namespace: str) -> dict[str, int]:
        return last_numbers(await self.shelf.paths(f"{ROOT}/{namespace}/states"))


def pages_of(segments: Sequence[JobSegment]) -> list[list[Document]]:
    """Segments as they lie together in documents. Blocks for many."""
    pages: list[list[Document]] = []
    room = 0
    for written in (segment.written() for segment in segments):
        size = len(json.dumps(written)) + 2
        if size > room or not pages:
            pages.append([])
            room = MOST_PAGE_BYTES
        pages[-1].append(written)
        room -= size
    return pages


def _is_old(state: JobState, keep_s: float) -> bool:
    """Whether it ended so long ago."""
    return state.status not in {"queued", "paused"} and time.time() - state.at_unix_s >= keep_s


def _clips(namespace: str, clip_digest: str) -> str:
    return f"{ROOT}/{namespace}/clips/{ClipKey(namespace, clip_digest).owner}"


def _age_s(job: str) -> float:
    """As its id has it; see `documents.new_id`."""
    return time.time() - int(job.partition("_")[2][:12], 16) / 1_000
