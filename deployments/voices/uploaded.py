"""Uploaded voices: kept, versioned, renamed, deleted and restored, until they are purged.

Every change is one entry of a voice's journal, so that of two at a time one is refused or follows
the other, and what was deleted is not brought back by a change that was under way.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from deployments.voices.claims import NameClaims
from deployments.voices.documents import Status, VoiceState, VoiceVersion, new_id
from deployments.voices.names import MAX_NAME_CHARS, VoiceName, name_key
from deployments.voices.shelf import Shelf
from deployments.voices.states import Standing, VoiceStates, is_voice_id
from deployments.voices.versions import VoiceVersions
from pipeline.errors import MAX_FOUND, CapacityError, InputError, UnknownVoiceError

PINNED = "@"  # between an id and the number of a version
SPELLING_CHARS = 8  # that another spelling of a name may have for each of the name's own
TRIES = 20  # of a change that others keep overtaking
_AT_ONCE = 64
_NUMBER = re.compile(r"[1-9][0-9]{0,6}")


@dataclass(frozen=True, slots=True)
class StoredVoice:
    """An uploaded voice. version: the one that is meant, often the newest."""

    namespace: str
    id: str
    standing: Standing
    version: VoiceVersion

    @property
    def state(self) -> VoiceState:
        return self.standing.state


class UploadedVoices:
    """The voices of every namespace; no method reaches from one into another.

    max_voices: of a namespace. Raises as Shelf does, and UnknownVoiceError for ids and names that
    the namespace has no live voice of.
    """

    def __init__(self, shelf: Shelf, max_voices: int) -> None:
        self._states = VoiceStates(shelf)
        self._versions = VoiceVersions(shelf)
        self._names = NameClaims(shelf, self._bears)
        self._max_voices = max_voices

    async def find(
        self, namespace: str, asked: str, *, is_exact: bool = False
    ) -> StoredVoice | None:
        """The live voice of an id (`voice_…`, or `voice_…@2` for a version) or of a name.

        is_exact: as the store has it now; else what it had up to half a second ago will do.
        """
        look = self._states.now if is_exact else self._states.recent
        voice, _, pinned = asked.strip().partition(PINNED)
        if is_voice_id(voice):
            if pinned and not _NUMBER.fullmatch(pinned):
                return None
            return await self._found(
                namespace, voice, await look(namespace, voice), int(pinned or 0)
            )
        if len(asked) > MAX_NAME_CHARS * SPELLING_CHARS:
            return None
        key = name_key(asked)
        if is_exact:
            self._names.forget(namespace, key)
        for _ in range(2):  # what was remembered may be over; the store has the last word
            holder = await self._names.holder(namespace, key)
            if holder is None:
                return None
            standing = await look(namespace, holder)
            if standing is not None and name_key(standing.state.name) == key:
                return await self._found(namespace, holder, standing)
            self._names.forget(namespace, key)
        return None

    async def get(self, namespace: str, asked: str) -> StoredVoice:
        """As `find` finds exactly. Raises UnknownVoiceError."""
        found = await self.find(namespace, asked, is_exact=True)
        if found is None:
            raise unknown_voice(asked)
        return found

    async def list(self, namespace: str) -> Sequence[StoredVoice]:
        """The live voices, in the order they were made."""
        standings = await self._states.all(namespace)
        live = [(voice, one) for voice, one in standings.items() if one.is_live]
        found: list[StoredVoice] = []
        for start in range(0, len(live), _AT_ONCE):
            some = live[start : start + _AT_ONCE]
            found += await asyncio.gather(*(self._stored(namespace, *one) for one in some))
        return found

    async def list_deleted(self, namespace: str) -> Sequence[StoredVoice]:
        """Those that can be restored."""
        found: list[StoredVoice] = []
        for voice, standing in (await self._states.all(namespace)).items():
            if standing.state.status == "deleted":
                last = await self._states.before(namespace, voice, standing.number)
                if last is not None:
                    version = await self._versions.get(namespace, voice, last.state.version)
                    found.append(StoredVoice(namespace, voice, last, version))
        return found

    async def clips_in_use(self, namespace: str) -> set[str]:
        """Digests of the decoded clips of every version of the live voices."""
        standings = await self._states.all(namespace)
        live = {voice for voice, standing in standings.items() if standing.is_live}
        return {version.clip_digest for version in await self._versions.of_all(namespace, live)}

    async def versions(self, voice: StoredVoice) -> Sequence[VoiceVersion]:
        """Every version, from the first."""
        return await self._versions.all(voice.namespace, voice.id)

    async def clip(self, voice: StoredVoice) -> bytes:
        """The clip's bytes as they were uploaded. Raises StageError when they are damaged."""
        return await self._versions.clip(voice.namespace, voice.id, voice.version)

    async def check_room(self, namespace: str, name: VoiceName) -> None:
        """Raises InputError when the namespace is full, or the name taken now."""
        standings = await self._states.all(namespace)
        if sum(one.is_live for one in standings.values()) >= self._max_voices:
            raise InputError(
                f"{self._max_voices} voices are kept, which is the limit (voices.max_uploaded): "
                "delete one first",
                param="name",
            )
        await self._names.check_free(namespace, name)

    async def add(
        self, namespace: str, name: VoiceName, version: VoiceVersion, clip: bytes
    ) -> StoredVoice:
        """Keep a new voice. Raises NameTakenError, and then keeps nothing of it."""
        voice = new_id("voice")
        await self._versions.add(namespace, voice, version, clip)
        try:
            await self._names.claim(namespace, name, voice)
            now = int(time.time())
            state = VoiceState(
                status="live",
                at_unix_s=now,
                name=name.shown,
                version=version.number,
                created_unix_s=now,
            )
            await self._states.append(namespace, voice, 0, state)
            try:
                await self._names.check_held(namespace, name, voice)
            except InputError:
                await self._append(namespace, voice, Standing(0, state), _ended("purged"))
                raise
        except InputError:
            await self._versions.erase(namespace, voice)
            raise
        return StoredVoice(namespace, voice, Standing(0, state), version)

    async def rename(self, namespace: str, voice: str, name: VoiceName) -> StoredVoice:
        """Raises NameTakenError."""
        old = name_key((await self._live(namespace, voice)).state.name)
        if old == name.key:
            return await self._change(namespace, voice, name=name.shown)
        await self._names.claim(namespace, name, voice)
        try:
            renamed = await self._change(namespace, voice, name=name.shown)
            await self._names.check_held(namespace, name, voice)
        except UnknownVoiceError:
            await self._names.release(namespace, name.key, voice)
            raise
        await self._names.release(namespace, old, voice)
        return renamed

    async def add_version(
        self, namespace: str, voice: str, version: VoiceVersion, clip: bytes | None
    ) -> StoredVoice:
        """Keep another version. clip: None where the version has that of an earlier one.

        version: its number is given here.
        """
        await self._live(namespace, voice)
        numbered = await self._versions.add_next(namespace, voice, version, clip)
        return await self._change(namespace, voice, version=numbered.number)

    async def delete(self, namespace: str, voice: str) -> Sequence[VoiceVersion]:
        """From its return on no look at the store finds the voice. Returns its versions."""
        while True:
            standing = await self._live(namespace, voice)
            if await self._append(namespace, voice, standing, _ended("deleted")):
                break
        await self._names.release(namespace, name_key(standing.state.name), voice)
        return await self._versions.all(namespace, voice)

    async def restore(
        self, namespace: str, voice: str, name: VoiceName | None = None
    ) -> StoredVoice:
        """Bring a deleted voice back. name: another one, where its own has gone to another voice.

        Raises NameTakenError, and UnknownVoiceError for one that is not deleted or was purged.
        """
        standing = await self._states.now(namespace, voice) if is_voice_id(voice) else None
        if standing is None or standing.state.status != "deleted":
            raise unknown_voice(voice, "deleted voice")
        last = await self._states.before(namespace, voice, standing.number)
        if last is None:
            raise unknown_voice(voice, "deleted voice")
        borne = name or VoiceName(last.state.name, name_key(last.state.name))
        await self._names.claim(namespace, borne, voice)
        state = last.state.model_copy(update={"name": borne.shown, "at_unix_s": int(time.time())})
        if not await self._append(namespace, voice, standing, state):
            await self._names.release(namespace, borne.key, voice)
            raise unknown_voice(voice, "deleted voice")
        await self._names.check_held(namespace, borne, voice)
        return await self._stored(namespace, voice, Standing(standing.number + 1, state))

    async def purge(self, namespace: str, voice: str) -> Sequence[VoiceVersion]:
        """Erase a deleted voice for good: clips, transcripts, name. Returns what its versions were.

        Raises UnknownVoiceError for one that is not deleted.
        """
        standing = await self._states.now(namespace, voice) if is_voice_id(voice) else None
        if standing is None or standing.state.status != "deleted":
            raise unknown_voice(voice, "deleted voice")
        versions = await self._versions.all(namespace, voice)
        if not await self._append(namespace, voice, standing, _ended("purged")):
            raise unknown_voice(voice, "deleted voice")
        await self._versions.erase(namespace, voice)
        await self._states.shorten(namespace, voice, standing.number)
        return versions

    async def sweep(self, namespace: str, keep_s: float) -> int:
        """Purge what was deleted keep_s ago, and what writers left that died; the number purged."""
        purged = 0
        standings = await self._states.all(namespace)
        for voice, standing in standings.items():
            age_s = time.time() - standing.state.at_unix_s
            if standing.state.status == "deleted" and age_s >= keep_s:
                with suppress(UnknownVoiceError):  # another router was faster
                    await self.purge(namespace, voice)
                    purged += 1
        for voice in await self._versions.left_behind(namespace):
            standing = standings.get(voice)
            if standing is None or standing.state.status == "purged":
                await self._versions.erase(namespace, voice)
        return purged

    def forget(self, namespace: str, voice: str) -> None:
        """Look at the store the next time that this voice, or a name that was unknown, is asked."""
        self._names.forget_unknown()
        if is_voice_id(voice):
            self._states.forget(namespace, voice)

    async def _found(
        self, namespace: str, voice: str, standing: Standing | None, number: int = 0
    ) -> StoredVoice | None:
        """The version of that number, or the newest, of a voice that stands so."""
        if standing is None or not standing.is_live:
            return None
        found = await self._versions.find(namespace, voice, number or standing.state.version)
        return None if found is None else StoredVoice(namespace, voice, standing, found)

    async def _live(self, namespace: str, voice: str) -> Standing:
        standing = await self._states.now(namespace, voice) if is_voice_id(voice) else None
        if standing is None or not standing.is_live:
            raise unknown_voice(voice)
        return standing

    async def _stored(self, namespace: str, voice: str, standing: Standing) -> StoredVoice:
        version = await self._versions.get(namespace, voice, standing.state.version)
        return StoredVoice(namespace, voice, standing, version)

    async def _change(
        self, namespace: str, voice: str, *, name: str | None = None, version: int = 0
    ) -> StoredVoice:
        for _ in range(TRIES):
            standing = await self._live(namespace, voice)
            changed = standing.state.model_copy(
                update={
                    "name": standing.state.name if name is None else name,
                    "version": max(version, standing.state.version),
                    "at_unix_s": int(time.time()),
                }
            )
            if await self._append(namespace, voice, standing, changed):
                return await self._stored(namespace, voice, Standing(standing.number + 1, changed))
        raise CapacityError("this voice is being changed by others; retry in a moment")

    async def _append(self, namespace: str, voice: str, after: Standing, state: VoiceState) -> bool:
        return await self._states.append(namespace, voice, after.number + 1, state)

    async def _bears(self, namespace: str, voice: str, key: str) -> bool:
        standing = await self._states.now(namespace, voice)
        return standing is not None and standing.is_live and name_key(standing.state.name) == key


def unknown_voice(asked: str, what: str = "uploaded voice") -> UnknownVoiceError:
    """For an id or name that means nothing here."""
    return UnknownVoiceError(f"no {what} is named {asked[:MAX_FOUND]!a}", param="voice")


def _ended(status: Status) -> VoiceState:
    """Holds nothing of the voice: the entries before it go with a purge."""
    return VoiceState(status=status, at_unix_s=int(time.time()))
