"""Pronunciation dictionaries over HTTP: list, keep, look at, change, delete."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, Path, Request

from deployments.http.bodies.budget import BodyBudget
from deployments.http.bodies.fields import Lenient, validated
from deployments.http.bodies.json_text import read_json
from deployments.http.bodies.read import RawBody, is_json, read_off_loop, receive_body
from deployments.http.dialects.pronunciations import DictionaryBody, DictionaryChange, shown
from deployments.http.routes.pronunciation_pages import (
    ADD_DOC,
    CHANGE_DOC,
    DELETE_DOC,
    LIST_DOC,
    LOOK_DOC,
)
from deployments.http.tenant import namespace_of
from deployments.pronunciation.readings import Readings
from pipeline.errors import InputError

_ID = "pron_0198f2c1a3b47d0e5f6a8b9c0d1e2f3a"
PronunciationId = Annotated[str, Path(description="As `pron_…`", examples=[_ID])]
Body = TypeVar("Body", bound=Lenient)


class PronunciationRoutes:
    """Handlers. namespace: of requests without a key. budget: of the bodies held."""

    def __init__(self, readings: Readings, namespace: str, budget: BodyBudget) -> None:
        self._readings = readings
        self._default = namespace
        self._budget = budget

    def add_to(self, app: FastAPI) -> None:
        """Every route of dictionaries."""
        all_, one = "/v1/audio/pronunciations", "/v1/audio/pronunciations/{pronunciation_id}"
        app.get(all_, **LIST_DOC)(self._list)
        app.post(all_, **ADD_DOC)(self._add)
        app.get(one, **LOOK_DOC)(self._look)
        app.post(one, **CHANGE_DOC)(self._change)
        app.delete(one, **DELETE_DOC)(self._delete)

    async def _list(self, request: Request) -> dict[str, Any]:
        """Pronunciation dictionaries, the oldest first, without their entries."""
        found = await self._readings.book.all(self._namespace(request))
        data = [shown(one, dictionary, is_brief=True) for one, dictionary in found.by_id.items()]
        return {"object": "list", "data": data}

    async def _add(self, request: Request) -> dict[str, Any]:
        """Keep a dictionary: what to say for what is written. Requests name it by its id."""
        book = self._readings.book
        body = await self._body(request, DictionaryBody)
        dictionary = body.dictionary()
        return shown(await book.add(self._namespace(request), dictionary), dictionary)

    async def _look(self, request: Request, pronunciation_id: PronunciationId) -> dict[str, Any]:
        """One dictionary with its entries."""
        found = await self._readings.book.get(self._namespace(request), pronunciation_id)
        return shown(pronunciation_id, found)

    async def _change(self, request: Request, pronunciation_id: PronunciationId) -> dict[str, Any]:
        """Change a dictionary; what is left out stays. Every router reads it within a second."""
        book = self._readings.book
        body = await self._body(request, DictionaryChange)
        changed = await book.replace(self._namespace(request), pronunciation_id, body.applied_to)
        return shown(pronunciation_id, changed)

    async def _delete(self, request: Request, pronunciation_id: PronunciationId) -> dict[str, Any]:
        """Remove a dictionary. Requests that name it are refused from then on."""
        await self._readings.book.remove(self._namespace(request), pronunciation_id)
        return {"id": pronunciation_id, "object": "audio.pronunciation_dictionary", "deleted": True}

    def _namespace(self, request: Request) -> str:
        return namespace_of(request, self._default)

    async def _body(self, request: Request, model: type[Body]) -> Body:
        with self._budget.hold() as hold:
            return await read_off_loop(
                partial(_read, model=model), await receive_body(request, hold)
            )


def _read(raw: RawBody, model: type[Body]) -> Body:
    """A body of JSON. Raises InputError."""
    if not is_json(raw.content):
        raise InputError("the body is no JSON: send an object", param="body")
    tree = read_json(raw.content, raw.label.charset)
    return validated(model, tree, tuple(model.model_fields))
