"""Lists, lookups, methods, browsers: what clients ask beside speech."""

from __future__ import annotations

import httpx
import pytest
import pytest_asyncio

from pipeline.edit_values import EMOTIONS
from tests.http_app import HttpApp, error_of, http_app, tenant

pytestmark = [pytest.mark.unit, pytest.mark.asyncio(loop_scope="module")]
OPENAI_VOICES = "alloy ash ballad coral echo fable onyx nova sage shimmer verse marin cedar"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app():
    async with http_app() as made:
        yield made


async def test_every_listed_model_can_be_looked_up(app: HttpApp):
    listed = (await app.http.get("/v1/models")).json()["data"]
    assert listed[0]["id"] == "tiny"
    assert len({model["id"] for model in listed}) == len(listed)
    assert (await app.http.get("/v1/models/")).json()["data"] == listed
    for model in listed:
        assert (await app.http.get(f"/v1/models/{model['id']}")).json() == model


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("Step-Audio-EditX", "step-audio-editx"),
        ("stepfun-ai%2FStep-Audio-EditX", "stepfun-ai/Step-Audio-EditX"),
        ("TTS-1", "tts-1"),
        ("tts-1/", "tts-1"),
        ("gpt-4o-mini-tts-2025-12-15", "gpt-4o-mini-tts-2025-12-15"),
    ],
)
async def test_a_model_is_found_by_its_other_spellings(app: HttpApp, asked: str, found: str):
    reply = await app.http.get(f"/v1/models/{asked}")
    assert (reply.status_code, reply.json()["id"]) == (200, found)


@pytest.mark.parametrize("name", ["nobody", "gpt-9", "tts-1-later", "a/b/c", "tts-1-2025-12-15x"])
async def test_an_unknown_model_is_answered_with_the_known_ones(app: HttpApp, name: str):
    reply = await app.http.get(f"/v1/models/{name}")
    assert reply.status_code == 404
    assert error_of(reply)["code"] == "model_not_found"
    assert "tiny" in error_of(reply)["message"]
    assert "tts-1-hd" in error_of(reply)["message"]


MODELS = (
    "tiny", "step-audio-editx", "Step-Audio-EditX", "stepfun-ai/Step-Audio-EditX", "tts-1",
    " TTS-1-HD ", "tts-1-1106", "tts-1-hd-1106", "gpt-4o-mini-tts", "gpt-4o-mini-tts-2025-03-20",
)  # fmt: skip


@pytest.mark.parametrize("model", [*MODELS, "", None])
async def test_bodies_may_name_the_model_in_any_of_its_names(app: HttpApp, model: str | None):
    assert await app.spoken(model=model)


async def test_a_body_with_another_model_is_refused_with_the_known_ones(app: HttpApp):
    reply = await app.speak(model="gpt-9")
    assert (reply.status_code, error_of(reply)["param"]) == (400, "model")
    assert "step-audio-editx" in error_of(reply)["message"]


@pytest.mark.parametrize("voice", [*OPENAI_VOICES.split(), "happy_en", "fear_female", " Alloy\n"])
async def test_names_that_clients_send_by_themselves_are_spoken(app: HttpApp, voice: str):
    assert await app.spoken(voice=voice)


async def test_tags_and_values_of_edits_are_listed(app: HttpApp):
    tags = (await app.http.get("/v1/tags")).json()
    assert tags["emotion"] == list(EMOTIONS)
    assert "[Laughter]" in tags["paralinguistic"]
    assert {"style", "speed", "dialect", "modes"} <= set(tags)


GETS = (
    "/healthz", "/readyz", "/v1/models", "/v1/models/tiny", "/v1/models/nobody", "/v1/voices",
    "/v1/audio/voices", "/v1/tags", "/v1/cache", "/docs", "/openapi.json", "/", "/v1/nothing",
)  # fmt: skip


@pytest.mark.parametrize("path", GETS)
async def test_head_is_get_without_the_body(app: HttpApp, path: str):
    head, get = await app.http.head(path), await app.http.get(path)
    assert head.status_code == get.status_code
    assert head.content == b""
    assert head.headers.get("content-type") == get.headers.get("content-type")
    assert head.headers["x-request-id"]


async def test_head_of_a_route_without_get_says_what_there_is(app: HttpApp):
    reply = await app.http.head("/v1/audio/speech")
    assert reply.status_code == 405
    assert reply.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/audio/speech", "POST"),
        ("/v1/tags", "GET, HEAD"),
        ("/v1/audio/voices", "GET, HEAD, POST"),
        ("/v1/audio/voices/bruno", "DELETE, GET, HEAD, POST"),
        ("/v1/voices/bruno", "DELETE, GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_told_all_that_an_address_has(
    app: HttpApp, path: str, allowed: str
):
    reply = await app.http.put(path)
    assert (reply.status_code, reply.headers["allow"]) == (405, allowed)


async def test_a_clip_is_forgotten_by_its_name(app: HttpApp):
    assert (await app.http.delete(f"/v1/cache/{'AB' * 32}")).status_code == 200
    assert app.forgotten == ["ab" * 32]
    assert (await app.http.delete("/v1/cache/nonsense")).status_code == 400


async def test_the_description_has_the_bodies_and_the_statuses(app: HttpApp):
    page = (await app.http.get("/openapi.json")).json()
    speech = page["paths"]["/v1/audio/speech"]["post"]
    body = speech["requestBody"]["content"]
    assert set(body) == {"application/json", "multipart/form-data"}
    name = body["application/json"]["schema"]["$ref"].rpartition("/")[2]
    fields = page["components"]["schemas"][name]["properties"]
    assert {"input", "voice", "step_audio", "response_format"} <= set(fields)
    assert {"400", "413", "422", "503"} <= set(speech["responses"])
    models = page["paths"]["/v1/models/{name}"]["get"]["responses"]
    assert "422" not in models, "FastAPI's own shape of a refusal is not ours"
    for path in ("/v1/tts", "/v1/text-to-speech/{voice_id}"):
        content = page["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        assert content["schema"]["$ref"].rpartition("/")[2] in page["components"]["schemas"]
        sent = content["example"]
        assert (await app.http.post(path.format(voice_id="bruno"), json=sent)).status_code == 200
    outcome = page["paths"]["/v1/audio/speech/{request_id}"]["get"]["responses"]
    assert {"200", "404", "503"} <= set(outcome)
    example = body["application/json"]["example"]
    assert (await app.spoken(**example)).text == example["input"]


class TestOutcomes:
    async def test_a_request_can_be_looked_up_by_its_id(self, app: HttpApp):
        headers = {"x-request-id": "call/47:11"}
        body = {"input": "Hello.", "response_format": "pcm", "sample_rate": 8_000}
        await app.http.post("/v1/audio/speech", json=body, headers=headers)
        report = (await app.http.get("/v1/audio/speech/call/47:11")).json()
        assert (report["request_id"], report["outcome"]) == ("call/47:11", "ok")
        assert (report["finish_reason"], report["error"]) == ("stop", None)
        assert report["timbre"]["audio_s"] > 0
        assert (report["response_format"], report["sample_rate"]) == ("pcm", 8_000)

    async def test_one_that_was_refused_says_why(self, app: HttpApp):
        reply = await app.speak(voice="nobody")
        report = (await app.http.get(f"/v1/audio/speech/{reply.headers['x-request-id']}")).json()
        assert report["outcome"] == "refused"
        assert report["error"] == error_of(reply)

    @pytest.mark.parametrize("path", ["never", "upload", "x" * 5000, ""])
    async def test_an_unknown_one_is_404(self, app: HttpApp, path: str):
        reply = await app.http.get(f"/v1/audio/speech/{path}")
        assert reply.status_code == 404
        assert error_of(reply)["code"] == "request_not_found"
        assert len(error_of(reply)["message"]) < 300

    async def test_another_tenants_is_404_as_an_unknown_one(self, app: HttpApp):
        body = {"input": "Hello.", "response_format": "pcm"}
        headers = {"x-request-id": "call-1"}
        async with tenant(app, "mine") as mine, tenant(app, "yours") as yours:
            for who in (mine, yours):
                await who.post("/v1/audio/speech", json=body, headers=headers)
            await mine.post("/v1/audio/speech", json=body, headers={"x-request-id": "call-2"})
            assert (await mine.get("/v1/audio/speech/call-2")).json()["outcome"] == "ok"
            for stranger in (yours, app.http):
                reply = await stranger.get("/v1/audio/speech/call-2")
                never = await stranger.get("/v1/audio/speech/call-3")
                assert (reply.status_code, never.status_code) == (404, 404)
                message = error_of(never)["message"].replace("call-3", "call-2")
                assert error_of(reply) == {**error_of(never), "message": message}
            for who in (mine, yours):
                assert (await who.get("/v1/audio/speech/call-1")).status_code == 200


async def test_health_by_the_peers_names(app: HttpApp):
    for theirs, ours in (("/health", "/readyz"), ("/v1/health", "/healthz")):
        reply, other = await app.http.get(theirs), await app.http.get(ours)
        assert (reply.status_code, reply.json()) == (200, other.json())


async def test_voices_are_names_alone_for_who_asks_so(app: HttpApp):
    usual = (await app.http.get("/v1/audio/voices")).json()
    legacy = (await app.http.get("/v1/audio/voices", params={"legacy": "true"})).json()
    assert usual["voices"] == usual["data"]
    assert legacy["voices"] == ["default", *sorted(voice["name"] for voice in usual["voices"])]
    assert usual["uploaded_voices"] == []


class TestCors:
    PAGE = "https://app.example"

    async def test_no_page_is_let_in_by_default(self, app: HttpApp):
        reply = await app.http.get("/v1/voices", headers={"origin": self.PAGE})
        assert "access-control-allow-origin" not in reply.headers

    async def test_pages_named_in_the_settings_are(self):
        async with http_app(http={"cors_origins": [self.PAGE]}) as app:
            headers = {"origin": self.PAGE}
            asked = {**headers, "access-control-request-method": "POST"}
            asked["access-control-request-headers"] = "authorization, content-type"
            preflight = await app.http.options("/v1/audio/speech", headers=asked)
            assert preflight.status_code == httpx.codes.OK
            large = {**headers, "content-length": str(2**40)}
            replies = [
                await app.http.get("/v1/voices", headers=headers),
                await app.http.post("/v1/audio/speech", json={"input": ""}, headers=headers),
                await app.http.post("/v1/audio/speech", content=b"{}", headers=large),
            ]
            assert [reply.status_code for reply in replies] == [200, 422, 413]
            for reply in (preflight, *replies):
                assert reply.headers["access-control-allow-origin"] == self.PAGE
            exposed = replies[0].headers["access-control-expose-headers"].split(", ")
            assert {"X-Request-Id", "X-Audio-Sample-Rate", "X-Audio-Channels", "*"} <= set(exposed)
            stranger = await app.http.get("/v1/voices", headers={"origin": "https://other"})
            assert "access-control-allow-origin" not in stranger.headers
