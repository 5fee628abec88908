"""Who has which name: the first who claims it, on any replica, until the voice lets go of it.

A journal a name. Its newest entry tells the voice; the voice's own state has the last word, so that
a writer that died between the two holds nothing for long.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable

from cache_store.keys import digest
from cache_store.memory import MemoryTier
from deployments.voices.journal import Entry, Journals
from deployments.voices.names import VoiceName
from deployments.voices.shelf import ROOT, Document, Shelf
from pipeline.errors import MAX_FOUND, NameTakenError

PENDING_S = 60.0  # how long a claim may precede the state that bears it out
UNKNOWN_S = 0.25  # how long a name that nobody had is taken for unknown
_REMEMBERED = 10_000  # names

# (namespace, voice id, name's key) → whether that voice bears that name
BearsName = Callable[[str, str, str], Awaitable[bool]]


class NameClaims:
    """Names by namespace and key. Use it from one event loop. Raises as Shelf does."""

    def __init__(self, shelf: Shelf, bears: BearsName) -> None:
        self._journals = Journals(shelf)
        self._bears = bears
        self._holders = MemoryTier[str](_REMEMBERED)
        self._unknown = MemoryTier[float](_REMEMBERED)

    async def holder(self, namespace: str, key: str) -> str | None:
        """Id of the voice that bears the name; of one that is not known here, the store is asked.

        The holder that was remembered is returned unasked: whoever asks sees from its state whether
        it still is one, and calls `forget` if not.
        """
        directory = _directory(namespace, key)
        known = self._holders.get(directory)
        if known is not None:
            return known
        looked_s = self._unknown.get(directory)
        if looked_s is not None and time.monotonic() - looked_s < UNKNOWN_S:
            return None
        began_s = time.monotonic()
        last = await self._journals.last(directory)
        if last is None or not last.document["voice"]:
            self._unknown.put(directory, began_s, 1)
            return None
        self._holders.put(directory, last.document["voice"], 1)
        return last.document["voice"]

    async def claim(self, namespace: str, name: VoiceName, voice: str) -> None:
        """Take the name for a voice. Raises NameTakenError when another one has it."""
        directory = _directory(namespace, name.key)
        while True:
            last = await self._journals.last(directory)
            if last is not None and await self._is_taken(namespace, name.key, voice, last):
                raise _taken(name)
            number = 0 if last is None else last.number + 1
            if await self._journals.append(directory, number, _claim(voice)):
                self.forget(namespace, name.key)
                return

    async def check_held(self, namespace: str, name: VoiceName, voice: str) -> None:
        """Raises NameTakenError when the voice came too late to bear out its claim."""
        last = await self._journals.last(_directory(namespace, name.key))
        if last is None or last.document["voice"] != voice:
            raise _taken(name)

    async def release(self, namespace: str, key: str, voice: str) -> None:
        """Let go of a name that the voice does not bear any more; another's stays another's."""
        directory = _directory(namespace, key)
        last = await self._journals.last(directory)
        if last is not None and last.document["voice"] == voice:
            await self._journals.append(directory, last.number + 1, _claim(""))
        self.forget(namespace, key)

    async def check_free(self, namespace: str, name: VoiceName) -> None:
        """Raises NameTakenError when a voice has the name now; claims nothing."""
        last = await self._journals.last(_directory(namespace, name.key))
        if last is not None and await self._is_taken(namespace, name.key, "", last):
            raise _taken(name)

    def forget(self, namespace: str, key: str) -> None:
        """Ask the store the next time."""
        self._holders.discard(_directory(namespace, key))
        self._unknown.discard(_directory(namespace, key))

    def forget_unknown(self) -> None:
        """Somebody made a voice: any name may be known now."""
        self._unknown.clear()

    async def _is_taken(self, namespace: str, key: str, voice: str, last: Entry) -> bool:
        holder = last.document["voice"]
        if holder in {"", voice}:
            return False
        is_pending = time.time() - last.document["at_unix_s"] < PENDING_S
        return is_pending or await self._bears(namespace, holder, key)


def _claim(voice: str) -> Document:
    """The token makes two claims different, so that one of them loses."""
    return {"voice": voice, "at_unix_s": time.time(), "token": secrets.token_hex(8)}


def _taken(name: VoiceName) -> NameTakenError:
    return NameTakenError(
        f"a voice is named {name.shown[:MAX_FOUND]!a} already: choose another name, or post a "
        "new version to /v1/audio/voices/{id of that voice}",
        param="name",
    )


def _directory(namespace: str, key: str) -> str:
    return f"{ROOT}/{namespace}/names/{digest('voice name', key.encode(errors='surrogatepass'))}"
