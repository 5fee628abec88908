"""Consents to the use of somebody's voice: a recording or a text, in which language, whose, when.

A journal a consent.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from cache_store.keys import raw_key
from deployments.voices.documents import Consent, new_id
from deployments.voices.journal import Entry, Journals, last_numbers
from deployments.voices.shelf import ROOT, Shelf
from pipeline.errors import MAX_FOUND, CapacityError, InputError, UnknownConsentError

TRIES = 20  # of a change that others keep overtaking
_ID = re.compile(r"cons_[0-9a-f]{32}")
_ID_LIKE = re.compile(r"cons_[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class StoredConsent:
    """A consent and its id."""

    id: str
    consent: Consent


@dataclass(frozen=True, slots=True)
class Page:
    """Some consents, the newest first. has_more: others follow the last one."""

    consents: Sequence[StoredConsent]
    has_more: bool


class Consents:
    """Consents of every namespace; no method reaches from one into another.

    Raises as Shelf does, and UnknownConsentError for an id that the namespace has no consent of.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._journals = Journals(shelf)

    async def add(
        self, namespace: str, consent: Consent, recording: bytes | None = None
    ) -> StoredConsent:
        """Keep a consent; when it returns, a restart finds it."""
        made = new_id("cons")
        if recording is not None:
            consent = consent.model_copy(update={"recording": raw_key(recording)})
            path = _recording(namespace, made)
            await self._shelf.publish_bytes(path, recording, len(recording))
        await self._journals.append(_directory(namespace, made), 0, consent.written())
        return StoredConsent(made, consent)

    async def get(self, namespace: str, asked: str) -> StoredConsent:
        """Raises UnknownConsentError."""
        entry = await self._live(namespace, asked)
        return StoredConsent(asked, Consent.read(entry.document))

    async def page(self, namespace: str, limit: int, after: str | None = None) -> Page:
        """The newest first. after: an id, of which the page holds what is older."""
        top = f"{ROOT}/{namespace}/consents"
        last = last_numbers(await self._shelf.paths(top))
        found: list[StoredConsent] = []
        for directory in sorted(last, reverse=True):
            consent_id = directory.rpartition("/")[2]
            if after is not None and consent_id >= after:
                continue
            entry = await self._journals.at(directory, last[directory])
            if entry is not None and entry.document["status"] == "live":
                found.append(StoredConsent(consent_id, Consent.read(entry.document)))
            if len(found) > limit:
                break
        return Page(found[:limit], len(found) > limit)

    async def rename(self, namespace: str, asked: str, name: str) -> StoredConsent:
        """Give it another label; nothing else of a consent ever changes."""
        for _ in range(TRIES):
            entry = await self._live(namespace, asked)
            renamed = Consent.read(entry.document).model_copy(update={"name": name})
            if await self._append(namespace, asked, entry, renamed):
                return StoredConsent(asked, renamed)
        raise CapacityError("this consent is being changed by others; retry in a moment")

    async def delete(self, namespace: str, asked: str) -> None:
        """Remove it, its recording and its words. Voices that were made under it stay."""
        for _ in range(TRIES):
            entry = await self._live(namespace, asked)
            if await self._append(namespace, asked, entry, Consent(status="deleted")):
                break
        else:
            raise CapacityError("this consent is being changed by others; retry in a moment")
        await self._shelf.delete(_recording(namespace, asked))
        await self._journals.shorten(_directory(namespace, asked), entry.number + 1)

    async def _live(self, namespace: str, asked: str) -> Entry:
        entry = None
        if _ID.fullmatch(asked):
            entry = await self._journals.last(_directory(namespace, asked))
        if entry is None or entry.document["status"] != "live":
            raise UnknownConsentError(
                f"no consent has the id {asked[:MAX_FOUND]!a}", param="consent_id"
            )
        return entry

    async def _append(self, namespace: str, asked: str, after: Entry, consent: Consent) -> bool:
        directory = _directory(namespace, asked)
        return await self._journals.append(directory, after.number + 1, consent.written())


def is_consent_id(text: str) -> bool:
    """Whether a text means a stored consent, not the words of one."""
    return _ID_LIKE.fullmatch(text.strip()) is not None


def consent_of_words(words: str, who: str, language: str | None) -> Consent:
    """A consent that came as words beside an upload, as vLLM-Omni's clients send it.

    Raises InputError where there are none.
    """
    said = words.strip()
    if not said:
        raise InputError("the consent is empty", param="consent")
    now = int(time.time())
    return Consent(
        status="live",
        created_unix_s=now,
        name=f"with the upload of {who}",
        language=language or "und",
        who=who,
        given_unix_s=now,
        text=said,
    )


def _directory(namespace: str, consent_id: str) -> str:
    return f"{ROOT}/{namespace}/consents/{consent_id}"


def _recording(namespace: str, consent_id: str) -> str:
    return f"{ROOT}/{namespace}/recordings/{consent_id}"
