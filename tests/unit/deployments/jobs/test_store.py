"""Jobs in the store: pages that can be read again, parts of plans, and what a death leaves half."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cache_store.errors import StoreError
from cache_store.settings import CacheSettings
from deployments.jobs import store as stores
from deployments.jobs.documents import JobPlan, JobSegment
from deployments.jobs.store import MOST_PAGE_BYTES, JobName, JobStore, Standing, pages_of
from deployments.voices.shelf import MAX_DOCUMENT_BYTES, Shelf
from pipeline.errors import StageUnavailableError, UnknownJobError

pytestmark = pytest.mark.unit
ASTRAL = "\U0001f600"  # twelve bytes of JSON


def shelf_in(directory: Path) -> Shelf:
    shelf = Shelf.open(CacheSettings(url=str(directory), l2="off"))
    assert shelf is not None
    return shelf


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[JobStore]:
    shelf = shelf_in(tmp_path)
    yield JobStore(shelf, 10)
    shelf.close()


def segments_of(*texts: str) -> list[JobSegment]:
    return [JobSegment(text=text, voice="aria") for text in texts]


def plan_of(segments: list[JobSegment]) -> JobPlan:
    return JobPlan(
        created_unix_s=0, n_segments=len(segments), n_chars=1, seed=7, response_format="wav"
    )


def files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


async def test_whatever_a_text_is_its_page_can_be_read_again(store: JobStore, tmp_path: Path):
    texts = [ASTRAL * 4_000, "\x00" * 4_000, "a" * 4_000, "语" * 4_000, "\ud800", ""] * 12
    segments = segments_of(*texts)
    job = await store.add("shared", plan_of(segments), segments)
    pages = files(tmp_path / "jobs/v1/shared/plans")
    assert max(page.stat().st_size for page in pages) <= MAX_DOCUMENT_BYTES
    assert len(pages) < len(segments) / 5, "a page holds what fits"
    plan = await store.plan(job.name)
    assert await store.segments(job.name, plan) == segments


async def test_a_page_is_as_full_as_can_be():
    small = pages_of(segments_of(*["a" * 100] * 4_000))
    sizes = [len(json.dumps({"segments": page})) for page in small]
    assert max(sizes) < MAX_DOCUMENT_BYTES - 1_000, "a head comes before it"
    assert min(sizes[:-1]) > MOST_PAGE_BYTES - 1_000
    assert [len(page) for page in pages_of(segments_of(*[ASTRAL * 20_000] * 3))] == [1, 1, 1]


async def test_a_part_of_a_plan_reads_its_pages_alone(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(stores, "MOST_PAGE_BYTES", 1_000)
    segments = segments_of(*(f"Number {n}." * (1 + n % 7) for n in range(40)))
    job = await store.add("shared", plan_of(segments), segments)
    plan = await store.plan(job.name)
    assert len(plan.page_begins) >= 5
    read: list[str] = []
    shelf_read = store.shelf.read

    async def counted(path: str, **how: Any) -> Any:
        read.append(path)
        return await shelf_read(path, **how)

    monkeypatch.setattr(store.shelf, "read", counted)
    for first in range(41):
        for last in {first, first + 1, first + 3, 40} & set(range(41)):
            wanted = range(first, last)
            found = await store.some_segments(job.name, plan, wanted)
            assert found == segments[first:last], wanted
    read.clear()
    await store.some_segments(job.name, plan, range(20, 21))
    assert len(read) == 1
    await store.some_segments(job.name, plan, range(3, 3))
    assert len(read) == 1


class Dying:
    """A blob store that goes away for good after so many writes."""

    def __init__(self, blobs: Any, writes: int) -> None:
        self._blobs, self.writes = blobs, writes

    def create(self, path: str, data: bytes) -> bool:
        if not self.writes:
            raise StoreError("killed")
        self.writes -= 1
        return self._blobs.create(path, data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._blobs, name)


@pytest.mark.parametrize("writes", [1, 2, 3, 4])
async def test_a_job_that_was_half_written_is_found_and_erased(
    store: JobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
):
    """Its mark comes first: whatever a death leaves, somebody finds."""
    segments = segments_of(ASTRAL * 15_000, ASTRAL * 15_000)  # two pages
    blobs = store.shelf._blobs
    store.shelf._blobs = Dying(blobs, writes)  # type: ignore[assignment]
    with pytest.raises(StageUnavailableError):
        await store.add("shared", plan_of(segments), segments)
    store.shelf._blobs = blobs
    assert len(files(tmp_path / "jobs")) == writes
    (name,) = await store.open_jobs()
    assert await store.noticed(name) is None
    assert len(files(tmp_path / "jobs")) == writes, "somebody may be writing it"
    monkeypatch.setattr(stores, "WRITTEN_AFTER_S", 0.0)
    assert await store.noticed(name) is None
    assert files(tmp_path / "jobs") == []
    assert (await store.page("shared", 10)).jobs == []


async def test_a_job_that_is_whole_stays(store: JobStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stores, "WRITTEN_AFTER_S", 0.0)
    segments = segments_of("One.")
    job = await store.add("shared", plan_of(segments), segments)
    assert await store.open_jobs() == [job.name]
    assert await store.noticed(job.name) == job
    assert await store.noticed(JobName("shared", "job_" + "0" * 32)) is None


async def test_a_job_that_cannot_be_read_keeps_no_other(store: JobStore, tmp_path: Path):
    jobs: list[Standing] = []
    for _ in range(3):
        segments = segments_of("One.")
        added = await store.add("shared", plan_of(segments), segments)
        done = await store.write(added, added.state.model_copy(update={"status": "done"}))
        assert done is not None
        jobs.append(done)
    states = tmp_path / "jobs/v1/shared/states"
    damaged = states / jobs[0].name.id / "00000001.json"
    damaged.write_bytes(damaged.read_bytes().replace(b"done", b"gone"))
    assert await JobStore(shelf_in(tmp_path), 10).sweep(0.0) == 2
    left = {path.parent.name for path in files(states)}
    assert left == {jobs[0].name.id}


@pytest.mark.parametrize("asked", ["../x", "a/b", "\0", "job_", "job_" + "../" * 9, "", "x" * 999])
async def test_a_jobs_id_is_never_a_path(store: JobStore, tmp_path: Path, asked: str):
    with pytest.raises(UnknownJobError):
        await store.get("shared", asked)
    with pytest.raises(UnknownJobError):
        await store.delete("shared", asked)
    assert files(tmp_path) == []


async def test_a_tenants_jobs_are_its_own(store: JobStore):
    segments = segments_of("One.")
    mine = await store.add("mine", plan_of(segments), segments)
    assert await store.get("mine", mine.name.id) == mine
    assert (await store.page("yours", 10)).jobs == []
    for change in (store.get("yours", mine.name.id), store.delete("yours", mine.name.id)):
        with pytest.raises(UnknownJobError):
            await change
    assert await store.get("mine", mine.name.id) == mine
