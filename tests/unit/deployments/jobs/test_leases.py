"""Leases: who has a job, also where an answer of the store was lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cache_store.errors import StoreError
from cache_store.settings import CacheSettings
from deployments.jobs.leases import LeaseLostError, Leases
from deployments.jobs.store import JobName
from deployments.voices.shelf import Shelf
from pipeline.errors import StageUnavailableError

pytestmark = pytest.mark.unit
JOB = JobName("shared", "job_" + "1" * 32)


class Mute:
    """A blob store that does what it is asked, and whose answers to writes may be lost."""

    def __init__(self, blobs: Any) -> None:
        self._blobs = blobs
        self.is_mute = False

    def create(self, path: str, data: bytes) -> bool:
        made = self._blobs.create(path, data)
        if self.is_mute:
            raise StoreError("the answer was lost")
        return made

    def __getattr__(self, name: str) -> Any:
        return getattr(self._blobs, name)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    made = Shelf.open(CacheSettings(url=str(tmp_path), l2="off"))
    assert made is not None
    made._blobs = Mute(made._blobs)  # type: ignore[assignment]
    return made


async def test_a_runner_knows_its_own_word_whose_answer_was_lost(shelf: Shelf):
    mine = Leases(shelf, "runner_a", 60.0)
    lease = await mine.take(JOB)
    assert lease is not None
    blobs: Any = shelf._blobs
    for n_lost in (1, 2):
        blobs.is_mute = True
        for n in range(n_lost):
            with pytest.raises(StageUnavailableError):
                await mine.renew(lease, lease.note.model_copy(update={"token": f"{n_lost}{n}"}))
        blobs.is_mute = False
        await mine.renew(lease, lease.note.model_copy(update={"token": f"{n_lost}", "n_done": 3}))
        assert lease.note.n_done == 3
    assert await Leases(shelf, "runner_b", 60.0).take(JOB) is None
    await mine.release(lease)
    other = await Leases(shelf, "runner_b", 60.0).take(JOB)
    assert other is not None
    assert other.note.n_done == 3


async def test_another_runners_word_is_not_its_own(shelf: Shelf):
    mine, others = Leases(shelf, "runner_a", 0.0), Leases(shelf, "runner_b", 0.0)
    lease = await mine.take(JOB)
    assert lease is not None
    assert await others.take(JOB) is None
    assert await others.take(JOB) is not None, "silent for as long as a lease holds"
    with pytest.raises(LeaseLostError):
        await mine.renew(lease, lease.note.model_copy(update={"token": "x"}))
    await mine.release(lease)


async def test_a_lost_word_and_then_another_runner(shelf: Shelf):
    mine, others = Leases(shelf, "runner_a", 0.0), Leases(shelf, "runner_b", 0.0)
    lease = await mine.take(JOB)
    assert lease is not None
    blobs: Any = shelf._blobs
    blobs.is_mute = True
    with pytest.raises(StageUnavailableError):
        await mine.renew(lease, lease.note.model_copy(update={"token": "x"}))
    blobs.is_mute = False
    assert await others.take(JOB) is None
    assert await others.take(JOB) is not None
    with pytest.raises(LeaseLostError):
        await mine.renew(lease, lease.note.model_copy(update={"token": "y"}))
