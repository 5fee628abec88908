"""What is written down of a tenant's pronunciation dictionaries."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from deployments.config.text_settings import PronunciationEntry
from deployments.voices.documents import Written

Scope = Literal["request", "voice", "tenant"]


class Dictionary(Written):
    """Pronunciations under one name."""

    name: str
    entries: tuple[PronunciationEntry, ...] = ()
    scope: Scope = "request"
    """Where it counts: in requests that name it, in those of a voice, in all of the tenant's."""
    voice: str | None = None
    """Of the scope `voice`: its name or id."""
    created_unix_s: int
    updated_unix_s: int


class Dictionaries(Written):
    """All of a tenant's, by id, the oldest first."""

    by_id: dict[str, Dictionary] = Field(default_factory=dict[str, Dictionary])

    @property
    def n_entries(self) -> int:
        return sum(len(one.entries) for one in self.by_id.values())

    def changed(self, dictionary_id: str, dictionary: Dictionary | None) -> Dictionaries:
        """With another dictionary in this one's place; None: without it."""
        kept: dict[str, Any] = {**self.by_id, dictionary_id: dictionary}
        return Dictionaries(by_id={one: found for one, found in kept.items() if found is not None})


NONE = Dictionaries()
