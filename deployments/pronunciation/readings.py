"""How a request's text is to be read: as it says, as its voice, its tenant and the service do."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from itertools import chain
from typing import Protocol

from deployments.config.settings import Settings
from deployments.config.text_settings import PronunciationEntry, TextSettings
from deployments.pronunciation.book import PronunciationBook, unknown
from deployments.pronunciation.documents import NONE, Dictionaries, as_rules
from deployments.voices.resolver import VoiceLibrary
from pipeline.contracts import SpeechRequest
from pipeline.errors import InputError, StageUnavailableError, UnknownVoiceError
from pipeline.text.dictionary import fitting
from pipeline.text.options import Reading


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
        self._of_deployment = as_rules(settings.pronunciations, "text.pronunciations")
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
        """The request with its reading, of pronunciations those alone that may fit. As `whole`."""
        whole = await self.whole(asked, namespace, voice, is_clip=is_clip)
        if whole.pronunciations:
            fit = await asyncio.to_thread(fitting, request.text, whole.pronunciations)
            whole = replace(whole, pronunciations=fit)
        return replace(request, reading=whole)

    async def whole(
        self, asked: AskedReading, namespace: str, voice: str | None, *, is_clip: bool = False
    ) -> Reading:
        """How any text of such a request is read. voice: as it names it. is_clip: it sent its own.

        Raises UnknownPronunciationError for a dictionary that it names and that is not there.
        """
        kept = await self._kept(namespace, asked)
        named = [_named(kept, one, asked.dictionary_param) for one in asked.dictionaries]
        of_voice = [] if is_clip else await self._of_voice(kept, namespace, voice)
        of_tenant = [one for one, found in kept.by_id.items() if found.scope == "tenant"]
        rules = [kept.rules[one] for one in (*named, *of_voice, *of_tenant)]
        is_normalised = asked.is_normalised
        return Reading(
            self._settings.normalize if is_normalised is None else is_normalised,
            (
                *as_rules(asked.entries, "pronunciation"),
                *chain.from_iterable(rules),
                *self._of_deployment,
            ),
        )

    async def _kept(self, namespace: str, asked: AskedReading) -> Dictionaries:
        if self._book is None and not asked.dictionaries:
            return NONE
        try:
            return await self.book.all(namespace)
        except StageUnavailableError:  # nobody knows whether there are any
            if asked.dictionaries:
                raise
            return NONE

    async def _of_voice(self, kept: Dictionaries, namespace: str, voice: str | None) -> list[str]:
        """Ids of those of a voice."""
        found = [(one, of) for one, of in kept.by_id.items() if of.scope == "voice"]
        if not found:
            return []
        meant = await self._meant(namespace, voice)
        return [
            one
            for one, of in found
            if meant is not None and await self._meant(namespace, of.voice) == meant
        ]

    async def _meant(self, namespace: str, voice: str | None) -> str | None:
        """The voice of a name or id, whatever its version; None where there is none."""
        try:
            return (await self._voices.pinned(namespace, voice)).partition("@")[0]
        except UnknownVoiceError:
            return None


def readings_of(settings: Settings, voices: VoiceLibrary) -> Readings:
    """How texts are read, with the dictionaries that are kept beside the voices."""
    shelf = voices.shelf
    book = None if shelf is None else PronunciationBook(shelf, settings.text.max_pronunciations)
    return Readings(settings.text, book, voices.registry)


def _named(kept: Dictionaries, asked: str, param: str) -> str:
    if asked not in kept.by_id:
        raise unknown(asked, param)
    return asked
