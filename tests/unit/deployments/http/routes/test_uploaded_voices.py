"""Uploaded voices and consents over HTTP: OpenAI's client, vLLM-Omni's bodies, refusals."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import httpx2
import numpy as np
import openai
import pytest
import pytest_asyncio

from deployments.voices import enrolment, resolver
from pipeline.contracts import VoiceReference
from pipeline.errors import StageUnavailableError
from pipeline.voice_list import load_voices
from tests.audio_files import wav
from tests.fakes import FakeNames, TellingSpeaker
from tests.http_app import CLIP, SAID, HttpApp, error_of, http_app, tenant
from tests.waiting import until

pytestmark = pytest.mark.unit
VOICES = "/v1/audio/voices"
CONSENTS = "/v1/audio/voice_consents"
AGREED = "I agree that my voice is cloned."
OTHER_CLIP = load_voices()["elena"].path.read_bytes()
BUILT_IN = list(load_voices())


@pytest_asyncio.fixture
async def app(tmp_path: Path) -> AsyncIterator[HttpApp]:
    async with http_app(cache={"url": str(tmp_path), "l2": "off"}) as made:
        yield made


def form(**fields: str) -> dict[str, Any]:
    return {"data": fields, "files": {"audio_sample": ("v.wav", CLIP, "audio/wav")}}


async def upload(app: HttpApp, name: str = "Zoe", **fields: str) -> dict[str, Any]:
    """A voice as vLLM-Omni's clients upload it; its object."""
    sent = {"name": name, "consent": AGREED, "ref_text": SAID, **fields}
    reply = await app.http.post(VOICES, **form(**sent))
    assert reply.status_code == httpx.codes.OK, reply.text
    body = reply.json()
    assert set(body) == {"success", "voice"}
    assert body["success"] is True
    return body["voice"]


def openai_client(app: HttpApp) -> openai.AsyncOpenAI:
    transport = httpx2.ASGITransport(app.app)
    return openai.AsyncOpenAI(
        base_url="http://timbre/v1",
        api_key="unused",
        max_retries=0,
        http_client=httpx2.AsyncClient(transport=transport),
    )


@pytest.mark.slow
async def test_openais_client_works_unchanged(app: HttpApp):
    async with openai_client(app) as client:
        agreed = await client.audio.voice_consents.create(
            language="en-US", name="Zoe, studio", recording=("yes.wav", OTHER_CLIP, "audio/wav")
        )
        assert (agreed.object, agreed.language, agreed.name) == (
            "audio.voice_consent", "en-US", "Zoe, studio",
        )  # fmt: skip
        voice = await client.audio.voices.create(
            name="Zoe", audio_sample=("v.wav", CLIP, "audio/wav"), consent=agreed.id
        )
        assert (voice.object, voice.name, voice.type) == ("audio.voice", "Zoe", "audio_sample")
        with pytest.raises(openai.BadRequestError, match="without its transcript"):
            await client.audio.speech.create(model="tts-1", voice={"id": voice.id}, input="Hi.")
        spoken = await client.audio.speech.create(
            model="tts-1", voice={"id": voice.id}, input="Hi.", extra_body={"ref_text": SAID}
        )
        assert len(spoken.content) > 100
        assert app.synthesizer.requests[-1].transcript == SAID
        gone = await client.audio.voices.delete(voice.id)
        assert (gone.id, gone.object, gone.deleted) == (voice.id, "audio.voice.deleted", True)
        with pytest.raises(openai.NotFoundError):
            await client.audio.voices.delete(voice.id)
        with pytest.raises(openai.NotFoundError):
            await client.audio.speech.create(model="tts-1", voice={"id": voice.id}, input="Hi.")
        assert (await client.audio.voice_consents.retrieve(agreed.id)).id == agreed.id


async def test_openais_client_pages_and_changes_consents(app: HttpApp):
    async with openai_client(app) as client:
        consents = client.audio.voice_consents
        made = [
            await consents.create(
                language="en", name=f"n{n}", recording=("y.wav", CLIP, "audio/wav")
            )
            for n in range(3)
        ]
        ids = [one.id for one in made]
        assert sorted([one.id async for one in consents.list(limit=2)]) == sorted(ids)
        first = (await app.http.get(CONSENTS, params={"limit": 2})).json()
        assert (first["object"], first["has_more"], len(first["data"])) == ("list", True, 2)
        assert (first["first_id"], first["last_id"]) == tuple(one["id"] for one in first["data"])
        rest = (await app.http.get(CONSENTS, params={"after": first["last_id"]})).json()
        assert (rest["has_more"], len(rest["data"])) == (False, 1)
        assert (await consents.update(ids[0], name="another")).name == "another"
        assert (await consents.retrieve(ids[0])).name == "another"
        gone = await consents.delete(ids[0])
        assert (gone.id, gone.object, gone.deleted) == (ids[0], "audio.voice_consent", True)
        with pytest.raises(openai.NotFoundError):
            await consents.retrieve(ids[0])
        assert sorted([one.id async for one in consents.list()]) == sorted(ids[1:])
    empty = (await app.http.get(CONSENTS, params={"after": "cons_"})).json()
    assert (empty["data"], empty["first_id"], empty["last_id"]) == ([], None, None)
    for limit in ("0", "101", "x"):
        reply = await app.http.get(CONSENTS, params={"limit": limit})
        assert (reply.status_code, error_of(reply)["param"]) == (400, "query.limit")


async def test_vllm_omnis_upload_list_and_deletion_by_name(app: HttpApp):
    voice = await upload(app, speaker_description="calm")
    assert (voice["name"], voice["file_size"]) == ("Zoe", len(CLIP))
    assert (voice["mime_type"], voice["embedding_source"]) == ("audio/wav", "audio")
    assert (voice["ref_text"], voice["speaker_description"]) == (SAID, "calm")
    agreed = (await app.http.get(f"{CONSENTS}/{voice['consent']}")).json()
    assert (agreed["text"], agreed["who"]) == (AGREED, "Zoe")
    listed = (await app.http.get(VOICES, params={"legacy": "true"})).json()
    assert listed["voices"] == ["default", *sorted([*BUILT_IN, "Zoe"])]
    assert [one["name"] for one in listed["uploaded_voices"]] == ["Zoe"]
    reply = await app.http.delete(f"{VOICES}/zoe")
    assert reply.json()["success"] is True
    assert reply.json()["message"] == "Voice 'Zoe' deleted successfully"
    assert (await app.http.delete(f"{VOICES}/zoe")).status_code == 404


@pytest.mark.parametrize("path", [VOICES, "/v1/voices"])
async def test_lists_hold_built_in_and_uploaded_voices(app: HttpApp, path: str):
    voice = await upload(app, language="en-GB")
    listed = (await app.http.get(path)).json()
    assert [one["id"] for one in listed["voices"]] == [*BUILT_IN, voice["id"]]
    assert listed["data"] == listed["voices"]
    assert listed["voices"][-1]["name"] == "Zoe"
    assert listed["voices"][-1]["language"] == "en-GB"
    assert all(one["name"] for one in listed["voices"])


async def test_elevenlabs_lists_tell_uploaded_voices_from_built_in_ones(app: HttpApp):
    voice = await upload(app)
    listed = {one["name"]: one for one in (await app.http.get("/v1/voices")).json()["voices"]}
    assert (listed["Zoe"]["voice_id"], listed["Zoe"]["category"]) == (voice["id"], "cloned")
    assert (listed["Zoe"]["labels"], listed["bruno"]["category"]) == ({}, "premade")
    for asked in (voice["id"], "zoe"):
        assert (await app.http.get(f"/v1/voices/{asked}")).json() == listed["Zoe"]
    assert (await app.http.get("/v1/voices/alloy")).json() == listed["aria"]
    missing = await app.http.get("/v1/voices/nobody")
    assert (missing.status_code, error_of(missing)["param"]) == (404, "voice_id")


def stored_speech(directory: Path) -> list[Path]:
    return list(directory.rglob("speech/*/shared/*/*.sva"))


async def test_a_deleted_voices_speech_goes_with_it(tmp_path: Path) -> None:
    async with http_app(cache={"url": str(tmp_path), "l2": "off"}) as app:
        speaker = TellingSpeaker(names := FakeNames())
        app.speech._synthesizer, app.speech._models._namer = speaker, names
        voice = await upload(app)
        assert (await app.speak(voice="Zoe")).headers["x-cache"] == "l1"
        await until(lambda: bool(stored_speech(tmp_path)))
        assert (await app.http.delete(f"{VOICES}/{voice['id']}")).status_code == httpx.codes.OK
        assert not stored_speech(tmp_path)
        speech = app.speech.stats()
        assert speech is not None
        assert speech.l1.bytes == 0


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


async def test_the_built_in_voices_stay(app: HttpApp):
    for name in ("bruno", " Bruno ", "alloy", "default"):
        for reply in (
            await app.http.delete(f"{VOICES}/{name}"),
            await app.http.post(f"{VOICES}/{name}", json={"name": "Zoe"}),
        ):
            assert (reply.status_code, error_of(reply)["param"]) == (400, "voice")
    assert (await app.http.get(f"{VOICES}/alloy")).json()["id"] == "aria"
    assert (await app.speak(voice="default")).status_code == httpx.codes.OK


async def test_a_deleted_voice_is_refused_and_its_record_removed(app: HttpApp, tmp_path: Path):
    voice = await upload(app)
    clip = (await app.voices.resolve(VoiceReference(CLIP))).clip_digest
    assert (await app.speak(voice="Zoe")).status_code == httpx.codes.OK
    reply = await app.http.delete(f"{VOICES}/{voice['id']}")
    assert reply.json() == {"id": voice["id"], "object": "audio.voice.deleted", "deleted": True}
    for named in ("Zoe", voice["id"], f"{voice['id']}@1"):
        reply = await app.speak(voice=named)
        assert (reply.status_code, error_of(reply)["code"]) == (404, "unknown_voice")
        assert (await app.http.get(f"{VOICES}/{named}")).status_code == 404
    assert app.forgotten == [clip]
    assert (await app.voices.resolve(VoiceReference(CLIP))).tier == "miss"


async def test_what_is_cached_of_a_clip_stays_while_another_voice_has_it(app: HttpApp):
    one, other = await upload(app, "Zoe"), await upload(app, "Yan")
    files = {"audio_sample": ("v.wav", OTHER_CLIP, "audio/wav")}
    newer = await app.http.post(f"{VOICES}/{other['id']}", data={"ref_text": "x"}, files=files)
    assert newer.json()["version"] == 2
    await app.http.delete(f"{VOICES}/{one['id']}")
    assert app.forgotten == [], "an older version of the other voice is spoken from it"
    assert (await app.speak(voice=f"{other['id']}@1")).headers["x-cache"] == "l1"
    await app.http.delete(f"{VOICES}/{other['id']}")
    assert len(app.forgotten) == 2


async def test_a_voice_comes_back_until_it_is_purged(app: HttpApp):
    voice = await upload(app)
    await app.http.delete(f"{VOICES}/Zoe")
    gone = (await app.http.get(VOICES, params={"deleted": "true"})).json()["data"]
    assert [one["id"] for one in gone] == [voice["id"]]
    back = await app.http.post(f"{VOICES}/{voice['id']}/restore")
    assert (back.status_code, back.json()["name"]) == (200, "Zoe")
    reply = await app.speak(voice="Zoe")
    assert (reply.status_code, reply.headers["x-cache"]) == (200, "l1")
    await app.http.delete(f"{VOICES}/Zoe")
    await upload(app)
    taken = await app.http.post(f"{VOICES}/{voice['id']}/restore")
    assert (taken.status_code, error_of(taken)["code"]) == (400, "name_taken")
    other = await app.http.post(f"{VOICES}/{voice['id']}/restore", json={"name": "Zoe B"})
    assert other.json()["name"] == "Zoe B"
    purged = await app.http.delete(f"{VOICES}/{voice['id']}", params={"purge": "true"})
    assert purged.json()["deleted"] is True
    assert (await app.http.post(f"{VOICES}/{voice['id']}/restore")).status_code == 404
    again = (await upload(app, "Yan"))["id"]
    await app.http.delete(f"{VOICES}/Yan")
    assert (await app.http.delete(f"{VOICES}/{again}", params={"purge": "1"})).status_code == 200
    assert (await app.http.get(VOICES, params={"deleted": "1"})).json()["data"] == []


async def test_a_voice_is_renamed_and_gets_versions(app: HttpApp):
    voice = await upload(app)
    path = f"{VOICES}/{voice['id']}"
    renamed = await app.http.post(path, json={"name": "Yan"})
    assert (renamed.json()["name"], renamed.json()["version"]) == ("Yan", 1)
    assert (await app.speak(voice="Zoe")).status_code == 404
    files = {"audio_sample": ("v.wav", OTHER_CLIP, "audio/wav")}
    second = await app.http.post(path, data={"ref_text": "Other words."}, files=files)
    assert (second.status_code, second.json()["version"]) == (200, 2), second.text
    assert second.json()["consent"] == voice["consent"]
    words = await app.http.post(path, json={"ref_text": "Better words."})
    assert words.json()["version"] == 3
    for named, said in (
        ("Yan", "Better words."),
        (f"{voice['id']}@2", "Other words."),
        (f"{voice['id']}@1", SAID),
    ):
        assert (await app.spoken(voice=named)).transcript == said
    for reply in (
        await app.http.delete(f"{path}@1"),
        await app.http.post(f"{path}@1", json={"name": "Xan"}),
    ):
        assert (reply.status_code, error_of(reply)["param"]) == (400, "voice")
    looked = (await app.http.get(path)).json()
    assert [one["ref_text"] for one in looked["versions"]] == [
        SAID,
        "Other words.",
        "Better words.",
    ]
    assert (await app.http.post(path, json={"name": "bruno"})).status_code == 400
    assert (await app.http.post(f"{VOICES}/nobody", json={"name": "x"})).status_code == 404


async def test_a_change_that_is_refused_changes_nothing(app: HttpApp):
    voice = await upload(app)
    await upload(app, "Yan")
    path = f"{VOICES}/{voice['id']}"
    before = (await app.http.get(path)).json()
    consents = (await app.http.get(CONSENTS)).json()
    files = {"audio_sample": ("v.wav", b"no audio", "audio/wav")}
    for reply in (
        await app.http.post(path, data={"name": "Xan", "consent": "I do."}, files=files),
        await app.http.post(path, json={"name": "Yan", "ref_text": "Words.", "consent": "I do."}),
    ):
        assert 400 <= reply.status_code < 500, reply.text
        assert (await app.http.get(path)).json() == before
        assert (await app.http.get(CONSENTS)).json() == consents


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


async def test_a_record_that_could_not_be_removed_is_removed_later(app: HttpApp, monkeypatch):
    await upload(app)
    forget = app.voices.forget

    async def refuse(*_: object) -> None:
        raise StageUnavailableError("down")

    monkeypatch.setattr(app.voices, "forget", refuse)
    assert (await app.http.delete(f"{VOICES}/Zoe")).status_code == httpx.codes.OK
    assert (await app.speak(voice="Zoe")).status_code == 404
    monkeypatch.setattr(app.voices, "forget", forget)
    monkeypatch.setattr(enrolment, "FORGET_AGAIN_S", 0.0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await app.enrolment.forget_again()
    assert (await app.voices.resolve(VoiceReference(CLIP))).tier == "miss"


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


async def test_what_was_deleted_long_enough_ago_is_purged(tmp_path: Path, monkeypatch):
    cache = {"url": str(tmp_path), "l2": "off"}
    async with http_app(cache=cache, voices={"keep_deleted_s": 0}) as app:
        await upload(app)
        await app.http.delete(f"{VOICES}/Zoe")
        monkeypatch.setattr(enrolment, "SWEEP_S", 0.0)
        sweep, is_swept = app.enrolment.voices.sweep, asyncio.Event()

        async def swept(namespace: str, keep_s: float) -> int:
            purged = await sweep(namespace, keep_s)
            is_swept.set()
            return purged

        monkeypatch.setattr(app.enrolment.voices, "sweep", swept)
        sweeping = asyncio.create_task(app.enrolment.sweep())
        await is_swept.wait()
        sweeping.cancel()
        await asyncio.wait([sweeping])
        assert await app.voices.shelf.paths("voices/v1/shared/clips") == []
        assert (await app.http.get(VOICES, params={"deleted": "1"})).json()["data"] == []


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
