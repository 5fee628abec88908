"""Jobs: parts and the one file carry the mark; the file is signed where it can be."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deployments.config.marks.mark_settings import MarkSettings
from deployments.jobs import results as joining
from deployments.jobs.documents import Cue, JobPlan, JobSegment, ResultNote
from deployments.jobs.flac import from_flac
from deployments.jobs.parts import Parts
from deployments.jobs.results import MANIFEST, Results
from deployments.marks.checks import told_credentials
from deployments.marks.signing import Signer
from tests import job_runners
from tests.job_runners import Replica, Tally, add_job, job_done, replicas
from tests.marked import MarkedSpeaker, detector, score
from tests.signers import write_chain

pytestmark = [pytest.mark.unit, pytest.mark.slow]
TEXTS = ["One more line.", "And another one."]


@pytest.fixture
def replica(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Replica:
    monkeypatch.setattr(job_runners, "JobSpeaker", lambda names, _tally: MarkedSpeaker(names))
    return Replica(tmp_path / "store", Tally(), jobs={"max_stretch": 1.3})


async def file_of(replica: Replica, job: Any, state: Any) -> tuple[bytes, ResultNote]:
    results = Results(replica.store.shelf)
    note = await results.note(job.name, state.results)
    slabs = [slab async for slab in results.audio(job.name, state.results, note)]
    return b"".join(slabs), note


async def heard_parts(replica: Replica, job: Any, state: Any) -> list[float]:
    store = Parts(replica.store.shelf)
    facts = await store.all(job.name, state)
    flacs = [await store.audio(job.name, facts[number]) for number in sorted(facts)]
    samples = [np.concatenate(list(from_flac(flac))) for flac in flacs]
    return [detector().find(one, 24_000).score for one in samples]


async def test_parts_and_file_are_marked(replica: Replica) -> None:
    async with replicas(replica):
        job = await add_job(replica, TEXTS, response_format="mp3")
        state = await job_done(replica, job)
        assert min(await heard_parts(replica, job, state)) > 0.8
        data, note = await file_of(replica, job, state)
        assert score(data) > 0.8
        assert not note.signed


async def test_subtitles_that_are_played_faster_are_marked(replica: Replica) -> None:
    segment = JobSegment(text=TEXTS[0], voice="aria", cue=Cue(begin_s=0.0, end_s=1.9))
    plan = JobPlan(created_unix_s=0, n_segments=1, n_chars=9, seed=7, response_format="opus")
    async with replicas(replica):
        job = await replica.store.add(replica.voices.namespace, plan, [segment])
        replica.runner.poke()
        state = await job_done(replica, job)
        facts = await Parts(replica.store.shelf).all(job.name, state)
        assert facts[0].stretch > 1.2
        assert min(await heard_parts(replica, job, state)) > 0.8
        data, _ = await file_of(replica, job, state)
        assert score(data) > 0.5


async def test_a_job_without_marks(replica: Replica) -> None:
    async with replicas(replica):
        job = await add_job(replica, TEXTS, is_marked=False)
        state = await job_done(replica, job)
        assert max(await heard_parts(replica, job, state)) < 0.3


@pytest.mark.parametrize("sound", ["wav", "mp3", "flac"])
async def test_the_file_is_signed(
    sound: str, replica: Replica, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lies in slabs all the same, and its manifest has the signed file's digest."""
    monkeypatch.setattr(joining, "SLAB_BYTES", 20_000)
    chain, key = write_chain(tmp_path)
    signer = Signer.of(MarkSettings(c2pa_certificate=str(chain), c2pa_key=str(key)))
    replica.runner._signer = signer
    async with replicas(replica):
        job = await add_job(replica, TEXTS, response_format=sound)
        state = await job_done(replica, job)
        data, note = await file_of(replica, job, state)
        told = told_credentials(data)
        manifest = await Results(replica.store.shelf).file(job.name, state.results or 0, MANIFEST)
    assert told is not None
    assert told["outcome"] == "detected"
    assert told["validation_state"] == "valid"
    assert score(data) > 0.8
    assert len(data) == note.size_bytes
    assert note.n_slabs > 1
    assert json.loads(manifest)["file"]["sha256"] == note.sha256


async def test_two_who_sign_at_once_leave_one_whole_file(replica: Replica, tmp_path: Path) -> None:
    chain, key = write_chain(tmp_path)
    signer = Signer.of(MarkSettings(c2pa_certificate=str(chain), c2pa_key=str(key)))
    async with replicas(replica):
        job = await add_job(replica, TEXTS)
        state = await job_done(replica, job)
        plan = await replica.store.plan(job.name)
        segments = await replica.store.segments(job.name, plan)
        parts = await Parts(replica.store.shelf).all(job.name, state)
        both = [Results(replica.store.shelf, signer) for _ in range(2)]
        await asyncio.gather(*(one.build(job.name, 9, plan, segments, parts) for one in both))
        note = await both[0].note(job.name, 9)
        slabs = [slab async for slab in both[0].audio(job.name, 9, note)]
    told = told_credentials(b"".join(slabs))
    assert told is not None
    assert told["validation_state"] == "valid"


async def test_an_opus_file_has_no_place_for_credentials(replica: Replica, tmp_path: Path) -> None:
    chain, key = write_chain(tmp_path)
    replica.runner._signer = Signer.of(MarkSettings(c2pa_certificate=str(chain), c2pa_key=str(key)))
    async with replicas(replica):
        job = await add_job(replica, TEXTS[:1], response_format="opus")
        state = await job_done(replica, job)
        _, note = await file_of(replica, job, state)
    assert not note.signed
