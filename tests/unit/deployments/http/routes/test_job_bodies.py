"""Jobs over HTTP: every shape of body, how its texts are read, and what is refused."""

from __future__ import annotations

import asyncio
import io
import wave
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.jobs.store import JobName
from tests.http_app import error_of
from tests.unit.deployments.http.routes.job_app import JOBS, files, job_app

pytestmark = [pytest.mark.unit, pytest.mark.slow]
SRT = """1
00:00:00,500 --> 00:00:02,000
Did you hear that?

2
00:00:02,100 --> 00:00:02,400
<i>It was</i> only
the wind.
"""
VTT = "WEBVTT\n\n00:01.000 --> 00:03.000\n<v Ann>Hello &amp; goodbye.\n\nNOTE nothing\n"


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
