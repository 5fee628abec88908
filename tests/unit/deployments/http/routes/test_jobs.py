"""Jobs over HTTP: every shape of body, what is refused and how, and the life of a job."""

from __future__ import annotations

import asyncio
import io
import json
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from deployments.http.routes import jobs as routes_of_jobs
from deployments.jobs.parts import Parts
from deployments.jobs.runner import JobRunner
from deployments.jobs.speaking import SegmentSpeaker
from deployments.jobs.store import JobName, JobStore
from load_tests.conformance import strict
from pipeline.errors import StageError, StageUnavailableError
from tests.http_app import CLIP, SAID, HttpApp, error_of, running, tenant
from tests.job_runners import AwayStore, FreeRoad
from tests.waiting import until

pytestmark = [pytest.mark.unit, pytest.mark.slow]
JOBS = "/v1/audio/jobs"
KINDS = ("states", "plans", "runs", "parts", "audio", "results")
SRT = """1
00:00:00,500 --> 00:00:02,000
Did you hear that?

2
00:00:02,100 --> 00:00:02,400
<i>It was</i> only
the wind.
"""
VTT = "WEBVTT\n\n00:01.000 --> 00:03.000\n<v Ann>Hello &amp; goodbye.\n\nNOTE nothing\n"


class JobApp(HttpApp):
    """The application, with somebody who runs its jobs."""

    def __init__(self, directory: Path, **args: Any) -> None:
        jobs = {"lease_s": 0.3, "concurrency": 2, **args.pop("jobs", {})}
        cache = {"url": str(directory), "l2": "off"}
        super().__init__(is_telling=True, cache=cache, jobs=jobs, **args)
        assert self.voices.shelf is not None
        store = JobStore(self.voices.shelf, self.settings.jobs.max_kept)
        self.road = FreeRoad()
        speaker = SegmentSpeaker(self.settings, self.voices, self.speech)
        self.runner = JobRunner(self.settings.jobs, store, speaker, self.road)

    async def _told(self, job: str) -> None:
        self.runner.poke(job)

    async def made(self, content: Any = None, kind: str = "", **params: Any) -> dict[str, Any]:
        """A job that is accepted."""
        reply = await self.asked(content, kind, **params)
        assert reply.status_code == httpx.codes.OK, reply.text
        return reply.json()

    async def asked(self, content: Any, kind: str = "", **params: Any) -> httpx.Response:
        if isinstance(content, dict):
            return await self.http.post(JOBS, json=content, params=params)
        headers = {"content-type": kind} if kind else {}
        return await self.http.post(JOBS, content=content, headers=headers, params=params)

    async def ended(self, job: str, give_up_s: float = 60.0) -> dict[str, Any]:
        async with asyncio.timeout(give_up_s):
            while True:
                told = (await self.http.get(f"{JOBS}/{job}")).json()
                if told["status"] in {"completed", "failed", "cancelled"}:
                    return told
                await asyncio.sleep(0.02)

    async def segments(self, job: str) -> list[dict[str, Any]]:
        return (await self.http.get(f"{JOBS}/{job}/segments")).json()["data"]


@asynccontextmanager
async def job_app(directory: Path, **args: Any) -> AsyncIterator[JobApp]:
    app = JobApp(directory, **args)
    async with running(app):
        task = asyncio.create_task(app.runner.run())
        try:
            yield app
        finally:
            task.cancel()
            await asyncio.wait([task])


async def test_ssml_is_cut_as_what_it_says(tmp_path: Path):
    text = "<speak><p>One &amp; two.</p><break time='2s'/><p>Three <sub alias='four'>4</sub>.</p>"
    async with job_app(tmp_path) as app:
        app.speaker.step = asyncio.Semaphore(0)
        job = await app.made({"input": f"{text}</speak>"})
        (segment,) = await app.segments(job["id"])
        assert segment["text"] == "One &amp; two.\n[pause:2000ms]\nThree four."
        refused = await app.asked({"input": f"{text}<voice/></speak>"})
        assert (refused.status_code, error_of(refused)["param"]) == (400, "input")
        silent = await app.asked({"input": "* * *"})
        assert (silent.status_code, error_of(silent)["param"]) == (422, "input")


async def test_pronunciations_are_those_of_the_day_it_was_made(tmp_path: Path):
    """A tenant's dictionary, and the request's own; what changes later changes no segment."""
    entry = {"written": "SQL", "said": "sequel"}
    body = {"scope": "tenant", "name": "terms", "entries": [entry]}
    async with job_app(tmp_path) as app:
        kept = (await app.http.post("/v1/audio/pronunciations", json=body)).json()
        own = [{"written": "Nguyen", "said": "win"}]
        texts = [{"text": "Dr. Nguyen wrote."}, {"text": "It is SQL."}, {"text": "Nothing else."}]
        app.speaker.step = asyncio.Semaphore(0)
        job = await app.made({"inputs": texts, "pronunciation": own})
        reply = await app.http.delete(f"/v1/audio/pronunciations/{kept['id']}")
        assert reply.status_code == httpx.codes.OK
        app.speaker.step = None
        assert (await app.ended(job["id"]))["status"] == "completed"
    said = {
        asked.text: [rule.said for rule in asked.reading.pronunciations]
        for asked in app.speaker.requests
    }
    assert said == {
        "Dr. Nguyen wrote.": ["win"],
        "It is SQL.": ["sequel"],
        "Nothing else.": [],
    }


async def test_a_segment_made_anew_is_read_as_it_was(tmp_path: Path):
    """Whatever became of the dictionary; what an edit says of it is read so, too."""
    entries = [{"written": "SQL", "said": "sequel"}, {"written": "GIF", "said": "jif"}]
    body = {"scope": "tenant", "name": "terms", "entries": entries}
    laugh = {"type": "paralinguistic", "text": "It is SQL. [Laughter]"}
    async with job_app(tmp_path) as app:
        kept = (await app.http.post("/v1/audio/pronunciations", json=body)).json()
        texts = [{"text": "It is SQL.", "edits": [laugh]}, {"text": "It is mine.", "voice": "aria"}]
        job = (await app.made({"inputs": texts, "voice": "bruno"}))["id"]
        await app.ended(job)
        changed = {"entries": [{"written": "SQL", "said": "squirrel"}]}
        reply = await app.http.post(f"/v1/audio/pronunciations/{kept['id']}", json=changed)
        assert reply.status_code == httpx.codes.OK
        for number in (0, 1):
            asked = await app.http.post(f"{JOBS}/{job}/segments/{number}/regenerate")
            assert asked.status_code == httpx.codes.OK
            await app.ended(job)
        store = app.jobs.store
        plan = await store.plan(JobName(app.voices.namespace, job))
        assert list(plan.readings) == ["bruno"], "once a voice, where there is anything to read"
        assert [one.written for one in plan.readings["bruno"].pronunciations] == ["SQL"]
    said = [
        (asked.text, [rule.said for rule in asked.reading.pronunciations])
        for asked in app.speaker.requests
    ]
    first = [("It is SQL.", ["sequel"]), ("It is SQL. [Laughter]", ["sequel"])]
    assert sorted(said) == sorted([*first, ("It is mine.", []), *first, ("It is mine.", [])])


async def test_readings_are_not_written_with_every_segment(tmp_path: Path):
    rules = [{"written": f"w{n} " + "x" * 100, "said": "y" * 400, "regex": True} for n in range(40)]
    async with job_app(tmp_path, text={"pronunciations": rules}) as app:
        app.road.is_free = False
        job = await app.made({"inputs": [{"text": f"Line {n}."} for n in range(200)]})
        plans = files(tmp_path, f"*/plans/{job['id']}/*")
        assert len(plans) == 2, "the plan, and a page of its segments"
        assert sum(path.stat().st_size for path in plans) < 100_000


async def test_what_a_document_cannot_hold_is_refused(tmp_path: Path):
    """By name, before anything is written: expressions by voice, a segment by its edits."""
    rules = [{"written": "x" * 150, "said": "y" * 500, "regex": True}] * 200
    laugh = {"type": "paralinguistic", "text": "\U0001f600" * 4_000 + "[Laughter]"}
    jobs = {"max_chars": 60_000}
    async with job_app(tmp_path, text={"pronunciations": rules}, jobs=jobs) as app:
        app.road.is_free = False
        for body, param, says in (
            ({"inputs": [{"text": "a", "voice": "aria"}, {"text": "b", "voice": "bruno"}]},
             "pronunciation", "take more than"),
            ({"inputs": [{"text": "a"}, {"text": "b", "edits": [laugh] * 8}]},
             "inputs.1.edits", "a segment with its edits takes"),
            ({"inputs": [{"text": "A few words here. " * 3_000, "edits": [laugh]}]},
             "inputs", "with what edits say of each"),
        ):  # fmt: skip
            refused = await app.asked(body)
            error = error_of(refused)
            status = 422 if param == "inputs" else 400
            assert (refused.status_code, error["param"]) == (status, param), error
            assert says in error["message"]
        assert not files(tmp_path, "**/*")
        await app.made({"inputs": [{"text": "a", "edits": [laugh] * 4}]})


async def test_a_dictionary_that_is_not_there_makes_no_job(tmp_path: Path):
    async with job_app(tmp_path) as app:
        body = {"input": "Hello there.", "pronunciation_dictionary": ["pron_none"]}
        reply = await app.asked(body)
        assert (reply.status_code, error_of(reply)["param"]) == (404, "pronunciation_dictionary")
        assert (await app.http.get(JOBS)).json()["data"] == []


async def test_a_dialogue_is_spoken_and_joined(tmp_path: Path):
    async with job_app(tmp_path) as app:
        inputs = [
            {"text": "Did you hear that?", "voice": "aria", "pause_s": 0.5},
            {"text": "It was only the wind.", "voice": "bruno"},
        ]
        job = await app.made({"inputs": inputs, "response_format": "wav", "seed": 7})
        assert job["status"] == "queued"
        assert job["progress"]["segments"] == 2
        done = await app.ended(job["id"])
        assert done["status"] == "completed"
        assert done["progress"]["done"] == 2
        audio = await app.http.get(done["results"]["audio"])
        assert audio.headers["content-type"] == "audio/wav"
        assert int(audio.headers["content-length"]) == len(audio.content)
        with wave.open(io.BytesIO(audio.content)) as file:
            audio_s = file.getnframes() / file.getframerate()
        segments = await app.segments(job["id"])
        assert [one["voice"] for one in segments] == ["aria", "bruno"]
        spoken_s = sum(one["audio_s"] for one in segments)
        assert audio_s == pytest.approx(spoken_s + 0.5, abs=0.01)
        manifest = (await app.http.get(done["results"]["manifest"])).json()
        assert manifest["segments"][1]["begin_s"] == pytest.approx(segments[0]["audio_s"] + 0.5)
        assert manifest["file"]["size_bytes"] == len(audio.content)
        subtitles = await app.http.get(done["results"]["vtt"])
        assert subtitles.text.startswith("WEBVTT\n\n00:00:00.000 --> ")
        assert "It was only the wind." in subtitles.text


async def test_each_shape_of_body(tmp_path: Path):
    long = "One sentence here. " * 60
    async with job_app(tmp_path) as app:
        app.road.is_free = False
        for content, kind, count in (
            ({"input": long, "voice": "bruno"}, "", None),
            (long, "text/plain", None),
            (long, "", None),
            (SRT, "application/x-subrip", 2),
            (SRT, "text/plain", 2),
            (VTT, "text/vtt", 1),
            ("text,voice\nOne.,aria\nTwo.,bruno\n", "text/csv", 2),
            ({"rows": [{"text": "One.", "edits": [{"type": "emotion", "value": "happy"}]}]}, "", 1),
            ({"table": "text;edits\nOne.;emotion:happy*2\n".replace(";e", "\te")
              .replace(";e", "\te").replace(".;", ".\t")}, "", 1),
            ({"subtitles": VTT, "voices": {"ann": "elena"}}, "", 1),
        ):  # fmt: skip
            job = await app.made(content, kind, voice="bruno")
            found = job["progress"]["segments"]
            assert found == count if count else found > 3, content
        form = await app.http.post(JOBS, files={"file": ("a.srt", SRT)}, data={"voice": "bruno"})
        assert form.json()["progress"]["segments"] == 2


@pytest.mark.parametrize(
    ("body", "param", "says", "status"),
    [
        ({}, "input", "one of input, inputs, subtitles, table is required", 400),
        ({"input": "a", "inputs": [{"text": "b"}]}, "inputs", "found input and inputs", 400),
        ({"inputs": []}, "inputs", "at least one", 422),
        ({"inputs": [{"text": " "}]}, "inputs.0.text", "empty", 422),
        ({"inputs": [{"voice": "aria"}]}, "inputs.0.text", "required", 400),
        ({"inputs": [{"text": "a", "voice": "nobody"}]}, "inputs.0.voice", "nobody", 404),
        ({"input": "a", "voice": "nobody"}, "voice", "nobody", 404),
        ({"input": "a", "vioce": "aria"}, "vioce", "unknown field", 400),
        ({"inputs": [{"text": "a", "speed": 9}]}, "inputs.0.speed", "less than", 400),
        ({"inputs": [{"text": "a", "edits": "emotion:hapy"}]}, "inputs.0.edits.0.value",
         "allowed: happy", 400),
        ({"inputs": [{"text": "a", "edits": "clone"}]}, "inputs.0.edits.0.type", "clone", 400),
        ({"subtitles": "nothing"}, "subtitles", "no cue", 400),
        ({"subtitles": "00:00:02,000 --> 00:00:01,000\na"}, "subtitles", "before it begins", 400),
        ({"table": "voice\naria"}, "table", "text among them", 400),
        ({"table": "text,speed\na,fast"}, "table.0.speed", "row 0", 400),
        ({"input": "a", "response_format": "ogg"}, "response_format", "ogg", 400),
        ({"input": "a", "response_format": "mp3", "sample_rate": 7}, "sample_rate", "7", 400),
        ({"input": "a", "target_lufs": 3}, "target_lufs", "less than", 400),
        ({"input": "a", "model": "gpt-9"}, "model", "gpt-9", 400),
        ({"input": "a", "webhook": "https://a.example/"}, "webhook", "webhook_hosts is empty", 400),
        ({"input": "a" * 2_001}, "input", "2000 are allowed", 422),
        ({"inputs": [{"text": "a"}] * 51}, "inputs", "50 are allowed", 422),
    ],
)  # fmt: skip
async def test_what_is_refused(tmp_path: Path, body: Any, param: str, says: str, status: int):
    limits = {"max_chars": 2_000, "max_segments": 50}
    async with job_app(tmp_path, jobs=limits) as app:
        reply = await app.asked(body)
        error = error_of(reply)
        assert (reply.status_code, error["param"]) == (status, param), error
        assert says in error["message"]


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


def files(directory: Path, pattern: str) -> list[Path]:
    found = directory.glob(f"jobs/v1/{pattern}")
    return [path for path in found if path.is_file()]


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
        looks = 0
        get = app.jobs.get

        async def counted(namespace: str, asked: str) -> Any:
            nonlocal looks
            try:
                return await get(namespace, asked)
            except StageUnavailableError:
                looks += 1
                raise

        monkeypatch.setattr(app.jobs, "get", counted)
        following = asyncio.create_task(app.http.get(f"{JOBS}/{job}/events"))
        await asyncio.sleep(0.05)
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


async def test_subtitles_are_heard_at_their_times(tmp_path: Path):
    async with job_app(tmp_path, jobs={"max_stretch": 1.2}) as app:
        job = (await app.made(SRT, "application/x-subrip", voice="bruno", response_format="wav"))[
            "id"
        ]
        done = await app.ended(job)
        assert done["status"] == "completed"
        manifest = (await app.http.get(done["results"]["manifest"])).json()
        first, second = manifest["segments"]
        assert done["progress"]["over"] == int(second["over_s"] > 0)
        assert first["begin_s"] == 0.5
        assert (first["stretch"], first["over_s"]) == (1.0, 0.0)
        assert second["begin_s"] == 2.1
        assert second["cue"] == [2.1, 2.4]
        assert second["text"] == "It was only the wind."
        assert second["stretch"] == pytest.approx(1.2)
        assert second["over_s"] == pytest.approx(0.36 / 1.2 - 0.3, abs=0.06)
        assert "00:00:00,500 -->" in (await app.http.get(done["results"]["srt"])).text


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
    async with job_app(tmp_path) as app:
        form = {"name": "Zoe", "consent": "I agree.", "ref_text": SAID}
        made = await app.http.post("/v1/audio/voices", data=form, files={"audio_sample": CLIP})
        voice, removed = made.json()["voice"]["id"], asyncio.Event()

        def removing(owner: Any, method: str) -> None:
            call = getattr(owner, method)

            async def removed_first(*args: Any) -> Any:
                monkeypatch.setattr(owner, method, call)
                reply = await app.http.delete(f"/v1/audio/voices/{voice}")
                assert reply.status_code == httpx.codes.OK, reply.text
                removed.set()
                return await call(*args)

            monkeypatch.setattr(owner, method, removed_first)

        if moment == "noted":
            removing(app.runner._store, "note_clip")
        elif moment == "checked":
            removing(app.runner._speaker, "check_voice")
        else:
            removing(Parts, "keep")
        job = (await app.made({"inputs": [{"text": "One.", "voice": "Zoe"}, {"text": "Two."}]}))[
            "id"
        ]
        if moment == "noted":
            assert (await app.ended(job))["progress"]["failed"] == 1
            first, second = await app.segments(job)
            assert first["error"]["code"] == "unknown_voice"
            assert second["error"] is None
            assert len(files(tmp_path, f"*/audio/{job}/*")) == 1
            return
        await removed.wait()
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
