"""Bodies of the routes of pronunciation dictionaries, and how a dictionary is shown."""

from __future__ import annotations

import time
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from deployments.config.text_settings import PronunciationEntry
from deployments.http.bodies.fields import ITEMS, NAME, Lenient
from deployments.pronunciation.documents import Dictionary, Scope
from pipeline.errors import InputError

MOST_ENTRIES, MOST_NAME_CHARS = 1_000, 100

Entries = Annotated[Annotated[list[PronunciationEntry], Field(max_length=MOST_ENTRIES)], ITEMS]
Name = Annotated[str, Field(min_length=1, max_length=MOST_NAME_CHARS)]


class DictionaryChange(Lenient):
    """`POST /v1/audio/pronunciations/{pronunciation_id}`: what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = Field(None, description="For people")
    entries: Entries | None = Field(None, description="All of them, in place of those there are")
    scope: Annotated[Scope, NAME] | None = Field(
        None,
        description="request (as usual): in requests that name it; voice: in all of a voice; "
        "tenant: in all requests",
    )
    voice: str | None = Field(None, description="Name or id of a voice; of the scope voice alone")

    def applied_to(self, dictionary: Dictionary) -> Dictionary:
        """What is left of it, and what is new. Raises InputError for a scope without its voice."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        given = {name: value for name, value in given.items() if value is not None}
        if "entries" in given:
            given["entries"] = tuple(given["entries"])
        changed = dictionary.model_copy(update={**given, "updated_unix_s": int(time.time())})
        if changed.scope != "voice":
            return changed.model_copy(update={"voice": None})
        if changed.voice is None:
            raise InputError("the scope voice needs a voice: its name or id", param="voice")
        return changed


class DictionaryBody(DictionaryChange):
    """`POST /v1/audio/pronunciations`."""

    model_config = ConfigDict(json_schema_extra={"required": ["name", "entries"]})

    def dictionary(self) -> Dictionary:
        """A new one. Raises InputError."""
        for param in ("name", "entries"):
            if getattr(self, param) is None:
                raise InputError(f"{param} is required", param=param)
        now_s = int(time.time())
        empty = Dictionary(name=self.name or "", created_unix_s=now_s, updated_unix_s=now_s)
        return self.applied_to(empty)


def shown(dictionary_id: str, dictionary: Dictionary, *, is_brief: bool = False) -> dict[str, Any]:
    """A dictionary as replies hold it. is_brief: with the number of its entries alone."""
    entries = [entry.model_dump(mode="json") for entry in dictionary.entries]
    return {
        "id": dictionary_id,
        "object": "audio.pronunciation_dictionary",
        "created_at": dictionary.created_unix_s,
        "updated_at": dictionary.updated_unix_s,
        "name": dictionary.name,
        "scope": dictionary.scope,
        "voice": dictionary.voice,
        "n_entries": len(entries),
        **({} if is_brief else {"entries": entries}),
    }
