"""Uploaded voices and consents over HTTP: what is kept of them, whose they are, and refusals."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import pytest_asyncio

from deployments.voices import enrolment, resolver
from pipeline.errors import StageUnavailableError
from tests.audio_files import wav
from tests.http_app import CLIP, SAID, HttpApp, error_of, http_app, tenant
from tests.unit.deployments.http.routes.voice_uploads import (
    AGREED,
    BUILT_IN,
    CONSENTS,
    VOICES,
    form,
    upload,
)

pytestmark = pytest.mark.unit


@pytest_asyncio.fixture
async def app(tmp_path: Path) -> AsyncIterator[HttpApp]:
    async with http_app(cache={"url": str(tmp_path), "l2": "off"}) as made:
        yield made


async def test_an_upload_is_spoken_by_its_name_and_its_id(app: HttpApp):
    voice = await upload(app)
    for named in ("Zoe", " ZOE ", voice["id"], {"id": voice["id"]}, f"{voice['id']}@1"):
        reply = await app.speak(voice=named, cache="off")
        assert reply.status_code == httpx.codes.OK, reply.text
        assert reply.headers["x-cache"] == "l1", "it was encoded at its upload"
        assert app.synthesizer.requests[-1].transcript == SAID


async def test_an_upload_is_durable_before_it_is_answered(app: HttpApp, tmp_path: Path):
    voice = await upload(app)
    async with http_app(cache={"url": str(tmp_path), "l2": "off"}) as restarted:
        reply = await restarted.speak(voice="Zoe")
        assert (reply.status_code, reply.headers["x-cache"]) == (200, "l3")
        looked = (await restarted.http.get(f"{VOICES}/{voice['id']}")).json()
        assert (looked["name"], looked["ref_text"]) == ("Zoe", SAID)


async def test_json_takes_the_clip_in_base64(app: HttpApp):
    for clip in (
        base64.b64encode(CLIP).decode(),
        f"data:audio/wav;base64,{base64.b64encode(CLIP).decode()}",
    ):
        body = {
            "name": f"Zoe {len(clip)}",
            "consent": {"name": "z", "language": "en", "text": AGREED, "given_at": "2026-11-01"},
            "audio_sample": clip,
            "transcript": SAID,
        }
        reply = await app.http.post(VOICES, json=body)
        assert reply.status_code == httpx.codes.OK, reply.text
        voice = reply.json()["voice"]
        assert voice["ref_text"] == SAID
        agreed = (await app.http.get(f"{CONSENTS}/{voice['consent']}")).json()
        assert (agreed["text"], agreed["given_at"]) == (AGREED, 1793491200)


async def test_the_reply_says_how_good_the_clip_is(app: HttpApp):
    good = (await upload(app))["quality"]
    assert good["findings"] == []
    assert good["duration_s"] == pytest.approx(5.13, abs=0.01)
    rate_hz = 16_000
    noise = 0.2 * np.random.default_rng(1).standard_normal((1, rate_hz))
    files = {"audio_sample": ("n.wav", wav(noise, rate_hz), "audio/wav")}
    reply = await app.http.post(VOICES, data={"name": "Noise", "consent": AGREED}, files=files)
    found = {one["code"]: one for one in reply.json()["voice"]["quality"]["findings"]}
    assert {"short", "no_transcript"} <= set(found)
    assert all(one["message"] and one["advice"] for one in found.values())


async def test_without_a_consent_an_upload_is_refused(app: HttpApp):
    for consent in ({}, {"consent": ""}, {"consent": "  "}):
        reply = await app.http.post(VOICES, **form(name="Zoe", **consent))
        assert (reply.status_code, error_of(reply)["param"]) == (400, "consent")
        assert "voice_consents" in error_of(reply)["message"]
    reply = await app.http.post(VOICES, **form(name="Zoe", consent="cons_1234"))
    assert (reply.status_code, error_of(reply)["param"]) == (400, "consent")
    assert (await app.http.get(VOICES)).json()["uploaded_voices"] == []
    assert (await app.http.get(CONSENTS)).json()["data"] == []


async def test_a_setting_lets_uploads_go_without_and_logs_them(tmp_path: Path, caplog):
    caplog.set_level(logging.WARNING)
    cache = {"url": str(tmp_path), "l2": "off"}
    async with http_app(cache=cache, voices={"consent": "optional"}) as app:
        reply = await app.http.post(VOICES, **form(name="Zoe", ref_text=SAID))
        voice = reply.json()["voice"]
        assert voice["consent"] is None
        assert f"{voice['id']} was uploaded without a consent" in caplog.text


@pytest.mark.parametrize(
    "body", [{}, {"name": "n"}, {"language": "en"}, {"name": "n", "language": "en"}]
)
async def test_a_consent_says_something(app: HttpApp, body: dict[str, str]):
    reply = await app.http.post(CONSENTS, json=body)
    assert reply.status_code == 400
    assert error_of(reply)["param"] in {"name", "language", "recording"}


@pytest.mark.parametrize(
    ("recording", "status"), [(b"no sound", 415), (b"\0" * 11_000_000, 413), (b"RIFF", 415)]
)
async def test_a_recording_is_one(app: HttpApp, recording: bytes, status: int):
    reply = await app.http.post(
        CONSENTS, data={"name": "n", "language": "en"}, files={"recording": ("r", recording)}
    )
    assert (reply.status_code, error_of(reply)["param"]) == (status, "recording")


REFUSED = {
    "no name": ({"consent": AGREED}, 400, "name"),
    "a built-in name": ({"name": "Bruno", "consent": AGREED}, 400, "name"),
    "an alias": ({"name": "alloy", "consent": AGREED}, 400, "name"),
    "a path": ({"name": "../x", "consent": AGREED}, 400, "name"),
    "a nul": ({"name": "a\0b", "consent": AGREED}, 400, "name"),
    "a look-alike": ({"name": "\u0430ri\u0430", "consent": AGREED}, 400, "name"),
    "a long name": ({"name": "x" * 1_000, "consent": AGREED}, 400, "name"),
    "an id": ({"name": "voice_1", "consent": AGREED}, 400, "name"),
    "an embedding": (
        {"name": "Z", "consent": AGREED, "speaker_embedding": "[1]"}, 400, "speaker_embedding",
    ),
    "a description": ({"name": "Z", "consent": AGREED, "type": "prompt"}, 400, "type"),
    "no language": ({"name": "Z", "consent": AGREED, "language": "English!"}, 400, "language"),
    "long words": ({"name": "Z", "consent": AGREED, "ref_text": "a" * 1_001}, 422, "ref_text"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("consent", "param"),
    [
        (7, "consent"),
        ({"name": 5, "text": "Yes."}, "consent.name"),
        ({"name": "Zoe", "language": "x", "text": "Yes."}, "consent.language"),
        ({"language": "en", "text": "Yes."}, "consent.name"),
        ({"name": "Zoe", "language": "en"}, "consent.recording"),
    ],
)
async def test_a_mistake_in_a_consent_names_the_callers_field(
    app: HttpApp, consent: Any, param: str
):
    body = {"name": "Zoe", "audio_sample": base64.b64encode(CLIP).decode(), "consent": consent}
    reply = await app.http.post(VOICES, json=body)
    assert (reply.status_code, error_of(reply)["param"]) == (400, param)


async def test_a_forms_null_is_as_left_out_where_nothing_else_is_taken(app: HttpApp):
    assert await upload(app, speaker_embedding="null")
    refused = await app.http.post(VOICES, **form(name="Yan", speaker_embedding="[0.1]"))
    assert (refused.status_code, error_of(refused)["param"]) == (400, "speaker_embedding")


@pytest.mark.slow
@pytest.mark.parametrize("case", list(REFUSED))
async def test_what_cannot_be_a_voice_is_refused_with_its_field(app: HttpApp, case: str):
    fields, status, param = REFUSED[case]
    for sent in (
        form(**fields),
        {"json": {**fields, "audio_sample": base64.b64encode(CLIP).decode()}},
    ):
        reply = await app.http.post(VOICES, **sent)
        assert (reply.status_code, error_of(reply)["param"]) == (status, param), reply.text
    assert (await app.http.get(VOICES)).json()["uploaded_voices"] == []


@pytest.mark.parametrize(
    ("clip", "status"),
    [
        (b"", 415),
        (b"no sound", 415),
        (wav(np.zeros((1, 16_000)), 16_000), 422),
        (b"\0" * 10_485_761, 413),
    ],
)
async def test_a_clip_that_cannot_be_used_is_refused(app: HttpApp, clip: bytes, status: int):
    files = {"audio_sample": ("v.wav", clip, "audio/wav")}
    reply = await app.http.post(VOICES, data={"name": "Zoe", "consent": AGREED}, files=files)
    assert (reply.status_code, error_of(reply)["param"]) == (status, "audio_sample"), reply.text
    assert (await app.http.get(CONSENTS)).json()["data"] == [], "no consent without its voice"


async def test_a_body_without_a_clip_or_of_no_kind_is_refused(app: HttpApp):
    reply = await app.http.post(VOICES, json={"name": "Zoe", "consent": AGREED})
    assert (reply.status_code, error_of(reply)["param"]) == (400, "audio_sample")
    for body in (b"", b"[]", b"hello"):
        reply = await app.http.post(VOICES, content=body)
        assert (reply.status_code, error_of(reply)["param"]) == (400, "body")
    two = {"audio_sample": ("a", CLIP), "file": ("b", CLIP)}
    reply = await app.http.post(VOICES, data={"name": "Z", "consent": AGREED}, files=two)
    assert reply.status_code == 400


async def test_a_name_that_is_taken_is_refused_and_not_worth_a_retry(app: HttpApp):
    await upload(app)
    reply = await app.http.post(VOICES, **form(name="ZOE", consent=AGREED))
    assert (reply.status_code, error_of(reply)["code"]) == (400, "name_taken")


async def test_what_could_not_be_encoded_is_not_kept(app: HttpApp, monkeypatch):
    async def refuse(*_: object, **__: object) -> None:
        raise StageUnavailableError("the tokenizer's replica went away")

    with monkeypatch.context() as patch:
        patch.setattr(resolver.VoiceLibrary, "warm", refuse)
        reply = await app.http.post(VOICES, **form(name="Zoe", consent=AGREED))
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")

    async def not_durable(*_: object, **__: object) -> dict[str, Any]:
        return {"clip": "a" * 64, "is_durable": False}

    with monkeypatch.context() as patch:
        patch.setattr(resolver.VoiceLibrary, "warm", not_durable)
        assert (await app.http.post(VOICES, **form(name="Zoe", consent=AGREED))).status_code == 503
    assert (await app.http.get(VOICES)).json()["uploaded_voices"] == []
    assert await upload(app)


async def test_without_a_store_no_voices_are_kept():
    async with http_app() as app:
        for reply in (
            await app.http.post(VOICES, **form(name="Zoe", consent=AGREED)),
            await app.http.get(CONSENTS),
            await app.http.delete(f"{VOICES}/Zoe"),
        ):
            assert (reply.status_code, error_of(reply)["code"]) == (400, "unsupported_value")
            assert "cache.url" in error_of(reply)["message"]
        assert len((await app.http.get(VOICES)).json()["voices"]) == len(BUILT_IN)
        assert (await app.speak(voice="Zoe")).status_code == 404


@pytest.mark.parametrize(
    "name",
    ["..%2Fx", "a%2Fb", "%00", "x" * 1_000, "voice_" + "0" * 32, "%F0%9F%98%80", "..", "%2e%2e"],
)
async def test_an_address_is_never_a_path(app: HttpApp, name: str):
    for method in ("GET", "POST", "DELETE"):
        reply = await app.http.request(method, f"{VOICES}/{name}", json={"name": "Zoe"})
        assert reply.status_code in {400, 404, 405}, (method, reply.text)
        reply = await app.http.request(method, f"{CONSENTS}/{name}", json={"name": "Zoe"})
        assert reply.status_code in {400, 404, 405}, (method, reply.text)


async def test_the_description_has_examples_of_every_body_and_reply(app: HttpApp):
    page = (await app.http.get("/openapi.json")).json()
    for path, operations in page["paths"].items():
        if not path.startswith((VOICES, CONSENTS)):
            continue
        for method, operation in operations.items():
            assert operation["responses"]["200"]["content"]["application/json"]["example"], path
            if method == "post":
                content = operation["requestBody"]["content"]
                assert content["application/json"]["example"], path
                assert set(content) == {"application/json", "multipart/form-data"}
    assert {"VoiceBody", "ConsentBody", "ConsentLabel"} <= set(page["components"]["schemas"])


async def test_one_tenants_voices_and_consents_are_not_anothers(app: HttpApp):
    async with tenant(app, "mine") as mine, tenant(app, "yours") as yours:
        made = (await mine.post(VOICES, **form(name="Zoe", consent=AGREED, ref_text=SAID))).json()
        voice, agreed = made["voice"]["id"], made["voice"]["consent"]
        body = {"input": "Hello.", "voice": voice, "response_format": "wav"}
        assert (await mine.post("/v1/audio/speech", json=body)).status_code == httpx.codes.OK
        for named in (voice, "Zoe", f"{voice}@1"):
            spoken = await yours.post("/v1/audio/speech", json={**body, "voice": named})
            assert (spoken.status_code, error_of(spoken)["code"]) == (404, "unknown_voice")
            for reply in (
                await yours.get(f"{VOICES}/{named}"),
                await yours.delete(f"{VOICES}/{named}"),
                await yours.delete(f"{VOICES}/{named}", params={"purge": "1"}),
                await yours.post(f"{VOICES}/{named}", json={"name": "Yan"}),
                await yours.post(f"{VOICES}/{named}/restore"),
            ):
                assert reply.status_code in ({404} if named in {voice, "Zoe"} else {400, 404})
        for reply in (
            await yours.get(f"{CONSENTS}/{agreed}"),
            await yours.post(f"{CONSENTS}/{agreed}", json={"name": "x"}),
            await yours.delete(f"{CONSENTS}/{agreed}"),
        ):
            assert reply.status_code == 404
        stolen = await yours.post(VOICES, **form(name="Zoe", consent=agreed))
        assert (stolen.status_code, error_of(stolen)["param"]) == (400, "consent")
        assert (await yours.get(VOICES)).json()["uploaded_voices"] == []
        assert (await yours.get("/v1/voices")).json()["data"][-1]["name"] == BUILT_IN[-1]
        assert (await yours.get(CONSENTS)).json()["data"] == []
        assert (await mine.get(VOICES)).json()["uploaded_voices"][0]["id"] == voice
        assert (await app.speak(voice="Zoe")).status_code == 404, "nor those of no tenant"


async def test_an_upload_whose_caller_goes_away_is_kept_whole_or_not_at_all(
    app: HttpApp, monkeypatch
):
    add, is_adding, may_go_on = app.enrolment.voices.add, asyncio.Event(), asyncio.Event()

    async def slowly(*args: Any) -> Any:
        is_adding.set()
        await may_go_on.wait()
        return await add(*args)

    monkeypatch.setattr(app.enrolment.voices, "add", slowly)
    parsed = enrolment.VoiceRequest(name="Zoe", clip=CLIP, consent=AGREED, transcript=SAID)
    asked = asyncio.create_task(app.enrolment.add("shared", parsed))
    await is_adding.wait()
    asked.cancel()
    await asyncio.wait([asked])
    may_go_on.set()
    await app.enrolment.close()
    assert (await app.speak(voice="Zoe")).status_code == httpx.codes.OK
