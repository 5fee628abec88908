"""Clips without a transcript, where a recogniser is deployed: uploads, speech in every dialect."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import msgpack
import pytest
import pytest_asyncio

from load_tests.conformance import strict
from pipeline.contracts import Mode
from pipeline.errors import (
    CapacityError,
    StageError,
    StageTimeoutError,
    StageUnavailableError,
)
from pipeline.voice_list import load_voices
from tests.fakes import FakeHearing
from tests.http_app import CLIP, SAID, HttpApp, error_of, http_app, tenant
from tests.unit.deployments.http.routes.edit_app import EDITS, VOICES, editing, long_clip

pytestmark = [pytest.mark.unit, pytest.mark.slow]
VOICES_PATH = "/v1/audio/voices"
SPEECH = "/v1/audio/speech"
AGREED = "I agree that my voice is cloned."
OTHER_CLIP = load_voices()["elena"].path.read_bytes()
TARGET = "Hello there."
HEARD = "please leave the keys"
CLIP64 = base64.b64encode(CLIP).decode()


@pytest.fixture
def hearing() -> FakeHearing:
    return FakeHearing(HEARD)


@pytest_asyncio.fixture
async def app(tmp_path: Path, hearing: FakeHearing) -> AsyncIterator[HttpApp]:
    async with http_app(cache={"url": str(tmp_path), "l2": "off"}, hearing=hearing) as made:
        yield made


async def uploaded(app: HttpApp, clip: bytes = CLIP, **fields: str) -> dict[str, Any]:
    sent = {"name": "Zoe", "consent": AGREED, **fields}
    files = {"audio_sample": ("v.wav", clip, "audio/wav")}
    reply = await app.http.post(VOICES_PATH, data=sent, files=files)
    assert reply.status_code == httpx.codes.OK, reply.text
    return reply.json()["voice"]


async def looked(app: HttpApp, voice: str = "Zoe") -> dict[str, Any]:
    reply = await app.http.get(f"{VOICES_PATH}/{voice}")
    page = strict(app.app.openapi())["paths"][f"{VOICES_PATH}/{{voice}}"]["get"]
    shape = page["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema.validate(reply.json(), shape)
    return reply.json()


def found(voice: dict[str, Any]) -> list[str]:
    return [finding["code"] for finding in voice["quality"]["findings"]]


class TestUploads:
    async def test_the_words_are_heard_and_say_so(self, app: HttpApp, hearing: FakeHearing):
        voice = await uploaded(app)
        assert (voice["ref_text"], voice["transcript_source"]) == (HEARD, "asr")
        assert "heard_transcript" in found(voice)
        assert "no_transcript" not in found(voice)
        told = await looked(app)
        assert (told["ref_text"], told["transcript_source"]) == (HEARD, "asr")
        assert [one["transcript_source"] for one in told["versions"]] == ["asr"]
        assert len(hearing.heard) == 1
        assert (await app.spoken(voice="Zoe")).transcript == HEARD
        assert len(hearing.heard) == 1, "kept with the voice"

    async def test_words_that_were_told_are_not_heard(self, app: HttpApp, hearing: FakeHearing):
        voice = await uploaded(app, ref_text=SAID)
        assert (voice["ref_text"], voice["transcript_source"]) == (SAID, "given")
        assert "heard_transcript" not in found(voice)
        assert not hearing.heard

    async def test_openais_shape_says_it_too(self, app: HttpApp):
        consent = {"name": "Zoe", "language": "en", "text": AGREED}
        agreed = (await app.http.post("/v1/audio/voice_consents", json=consent)).json()["id"]
        body = {"name": "Zoe", "consent": agreed, "audio_sample": CLIP64}
        voice = (await app.http.post(VOICES_PATH, json=body)).json()
        assert voice["object"] == "audio.voice"
        assert (voice["ref_text"], voice["transcript_source"]) == (HEARD, "asr")

    @pytest.mark.slow
    async def test_they_can_be_corrected(self, app: HttpApp, hearing: FakeHearing):
        await uploaded(app)
        reply = await app.http.post(f"{VOICES_PATH}/Zoe", json={"ref_text": SAID})
        assert (reply.json()["ref_text"], reply.json()["transcript_source"]) == (SAID, "given")
        told = await looked(app)
        assert [one["transcript_source"] for one in told["versions"]] == ["asr", "given"]
        assert (await app.spoken(voice="Zoe")).transcript == SAID
        assert (await app.spoken(voice=f"{told['id']}@1")).transcript == HEARD
        assert len(hearing.heard) == 1

    @pytest.mark.slow
    async def test_another_clip_is_heard_and_nothing_else_is(
        self, app: HttpApp, hearing: FakeHearing
    ):
        await uploaded(app, ref_text=SAID)
        for change in ({"name": "Yan"}, {"name": "Zoe"}, {"speaker_description": "calm"}):
            asked = "Yan" if change.get("name") == "Zoe" else "Zoe"
            reply = await app.http.post(f"{VOICES_PATH}/{asked}", json=change)
            assert (reply.json()["ref_text"], reply.json()["transcript_source"]) == (SAID, "given")
        assert not hearing.heard
        files = {"audio_sample": ("v.wav", OTHER_CLIP, "audio/wav")}
        reply = await app.http.post(f"{VOICES_PATH}/Zoe", files=files)
        assert (reply.json()["ref_text"], reply.json()["transcript_source"]) == (HEARD, "asr")
        assert len(hearing.heard) == 1

    async def test_elevenlabs_clones_can_speak(self, app: HttpApp):
        labels = json.dumps({"consent": AGREED})
        files = {"files": ("v.wav", CLIP, "audio/wav")}
        reply = await app.http.post(
            "/v1/voices/add", data={"name": "Yan", "labels": labels}, files=files
        )
        voice = reply.json()["voice_id"]
        spoken = await app.http.post(f"/v1/text-to-speech/{voice}", json={"text": TARGET})
        assert spoken.status_code == httpx.codes.OK, spoken.text
        request = app.synthesizer.requests[-1]
        assert (request.text, request.transcript) == (TARGET, HEARD)

    @pytest.mark.parametrize("blank", [None, "", "   "])
    async def test_where_no_words_are_heard_they_must_be_told(
        self, app: HttpApp, hearing: FakeHearing, blank: str | None
    ):
        hearing.usual = ""
        sent = {"name": "Zoe", "consent": AGREED} | ({} if blank is None else {"ref_text": blank})
        files = {"audio_sample": ("v.wav", CLIP, "audio/wav")}
        reply = await app.http.post(VOICES_PATH, data=sent, files=files)
        assert reply.status_code == httpx.codes.BAD_REQUEST
        assert error_of(reply)["param"] == "ref_text"
        assert "heard no words" in error_of(reply)["message"]
        assert reply.headers["x-should-retry"] == "false"
        assert (await app.http.get(VOICES_PATH)).json()["uploaded_voices"] == []
        assert (await app.http.get("/v1/audio/voice_consents")).json()["data"] == []
        assert (await uploaded(app, ref_text=SAID))["ref_text"] == SAID

    async def test_while_no_recogniser_answers(self, app: HttpApp, hearing: FakeHearing):
        hearing.error = StageUnavailableError("the recogniser's replica went away")
        files = {"audio_sample": ("v.wav", CLIP, "audio/wav")}
        sent = {"name": "Zoe", "consent": AGREED}
        reply = await app.http.post(VOICES_PATH, data=sent, files=files)
        assert reply.status_code == httpx.codes.SERVICE_UNAVAILABLE
        assert "send the transcript" in error_of(reply)["message"]
        assert (await app.http.get(VOICES_PATH)).json()["uploaded_voices"] == []
        assert (await app.http.get("/v1/audio/voice_consents")).json()["data"] == []
        assert (await uploaded(app, ref_text=SAID))["transcript_source"] == "given"

    @pytest.mark.slow
    async def test_a_change_that_cannot_be_heard_changes_nothing(
        self, app: HttpApp, hearing: FakeHearing
    ):
        await uploaded(app, ref_text=SAID)
        hearing.usual = ""
        files = {"audio_sample": ("v.wav", OTHER_CLIP, "audio/wav")}
        reply = await app.http.post(f"{VOICES_PATH}/Zoe", data={"name": "Yan"}, files=files)
        assert (reply.status_code, error_of(reply)["param"]) == (400, "ref_text")
        told = await looked(app)
        assert (told["name"], told["ref_text"], len(told["versions"])) == ("Zoe", SAID, 1)


@pytest.mark.slow
async def test_voices_of_before_are_heard_when_they_speak(tmp_path: Path, hearing: FakeHearing):
    cache = {"url": str(tmp_path), "l2": "off"}
    async with http_app(cache=cache) as app:
        voice = await uploaded(app)
        assert ("ref_text" in voice, voice["transcript_source"]) == (False, None)
        assert "no_transcript" in found(voice)
        reply = await app.speak(voice="Zoe")
        assert reply.status_code == httpx.codes.BAD_REQUEST
    async with http_app(cache=cache, hearing=hearing) as app:
        for _ in range(2):
            request = await app.spoken(voice="Zoe")
            assert (request.text, request.transcript) == (TARGET, HEARD)
        assert len(hearing.heard) == 1
        assert (await app.spoken(voice="Zoe", ref_text=SAID)).transcript == SAID
        assert (await looked(app))["transcript_source"] is None, "it is not the voice's"


JSON_BODIES: dict[str, tuple[str, dict[str, Any], str]] = {
    "predecessor": (
        SPEECH,
        {"input": TARGET, "step_audio": {"prompt_audio_base64": CLIP64}},
        "step_audio.prompt_text",
    ),
    "vllm-omni": (SPEECH, {"input": TARGET, "ref_audio": CLIP64}, "ref_text"),
    "references": (
        SPEECH,
        {"input": TARGET, "references": [{"audio_path": CLIP64}]},
        "references.0.text",
    ),
    "fish": ("/v1/tts", {"text": TARGET, "references": [{"audio": CLIP64}]}, "references.0.text"),
}


class TestSpeech:
    @pytest.mark.parametrize("dialect", JSON_BODIES)
    async def test_a_clip_needs_no_words(self, app: HttpApp, hearing: FakeHearing, dialect: str):
        path, body, _ = JSON_BODIES[dialect]
        for _ in range(2):
            reply = await app.http.post(path, json=body)
            assert reply.status_code == httpx.codes.OK, reply.text
        asked = app.synthesizer.requests
        assert {(request.text, request.transcript) for request in asked} == {(TARGET, HEARD)}
        assert hearing.heard == [app.synthesizer.speakers[-1]], "the very clip, once"

    @pytest.mark.parametrize("dialect", JSON_BODIES)
    async def test_without_a_recogniser_it_does(self, dialect: str):
        path, body, param = JSON_BODIES[dialect]
        async with http_app() as app:
            reply = await app.http.post(path, json=body)
            assert (reply.status_code, error_of(reply)["param"]) == (400, param)
            assert "transcript" in error_of(reply)["message"]

    @pytest.mark.parametrize("dialect", JSON_BODIES)
    async def test_silence_names_the_field_of_the_words(
        self, app: HttpApp, hearing: FakeHearing, dialect: str
    ):
        path, body, param = JSON_BODIES[dialect]
        hearing.usual = ""
        for _ in range(2):
            reply = await app.http.post(path, json=body)
            assert (reply.status_code, error_of(reply)["param"]) == (400, param)
            assert param in error_of(reply)["message"]
        assert not app.synthesizer.requests
        assert len(hearing.heard) == 1, "that there are none is kept as well"

    async def test_forms_and_message_pack(self, app: HttpApp):
        part = ("a.wav", CLIP, "audio/wav")
        forms = [
            app.http.post(f"{SPEECH}/upload", data={"input": TARGET}, files={"ref_audio": part}),
            app.http.post(
                f"{SPEECH}/upload",
                data={"payload": json.dumps({"input": TARGET})},
                files={"prompt_audio_file": part},
            ),
            app.http.post(
                "/v1/tts",
                content=msgpack.packb({"text": TARGET, "references": [{"audio": CLIP}]}),
                headers={"content-type": "application/msgpack"},
            ),
        ]
        for form in forms:
            reply = await form
            assert reply.status_code == httpx.codes.OK, reply.text
            request = app.synthesizer.requests[-1]
            assert (request.text, request.transcript) == (TARGET, HEARD)

    async def test_an_edits_words_are_those_of_its_clip(self, app: HttpApp):
        step = {"mode": "emotion", "edit_info": "happy", "input_audio_base64": CLIP64}
        reply = await app.http.post(SPEECH, json={"input": "", "step_audio": step})
        assert reply.status_code == httpx.codes.OK, reply.text
        request = app.synthesizer.requests[-1]
        assert (request.mode, request.text, request.transcript) == (Mode.EMOTION, HEARD, HEARD)

    async def test_a_target_text_stays_one_with_tags(self, app: HttpApp):
        step = {"mode": "paralinguistic", "input_audio_base64": CLIP64}
        tagged = "please leave [Laughter] the keys"
        reply = await app.http.post(SPEECH, json={"input": tagged, "step_audio": step})
        assert reply.status_code == httpx.codes.OK, reply.text
        request = app.synthesizer.requests[-1]
        assert (request.text, request.transcript) == (tagged, HEARD)

    async def test_words_are_never_taken_for_what_to_say(self, app: HttpApp, hearing: FakeHearing):
        """Nor the other way round: a body without a text is refused, whatever the clip says."""
        for body in (
            {"step_audio": {"prompt_audio_base64": CLIP64}},
            {"input": " ", "step_audio": {"prompt_audio_base64": CLIP64}},
        ):
            reply = await app.http.post(SPEECH, json=body)
            assert reply.status_code in {400, 422}
            assert error_of(reply)["param"] == "input"
        assert not hearing.heard
        assert not app.synthesizer.requests

    async def test_words_that_were_told_are_not_heard(self, app: HttpApp, hearing: FakeHearing):
        hearing.error = StageUnavailableError("down")
        told = {"prompt_audio_base64": CLIP64, "prompt_text": SAID}
        assert (await app.spoken(step_audio=told)).transcript == SAID
        assert (await app.spoken(voice="bruno")).transcript == SAID
        assert not hearing.heard

    @pytest.mark.parametrize(
        ("error", "status", "said"),
        [
            (StageUnavailableError("gone"), 503, "send the transcript"),
            (StageTimeoutError("late"), 503, "send the transcript"),
            (CapacityError("the recogniser is at work on 16 requests"), 503, "recogniser"),
            (StageError("the recogniser failed"), 500, "the recogniser failed"),
        ],
    )
    async def test_while_it_is_down(
        self, app: HttpApp, hearing: FakeHearing, error: Exception, status: int, said: str
    ):
        path, body, _ = JSON_BODIES["predecessor"]
        hearing.error = error
        reply = await app.http.post(path, json=body)
        assert reply.status_code == status
        assert said in error_of(reply)["message"]
        assert ("retry-after" in reply.headers) == (status == 503)
        hearing.error = None
        assert (await app.http.post(path, json=body)).status_code == httpx.codes.OK

    async def test_what_was_heard_needs_no_recogniser(self, app: HttpApp, hearing: FakeHearing):
        path, body, _ = JSON_BODIES["predecessor"]
        await app.http.post(path, json=body)
        hearing.error = StageUnavailableError("down")
        assert (await app.http.post(path, json=body)).status_code == httpx.codes.OK
        assert len(hearing.heard) == 1

    async def test_many_at_once_hear_once(self, app: HttpApp, hearing: FakeHearing):
        path, body, _ = JSON_BODIES["predecessor"]
        replies = await asyncio.gather(*(app.http.post(path, json=body) for _ in range(8)))
        assert {reply.status_code for reply in replies} == {200}
        assert len(hearing.heard) == 1

    async def test_any_router_finds_what_was_heard(self, tmp_path: Path, hearing: FakeHearing):
        path, body, _ = JSON_BODIES["predecessor"]
        for _ in range(2):
            cache = {"url": str(tmp_path), "l2": "off"}
            async with http_app(cache=cache, hearing=hearing) as app:
                await app.http.post(path, json=body)
                assert app.synthesizer.requests[-1].transcript == HEARD
        assert len(hearing.heard) == 1

    @pytest.mark.slow
    async def test_another_recogniser_hears_anew(self, tmp_path: Path, hearing: FakeHearing):
        path, body, _ = JSON_BODIES["predecessor"]
        for name in ("a" * 64, "b" * 64):
            hearing.name = name
            cache = {"url": str(tmp_path), "l2": "off"}
            async with http_app(cache=cache, hearing=hearing) as app:
                await app.http.post(path, json=body)
        assert len(hearing.heard) == 2

    async def test_a_removed_clip_takes_its_words_along(self, app: HttpApp, hearing: FakeHearing):
        path, body, _ = JSON_BODIES["predecessor"]
        await app.http.post(path, json=body)
        await app.forget(hearing.heard[0], app.voices.namespace)
        await app.http.post(path, json=body)
        assert len(hearing.heard) == 2

    async def test_tenants_share_no_words(self, app: HttpApp, hearing: FakeHearing):
        path, body, _ = JSON_BODIES["predecessor"]
        await app.http.post(path, json=body)
        async with tenant(app, "theirs") as theirs:
            assert (await theirs.post(path, json=body)).status_code == httpx.codes.OK
        assert len(hearing.heard) == 2

    async def test_heard_and_told_are_one_answer(self, tmp_path: Path, hearing: FakeHearing):
        cache = {"url": str(tmp_path), "l2": "off"}
        async with http_app(is_telling=True, cache=cache, hearing=hearing) as app:
            clip = {"prompt_audio_base64": CLIP64}
            heard = await app.speak(step_audio=clip)
            told = await app.speak(step_audio={**clip, "prompt_text": HEARD})
            assert told.headers["x-cache"].startswith("speech-l1")
            assert told.content == heard.content


class TestEdits:
    async def edited(self, app: HttpApp, **body: Any) -> httpx.Response:
        return await app.http.post(EDITS, json={"seed": 7, **body})

    async def test_audio_needs_no_words(self, tmp_path: Path, hearing: FakeHearing):
        async with editing(tmp_path, hearing=hearing) as app:
            reply = await self.edited(app, audio=CLIP64, type="emotion", value="happy")
            assert reply.status_code == httpx.codes.OK, reply.text
            asked = app.speaker.requests[-1]  # type: ignore[attr-defined]
            assert (asked.text, asked.transcript) == (HEARD, HEARD)
            edit = (await app.http.get(f"{EDITS}/{reply.headers['x-edit-id']}")).json()
            assert [one["transcript"] for one in edit["sources"]] == [HEARD]

    async def test_steps_without_words_hear_nothing(self, tmp_path: Path, hearing: FakeHearing):
        async with editing(tmp_path, hearing=hearing) as app:
            reply = await self.edited(app, audio=CLIP64, type="denoise")
            assert reply.status_code == httpx.codes.OK, reply.text
            told = await self.edited(
                app, audio=CLIP64, transcript=SAID, type="speed", value="faster"
            )
            assert told.status_code == httpx.codes.OK, told.text
            assert not hearing.heard

    async def test_silence_is_the_transcripts(self, tmp_path: Path, hearing: FakeHearing):
        hearing.usual = ""
        async with editing(tmp_path, hearing=hearing) as app:
            reply = await self.edited(app, audio=CLIP64, type="emotion", value="happy")
            assert (reply.status_code, error_of(reply)["param"]) == (400, "transcript")

    @pytest.mark.slow
    async def test_each_part_of_long_audio_is_heard(self, tmp_path: Path, hearing: FakeHearing):
        clip, _ = long_clip([*VOICES])
        async with editing(tmp_path, hearing=hearing) as app:
            audio = base64.b64encode(clip).decode()
            reply = await self.edited(app, audio=audio, type="emotion", value="happy")
            assert reply.status_code == httpx.codes.OK, reply.text
            asked = app.speaker.requests  # type: ignore[attr-defined]
            assert [one.transcript for one in asked] == [HEARD] * 2
            assert sorted(hearing.heard) == sorted(app.speaker.speakers)  # type: ignore[attr-defined]
