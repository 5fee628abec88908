"""Uploaded voices are removed, restored, renamed, and get versions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from deployments.voices import enrolment
from pipeline.contracts import VoiceReference
from pipeline.errors import StageUnavailableError
from tests.fakes import FakeNames, TellingSpeaker
from tests.http_app import CLIP, SAID, HttpApp, error_of, http_app
from tests.unit.deployments.http.routes.voice_uploads import CONSENTS, OTHER_CLIP, VOICES, upload
from tests.waiting import until

pytestmark = pytest.mark.unit


@pytest_asyncio.fixture
async def app(tmp_path: Path) -> AsyncIterator[HttpApp]:
    async with http_app(cache={"url": str(tmp_path), "l2": "off"}) as made:
        yield made


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
