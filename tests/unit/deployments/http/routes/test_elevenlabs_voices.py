"""ElevenLabs' own client clones a voice, edits it and deletes it; what its forms cannot say."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import elevenlabs
import httpx
import pytest
import pytest_asyncio
from elevenlabs.core.api_error import ApiError

from pipeline.voice_list import load_voices
from tests.http_app import CLIP, SAID, HttpApp, error_of, http_app, tenant

pytestmark = [pytest.mark.unit, pytest.mark.slow]
AGREED = "I agree that my voice is cloned."
ADD = "/v1/voices/add"
FILES = {"files": ("v.wav", CLIP, "audio/wav")}
OTHER_CLIP = load_voices()["elena"].path.read_bytes()


@pytest_asyncio.fixture
async def app(tmp_path: Path) -> AsyncIterator[HttpApp]:
    async with http_app(cache={"url": str(tmp_path), "l2": "off"}) as made:
        yield made


def eleven(app: HttpApp) -> elevenlabs.AsyncElevenLabs:
    return elevenlabs.AsyncElevenLabs(
        base_url="http://timbre", api_key="unused", httpx_client=app.http
    )


async def consent(app: HttpApp) -> str:
    body = {"name": "Zoe", "language": "en", "text": AGREED}
    return (await app.http.post("/v1/audio/voice_consents", json=body)).json()["id"]


async def add(app: HttpApp, labels: Any = None, **fields: str) -> httpx.Response:
    told = {"consent": AGREED, "ref_text": SAID} if labels is None else labels
    data = {"name": "Zoe", "labels": json.dumps(told), **fields}
    return await app.http.post(ADD, data=data, files=FILES)


async def uploaded(app: HttpApp, voice: str) -> dict[str, Any]:
    return (await app.http.get(f"/v1/audio/voices/{voice}")).json()


@pytest.mark.slow
async def test_its_client_clones_speaks_edits_and_deletes(app: HttpApp):
    client, agreed = eleven(app), await consent(app)
    made = await client.voices.ivc.create(
        name="Zoe",
        files=[("v.wav", CLIP, "audio/wav")],
        description="calm",
        labels={"consent": agreed, "ref_text": SAID, "language": "en"},
    )
    assert made.requires_verification is False
    kept = await uploaded(app, made.voice_id)
    facts = {name: kept[name] for name in ("name", "consent", "language", "ref_text")}
    assert facts == {"name": "Zoe", "consent": agreed, "language": "en", "ref_text": SAID}
    assert kept["speaker_description"] == "calm"
    found = await client.voices.get(made.voice_id)
    assert (found.name, found.category) == ("Zoe", "cloned")
    audio = [
        piece async for piece in client.text_to_speech.convert(voice_id=made.voice_id, text="Hi.")
    ]
    assert b"".join(audio)
    edited = await client.voices.update(made.voice_id, name="Zoe, calm")
    assert edited.status == "ok"
    assert (await uploaded(app, made.voice_id))["name"] == "Zoe, calm"
    assert (await client.voices.delete(made.voice_id)).status == "ok"
    with pytest.raises(ApiError) as caught:
        await client.voices.delete(made.voice_id)
    assert (caught.value.status_code, caught.value.body["error"]["param"]) == (404, "voice_id")
    restored = await app.http.post(f"/v1/audio/voices/{made.voice_id}/restore")
    assert restored.json()["name"] == "Zoe, calm"


async def test_an_edit_may_bring_another_clip_with_its_words(app: HttpApp):
    voice = (await add(app)).json()["voice_id"]
    said = load_voices()["elena"].transcript
    await eleven(app).voices.update(
        voice, name="Zoe", files=[("e.wav", OTHER_CLIP)], labels={"ref_text": said}
    )
    versions = (await uploaded(app, voice))["versions"]
    assert [one["ref_text"] for one in versions] == [SAID, said]
    assert versions[1]["consent"] == versions[0]["consent"]


async def test_without_a_consent_it_is_refused_and_told_where_it_belongs(app: HttpApp):
    with pytest.raises(ApiError) as caught:
        await eleven(app).voices.ivc.create(name="Zoe", files=[CLIP])
    error = caught.value.body["error"]
    assert (caught.value.status_code, error["param"]) == (400, "consent")
    assert 'labels, {"consent": …}' in error["message"]


async def test_a_setting_lets_its_client_go_without(tmp_path: Path):
    settings = {"cache": {"url": str(tmp_path), "l2": "off"}, "voices": {"consent": "optional"}}
    async with http_app(**settings) as app:
        made = await eleven(app).voices.ivc.create(name="Zoe", files=[CLIP])
        assert (await uploaded(app, made.voice_id))["consent"] is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "form",
    [
        {"labels": json.dumps({"consent": AGREED, "transcript": SAID})},
        {"labels": json.dumps(json.dumps({"consent": AGREED, "ref_text": SAID}))},
        {"labels": json.dumps({"consent": AGREED}), "ref_text": SAID},
        {"labels": "null", "consent": AGREED, "ref_text": SAID},
        {"labels": "", "consent": AGREED, "transcript": SAID},
        {"consent": AGREED, "ref_text": SAID, "remove_background_noise": "false"},
    ],
)
async def test_what_is_told_in_labels_may_stand_beside_them(app: HttpApp, form: dict[str, str]):
    reply = await app.http.post(ADD, data={"name": "Zoe", **form}, files=FILES)
    assert reply.status_code == httpx.codes.OK, reply.text
    kept = await uploaded(app, reply.json()["voice_id"])
    assert kept["ref_text"] == SAID
    assert kept["consent"].startswith("cons_")


async def test_labels_without_effect_are_told(app: HttpApp):
    told = {"consent": AGREED, "accent": "british", "gender": None, "a b\r\nx: y": "z"}
    reply = await add(app, told)
    assert reply.status_code == httpx.codes.OK
    assert reply.headers["x-ignored-fields"] == "labels.accent"
    assert "x-ignored-fields" not in (await add(app, name="Yan")).headers


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"name": ""}, 400, "name"),
        ({"name": "bruno"}, 400, "name"),
        ({"labels": "[1]"}, 400, "labels"),
        ({"labels": "gently"}, 400, "labels"),
        ({"labels": '{"consent": 7}'}, 400, "labels.consent"),
        ({"labels": '{"language": "b@d"}'}, 400, "labels.language"),
        ({"labels": '{"consent": "cons_0"}'}, 400, "consent"),
        ({"remove_background_noise": "true"}, 400, "remove_background_noise"),
        ({"description": "x" * 2_000}, 400, "description"),
        ({"ref_text": "x" * 5_000}, 422, "ref_text"),
    ],
)
async def test_mistakes_name_their_field(
    app: HttpApp, fields: dict[str, str], status: int, param: str
):
    reply = await add(app, **fields)
    assert (reply.status_code, error_of(reply)["param"]) == (status, param), reply.text


@pytest.mark.parametrize(
    ("files", "status"),
    [
        ([], 400),
        ([("files", CLIP), ("files", OTHER_CLIP)], 400),
        ([("files", b"no clip")], 415),
        ([("files[]", CLIP)], 200),
    ],
)
async def test_one_clip_makes_a_voice(app: HttpApp, files: list[tuple[str, bytes]], status: int):
    parts: list[Any] = [("name", (None, "Zoe")), ("consent", (None, AGREED))]
    parts += [(name, ("v.wav", clip)) for name, clip in files]
    reply = await app.http.post(ADD, files=parts)
    assert reply.status_code == status, reply.text
    if status != httpx.codes.OK:
        assert error_of(reply)["param"] == "files"


@pytest.mark.parametrize("voice", ["nobody", "voice_" + "0" * 32, "a%2Fb", "%00"])
async def test_an_unknown_voice_is_404(app: HttpApp, voice: str):
    for reply in (
        await app.http.delete(f"/v1/voices/{voice}"),
        await app.http.post(f"/v1/voices/{voice}/edit", data={"name": "Zoe"}),
    ):
        assert reply.status_code == 404, reply.text


async def test_the_built_in_voices_stay(app: HttpApp):
    for voice in ("bruno", "default"):
        deleted = await app.http.delete(f"/v1/voices/{voice}")
        edited = await app.http.post(f"/v1/voices/{voice}/edit", data={"name": "Zoe"})
        assert (deleted.status_code, edited.status_code) == (400, 400)


async def test_a_tenants_clones_are_its_own(app: HttpApp):
    voice = (await add(app)).json()["voice_id"]
    async with tenant(app, "other") as other:
        for reply in (
            await other.delete(f"/v1/voices/{voice}"),
            await other.post(f"/v1/voices/{voice}/edit", data={"name": "Yan"}),
        ):
            assert reply.status_code == 404
    assert (await uploaded(app, voice))["name"] == "Zoe"
