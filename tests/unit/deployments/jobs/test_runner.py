"""A job goes on whoever dies, and nothing of it is made twice but what was in work at a death."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from deployments.jobs import runner
from deployments.jobs.documents import FIRST, PartFacts, RunNote
from deployments.jobs.flac import from_flac
from deployments.jobs.leases import Lease
from deployments.jobs.parts import Parts
from deployments.jobs.results import Results
from deployments.jobs.store import JobName
from pipeline.errors import InputError, StageUnavailableError
from tests.job_runners import Replica, Tally, add_job, job_done, replicas
from tests.unit.cache_store.replicas import make_index
from tests.waiting import until

pytestmark = [pytest.mark.unit, pytest.mark.slow]


def lines(count: int) -> list[str]:
    return [f"Line {number}, and a few words." for number in range(count)]


def heedless(replica: Replica) -> None:
    """Let it run every job, whoever has it."""

    async def take(name: JobName) -> Lease:
        return Lease(name, 0, RunNote(runner="heedless", token=""))

    async def renew(lease: Lease, note: RunNote) -> None:
        del lease, note

    replica.runner._leases.take = take  # type: ignore[method-assign]
    replica.runner._leases.renew = renew  # type: ignore[method-assign]


@pytest.fixture
def tally() -> Tally:
    return Tally()


async def test_every_segment_is_made_once_in_order_and_joined(tmp_path: Path, tally: Tally):
    one = Replica(tmp_path, tally, jobs={"concurrency": 1})
    async with replicas(one):
        job = await add_job(one, lines(6))
        state = await job_done(one, job)
        assert (state.status, state.n_failed, state.n_bad) == ("done", 0, 0)
        assert tally.ended == lines(6)
        parts = await Parts(one.store.shelf).all(job.name, state)
        assert sorted(parts) == list(range(6))
        assert state.results is not None
        results = Results(one.store.shelf)
        note = await results.note(job.name, state.results)
        data = b"".join([slab async for slab in results.audio(job.name, state.results, note)])
        n_samples = sum(facts.n_samples for facts in parts.values())
        assert len(data) == note.size_bytes == 44 + 2 * n_samples
        assert note.audio_s == n_samples / 24_000
        await until(lambda: one.runner.running == 0)


async def test_seeds_follow_from_the_plan_and_differ(tmp_path: Path, tally: Tally):
    one = Replica(tmp_path, tally)
    async with replicas(one):
        job = await add_job(one, ["Same words."] * 3)
        state = await job_done(one, job)
        parts = await Parts(one.store.shelf).all(job.name, state)
        plan = await one.store.plan(job.name)
        segments = await one.store.segments(job.name, plan)
        told = [plan.steps(segments[n], n, FIRST)[0].seed for n in range(3)]
        assert [parts[n].seed for n in range(3)] == told
        assert len(set(told)) == 3


async def test_what_a_part_holds_is_what_was_said(tmp_path: Path, tally: Tally):
    one = Replica(tmp_path, tally)
    async with replicas(one):
        job = await add_job(one, lines(1))
        state = await job_done(one, job)
        store = Parts(one.store.shelf)
        facts = (await store.all(job.name, state))[0]
        samples = [len(piece) for piece in from_flac(await store.audio(job.name, facts))]
        assert sum(samples) == facts.n_samples == 4 * 2_880


async def test_a_stage_that_dies_costs_only_what_was_in_work(tmp_path: Path, tally: Tally):
    one = Replica(tmp_path, tally)
    one.speaker.delay_s = 0.01
    async with replicas(one):
        job = await add_job(one, lines(20))
        await until(lambda: tally.n_ended >= 5)
        one.speaker.die = StageUnavailableError("the vocoder's replica went away")
        await asyncio.sleep(0.2)
        one.speaker.die = None
        state = await job_done(one, job)
        assert state.n_failed == 0
        assert sorted(tally.ended) == sorted(lines(20))


@pytest.mark.slow
async def test_a_dead_runners_job_is_taken_over(tmp_path: Path, tally: Tally):
    one, two = Replica(tmp_path, tally), Replica(tmp_path, tally)
    one.speaker.delay_s = two.speaker.delay_s = 0.01
    async with replicas(one, two):
        job = await add_job(one, lines(30))
        await until(lambda: tally.n_ended >= 10)
        holder, other = (one, two) if one.runner.running else (two, one)
        assert not other.runner.running
        holder.kill()
        state = await job_done(other, job)
        assert state.n_failed == 0
        again = [text for text, count in tally.begun.items() if count > 1]
        assert len(again) <= holder.settings.jobs.concurrency
        assert set(tally.ended) == set(lines(30))


@pytest.mark.slow
async def test_a_store_that_is_away_pauses_and_costs_nothing(tmp_path: Path, tally: Tally):
    one = Replica(tmp_path, tally)
    one.speaker.delay_s = 0.01
    async with replicas(one):
        job = await add_job(one, lines(30))
        await until(lambda: tally.n_ended >= 10)
        one.blobs.is_away = True
        await asyncio.sleep(0.4)
        n_begun = sum(tally.begun.values())
        await asyncio.sleep(0.3)
        assert sum(tally.begun.values()) == n_begun, "nothing is begun that cannot be kept"
        one.blobs.is_away = False
        state = await job_done(one, job)
        assert state.n_failed == 0
        assert sorted(tally.ended) == sorted(lines(30))


async def test_two_runners_on_one_job_make_nothing_twice(tmp_path: Path, tally: Tally):
    index = make_index()
    one, two = (Replica(tmp_path, tally, index) for _ in range(2))
    one.speaker.delay_s = two.speaker.delay_s = 0.02
    heedless(two)
    async with replicas(one, two):
        job = await add_job(one, lines(30))
        two.runner.poke()
        state = await job_done(one, job)
        assert state.n_failed == 0
        assert one.speaker.requests
        assert two.speaker.requests
        assert sorted(tally.ended) == sorted(lines(30))


async def test_a_job_that_is_removed_while_it_runs_leaves_nothing(tmp_path: Path, tally: Tally):
    one = Replica(tmp_path, tally)
    one.speaker.delay_s = 0.02
    async with replicas(one):
        job = await add_job(one, lines(50))
        await until(lambda: tally.n_ended >= 3)
        await one.store.delete(job.name.namespace, job.name.id)
        one.runner.poke(job.name.id)
        await until(lambda: one.runner.running == 0)
        n_begun = sum(tally.begun.values())
        left = await asyncio.to_thread(files_of, tmp_path, job.name.id)
        assert left == ["states"]
        assert await one.store.open_jobs() == []
        assert n_begun < 20


def files_of(directory: Path, job: str) -> list[str]:
    """Kinds of what is kept of a job."""
    found = directory.glob(f"jobs/v1/shared/*/{job}/**/*")
    return sorted({path.relative_to(directory).parts[3] for path in found if path.is_file()})


async def test_others_go_first(tmp_path: Path, tally: Tally):
    one = Replica(tmp_path, tally)
    one.road.is_free = False
    async with replicas(one):
        job = await add_job(one, lines(3))
        await until(lambda: one.road.asked > 0)
        assert not tally.begun
        one.road.is_free = True
        assert (await job_done(one, job)).status == "done"


async def test_but_not_for_ever(tmp_path: Path, tally: Tally):
    one = Replica(tmp_path, tally, jobs={"patience_s": 0.05})
    one.road.is_free = False
    async with replicas(one):
        job = await add_job(one, lines(2))
        assert (await job_done(one, job)).status == "done"


async def test_what_cannot_be_spoken_fails_alone(tmp_path: Path, tally: Tally):
    one = Replica(tmp_path, tally)
    speak = one.speaker.speak

    async def refusing(request, voice):
        if "2" in request.text:
            raise InputError("nothing in it can be spoken", param="input")
        async for chunk in speak(request, voice):
            yield chunk

    one.speaker.speak = refusing  # type: ignore[method-assign]
    one.speech._synthesizer = one.speaker
    async with replicas(one):
        job = await add_job(one, lines(4))
        state = await job_done(one, job)
        assert (state.status, state.n_failed) == ("done", 1)
        parts = await Parts(one.store.shelf).all(job.name, state)
        assert parts[2].fault is not None
        assert parts[2].fault.message == "nothing in it can be spoken"
        assert state.results is not None


async def test_a_stage_that_never_works_is_given_up(tmp_path: Path, tally: Tally):
    one = Replica(tmp_path, tally, jobs={"tries": 2})
    one.speaker.die = StageUnavailableError("the vocoder's replica went away")
    async with replicas(one):
        job = await add_job(one, lines(1))
        state = await job_done(one, job)
        assert (state.n_failed, state.results) == (1, None)


async def test_a_job_that_goes_wrong_rests_and_others_go_on(
    tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch
):
    """Whatever it is: nobody runs it again at once, and nothing is lost of it."""
    one = Replica(tmp_path, tally)
    speak, is_wrong = one.speaker.speak, True

    async def failing(request, voice):
        if request.text == "Wrong." and is_wrong:
            tally.begun["Wrong."] = tally.begun.get("Wrong.", 0) + 1
            raise ZeroDivisionError("a fault of ours")
        async for chunk in speak(request, voice):
            yield chunk

    one.speaker.speak = failing  # type: ignore[method-assign]
    one.speech._synthesizer = one.speaker
    async with replicas(one):
        wrong = await add_job(one, ["Wrong."])
        right = await add_job(one, lines(3))
        assert (await job_done(one, right)).status == "done"
        one.runner.poke()
        await asyncio.sleep(0.2)
        assert tally.begun["Wrong."] == 1
        standing = await one.store.find(wrong.name)
        assert standing is not None
        assert standing.state.is_open
        is_wrong = False
        monkeypatch.setattr(runner, "REST_S", 0.0)
        one.runner._resting.clear()
        one.runner.poke()
        assert (await job_done(one, wrong)).n_failed == 0


async def test_a_job_that_cannot_be_read_keeps_others_from_nothing(tmp_path: Path, tally: Tally):
    one = Replica(tmp_path, tally)
    damaged = await add_job(one, ["Damaged."])
    await asyncio.to_thread(spoil, tmp_path / "jobs/v1/shared/states" / damaged.name.id)
    async with replicas(one):
        running = await add_job(one, lines(3))
        assert damaged.name.id < running.name.id, "it is looked at first"
        assert (await job_done(one, running)).status == "done"
        assert "Damaged." not in tally.begun


def spoil(directory: Path) -> None:
    """Another byte in every document."""
    for file in directory.iterdir():
        file.write_bytes(file.read_bytes().replace(b"queued", b"cueued"))


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_what_is_written_of_a_job_that_was_removed_goes_as_well(
    tmp_path: Path, tally: Tally, moment: str
):
    """The last part comes behind the removal, and nobody looks at the job again before the end."""
    one = Replica(tmp_path, tally, jobs={"lease_s": 60.0})
    keep = Parts.keep

    async def late(self: Parts, name: JobName, facts: PartFacts, audio: bytes) -> PartFacts:
        if moment == "after":
            await keep(self, name, facts, audio)
        await one.store.delete(name.namespace, name.id)
        return await keep(self, name, facts, audio)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Parts, "keep", late)
        async with replicas(one):
            job = await add_job(one, lines(1))
            await until(lambda: one.runner.running == 1)
            await until(lambda: one.runner.running == 0)
            assert await asyncio.to_thread(files_of, tmp_path, job.name.id) == ["states"]


async def test_what_is_being_written_as_its_job_is_removed_goes_as_well(
    tmp_path: Path, tally: Tally
):
    """Whoever writes it was cancelled; the store's thread was not."""
    one = Replica(tmp_path, tally)
    create, begun, goes_on = one.blobs.create, threading.Event(), threading.Event()

    def slow(path: str, data: bytes) -> bool:
        if "/audio/" in path:
            begun.set()
            goes_on.wait()
        return create(path, data)

    one.blobs.create = slow
    async with replicas(one):
        job = await add_job(one, lines(1))
        await until(begun.is_set)
        await one.store.delete(job.name.namespace, job.name.id)
        one.runner.poke(job.name.id)
        asyncio.get_running_loop().call_later(0.2, goes_on.set)
        await until(lambda: one.runner.running == 0)
        goes_on.set()
        await one.store.shelf.settle()
        assert await asyncio.to_thread(files_of, tmp_path, job.name.id) == ["states"]
