"""Uploaded voices by the clients and bodies of others: OpenAI's, vLLM-Omni's, ElevenLabs'."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import openai
import pytest
import pytest_asyncio

from tests.http_app import CLIP, SAID, HttpApp, error_of, http_app
from tests.unit.deployments.http.routes.voice_uploads import (
    AGREED,
    BUILT_IN,
    CONSENTS,
    OTHER_CLIP,
    VOICES,
    upload,
)

pytestmark = pytest.mark.unit


@pytest_asyncio.fixture
async def app(tmp_path: Path) -> AsyncIterator[HttpApp]:
    async with http_app(cache={"url": str(tmp_path), "l2": "off"}) as made:
        yield made


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
