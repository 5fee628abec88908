"""What is written down of a tenant's pronunciation dictionaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

from pydantic import Field

from deployments.config.text_settings import PronunciationEntry, WrittenEntry
from deployments.voices.documents import Written
from pipeline.text.dictionary import in_order
from pipeline.text.options import Pronunciation

Scope = Literal["request", "voice", "tenant"]


class Dictionary(Written):
    """Pronunciations under one name."""

    name: str
    entries: tuple[WrittenEntry, ...] = ()
    scope: Scope = "request"
    """Where it counts: in requests that name it, in those of a voice, in all of the tenant's."""
    voice: str | None = None
    """Of the scope `voice`: its name or id."""
    created_unix_s: int
    updated_unix_s: int


class Dictionaries(Written):
    """All of a tenant's, by id, the oldest first."""

    by_id: dict[str, Dictionary] = Field(default_factory=dict[str, Dictionary])

    @cached_property
    def rules(self) -> Mapping[str, tuple[Pronunciation, ...]]:
        """The entries of each, as they are tried."""
        return {one: as_rules(of.entries, f"{one}.entries") for one, of in self.by_id.items()}

    @property
    def n_entries(self) -> int:
        return sum(len(one.entries) for one in self.by_id.values())

    def changed(self, dictionary_id: str, dictionary: Dictionary | None) -> Dictionaries:
        """With another dictionary in this one's place; None: without it."""
        kept: dict[str, Any] = {**self.by_id, dictionary_id: dictionary}
        return Dictionaries(by_id={one: found for one, found in kept.items() if found is not None})


def as_rules(entries: Sequence[PronunciationEntry], where: str) -> tuple[Pronunciation, ...]:
    """Entries as they are tried. where: how refusals name what holds them."""
    return in_order([entry.as_rule(f"{where}.{at}") for at, entry in enumerate(entries)])


NONE = Dictionaries()
