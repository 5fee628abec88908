"""Who runs a job: the first who says so, as long as it goes on saying so.

A journal a job. Whether a runner is dead is told by the journal alone: nothing new came for as long
as a lease holds, by the clock of whoever looks. So clocks need not agree, and a store that was away
takes nobody's job. Two who run one job at a time do no harm: they share what each makes.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

from deployments.jobs.documents import RunNote
from deployments.jobs.store import JobName
from deployments.voices.journal import Journals
from deployments.voices.shelf import Shelf
from pipeline.errors import StageUnavailableError


class LeaseLostError(Exception):
    """Another runner took the job."""


@dataclass(slots=True)
class Lease:
    """A job that this runner has. number: of the newest entry, which is its own."""

    name: JobName
    number: int
    note: RunNote


class Leases:
    """Those of one runner. Use it from one event loop. Raises as Shelf does."""

    def __init__(self, shelf: Shelf, runner: str, lease_s: float) -> None:
        self._journals = Journals(shelf)
        self._runner = runner
        self._lease_s = lease_s
        self._seen: dict[JobName, tuple[int, float]] = {}

    async def take(self, name: JobName) -> Lease | None:
        """The job, if nobody runs it; None while somebody may."""
        place = name.place("runs")
        last = await self._journals.last(place)
        note = _note(self._runner)
        if last is not None:
            before = RunNote.read(last.document)
            if before.runner and not self._is_over(name, last.number):
                return None
            kept = before.model_dump(include={"n_done", "n_bad", "n_failed"})
            note = note.model_copy(update=kept)
        number = 0 if last is None else last.number + 1
        if not await self._journals.append(place, number, note.written()):
            return None
        self._seen.pop(name, None)
        return Lease(name, number, note)

    async def renew(self, lease: Lease, note: RunNote) -> None:
        """Say that it goes on, and how far it is. Raises LeaseLostError."""
        place = lease.name.place("runs")
        while not await self._journals.append(place, lease.number + 1, note.written()):
            there = await self._journals.at(place, lease.number + 1)
            if there is None or RunNote.read(there.document).runner != self._runner:
                raise LeaseLostError
            lease.number += 1  # our own, whose answer was not heard
        lease.number, lease.note = lease.number + 1, note
        await self._journals.shorten(place, lease.number)

    async def release(self, lease: Lease) -> None:
        """Let others have it at once."""
        resting = {"runner": "", "token": secrets.token_hex(8), "doing": "resting", "eta_s": None}
        try:
            await self.renew(lease, lease.note.model_copy(update=resting))
        except (LeaseLostError, StageUnavailableError):
            return  # it is another's, or will be when it lapses

    def _is_over(self, name: JobName, number: int) -> bool:
        """Whether the holder has been silent for as long as a lease holds."""
        seen = self._seen.get(name)
        if seen is None or seen[0] != number:
            self._seen[name] = number, time.monotonic()
            return False
        return time.monotonic() - seen[1] >= self._lease_s


def _note(runner: str) -> RunNote:
    """The token makes two runners' notes different, so that one of them loses."""
    return RunNote(runner=runner, token=secrets.token_hex(8))
