"""Keys over HTTP, for operators: list, make, look at, rotate, revoke."""

from __future__ import annotations

import time
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, Path, Query, Request

from deployments.http.bodies.budget import BodyBudget
from deployments.http.bodies.fields import Lenient, validated
from deployments.http.bodies.json_text import read_json
from deployments.http.bodies.read import RawBody, is_json, read_off_loop, receive_body
from deployments.http.keys.pages import (
    LIST_DOC,
    LOOK_DOC,
    MAKE_DOC,
    REVOKE_DOC,
    ROTATE_DOC,
    KeyBody,
    RotateBody,
)
from deployments.keys.authority import Authority
from deployments.keys.desk import Key, KeyOrder
from pipeline.errors import InputError

KeyId = Annotated[str, Path(description="As it was made with", examples=["8f14e45fceea167a"])]
Tenant = Annotated[str | None, Query(description="Only this tenant's", examples=["museum"])]
Body = TypeVar("Body", bound=Lenient)


class KeyRoutes:
    """Handlers. budget: of the bodies held."""

    def __init__(self, authority: Authority, budget: BodyBudget) -> None:
        self._book, self._desk = authority.book, authority.desk
        self._budget = budget

    def add_to(self, app: FastAPI) -> None:
        """Every route of keys; the guard asks for the scope `admin`."""
        all_, one = "/v1/keys", "/v1/keys/{key_id}"
        app.get(all_, **LIST_DOC)(self._list)
        app.post(all_, **MAKE_DOC)(self._make)
        app.get(one, **LOOK_DOC)(self._look)
        app.post(f"{one}/rotate", **ROTATE_DOC)(self._rotate)
        app.delete(one, **REVOKE_DOC)(self._revoke)

    async def _list(self, tenant: Tenant = None) -> dict[str, Any]:
        """Keys of every tenant, or of one, the oldest first; never their secrets."""
        now_s = time.time()
        return {
            "object": "list",
            "data": [key.shown(now_s) for key in await self._desk.all(tenant)],
        }

    async def _make(self, request: Request) -> dict[str, Any]:
        """Make a key. `key` is in this reply alone: what is kept of it is a digest."""
        body = await self._body(request, KeyBody)
        order = KeyOrder(body.tenant, frozenset(body.scopes), body.label, body.expires_in_s)
        return await self._changed(await self._desk.create(order))

    async def _look(self, key_id: KeyId) -> dict[str, Any]:
        """One key."""
        return (await self._desk.get(key_id)).shown(time.time())

    async def _rotate(self, request: Request, key_id: KeyId) -> dict[str, Any]:
        """Give a key another secret; the old one counts for `keep_old_s` beside it."""
        body = await self._body(request, RotateBody)
        return await self._changed(await self._desk.rotate(key_id, body.keep_old_s))

    async def _revoke(self, key_id: KeyId) -> dict[str, Any]:
        """Refuse a key for good: here at once, at every router within 5 seconds."""
        return await self._changed(await self._desk.revoke(key_id))

    async def _changed(self, key: Key) -> dict[str, Any]:
        await self._book.look()
        return key.shown(time.time())

    async def _body(self, request: Request, model: type[Body]) -> Body:
        with self._budget.hold() as hold:
            return await read_off_loop(
                partial(_read, model=model), await receive_body(request, hold)
            )


def _read(raw: RawBody, model: type[Body]) -> Body:
    """A body of JSON; of none, what may be left out is. Raises InputError."""
    if not raw.content:
        return validated(model, {}, tuple(model.model_fields))
    if not is_json(raw.content):
        raise InputError("the body is no JSON: send an object", param="body")
    tree = read_json(raw.content, raw.label.charset)
    return validated(model, tree, tuple(model.model_fields))
