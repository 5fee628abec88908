"""Every address but health needs a key; what each route needs stands in one whole table."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Iterable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.routing import Mount, Route, WebSocketRoute

from deployments.access.caller import Caller, Scope
from deployments.http.keys.credentials import presented
from deployments.http.keys.doors import ADMIN, DOORS, SOCKET, Door
from deployments.keys.desk import KeyOrder
from pipeline.errors import UnauthenticatedError
from tests.http_app import HttpApp, error_of, http_app, tenant
from tests.planted import plant
from tests.talk import Talk

pytestmark = [pytest.mark.unit, pytest.mark.timeout(30)]
EVERY = frozenset(Scope)
ADMIN_KEY = plant("an operator's key", "an-operator's-own-words,-32-or-more")
OPEN = {"/healthz", "/v1/health", "/readyz", "/health"}
PAGE = {"/ui", "/ui/{name:path}"}  # files that are the same for all: test_page.py
FILLED = "aria"  # in the place of a parameter


@pytest.fixture
async def app(tmp_path) -> AsyncIterator[HttpApp]:
    (tmp_path / "admin").write_text(f"{ADMIN_KEY}\n")
    access = {"keys": "on", "admin_key_file": str(tmp_path / "admin")}
    cache = {"url": str(tmp_path / "store"), "l2": "off"}
    async with http_app(access=access, cache=cache) as app:
        yield app


async def key_of(app: HttpApp, *scopes: Scope, tenant: str = "museum") -> str:
    assert app.authority is not None
    made = await app.authority.desk.create(KeyOrder(tenant, scopes))
    assert made.secret is not None
    return made.secret


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def addresses(app: FastAPI) -> Iterable[tuple[str, str]]:
    """Method and path of every route, as it was added; of what is mounted, the mount's."""
    for route in app.routes:
        if isinstance(route, Mount):
            yield "GET", route.path
        elif isinstance(route, WebSocketRoute):
            yield SOCKET, route.path
        else:
            assert isinstance(route, Route), route
            yield from ((method, route.path) for method in sorted(route.methods or {"GET"}))


def filled(path: str) -> str:
    return re.sub(r"\{[^}]+\}", FILLED, path)


async def test_the_table_is_whole(app):
    """Who adds a route says here which scope it needs; until then it is an operator's."""
    served = {(method, path) for method, path in addresses(app.app) if method != "HEAD"}
    assert not served - DOORS.keys(), "routes without a scope"
    assert not DOORS.keys() - served, "scopes of routes that are gone"
    assert {path for (_, path), door in DOORS.items() if door.is_open} == OPEN | PAGE


async def test_every_address_needs_a_key(app):
    asked = {(method, filled(path)) for method, path in addresses(app.app) if method != SOCKET}
    asked |= {(method, path) for _, path in asked for method in ("HEAD", "OPTIONS", "PATCH")}
    asked |= {
        ("GET", path)
        for path in ("/nowhere", "/v1/nowhere", "//v1/models", "/v1/models/", "/V1/MODELS",
                     "/v1/%6dodels", "/metrics", "/static/../v1/cache", "/docs/oauth2-redirect")
    }  # fmt: skip
    unknown = "tk_" + "0" * 16 + "_" + "0" * 64
    for method, path in sorted(asked):
        is_open = path in OPEN or path.startswith("/ui")
        if is_open and method in {"GET", "HEAD"}:
            continue
        for headers in ({}, bearer("sk-guessed"), {"xi-api-key": "x"}):
            reply = await app.http.request(method, path, headers=headers)
            assert (reply.status_code, method, path) == (401, method, path)
            assert reply.headers["www-authenticate"].startswith("Bearer")
            assert reply.headers["x-should-retry"] == "false"
    refusal = await app.http.get("/v1/models", headers=bearer(unknown))
    assert error_of(refusal)["code"] == "invalid_api_key"


async def test_a_key_in_the_address_is_not_taken(app):
    key = await key_of(app, *EVERY)
    for name in ("api_key", "key", "xi-api-key", "authorization", "access_token", "token"):
        reply = await app.http.get("/v1/models", params={name: key})
        assert reply.status_code == 401
        assert key not in reply.text


async def test_without_its_scope_a_route_is_forbidden_and_says_which(app):
    keys = {scope: await key_of(app, scope) for scope in Scope}
    for (method, path), door in DOORS.items():
        if method == SOCKET or not door.scopes:
            continue
        for scope, key in keys.items():
            if door.lets_in(Caller("museum", "", frozenset({scope}))):
                continue
            reply = await app.http.request(method, filled(path), headers=bearer(key))
            assert (reply.status_code, method, path, scope) == (403, method, path, scope)
            assert all(needed in error_of(reply)["message"] for needed in door.scopes)
            assert f'scope="{" ".join(door.scopes)}"' in reply.headers["www-authenticate"]


async def test_with_its_scope_a_route_is_reached(app):
    """Nothing is forbidden; what is wrong then is the request's own fault."""
    keys = {scope: await key_of(app, scope) for scope in Scope}
    for (method, path), door in DOORS.items():
        if method == SOCKET or path.startswith("/swagger/"):  # a package's, which warns of itself
            continue
        for scope in door.scopes or (Scope.UNMARKED,):
            headers = bearer(keys[scope])
            async with app.http.stream(method, filled(path), headers=headers) as reply:
                assert reply.status_code not in {401, 403, 500}, (method, path, scope)


async def test_who_holds_any_key_learns_what_is_nowhere(app):
    headers = bearer(await key_of(app, Scope.SPEAK))
    for method, path, status in (
        ("GET", "/nowhere", 404),
        ("PUT", "/v1/models", 405),
        ("OPTIONS", "/v1/audio/speech", 405),
        ("HEAD", "/v1/models", 200),
    ):
        reply = await app.http.request(method, path, headers=headers)
        assert (reply.status_code, path) == (status, path)


async def test_a_route_that_is_not_listed_is_an_operators(app):
    @app.app.get("/v1/added")
    async def added() -> str:
        return "secret"

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("nobody gets here")

    app.app.mount("/inner", mounted)
    key = await key_of(app, *(EVERY - {Scope.ADMIN}))
    for path in ("/v1/added", "/inner/", "/inner/deep"):
        assert (await app.http.get(path)).status_code == 401
        assert (await app.http.get(path, headers=bearer(key))).status_code == 403
    assert (await app.http.get("/v1/added", headers=bearer(ADMIN_KEY))).text == '"secret"'


async def test_health_is_told_to_all_and_its_detail_to_operators(app):
    for path in OPEN:
        for method in ("GET", "HEAD"):
            assert (await app.http.request(method, path)).status_code == 200
    for headers in ({}, bearer("wrong"), bearer(await key_of(app, Scope.SPEAK))):
        assert (await app.http.get("/readyz", headers=headers)).json() == {"ready": True}
    detail = (await app.http.get("/readyz", headers=bearer(ADMIN_KEY))).json()
    assert detail.keys() == {"ready", "reasons", "stages", "cache", "age_s"}


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer {key}"},
        {"authorization": "bearer   {key} "},
        {"xi-api-key": "{key}"},
        {"authorization": "Bearer {key}", "xi-api-key": "{key}"},
        {"authorization": "Basic abc", "xi-api-key": "{key}"},
    ],
)
async def test_a_key_in_a_header_counts(app, headers):
    key = await key_of(app, Scope.SPEAK)
    sent = {name: value.format(key=key) for name, value in headers.items()}
    assert (await app.speak_as(sent)).status_code == 200


def test_keys_that_differ_are_refused():
    for headers in (
        [(b"authorization", b"Bearer a"), (b"xi-api-key", b"b")],
        [(b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")],
    ):
        with pytest.raises(UnauthenticatedError, match="more than one"):
            presented(Headers(raw=headers))
    assert presented(Headers(raw=[(b"authorization", b"Bearer ")])) is None
    assert presented(Headers({}), ["realtime", "openai-insecure-api-key.abc"]) == "abc"


async def test_admin_may_what_all_others_do_but_leave_speech_unmarked(app):
    assert (await app.speak_as(bearer(ADMIN_KEY))).status_code == 200
    operator = await app.authority.caller(ADMIN_KEY)
    assert all(operator.may(scope) for scope in EVERY - {Scope.UNMARKED})
    assert not operator.may(Scope.UNMARKED)


async def test_the_admin_key_is_read_again_when_its_file_changes(app, tmp_path):
    other = "another-" * 8
    (tmp_path / "admin").write_text(other)
    app.authority._admin.follow()
    assert (await app.http.get("/v1/keys", headers=bearer(ADMIN_KEY))).status_code == 401
    assert (await app.http.get("/v1/keys", headers=bearer(other))).status_code == 200
    (tmp_path / "admin").write_text("short")
    app.authority._admin.follow()
    assert (await app.http.get("/v1/keys", headers=bearer(other))).status_code == 200


async def test_keys_are_made_listed_rotated_and_revoked_over_http(app):
    admin = bearer(ADMIN_KEY)
    body = {"tenant": "museum", "scopes": ["speak"], "label": "guide", "expires_in_s": 3600}
    made = (await app.http.post("/v1/keys", json=body, headers=admin)).json()
    assert (await app.speak_as(bearer(made["key"]))).status_code == 200
    listed = (await app.http.get("/v1/keys?tenant=museum", headers=admin)).json()["data"]
    assert [one["id"] for one in listed] == [made["id"]]
    assert "key" not in listed[0]
    one = f"/v1/keys/{made['id']}"
    rotated = (await app.http.post(f"{one}/rotate", headers=admin)).json()
    assert rotated["old_secret_ends_at"] is not None
    for key in (made["key"], rotated["key"]):
        assert (await app.speak_as(bearer(key))).status_code == 200
    again = await app.http.post(f"{one}/rotate", json={"keep_old_s": 0}, headers=admin)
    assert (await app.speak_as(bearer(rotated["key"]))).status_code == 401
    assert (await app.http.delete(one, headers=admin)).json()["status"] == "revoked"
    assert (await app.speak_as(bearer(again.json()["key"]))).status_code == 401
    assert (await app.http.get(one, headers=admin)).json()["status"] == "revoked"
    for wrong in ({}, {"tenant": "../x", "scopes": ["speak"]}, {"tenant": "x", "scopes": ["all"]}):
        assert (await app.http.post("/v1/keys", json=wrong, headers=admin)).status_code == 400
    assert (await app.http.get("/v1/keys/0000", headers=admin)).status_code == 404


async def test_no_key_gets_into_a_log_or_a_reply(app, caplog):
    caplog.set_level(logging.DEBUG)
    key = await key_of(app, Scope.SPEAK)
    assert app.authority is not None
    rotated = (await app.authority.desk.rotate(key.split("_")[1])).secret
    wrong = f"{key[:-4]}beef"
    for one in (key, rotated, wrong, ADMIN_KEY):
        for name, value in (("authorization", f"Bearer {one}"), ("xi-api-key", one)):
            for path in ("/v1/models", "/v1/keys", "/nowhere", "/readyz"):
                reply = await app.http.get(path, headers={name: value})
                assert one not in reply.text + str(reply.headers)
            await app.speak_as({name: value})
    for one in (key, rotated, wrong, ADMIN_KEY):
        assert one not in caplog.text
        assert one.rpartition("_")[2] not in caplog.text


async def test_the_pages_describe_the_routes_of_keys_where_there_are_any(app):
    page = (await app.http.get("/openapi.json", headers=bearer(ADMIN_KEY))).json()
    assert "/v1/keys" in page["paths"]
    assert page["security"] == [{"bearer": []}, {"xi-api-key": []}]
    assert page["paths"]["/healthz"]["get"]["security"] == []
    assert {"KeyBody", "RotateBody", "KeyReply"} <= page["components"]["schemas"].keys()
    async with http_app() as without:
        page = (await without.http.get("/openapi.json")).json()
        assert "/v1/keys" not in page["paths"]


async def test_a_websocket_needs_a_key_in_its_handshake(app):
    key, mute = await key_of(app, Scope.SPEAK), await key_of(app, Scope.JOBS)
    for headers, status in (({}, 401), (bearer("wrong"), 401), (bearer(mute), 403)):
        for can_deny in (True, False):
            talk = Talk(app.app, headers, can_deny=can_deny)
            await talk.begin()
            assert talk.accepted["type"] != "websocket.accept"
            if can_deny:
                assert talk.accepted["status"] == status
            await talk.serving
    talk = Talk(app.app, bearer(key))
    await talk.begin()
    assert talk.accepted["type"] == "websocket.accept"
    talk.leave()
    await talk.serving


async def test_a_browser_sends_its_key_as_a_subprotocol(app):
    key = await key_of(app, Scope.SPEAK)
    talk = Talk(app.app, {}, subprotocols=["realtime", f"openai-insecure-api-key.{key}"])
    await talk.begin()
    assert talk.accepted["subprotocol"] == "realtime"
    talk.leave()
    await talk.serving


async def test_without_keys_only_this_machine_is_answered():
    async with http_app() as app:
        for host, status in (
            ("127.0.0.1", 200), ("[::1]", 200), ("localhost", 200), ("127.8.9.1", 200),
            ("10.0.0.7", 403), ("192.168.1.2", 403), ("[2001:db8::1]", 403), ("0.0.0.0", 403),  # noqa: S104 - refused
        ):  # fmt: skip
            transport = httpx.ASGITransport(app.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as one:
                assert ((await one.get("/v1/models")).status_code, host) == (status, host)
                assert (await one.get("/healthz")).status_code == 200


async def test_off_on_purpose_answers_everybody():
    async with http_app(access={"keys": "off-on-purpose"}) as app:
        transport = httpx.ASGITransport(app.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://10.0.0.7") as one:
            assert (await one.get("/v1/models")).status_code == 200


def test_doors():
    assert Door().lets_in(Caller("x"))
    assert not ADMIN.lets_in(Caller("x", "", EVERY - {Scope.ADMIN}))
    assert Door((Scope.SPEAK,)).lets_in(Caller("x", "", frozenset({Scope.ADMIN})))


async def test_a_caller_cannot_say_whose_it_is(app):
    """The state of a request is the server's; the guard overwrites what is there."""
    async with tenant(app, "other") as other:
        reply = await other.get("/v1/voices", headers=bearer(await key_of(app, Scope.SPEAK)))
        assert reply.status_code == 200
        assert (await other.get("/v1/voices")).status_code == 401
