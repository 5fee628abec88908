"""Jobs over HTTP: their life, followed, changed and removed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from deployments.http.routes import jobs as routes_of_jobs
from deployments.jobs.parts import Parts
from load_tests.conformance import strict
from pipeline.errors import StageError, StageUnavailableError
from tests.http_app import CLIP, SAID, HttpApp, error_of, running, tenant
from tests.job_runners import AwayStore
from tests.unit.deployments.http.routes.job_app import JOBS, KINDS, files, job_app
from tests.waiting import until

pytestmark = [pytest.mark.unit, pytest.mark.slow]


async def test_so_many_jobs_are_kept(tmp_path: Path):
    async with job_app(tmp_path, jobs={"max_kept": 1}) as app:
        job = (await app.made({"input": "One."}))["id"]
        assert (await app.asked({"input": "Two."})).status_code == httpx.codes.SERVICE_UNAVAILABLE
        await app.http.delete(f"{JOBS}/{job}")
        await app.made({"input": "Three."})


async def test_a_service_without_a_store_says_so():
    async with running(HttpApp()) as app:
        reply = await app.http.post(JOBS, json={"input": "One."})
        assert reply.status_code == httpx.codes.BAD_REQUEST
        assert "cache.url: none" in error_of(reply)["message"]


async def test_pause_resume_cancel_delete(tmp_path: Path):
    async with job_app(tmp_path) as app:
        app.road.is_free = False
        job = (await app.made({"inputs": [{"text": f"Line {n}."} for n in range(5)]}))["id"]
        at = f"{JOBS}/{job}"
        assert (await app.http.post(f"{at}/pause")).json()["status"] == "paused"
        assert (await app.http.post(f"{at}/pause")).status_code == httpx.codes.OK
        app.road.is_free = True
        await asyncio.sleep(0.3)
        assert (await app.http.get(at)).json()["progress"]["done"] == 0
        refused = await app.http.get(f"{at}/audio")
        assert refused.status_code == httpx.codes.BAD_REQUEST
        assert refused.headers["X-Should-Retry"] == "false"
        assert (await app.http.post(f"{at}/resume")).json()["status"] in {"queued", "running"}
        assert (await app.ended(job))["status"] == "completed"
        assert (await app.http.post(f"{at}/cancel")).status_code == httpx.codes.BAD_REQUEST
        assert (await app.http.post(f"{at}/pause")).status_code == httpx.codes.BAD_REQUEST
        assert (await app.http.delete(at)).json()["deleted"] is True
        for address in (at, f"{at}/audio", f"{at}/segments", f"{at}/events"):
            assert (await app.http.get(address)).status_code == httpx.codes.NOT_FOUND
        assert {kind for kind in KINDS if files(tmp_path, f"*/{kind}/{job}/**/*")} == {"states"}


async def test_a_cancelled_job_keeps_what_was_made(tmp_path: Path):
    async with job_app(tmp_path) as app:
        job = (await app.made({"inputs": [{"text": f"Line {n}."} for n in range(3)]}))["id"]
        await app.ended(job)
        app.road.is_free = False
        again = await app.http.post(f"{JOBS}/{job}/segments/1/regenerate")
        assert again.json()["status"] in {"queued", "running"}
        told = (await app.http.post(f"{JOBS}/{job}/cancel")).json()
        assert told["status"] == "cancelled"
        assert (await app.http.get(f"{JOBS}/{job}/segments/0/audio")).status_code == httpx.codes.OK


async def test_one_segment_is_made_anew(tmp_path: Path):
    async with job_app(tmp_path) as app:
        inputs = [{"text": f"Line {n}."} for n in range(3)]
        job = (await app.made({"inputs": inputs, "response_format": "wav"}))["id"]
        await app.ended(job)
        before = await app.segments(job)
        first = (await app.http.get(f"{JOBS}/{job}/audio")).content
        asked = await app.http.post(f"{JOBS}/{job}/segments/1/regenerate", json={"seed": 99})
        assert asked.status_code == httpx.codes.OK, asked.text
        await app.ended(job)
        after = await app.segments(job)
        assert [one["revision"] for one in after] == [0, 1, 0]
        assert after[1]["seed"] == 99
        assert [after[0], after[2]] == [before[0], before[2]]
        assert after[1]["digest"] != before[1]["digest"]
        assert (await app.http.get(f"{JOBS}/{job}/audio")).content != first
        beyond = await app.http.post(f"{JOBS}/{job}/segments/3/regenerate")
        assert error_of(beyond)["param"] == "segment"


async def test_what_came_to_nothing_is_made_again(tmp_path: Path):
    async with job_app(tmp_path, jobs={"tries": 1}) as app:
        speaker: Any = app.speech._synthesizer
        speaker.error = StageError("the vocoder failed")
        job = (await app.made({"inputs": [{"text": f"Line {n}."} for n in range(2)]}))["id"]
        failed = await app.ended(job)
        assert (failed["status"], failed["results"]) == ("failed", None)
        assert failed["progress"]["failed"] == 2
        (first, _) = await app.segments(job)
        assert (first["status"], first["error"]["code"]) == ("failed", "stage_failed")
        speaker.error = None
        assert (await app.http.post(f"{JOBS}/{job}/resume")).status_code == httpx.codes.OK
        done = await app.ended(job)
        assert (done["status"], done["progress"]["failed"]) == ("completed", 0)
        refused = await app.http.post(f"{JOBS}/{job}/resume")
        assert error_of(refused)["code"] == "job_state"


async def test_a_job_is_followed_to_its_end(tmp_path: Path):
    async with job_app(tmp_path) as app:
        job = (await app.made({"inputs": [{"text": f"Line {n}."} for n in range(3)]}))["id"]
        events: list[tuple[str, dict[str, Any]]] = []
        async with app.http.stream("GET", f"{JOBS}/{job}/events") as reply:
            assert reply.headers["content-type"].startswith("text/event-stream")
            kind = ""
            async for line in reply.aiter_lines():
                name, _, said = line.partition(": ")
                if name == "event":
                    kind = said
                elif name == "data":
                    events.append((kind, json.loads(said)))
        assert events[-1][0] == "audio.job.ended"
        assert events[-1][1]["status"] == "completed"
        assert {kind for kind, _ in events[:-1]} <= {"audio.job.progress"}


async def test_who_follows_a_job_outlives_an_absent_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(routes_of_jobs, "FOLLOW_S", 0.01)
    async with job_app(tmp_path) as app:
        assert app.voices.shelf is not None
        blobs: Any = AwayStore(app.voices.shelf._blobs)
        app.voices.shelf._blobs = blobs
        app.road.is_free = False
        job = (await app.made({"input": "One."}))["id"]
        found = looks = 0
        get = app.jobs.get

        async def counted(namespace: str, asked: str) -> Any:
            nonlocal found, looks
            try:
                job = await get(namespace, asked)
            except StageUnavailableError:
                looks += 1
                raise
            found += 1
            return job

        monkeypatch.setattr(app.jobs, "get", counted)
        following = asyncio.create_task(app.http.get(f"{JOBS}/{job}/events"))
        await until(lambda: found > 0)
        blobs.is_away = True
        await until(lambda: looks > 2 or following.done())
        blobs.is_away = False
        app.road.is_free = True
        told = (await following).text
        assert "event: audio.job.ended" in told
        assert told.count("event: audio.job.ended") == 1
        assert '"status": "completed"' in told


async def test_pages_of_jobs_the_newest_first(tmp_path: Path):
    async with job_app(tmp_path) as app:
        made = [(await app.made({"input": f"Number {n}."}))["id"] for n in range(3)]
        page = (await app.http.get(JOBS, params={"limit": 2})).json()
        assert [one["id"] for one in page["data"]] == made[:0:-1]
        assert page["has_more"]
        rest = (await app.http.get(JOBS, params={"after": page["last_id"]})).json()
        assert [one["id"] for one in rest["data"]] == made[:1]
        other = tenant(app, "other")
        assert (await other.get(JOBS)).json()["data"] == []
        assert (await other.get(f"{JOBS}/{made[0]}")).status_code == httpx.codes.NOT_FOUND


async def test_a_removed_voice_takes_its_jobs_along(tmp_path: Path):
    async with job_app(tmp_path) as app:
        form = {"name": "Zoe", "consent": "I agree.", "ref_text": SAID}
        made = await app.http.post("/v1/audio/voices", data=form, files={"audio_sample": CLIP})
        voice = made.json()["voice"]["id"]
        hers = (await app.made({"input": "One.", "voice": "Zoe"}))["id"]
        others = (await app.made({"input": "One.", "voice": "aria"}))["id"]
        await app.ended(hers)
        await app.ended(others)
        (one,) = await app.segments(hers)
        assert one["voice"] == f"{voice}@1"
        await app.http.delete(f"/v1/audio/voices/{voice}", params={"purge": "1"})
        assert (await app.http.get(f"{JOBS}/{hers}")).status_code == httpx.codes.NOT_FOUND
        assert (await app.http.get(f"{JOBS}/{others}")).status_code == httpx.codes.OK


@pytest.mark.parametrize("moment", ["noted", "checked", "kept"])
async def test_a_voice_removed_while_it_is_spoken_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
):
    """Its word did not reach who speaks. Before its job is noted with it, or at any step after."""
    async with job_app(tmp_path, jobs={"concurrency": 1}) as app:  # so that hers is the first
        form = {"name": "Zoe", "consent": "I agree.", "ref_text": SAID}
        made = await app.http.post("/v1/audio/voices", data=form, files={"audio_sample": CLIP})
        voice = made.json()["voice"]["id"]
        removals: list[asyncio.Task[httpx.Response]] = []

        def removing(owner: Any, method: str) -> None:
            """By a task of its own: as the job goes, whoever makes its segments is cancelled."""
            call = getattr(owner, method)

            async def removed_first(*args: Any) -> Any:
                monkeypatch.setattr(owner, method, call)
                removal = app.http.delete(f"/v1/audio/voices/{voice}")
                removals.append(asyncio.create_task(removal))
                await asyncio.wait(removals)
                return await call(*args)

            monkeypatch.setattr(owner, method, removed_first)

        if moment == "noted":
            removing(app.runner._store, "note_clip")
        elif moment == "checked":
            removing(app.runner._speaker, "check_voice")
        else:
            removing(Parts, "keep")
        inputs = [{"text": "One.", "voice": "Zoe"}, {"text": "Two."}]
        job = (await app.made({"inputs": inputs}))["id"]
        await until(lambda: bool(removals))
        reply = await removals[0]
        assert reply.status_code == httpx.codes.OK, reply.text
        if moment == "noted":
            assert (await app.ended(job))["progress"]["failed"] == 1
            first, second = await app.segments(job)
            assert first["error"]["code"] == "unknown_voice"
            assert second["error"] is None
            assert len(files(tmp_path, f"*/audio/{job}/*")) == 1
            return
        await until(lambda: app.runner.running == 0)
        assert (await app.http.get(f"{JOBS}/{job}")).status_code == httpx.codes.NOT_FOUND
        assert {kind for kind in KINDS if files(tmp_path, f"*/{kind}/{job}/**/*")} == {"states"}


async def test_a_job_that_waits_outlives_its_voice_without_it(tmp_path: Path):
    async with job_app(tmp_path) as app:
        form = {"name": "Zoe", "consent": "I agree.", "ref_text": SAID}
        made = await app.http.post("/v1/audio/voices", data=form, files={"audio_sample": CLIP})
        app.road.is_free = False
        inputs = [{"text": "One.", "voice": "Zoe"}, {"text": "Two.", "voice": "aria"}]
        job = (await app.made({"inputs": inputs}))["id"]
        await app.http.delete(f"/v1/audio/voices/{made.json()['voice']['id']}")
        app.road.is_free = True
        done = await app.ended(job)
        assert (done["status"], done["progress"]["failed"]) == ("completed", 1)
        first, _ = await app.segments(job)
        assert first["error"]["code"] == "unknown_voice"


async def test_replies_in_the_life_of_a_job_have_their_shapes(tmp_path: Path):
    async with job_app(tmp_path) as app:
        page = strict(app.app.openapi())

        async def call(method: str, path: str, route: str, **how: Any) -> Any:
            reply = await app.http.request(method, path, **how)
            assert reply.status_code == httpx.codes.OK, reply.text
            told = page["paths"][route][method.lower()]["responses"]["200"]["content"]
            jsonschema.validate(reply.json(), told["application/json"]["schema"])
            return reply.json()

        one = f"{JOBS}/{{job_id}}"
        body = {"inputs": [{"text": "One."}, {"text": "Two.", "edits": "emotion:happy"}]}
        at = f"{JOBS}/{(await call('POST', JOBS, JOBS, json=body))['id']}"
        await app.ended(at.rpartition("/")[2])
        await call("GET", JOBS, JOBS)
        await call("GET", at, one)
        await call("GET", f"{at}/segments", f"{one}/segments")
        await call("GET", f"{at}/segments/1", f"{one}/segments/{{segment}}")
        await call("GET", f"{at}/manifest", f"{one}/manifest")
        again = "segments/{segment}/regenerate"
        await call("POST", f"{at}/segments/1/regenerate", f"{one}/{again}", json={"seed": 3})
        await call("DELETE", at, one)
