"""How a request's text is to be read: as it says, as its voice, its tenant and the service do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from deployments.config.text_settings import PronunciationEntry, TextSettings
from deployments.pronunciation.book import PronunciationBook, unknown
from deployments.pronunciation.documents import NONE, Dictionaries, Dictionary
from pipeline.contracts import SpeechRequest
from pipeline.errors import InputError, StageUnavailableError, UnknownVoiceError
from pipeline.text.dictionary import fitting, in_order
from pipeline.text.options import Pronunciation, Reading


class VoiceNames(Protocol):
    """Knows which voice a name means."""

    async def pinned(self, namespace: str, name: str | None) -> str:
        """The name of exactly this voice. Raises UnknownVoiceError."""
        ...


@dataclass(frozen=True, slots=True)
class AskedReading:
    """What a request says about how its text is read.

    is_normalised: None where it does not say. dictionaries: ids, and `dictionary_param` the field
    that they came in.
    """

    is_normalised: bool | None = None
    entries: tuple[PronunciationEntry, ...] = ()
    dictionaries: tuple[str, ...] = ()
    dictionary_param: str = "pronunciation_dictionary"


NOTHING_ASKED = AskedReading()


class Readings:
    """Completes requests. book: None where the service keeps no dictionaries."""

    def __init__(
        self, settings: TextSettings, book: PronunciationBook | None, voices: VoiceNames
    ) -> None:
        self._settings = settings
        self._of_deployment = _ordered(settings.pronunciations, "text.pronunciations")
        self._book = book
        self._voices = voices

    @property
    def book(self) -> PronunciationBook:
        """Where dictionaries are kept. Raises InputError where none are."""
        if self._book is None:
            raise InputError("no pronunciation dictionaries are kept here: cache.url is none")
        return self._book

    async def follow(self) -> None:
        """Notice what other routers changed, until cancelled."""
        if self._book is not None:
            await self._book.follow()

    async def completed(
        self,
        request: SpeechRequest,
        asked: AskedReading,
        namespace: str,
        voice: str | None,
        *,
        is_clip: bool = False,
    ) -> SpeechRequest:
        """The request with its reading. voice: as the request names it. is_clip: it sent its own.

        Raises UnknownPronunciationError for a dictionary that it names and that is not there.
        """
        kept = await self._kept(namespace, asked)
        named = [_named(kept, one, asked.dictionary_param) for one in asked.dictionaries]
        of_voice = [] if is_clip else await self._of_voice(kept, namespace, voice)
        of_tenant = [(one, found) for one, found in kept.by_id.items() if found.scope == "tenant"]
        entries = (
            *_ordered(asked.entries, "pronunciation"),
            *_of(named),
            *_of(of_voice),
            *_of(of_tenant),
            *self._of_deployment,
        )
        is_normalised = asked.is_normalised
        reading = Reading(
            self._settings.normalize if is_normalised is None else is_normalised,
            fitting(request.text, entries),
        )
        return replace(request, reading=reading)

    async def _kept(self, namespace: str, asked: AskedReading) -> Dictionaries:
        if self._book is None and not asked.dictionaries:
            return NONE
        try:
            return await self.book.all(namespace)
        except StageUnavailableError:  # nobody knows whether there are any
            if asked.dictionaries:
                raise
            return NONE

    async def _of_voice(
        self, kept: Dictionaries, namespace: str, voice: str | None
    ) -> list[tuple[str, Dictionary]]:
        found = [(one, of) for one, of in kept.by_id.items() if of.scope == "voice"]
        if not found:
            return []
        meant = await self._meant(namespace, voice)
        return [
            (one, of)
            for one, of in found
            if meant is not None and await self._meant(namespace, of.voice) == meant
        ]

    async def _meant(self, namespace: str, voice: str | None) -> str | None:
        """The voice of a name or id, whatever its version; None where there is none."""
        try:
            return (await self._voices.pinned(namespace, voice)).partition("@")[0]
        except UnknownVoiceError:
            return None


def _named(kept: Dictionaries, asked: str, param: str) -> tuple[str, Dictionary]:
    found = kept.by_id.get(asked)
    if found is None:
        raise unknown(asked, param)
    return asked, found


def _of(dictionaries: Iterable[tuple[str, Dictionary]]) -> list[Pronunciation]:
    return [
        rule for name, found in dictionaries for rule in _ordered(found.entries, f"{name}.entries")
    ]


def _ordered(entries: Sequence[PronunciationEntry], where: str) -> tuple[Pronunciation, ...]:
    return in_order([entry.as_rule(f"{where}.{at}") for at, entry in enumerate(entries)])
