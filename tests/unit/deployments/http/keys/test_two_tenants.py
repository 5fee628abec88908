"""Two tenants in one service: a thousand calls with the other's ids; nothing seen or changed."""

from __future__ import annotations

import json
import random
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
import pytest

from deployments.access.caller import Scope
from deployments.keys.desk import KeyOrder
from tests.http_app import CLIP, SAID, HttpApp
from tests.unit.deployments.http.routes.edit_app import HAPPY, editing

pytestmark = [pytest.mark.unit, pytest.mark.slow, pytest.mark.timeout(120)]
CALLS = 1_000
WORK = (Scope.SPEAK, Scope.VOICES, Scope.EDITS, Scope.JOBS, Scope.CACHE)
AGREED = "I agree that my voice is cloned."
SHOWN = ("/v1/audio/voices", "/v1/voices", "/v2/voices", "/v1/audio/voice_consents",
         "/v1/audio/pronunciations", "/v1/audio/edits", "/v1/audio/jobs")  # fmt: skip


@dataclass
class Tenant:
    """A client with its key, and the ids of what is its own, by kind."""

    name: str
    http: httpx.AsyncClient
    ids: dict[str, str] = field(default_factory=dict)

    async def ask(self, method: str, path: str, **sent: Any) -> httpx.Response:
        return await self.http.request(method, path, **sent)

    async def made(self, method: str, path: str, **sent: Any) -> httpx.Response:
        reply = await self.ask(method, path, **sent)
        assert reply.status_code == httpx.codes.OK, (path, reply.text)
        return reply

    async def look(self) -> dict[str, Any]:
        """All that it has, as it is shown."""
        pages = {path: (await self.made("GET", path)).json() for path in SHOWN}
        one = self.ids
        for path in (
            f"/v1/audio/voices/{one['voice']}", f"/v1/audio/voice_consents/{one['consent']}",
            f"/v1/audio/pronunciations/{one['dictionary']}", f"/v1/audio/edits/{one['edit']}",
            f"/v1/audio/jobs/{one['job']}", f"/v1/audio/speech/{one['request']}",
        ):  # fmt: skip
            pages[path] = (await self.made("GET", path)).json()
        return pages


async def settle(tenant: Tenant) -> None:
    """Give a tenant one of each."""
    who, ids = tenant.name, tenant.ids
    sent = {"name": f"Voice of {who}", "consent": AGREED, "ref_text": SAID}
    files = {"audio_sample": ("v.wav", CLIP, "audio/wav")}
    voice = (await tenant.made("POST", "/v1/audio/voices", data=sent, files=files)).json()["voice"]
    ids |= {"voice": voice["id"], "consent": voice["consent"]}
    entries = [{"written": "GIF", "said": f"jiff of {who}"}]
    body: dict[str, Any] = {"name": f"words of {who}", "entries": entries, "scope": "tenant"}
    reply = await tenant.made("POST", "/v1/audio/pronunciations", json=body)
    ids["dictionary"] = reply.json()["id"]
    body = {"input": f"A job of {who}.", "voice": "bruno"}
    ids["job"] = (await tenant.made("POST", "/v1/audio/jobs", json=body)).json()["id"]
    body = {"voice": "bruno", **HAPPY, "seed": 7}
    reply = await tenant.made("POST", "/v1/audio/edits", json=body)
    ids["edit"] = reply.headers["x-edit-id"]
    body = {"input": f"Speech of {who}.", "voice": ids["voice"], "response_format": "wav"}
    ids["request"] = f"call-of-{who}"
    headers = {"x-request-id": ids["request"]}
    await tenant.made("POST", "/v1/audio/speech", json=body, headers=headers)
    ids["clip"] = (await tenant.made("POST", "/v1/cache/warm", content=CLIP)).json()["clip"]


@pytest.fixture
async def app(tmp_path) -> AsyncIterator[HttpApp]:
    async with editing(tmp_path, access={"keys": "on"}) as app:
        yield app


async def tenant(app: HttpApp, name: str) -> Tenant:
    assert app.authority is not None
    made = await app.authority.desk.create(KeyOrder(name, WORK))
    transport = httpx.ASGITransport(app.app, raise_app_exceptions=False)
    headers = {"authorization": f"Bearer {made.secret}"}
    http = httpx.AsyncClient(transport=transport, base_url="http://timbre", headers=headers)
    return Tenant(name, http)


def JSON(**body: Any) -> dict[str, Any]:
    return {"json": body}


Call = tuple[str, str, str, dict[str, Any]]  # kind of id, method, path with @, what is sent
SPEECH = {"input": "Hello.", "response_format": "wav"}
CALLS_BY_ID: list[Call] = [
    ("voice", "GET", "/v1/audio/voices/@", {}),
    ("voice", "GET", "/v1/voices/@", {}),
    ("voice", "POST", "/v1/audio/voices/@", JSON(name="Stolen")),
    ("voice", "POST", "/v1/voices/@/edit", {"data": {"name": "Stolen"}}),
    ("voice", "DELETE", "/v1/audio/voices/@", {}),
    ("voice", "DELETE", "/v1/audio/voices/@?purge=1", {}),
    ("voice", "DELETE", "/v1/voices/@", {}),
    ("voice", "POST", "/v1/audio/voices/@/restore", {}),
    ("voice", "POST", "/v1/audio/speech", JSON(**SPEECH, voice="@")),
    ("voice", "POST", "/v1/tts", JSON(text="Hello.", reference_id="@")),
    ("voice", "POST", "/v1/text-to-speech/@", JSON(text="Hello.")),
    ("voice", "POST", "/v1/text-to-dialogue", JSON(inputs=[{"text": "Hello.", "voice_id": "@"}])),
    ("voice", "POST", "/v1/audio/jobs", JSON(input="Hello.", voice="@")),
    ("consent", "GET", "/v1/audio/voice_consents/@", {}),
    ("consent", "POST", "/v1/audio/voice_consents/@", JSON(name="Stolen")),
    ("consent", "DELETE", "/v1/audio/voice_consents/@", {}),
    ("dictionary", "GET", "/v1/audio/pronunciations/@", {}),
    ("dictionary", "POST", "/v1/audio/pronunciations/@", JSON(name="stolen")),
    ("dictionary", "DELETE", "/v1/audio/pronunciations/@", {}),
    ("dictionary", "POST", "/v1/audio/speech", JSON(**SPEECH, pronunciation_dictionary="@")),
    ("edit", "GET", "/v1/audio/edits/@", {}),
    ("edit", "DELETE", "/v1/audio/edits/@", {}),
    ("edit", "GET", "/v1/audio/edits/@/steps/1", {}),
    ("edit", "GET", "/v1/audio/edits/@/steps/1/audio", {}),
    ("edit", "POST", "/v1/audio/edits", JSON(edit_id="@", type="denoise")),
    ("job", "GET", "/v1/audio/jobs/@", {}),
    ("job", "DELETE", "/v1/audio/jobs/@", {}),
    ("job", "GET", "/v1/audio/jobs/@/events", {}),
    ("job", "POST", "/v1/audio/jobs/@/pause", {}),
    ("job", "POST", "/v1/audio/jobs/@/resume", {}),
    ("job", "POST", "/v1/audio/jobs/@/cancel", {}),
    ("job", "GET", "/v1/audio/jobs/@/segments", {}),
    ("job", "GET", "/v1/audio/jobs/@/segments/0", {}),
    ("job", "GET", "/v1/audio/jobs/@/segments/0/audio", {}),
    ("job", "POST", "/v1/audio/jobs/@/segments/0/regenerate", {}),
    ("job", "GET", "/v1/audio/jobs/@/audio", {}),
    ("job", "GET", "/v1/audio/jobs/@/subtitles", {}),
    ("job", "GET", "/v1/audio/jobs/@/manifest", {}),
    ("request", "GET", "/v1/audio/speech/@", {}),
]


def filled(sent: dict[str, Any], found: str) -> dict[str, Any]:
    return json.loads(json.dumps(sent).replace("@", found))


def another(found: str, chance: random.Random) -> str:
    """An id of the same shape that nobody has: other digits behind the kind and the time."""
    kept = found[:-12] if "_" in found else "call-of-"
    return kept + "".join(chance.choice("0123456789abcdef") for _ in range(12))


def told(reply: httpx.Response, asked: str) -> tuple[int, str]:
    """A reply but for the id that was asked and times."""
    return reply.status_code, re.sub(r"[0-9.]+ s", "", reply.text.replace(asked, "{}"))


async def test_a_thousand_calls_with_the_others_ids(app):
    mine, yours = await tenant(app, "mine"), await tenant(app, "yours")
    for one in (mine, yours):
        await settle(one)
    assert set(mine.ids.values()) & set(yours.ids.values()) == {mine.ids["clip"]}
    before = [await one.look() for one in (mine, yours)]
    chance = random.Random(18)  # noqa: S311 - the same calls every time
    for number in range(CALLS):
        asker, owner = chance.choice([(mine, yours), (yours, mine)])
        kind, method, path, sent = CALLS_BY_ID[number % len(CALLS_BY_ID)]
        theirs = owner.ids[kind]
        nobodys = another(theirs, chance)
        replies = [
            told(await asker.ask(method, path.replace("@", found), **filled(sent, found)), found)
            for found in (theirs, nobodys)
        ]
        assert replies[0] == replies[1], (method, path)
        assert 400 <= replies[0][0] < 500, (method, path, replies[0])
    after = [await one.look() for one in (mine, yours)]
    assert after == before


async def test_what_one_tenant_removes_the_other_keeps(app):
    """Both have the same clip; the address of its removal is its digest, the same for both."""
    mine, yours = await tenant(app, "mine"), await tenant(app, "yours")
    for one in (mine, yours):
        await settle(one)
    assert mine.ids["clip"] == yours.ids["clip"]
    await mine.made("DELETE", f"/v1/cache/{mine.ids['clip']}")
    tiers = [
        (await one.made("POST", "/v1/cache/warm", content=CLIP)).json()["tier"]
        for one in (mine, yours)
    ]
    assert tiers == ["miss", "l1"]


async def test_what_one_has_encoded_is_a_miss_for_the_other(app):
    """A clip, and speech in it: that it is known already would tell who else has it."""
    mine, yours = await tenant(app, "mine"), await tenant(app, "yours")
    body = {"input": "Hello.", "voice": "bruno", "seed": 7, "response_format": "wav"}
    for one in (mine, yours):
        first = await one.made("POST", "/v1/cache/warm", content=CLIP)
        assert first.json()["tier"] == "miss"
        again = await one.made("POST", "/v1/cache/warm", content=CLIP)
        assert again.json()["tier"] == "l1"
        spoken = [await one.made("POST", "/v1/audio/speech", json=body) for _ in range(2)]
        assert [reply.headers["x-cache"] for reply in spoken] == ["l1", "speech-l1, l1"]
    assert (await mine.ask("GET", "/v1/cache")).status_code == httpx.codes.FORBIDDEN


async def test_the_store_is_asked_the_same_for_the_others_id_and_for_nobodys(app, monkeypatch):
    """What takes time is the store; so that no clock tells one from the other."""
    mine, yours = await tenant(app, "mine"), await tenant(app, "yours")
    for one in (mine, yours):
        await settle(one)
    chance = random.Random(7)  # noqa: S311 - the same ids every time
    nobodys = {kind: another(found, chance) for kind, found in yours.ids.items()}
    asked: list[tuple[str, str]] = []
    blobs = app.voices.shelf._blobs  # type: ignore[union-attr]
    for name in ("get", "names", "list", "create", "delete"):

        def record(path: str, *rest: Any, of: str, call: Any) -> Any:
            asked.append((of, path))
            return call(path, *rest)

        monkeypatch.setattr(blobs, name, partial(record, of=name, call=getattr(blobs, name)))
    for kind, method, path, sent in CALLS_BY_ID:
        steps = []
        for found in (yours.ids[kind], nobodys[kind]):
            asked.clear()
            await mine.ask(method, path.replace("@", found), **filled(sent, found))
            assert not [where for _, where in asked if "yours" in where], (method, path)
            about = [(name, where.replace(found, "@")) for name, where in asked if found in where]
            steps.append(about)
        assert steps[0] == steps[1], (method, path)
