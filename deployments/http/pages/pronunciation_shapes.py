"""The shapes of replies about pronunciation dictionaries."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from deployments.config.text_settings import Language
from deployments.pronunciation.documents import Scope


class ShownEntry(BaseModel):
    """What is said for something written."""

    written: str
    said: str
    regex: bool
    case_sensitive: bool
    language: Language | None


class BriefDictionary(BaseModel):
    """A dictionary in a list."""

    id: str
    object: Literal["audio.pronunciation_dictionary"]
    created_at: int
    updated_at: int
    name: str
    scope: Scope
    voice: str | None
    n_entries: int


class ShownDictionary(BriefDictionary):
    """A dictionary."""

    entries: list[ShownEntry]


class DictionaryList(BaseModel):
    """All of a tenant's, the oldest first."""

    object: Literal["list"]
    data: list[BriefDictionary]


class DeletedDictionary(BaseModel):
    """It is gone."""

    id: str
    object: Literal["audio.pronunciation_dictionary"]
    deleted: Literal[True]
