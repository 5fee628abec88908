"""Versions of uploaded voices, and their clips."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence

from cache_store.keys import raw_key
from deployments.voices.documents import VoiceVersion
from deployments.voices.journal import Journals, entry_path
from deployments.voices.shelf import ROOT, Shelf
from pipeline.errors import StageError

LEFT_AFTER_S = 3600.0  # an upload takes less: what it left after that belongs to nobody
_AT_ONCE = 64


class VoiceVersions:
    """By namespace, voice id and number. Raises as Shelf does."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._journals = Journals(shelf)

    async def find(self, namespace: str, voice: str, number: int) -> VoiceVersion | None:
        """One version, None where the voice has none of this number."""
        document = await self._shelf.read(entry_path(_directory(namespace, voice), number))
        return None if document is None else VoiceVersion.read(document)

    async def get(self, namespace: str, voice: str, number: int) -> VoiceVersion:
        """One that must be there. Raises StageError when it is not."""
        found = await self.find(namespace, voice, number)
        if found is None:
            raise StageError(
                "a version of a voice is missing", detail=f"{namespace}/{voice}@{number}"
            )
        return found

    async def all(self, namespace: str, voice: str) -> Sequence[VoiceVersion]:
        """Every version, from the first."""
        directory = _directory(namespace, voice)
        names = sorted(await self._shelf.names(directory))
        found = [await self._shelf.read(f"{directory}/{name}") for name in names]
        return [VoiceVersion.read(one) for one in found if one is not None]

    async def of_all(self, namespace: str, voices: Collection[str]) -> Sequence[VoiceVersion]:
        """Every version of these voices, in no order."""
        paths = await self._shelf.paths(f"{ROOT}/{namespace}/versions")
        theirs = [path for path in paths if path.split("/")[-2] in voices]
        found: list[VoiceVersion] = []
        for start in range(0, len(theirs), _AT_ONCE):
            some = theirs[start : start + _AT_ONCE]
            read = await asyncio.gather(*(self._shelf.read(path) for path in some))
            found += [VoiceVersion.read(one) for one in read if one is not None]
        return found

    async def add(self, namespace: str, voice: str, version: VoiceVersion, clip: bytes) -> None:
        """Write the clip, then the version."""
        await self._shelf.publish_bytes(_clip(namespace, voice, version), clip, len(clip))
        await self._journals.append(_directory(namespace, voice), version.number, version.written())

    async def add_next(
        self, namespace: str, voice: str, version: VoiceVersion, clip: bytes | None
    ) -> VoiceVersion:
        """The same under the next free number, which the returned version has."""
        directory = _directory(namespace, voice)
        if clip is not None:
            await self._shelf.publish_bytes(_clip(namespace, voice, version), clip, len(clip))
        while True:
            last = await self._journals.last(directory)
            number = 1 if last is None else last.number + 1
            numbered = version.model_copy(update={"number": number})
            if await self._journals.append(directory, number, numbered.written()):
                return numbered

    async def clip(self, namespace: str, voice: str, version: VoiceVersion) -> bytes:
        """The clip's bytes. Raises StageError when they are gone or damaged."""
        path = _clip(namespace, voice, version)
        data = await self._shelf.read_bytes(path, version.size_bytes)
        if data is None or raw_key(data) != version.raw:
            raise StageError(
                "the clip of a voice is " + ("missing" if data is None else "damaged"), detail=path
            )
        return data

    async def erase(self, namespace: str, voice: str) -> None:
        """Remove every version and clip of a voice."""
        for directory in (_clips(namespace, voice), _directory(namespace, voice)):
            for name in await self._shelf.names(directory):
                await self._shelf.delete(f"{directory}/{name}")

    async def left_behind(self, namespace: str) -> Sequence[str]:
        """Ids of voices that have clips or versions, and were made a while ago."""
        tops = (f"{ROOT}/{namespace}/clips", f"{ROOT}/{namespace}/versions")
        paths = [path for top in tops for path in await self._shelf.paths(top)]
        voices = {path.split("/")[-2] for path in paths}
        limit_ms = (time.time() - LEFT_AFTER_S) * 1e3
        return sorted(voice for voice in voices if _made_unix_ms(voice) < limit_ms)


def _made_unix_ms(voice: str) -> int:
    """As its id has it; see `documents.new_id`."""
    return int(voice.partition("_")[2][:12], 16)


def _directory(namespace: str, voice: str) -> str:
    return f"{ROOT}/{namespace}/versions/{voice}"


def _clips(namespace: str, voice: str) -> str:
    return f"{ROOT}/{namespace}/clips/{voice}"


def _clip(namespace: str, voice: str, version: VoiceVersion) -> str:
    return f"{_clips(namespace, voice)}/{version.raw}"
