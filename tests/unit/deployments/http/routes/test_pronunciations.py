"""Pronunciation dictionaries: kept, changed, seen elsewhere, and what requests make of them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.pronunciation import book
from pipeline.contracts import SpeechRequest
from pipeline.text.front_end import two_language_words
from tests.http_app import HttpApp, error_of, http_app, running, tenant

pytestmark = pytest.mark.unit
ALL = "/v1/audio/pronunciations"
NGUYEN = {"written": "Nguyen", "said": "win"}
TEXT = "Nguyen has 5 GIF files."


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[HttpApp]:
    async with http_app(cache={"url": str(tmp_path), "l2": "off"}) as made:
        yield made


def words(request: SpeechRequest) -> str:
    return two_language_words(request.text, request.reading)


async def added(app: HttpApp, *entries: dict[str, Any], **how: Any) -> str:
    body = {"name": "Names", "entries": entries or (NGUYEN,), **how}
    reply = await app.http.post(ALL, json=body)
    assert reply.status_code == httpx.codes.OK, reply.text
    return reply.json()["id"]


async def test_a_dictionary_has_a_life(app: HttpApp) -> None:
    made = await added(app)
    assert (await app.http.get(ALL)).json()["data"][0] | {"id": made, "n_entries": 1} == (
        await app.http.get(ALL)
    ).json()["data"][0]
    shown = (await app.http.get(f"{ALL}/{made}")).json()
    assert shown["entries"] == [
        {**NGUYEN, "regex": False, "case_sensitive": False, "language": None}
    ]
    entries = [{"written": "GIF", "said": "jif", "case_sensitive": True}]
    changed = (await app.http.post(f"{ALL}/{made}", json={"entries": entries})).json()
    assert (changed["name"], changed["entries"][0]["said"]) == ("Names", "jif")
    assert (await app.http.delete(f"{ALL}/{made}")).json()["deleted"] is True
    for method in ("GET", "DELETE"):
        gone = await app.http.request(method, f"{ALL}/{made}")
        assert (gone.status_code, error_of(gone)["code"]) == (404, "pronunciation_not_found")
    assert (await app.http.get(ALL)).json()["data"] == []


async def test_a_request_is_read_by_what_it_names_or_brings(app: HttpApp) -> None:
    made = await added(app)
    assert words(await app.spoken(input=TEXT)) == "Nguyen has five GIF files."
    named = await app.spoken(input=TEXT, pronunciation_dictionary=made)
    assert words(named) == "win has five GIF files."
    brought = await app.spoken(
        input=TEXT,
        pronunciation=[{"written": "nguyen", "said": "nwin"}, {"written": "GIF", "said": "jif"}],
        pronunciation_dictionary=[made],
    )
    assert words(brought) == "nwin has five jif files."


async def test_a_form_names_several(app: HttpApp) -> None:
    made = [await added(app), await added(app, {"written": "GIF", "said": "jif"})]
    for sent in (json.dumps(made), f" {json.dumps(made)}"):
        data = {"input": TEXT, "response_format": "wav", "pronunciation_dictionary": sent}
        reply = await app.http.post("/v1/audio/speech", files={}, data=data)
        assert reply.status_code == httpx.codes.OK, reply.text
        assert words(app.synthesizer.requests[-1]) == "win has five jif files."
    data = {"input": TEXT, "pronunciation_dictionary": made[0]}
    await app.http.post("/v1/audio/speech", data=data)
    assert words(app.synthesizer.requests[-1]) == "win has five GIF files."
    data = {"input": TEXT, "pronunciation_dictionary": '["pron_none"]'}
    refused = await app.http.post("/v1/audio/speech", data=data)
    assert (refused.status_code, error_of(refused)["param"]) == (404, "pronunciation_dictionary")


async def test_what_is_nearer_to_the_request_comes_first(tmp_path: Path) -> None:
    of_all = {
        "pronunciations": [{"written": word, "said": "all"} for word in ("a1", "b1", "c1", "d1")]
    }
    async with http_app(cache={"url": str(tmp_path), "l2": "off"}, text=of_all) as app:

        def says(said: str, *written: str) -> list[dict[str, str]]:
            return [{"written": word, "said": said} for word in written]

        await added(app, *says("tenant", "a1", "b1", "c1"), scope="tenant")
        await added(app, *says("bruno", "a1", "b1"), scope="voice", voice="Bruno")
        named = await added(app, *says("named", "a1"))
        text = {"input": "a1 b1 c1 d1"}
        asked = await app.spoken(**text, voice="bruno", pronunciation_dictionary=[named])
        assert words(asked) == "named bruno tenant all"
        assert words(await app.spoken(**text, voice="onyx")) == "bruno bruno tenant all"
        assert words(await app.spoken(**text, voice="clara")) == "tenant tenant tenant all"


async def test_a_tenants_are_nobody_elses(app: HttpApp) -> None:
    async with tenant(app, "other") as other:
        body = {"name": "x", "entries": [NGUYEN], "scope": "tenant"}
        made = (await other.post(ALL, json=body)).json()["id"]
        spoken = {"input": TEXT, "response_format": "wav"}
        await other.post("/v1/audio/speech", json=spoken)
        assert words(app.synthesizer.requests[-1]) == "win has five GIF files."
    assert words(await app.spoken(input=TEXT)) == "Nguyen has five GIF files."
    assert (await app.http.get(f"{ALL}/{made}")).status_code == 404
    refused = await app.speak(pronunciation_dictionary=made)
    assert (refused.status_code, error_of(refused)["param"]) == (404, "pronunciation_dictionary")


@pytest.mark.slow
async def test_other_routers_see_it_within_a_second_and_a_restart_does(
    app: HttpApp, tmp_path: Path
) -> None:
    async with running(HttpApp(cache={"url": str(tmp_path), "l2": "off"})) as other:
        assert (await other.http.get(ALL)).json()["data"] == []
        made = await added(app, scope="tenant")
        deadline_s = time.monotonic() + 1.5
        while not (await other.http.get(ALL)).json()["data"]:
            assert time.monotonic() < deadline_s
        assert words(await other.spoken(input=TEXT)) == "win has five GIF files."
        await other.http.delete(f"{ALL}/{made}")
    async with running(HttpApp(cache={"url": str(tmp_path), "l2": "off"})) as again:
        assert (await again.http.get(ALL)).json()["data"] == []


async def test_a_shortened_journal_is_found_again(
    app: HttpApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book, "KEPT_ENTRIES", 1)
    async with running(HttpApp(cache={"url": str(tmp_path), "l2": "off"})) as other:
        made = await added(other, scope="tenant")
        assert (await app.http.get(ALL)).json()["data"]
        for n in range(4):
            entries = [{"written": "Nguyen", "said": f"w{n}"}]
            await other.http.post(f"{ALL}/{made}", json={"entries": entries})
        monkeypatch.setattr(book, "FRESH_S", 0.0)
        monkeypatch.setattr(book, "CERTAIN_S", 0.0)
        shown = (await app.http.get(f"{ALL}/{made}")).json()
        assert shown["entries"][0]["said"] == "w3"


async def test_two_changes_at_once_are_both_kept(app: HttpApp) -> None:
    ids = await asyncio.gather(*(added(app, name=f"d{n}") for n in range(6)))
    listed = (await app.http.get(ALL)).json()["data"]
    assert sorted(one["id"] for one in listed) == sorted(ids)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"entries": [NGUYEN]}, "name"),
        ({"name": "x"}, "entries"),
        ({"name": "x", "entries": [{"written": "a"}]}, "entries.0.said"),
        ({"name": "x", "entries": [{**NGUYEN, "regexp": True}]}, "entries.0.regexp"),
        ({"name": "x", "entries": [{"written": "(", "said": "", "regex": True}]}, "entries.0"),
        ({"name": "x", "entries": [NGUYEN], "scope": "world"}, "scope"),
        ({"name": "x", "entries": [NGUYEN], "scope": "voice"}, "voice"),
        ({"name": "x", "entries": [NGUYEN], "more": 1}, "more"),
        ([], "body"),
    ],
)
async def test_a_mistake_is_named(app: HttpApp, body: Any, param: str) -> None:
    reply = await app.http.post(ALL, json=body)
    assert (reply.status_code, error_of(reply)["param"]) == (400, param)


async def test_a_tenant_has_room_for_so_many(tmp_path: Path) -> None:
    text = {"max_pronunciations": 2}
    async with http_app(cache={"url": str(tmp_path), "l2": "off"}, text=text) as app:
        await added(app, NGUYEN, {"written": "a", "said": "b"})
        reply = await app.http.post(ALL, json={"name": "x", "entries": [NGUYEN]})
        assert (reply.status_code, error_of(reply)["param"]) == (400, "entries")


async def test_without_a_store_none_are_kept_and_speech_goes_on() -> None:
    async with http_app() as app:
        assert (await app.http.get(ALL)).status_code == 400
        assert words(await app.spoken(input=TEXT, pronunciation=[NGUYEN])).startswith("win")
        assert (await app.speak(pronunciation_dictionary="pron_1")).status_code == 400


class TestNormalisation:
    @pytest.mark.parametrize(
        ("fields", "is_normalised"),
        [
            ({}, True),
            ({"normalize": False}, False),
            ({"normalize": True}, True),
            ({"normalization_options": {"normalize": False, "unit_normalization": True}}, False),
        ],
    )
    async def test_a_request_says(self, fields: dict[str, Any], is_normalised: bool) -> None:
        async with http_app() as app:
            spoken = await app.spoken(input=TEXT, **fields)
            assert spoken.reading.is_normalised is is_normalised
            assert ("5" in words(spoken)) is not is_normalised

    async def test_where_it_does_not_the_service_does(self) -> None:
        async with http_app(text={"normalize": False}) as app:
            assert not (await app.spoken(input=TEXT)).reading.is_normalised
            assert (await app.spoken(input=TEXT, normalize=True)).reading.is_normalised

    @pytest.mark.parametrize(("said", "expected"), [("on", True), ("off", False), ("auto", True)])
    async def test_as_elevenlabs_clients_say_it(
        self, app: HttpApp, said: str, expected: bool
    ) -> None:
        made = await added(app)
        body = {
            "text": TEXT,
            "apply_text_normalization": said,
            "pronunciation_dictionary_locators": [
                {"pronunciation_dictionary_id": made, "version_id": "1"}
            ],
        }
        reply = await app.http.post("/v1/text-to-speech/bruno", json=body)
        assert reply.status_code == httpx.codes.OK, reply.text
        spoken = app.synthesizer.requests[-1]
        assert spoken.reading.is_normalised is expected
        assert words(spoken).startswith("win has")

    async def test_as_elevenlabs_clients_say_it_of_a_dialogue(self, app: HttpApp) -> None:
        made = await added(app)
        body = {
            "inputs": [
                {"text": TEXT, "voice_id": "aria"},
                {"text": "And Nguyen again.", "voice_id": "bruno"},
                {"text": "Who?", "voice_id": "aria"},
            ],
            "apply_text_normalization": "off",
            "pronunciation_dictionary_locators": [{"pronunciation_dictionary_id": made}],
        }
        for path in ("/v1/text-to-dialogue", "/v1/text-to-dialogue/stream"):
            app.synthesizer.requests.clear()
            reply = await app.http.post(path, json=body)
            assert reply.status_code == httpx.codes.OK, reply.text
            assert [words(one) for one in app.synthesizer.requests] == [
                "win has 5 GIF files.",
                "And win again.",
                "Who?",
            ]

    @pytest.mark.parametrize("path", ["/v1/text-to-speech/bruno", "/v1/text-to-dialogue"])
    async def test_a_dictionary_is_named_in_one_way(self, app: HttpApp, path: str) -> None:
        made = await added(app)
        located = "pronunciation_dictionary_locators"
        body = {
            "text": TEXT,
            "inputs": [{"text": TEXT, "voice_id": "aria"}],
            located: [{"pronunciation_dictionary_id": made}],
        }
        both = await app.http.post(path, json={**body, "pronunciation_dictionary": [made]})
        assert (both.status_code, error_of(both)["param"]) == (400, located)
        unknown = {**body, located: [{"pronunciation_dictionary_id": "pron_none"}]}
        gone = await app.http.post(path, json=unknown)
        assert (gone.status_code, error_of(gone)["param"]) == (404, located)
        assert not app.synthesizer.requests

    async def test_as_fishs_clients_say_it(self, app: HttpApp) -> None:
        reply = await app.http.post("/v1/tts", json={"text": TEXT, "normalize": False})
        assert reply.status_code == httpx.codes.OK, reply.text
        assert not app.synthesizer.requests[-1].reading.is_normalised


async def test_finished_speech_is_another_where_a_word_is_said_otherwise(tmp_path: Path) -> None:
    made = HttpApp(is_telling=True, cache={"url": str(tmp_path), "l2": "off"})
    async with running(made) as app:

        async def source(**fields: Any) -> str:
            reply = await app.speak(input=TEXT, **fields)
            assert reply.status_code == httpx.codes.OK, reply.text
            return reply.headers["X-Cache"]

        assert not (await source()).startswith("speech")
        assert (await source()).startswith("speech")
        assert not (await source(pronunciation=[NGUYEN])).startswith("speech")
        assert (await source(pronunciation=[{"written": "NGUYEN", "said": "win"}])).startswith(
            "speech"
        )
        assert not (await source(normalize=False)).startswith("speech")
