"""Two tenants in one service: a thousand calls with the other's ids; nothing seen or changed."""

from __future__ import annotations

import random
import re
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx
import pytest

from deployments.access.caller import Scope
from deployments.keys.desk import KeyOrder
from tests.http_app import CLIP, HttpApp
from tests.two_tenants import CALLS_BY_ID, Tenant, another, filled, settle
from tests.unit.deployments.http.routes.edit_app import editing

pytestmark = [pytest.mark.unit, pytest.mark.slow, pytest.mark.timeout(120)]
CALLS = 1_000
WORK = (Scope.SPEAK, Scope.VOICES, Scope.EDITS, Scope.JOBS, Scope.CACHE)


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
