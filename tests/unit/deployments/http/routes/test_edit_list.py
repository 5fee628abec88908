"""The list of edits, page by page, and the removal of one by its id."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import pytest_asyncio

from load_tests.conformance import strict
from pipeline.errors import StageUnavailableError
from tests.http_app import SAID, HttpApp, error_of, tenant
from tests.unit.deployments.http.routes.edit_app import (
    AUDIO,
    DENOISE,
    EDITS,
    HAPPY,
    VOICES,
    edit,
    editing,
    long_clip,
    stored,
)

pytestmark = [pytest.mark.unit, pytest.mark.slow]


@pytest_asyncio.fixture
async def app(tmp_path: Path) -> AsyncIterator[HttpApp]:
    async with editing(tmp_path) as made:
        yield made


async def made(app: HttpApp, **body: Any) -> str:
    return (await edit(app, **{"voice": "bruno", **HAPPY, **body})).headers["x-edit-id"]


async def listed(app: HttpApp, **asked: Any) -> dict[str, Any]:
    reply = await app.http.get(EDITS, params=asked)
    assert reply.status_code == httpx.codes.OK, reply.text
    page = strict(app.app.openapi())["paths"][EDITS]["get"]["responses"]["200"]["content"]
    jsonschema.validate(reply.json(), page["application/json"]["schema"])
    return reply.json()


def ids(page: dict[str, Any]) -> list[str]:
    return [one["id"] for one in page["data"]]


@pytest.mark.slow
async def test_pages_hold_the_newest_first(app: HttpApp) -> None:
    voices = ("bruno", "aria", "bruno", "elena", "bruno")  # of different clips, so owners
    edits = [await made(app, voice=voice, seed=n) for n, voice in enumerate(voices)]
    whole = await listed(app)
    assert ids(whole) == edits[::-1]
    assert (whole["object"], whole["has_more"]) == ("list", False)
    assert (whole["first_id"], whole["last_id"]) == (edits[-1], edits[0])
    looked = (await app.http.get(f"{EDITS}/{edits[2]}")).json()
    assert whole["data"][2] == looked
    pages = [await listed(app, limit=2)]
    while pages[-1]["has_more"]:
        pages.append(await listed(app, limit=2, after=pages[-1]["last_id"]))
    assert [len(page["data"]) for page in pages] == [2, 2, 1]
    assert [one for page in pages for one in ids(page)] == edits[::-1]


async def test_a_page_behind_an_edit_that_is_gone_goes_on_all_the_same(app: HttpApp) -> None:
    first, second, third = [await made(app, seed=n) for n in range(3)]
    assert (await app.http.delete(f"{EDITS}/{second}")).status_code == httpx.codes.OK
    assert ids(await listed(app, after=second)) == [first]
    assert ids(await listed(app)) == [third, first]


async def test_there_may_be_none(app: HttpApp) -> None:
    page = await listed(app)
    assert page == {
        "object": "list", "data": [], "has_more": False, "first_id": None, "last_id": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"limit": 0}, "query.limit"),
        ({"limit": 101}, "query.limit"),
        ({"after": "cons_1"}, "after"),
        ({"after": "edit_" + "g" * 56}, "after"),
        ({"after": "../.."}, "after"),
    ],
)
async def test_mistakes_name_the_parameter(app: HttpApp, asked: dict[str, Any], param: str) -> None:
    reply = await app.http.get(EDITS, params=asked)
    assert reply.status_code == httpx.codes.BAD_REQUEST
    assert error_of(reply)["param"] == param


async def test_a_removed_edit_is_gone_with_its_steps(app: HttpApp) -> None:
    edit_id = await made(app, steps=[HAPPY, DENOISE], type=None, value=None)
    further = (await edit(app, **{"from": edit_id}, type="vad")).headers["x-edit-id"]
    gone = await app.http.delete(f"{EDITS}/{edit_id}")
    assert gone.status_code == httpx.codes.OK
    assert gone.json() == {"id": edit_id, "object": "audio.edit", "deleted": True}
    for method, path in (
        ("GET", ""), ("GET", "/steps/1"), ("GET", "/steps/2/audio"), ("DELETE", ""),
    ):  # fmt: skip
        reply = await app.http.request(method, f"{EDITS}/{edit_id}{path}")
        assert reply.status_code == httpx.codes.NOT_FOUND, path
        assert error_of(reply)["code"] == "edit_not_found"
        assert error_of(reply)["param"] == "edit"
    body = {"from": edit_id, **DENOISE, "seed": 7}
    assert (await app.http.post(EDITS, json=body)).status_code == httpx.codes.NOT_FOUND
    assert (await app.http.get(f"{EDITS}/{further}/steps/1")).status_code == httpx.codes.OK
    assert len(stored(app, "edit_*")) == 1


@pytest.mark.slow
async def test_notes_of_an_edit_go_with_it_and_are_never_listed(app: HttpApp) -> None:
    clip, _ = long_clip([*VOICES])
    audio = base64.b64encode(clip).decode()
    edit_id = await made(app, voice=None, audio=audio, **DENOISE, value=None)
    assert len(stored(app, "edit_*")) == 2, "one lies with each clip"
    assert ids(await listed(app)) == [edit_id]
    assert (await app.http.delete(f"{EDITS}/{edit_id}")).status_code == httpx.codes.OK
    assert not stored(app, "edit_*")


@pytest.mark.parametrize("edit_id", ["edit_1", "edit_" + "0" * 56, "..%2F..%2Fvoices", "%00"])
async def test_an_id_that_is_none_is_not_found(app: HttpApp, edit_id: str) -> None:
    reply = await app.http.delete(f"{EDITS}/{edit_id}")
    assert reply.status_code == httpx.codes.NOT_FOUND


@pytest.mark.slow
async def test_two_processes_share_them(tmp_path: Path) -> None:
    async with editing(tmp_path) as one, editing(tmp_path) as other:
        edit_id = await made(one)
        assert ids(await listed(other)) == [edit_id]
        heard = await other.http.get(f"{EDITS}/{edit_id}/steps/1/audio")
        assert heard.status_code == httpx.codes.OK
        assert (await other.http.delete(f"{EDITS}/{edit_id}")).status_code == httpx.codes.OK
        for app in (one, other):
            for path in ("", "/steps/1", "/steps/1/audio"):
                reply = await app.http.get(f"{EDITS}/{edit_id}{path}")
                assert reply.status_code == httpx.codes.NOT_FOUND, "at once"
            assert ids(await listed(app)) == []
    async with editing(tmp_path) as later:
        assert ids(await listed(later)) == [], "and after a restart"


async def test_of_two_removals_at_once_neither_fails(app: HttpApp) -> None:
    edit_id = await made(app)
    replies = await asyncio.gather(*(app.http.delete(f"{EDITS}/{edit_id}") for _ in range(4)))
    assert {reply.status_code for reply in replies} <= {httpx.codes.OK, httpx.codes.NOT_FOUND}
    assert httpx.codes.OK in {reply.status_code for reply in replies}


async def test_a_tenant_lists_and_removes_its_own(app: HttpApp) -> None:
    edit_id = await made(app)
    async with tenant(app, "theirs") as theirs:
        assert (await theirs.get(EDITS)).json()["data"] == []
        reply = await theirs.delete(f"{EDITS}/{edit_id}")
        assert reply.status_code == httpx.codes.NOT_FOUND
        body = {"voice": "bruno", **HAPPY, "seed": 7}
        of_theirs = (await theirs.post(EDITS, json=body)).headers["x-edit-id"]
        assert ids((await theirs.get(EDITS)).json()) == [of_theirs]
        past = await theirs.get(EDITS, params={"after": edit_id})
        assert past.json()["data"] == [], "another's id is a place in time, no more"
    assert ids(await listed(app)) == [edit_id]


async def test_what_is_too_old_is_not_listed(tmp_path: Path) -> None:
    async with editing(tmp_path, speech_cache={"keep_edits_s": 0}) as app:
        edit_id = await made(app)
        assert ids(await listed(app)) == []
        reply = await app.http.delete(f"{EDITS}/{edit_id}")
        assert reply.status_code == httpx.codes.NOT_FOUND


async def test_an_edit_of_sent_audio_is_listed_without_a_voice(app: HttpApp) -> None:
    edit_id = await made(app, voice=None, audio=AUDIO, transcript=SAID)
    (one,) = (await listed(app))["data"]
    assert (one["id"], one["voice"]) == (edit_id, None)
    assert one["sources"][0]["transcript"] == SAID


async def test_without_a_store_there_is_nothing_to_list() -> None:
    async with editing() as app:
        reply = await app.http.get(EDITS)
        assert reply.status_code == httpx.codes.BAD_REQUEST
        assert "cache.url" in error_of(reply)["message"]
        gone = await app.http.delete(f"{EDITS}/edit_{'0' * 56}")
        assert gone.status_code == httpx.codes.NOT_FOUND


async def test_a_store_that_does_not_answer_is_no_lie(
    app: HttpApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit_id = await made(app)
    shelf = app.edits.book._shelf

    async def silent(*_: Any, **__: Any) -> None:
        raise StageUnavailableError("the store of the voices does not answer")

    monkeypatch.setattr(shelf, "delete", silent)
    reply = await app.http.delete(f"{EDITS}/{edit_id}")
    assert reply.status_code == httpx.codes.SERVICE_UNAVAILABLE
    monkeypatch.undo()
    assert ids(await listed(app)) == [edit_id]
    assert (await app.http.delete(f"{EDITS}/{edit_id}")).status_code == httpx.codes.OK
    assert json.loads(reply.text)["error"]["type"] == "server_error"
