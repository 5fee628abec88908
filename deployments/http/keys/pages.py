"""Bodies and replies of an operator's routes of keys."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from deployments.access.caller import Scope
from deployments.http.api_pages import answers, body_of, refusal, takes
from deployments.http.bodies.fields import Lenient
from deployments.http.keys.doors import DOORS
from deployments.keys.desk import KEEP_OLD_S

_ID = "8f14e45fceea167a"
_NOW_UNIX_S = 1_795_728_000


class KeyBody(Lenient):
    """`POST /v1/keys`."""

    model_config = ConfigDict(extra="forbid")

    tenant: str
    """The namespace of all that its holder has: a-z, 0-9, `_` and `-`."""
    scopes: list[Scope] = Field(min_length=1)
    label: str = ""
    expires_in_s: int | None = None


class RotateBody(Lenient):
    """`POST /v1/keys/{key_id}/rotate`."""

    model_config = ConfigDict(extra="forbid")

    keep_old_s: int = KEEP_OLD_S
    """How long the old secret counts beside the new one; 0: not any more."""


class KeyReply(BaseModel):
    """A key. key: the key itself, only in the reply that made it."""

    id: str
    object: Literal["api_key"] = "api_key"
    tenant: str
    scopes: list[str]
    label: str
    status: Literal["active", "expired", "revoked"]
    created_at: int
    expires_at: int | None
    revoked_at: int | None
    old_secret_ends_at: int | None
    key: str | None = None


class KeyList(BaseModel):
    """`GET /v1/keys`."""

    object: Literal["list"] = "list"
    data: list[KeyReply]


_KEY = {
    "id": _ID,
    "object": "api_key",
    "tenant": "museum",
    "scopes": ["speak", "voices"],
    "label": "audio guide",
    "status": "active",
    "created_at": _NOW_UNIX_S,
    "expires_at": _NOW_UNIX_S + 90 * 86_400,
    "revoked_at": None,
    "old_secret_ends_at": None,
}
_MADE = {**_KEY, "key": f"tk_{_ID}_…"}
_BODY = {
    "tenant": "museum",
    "scopes": ["speak", "voices"],
    "label": "audio guide",
    "expires_in_s": 90 * 86_400,
}
MAKE_DOC = answers(_MADE, KeyReply, refused=(400, 503)) | takes(
    {"application/json": body_of(KeyBody, _BODY)}
)
ROTATE_DOC = answers(_MADE, KeyReply, refused=(400, 404, 503)) | takes(
    {"application/json": body_of(RotateBody, {"keep_old_s": 3_600})}
)
LIST_DOC = answers({"object": "list", "data": [_KEY]}, KeyList, refused=(503,))
LOOK_DOC = answers(_KEY, KeyReply, refused=(404, 503))
REVOKE_DOC = answers({**_KEY, "status": "revoked"}, KeyReply, refused=(404, 503))
for _doc in (ROTATE_DOC, LOOK_DOC, REVOKE_DOC):
    _doc["responses"][404] = refusal("No key has this id")
SHAPES: tuple[type[BaseModel], ...] = (KeyBody, RotateBody, KeyReply, KeyList)
_WAYS: dict[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, or a token"},
    "xi-api-key": {"type": "apiKey", "in": "header", "name": "xi-api-key"},
}


def describe_keys(app: FastAPI) -> None:
    """Let the API's description say how keys are sent, and what needs none."""
    app.openapi = partial(_described, app.openapi)


def _described(page_of: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    page = page_of()
    page["components"]["securitySchemes"] = _WAYS
    page["security"] = [{way: []} for way in _WAYS]
    for (method, path), door in DOORS.items():
        if door.is_open and path in page["paths"]:  # the page's files are no part of the API
            page["paths"][path][method.lower()]["security"] = []
    return page
