"""What the API's pages say of pronunciation dictionaries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from deployments.http.api_pages import answers, body_of, refusal, refusals, takes
from deployments.http.dialects.pronunciations import DictionaryBody, DictionaryChange
from deployments.http.pages.pronunciation_shapes import (
    DeletedDictionary,
    DictionaryList,
    ShownDictionary,
)

BODIES: tuple[type[BaseModel], ...] = (DictionaryBody, DictionaryChange)

_ID = "pron_0198f2c1a3b47d0e5f6a8b9c0d1e2f3a"
_ENTRIES = [
    {"written": "Nguyen", "said": "win", "regex": False, "case_sensitive": False, "language": "en"}
]
_BRIEF = {
    "id": _ID,
    "object": "audio.pronunciation_dictionary",
    "created_at": 1_795_728_000,
    "updated_at": 1_795_728_000,
    "name": "Names",
    "scope": "tenant",
    "voice": None,
    "n_entries": 1,
}
_DICTIONARY = {**_BRIEF, "entries": _ENTRIES}
_NONE_KEPT = {400: refusal("A mistake in a field, or no dictionaries are kept here")}
_CHANGED = refusals(413, 415, 503) | _NONE_KEPT
_NOT_FOUND = {404: refusal("No dictionary has this id")}
Refusals = Mapping[int | str, dict[str, Any]]


def _links() -> dict[str, Any]:
    """To what the id of a new dictionary is for."""
    operations = (
        "look_v1_audio_pronunciations__pronunciation_id__get",
        "change_v1_audio_pronunciations__pronunciation_id__post",
        "delete_v1_audio_pronunciations__pronunciation_id__delete",
    )
    given = {"pronunciation_id": "$response.body#/id"}
    return {
        operation.partition("_")[0]: {"operationId": operation, "parameters": given}
        for operation in operations
    }


def _answers(example: Any, refused: Refusals, shape: type[BaseModel]) -> dict[str, Any]:
    doc = answers(example, shape)
    doc["responses"] |= refused
    return doc


def _takes(model: type[BaseModel], example: dict[str, Any]) -> dict[str, Any]:
    return takes({"application/json": body_of(model, example)})


LIST_DOC = _answers(
    {"object": "list", "data": [_BRIEF]}, refusals(503) | _NONE_KEPT, DictionaryList
)
ADD_DOC = _answers(_DICTIONARY, _CHANGED, ShownDictionary) | _takes(
    DictionaryBody, {"name": "Names", "scope": "tenant", "entries": _ENTRIES}
)
ADD_DOC["responses"][200]["links"] = _links()
LOOK_DOC = _answers(_DICTIONARY, refusals(503) | _NONE_KEPT | _NOT_FOUND, ShownDictionary)
CHANGE_DOC = _answers(_DICTIONARY, _CHANGED | _NOT_FOUND, ShownDictionary) | _takes(
    DictionaryChange, {"entries": _ENTRIES}
)
DELETE_DOC = _answers(
    {"id": _ID, "object": "audio.pronunciation_dictionary", "deleted": True},
    refusals(503) | _NONE_KEPT | _NOT_FOUND,
    DeletedDictionary,
)
