"""The voices that requests may name: the listed ones, their aliases, and uploaded ones.

A name means a listed voice before it means anything else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cache_store.keys import raw_key
from deployments.config.settings import VoiceSettings
from deployments.voices.uploaded import PINNED, StoredVoice, UploadedVoices
from pipeline.errors import MAX_FOUND, UnknownVoiceError
from pipeline.voice_list import load_voices

HASH_INLINE_BYTES = 2**20  # a larger upload is hashed off the event loop (0.25 ms per MiB)
DEFAULT_NAME = "default"  # the default voice, as clients of vLLM-Omni and SGLang-Omni name it


class Clip(Protocol):
    """A clip, whose bytes are read when they are needed: a cached voice needs none."""

    @property
    def digest(self) -> str:
        """What its alias is found by: `cache_store.keys.raw_key` of the bytes."""
        ...

    async def read(self) -> bytes:
        """The bytes. Raises StageError when they cannot be had."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Upload:
    """A Clip whose bytes are at hand, and the digest that its alias is found by."""

    data: bytes
    digest: str

    @classmethod
    async def of(cls, data: bytes) -> Upload:
        """Hash the bytes, large ones in a thread."""
        if len(data) <= HASH_INLINE_BYTES:
            return cls(data, raw_key(data))
        return cls(data, await asyncio.to_thread(raw_key, data))

    async def read(self) -> bytes:
        """See Clip."""
        return self.data


@dataclass(frozen=True, slots=True, eq=False)
class StoredClip:
    """The Clip of an uploaded voice."""

    voice: StoredVoice
    uploaded: UploadedVoices

    @property
    def digest(self) -> str:
        return self.voice.version.raw

    async def read(self) -> bytes:
        """See Clip."""
        return await self.uploaded.clip(self.voice)


@dataclass(frozen=True, slots=True, eq=False)
class RegisteredVoice:
    """A voice that requests can name."""

    upload: Clip
    """Its clip, hashed once."""
    transcript: str | None
    """The words spoken in the clip; None where the upload did not tell."""
    language: str | None


class VoiceRegistry:
    """Finds voices by name. Reads and hashes every built-in clip when it is made.

    uploaded: None where the service keeps no voices (`cache.url: none`).
    """

    def __init__(self, settings: VoiceSettings, uploaded: UploadedVoices | None = None) -> None:
        self._default, self._aliases = settings.default, settings.aliases
        self.uploaded = uploaded
        self._voices: dict[str, RegisteredVoice] = {}
        for name, voice in load_voices().items():
            data = voice.path.read_bytes()
            upload = Upload(data, raw_key(data))
            self._voices[name] = RegisteredVoice(upload, voice.transcript, voice.language)

    @property
    def reserved(self) -> Sequence[str]:
        """Names that no upload may have."""
        return (*self._voices, *self._aliases, DEFAULT_NAME)

    def built_in_name(self, name: str) -> str | None:
        """The built-in voice that a name or alias means, None for any other name."""
        asked = name.strip().lower()
        if asked == DEFAULT_NAME:
            asked = self._default.lower()
        meant = self._aliases.get(asked, asked)
        return meant if meant in self._voices else None

    def find(self, name: str | None) -> RegisteredVoice:
        """The listed voice of a name or alias; the default voice for None.

        Raises UnknownVoiceError, which lists the names.
        """
        name = name or self._default
        meant = self.built_in_name(name)
        if meant is None:
            raise self._unknown(name)
        return self._voices[meant]

    def _unknown(self, name: str) -> UnknownVoiceError:
        return UnknownVoiceError(
            f"no voice is named {name[:MAX_FOUND]!r}; built in: {', '.join(self._voices)}; "
            "GET /v1/audio/voices lists those uploaded",
            param="voice",
        )

    async def named(self, namespace: str, name: str | None) -> RegisteredVoice:
        """The same, or the uploaded voice of a name or id (`voice_…`, `voice_…@2`)."""
        found = None
        if self.uploaded is not None and name and self.built_in_name(name) is None:
            found = await self.uploaded.find(namespace, name)
        if found is None or self.uploaded is None:
            return self.find(name)
        version = found.version
        return RegisteredVoice(
            StoredClip(found, self.uploaded), version.transcript, version.language
        )

    async def pinned(self, namespace: str, name: str | None) -> str:
        """The name of exactly this voice: `voice_…@2` of an uploaded one, its own of a built-in.

        Raises UnknownVoiceError.
        """
        name = name or self._default
        built_in = self.built_in_name(name)
        if built_in is not None:
            return built_in
        found = await self.uploaded.find(namespace, name) if self.uploaded else None
        if found is None:
            raise self._unknown(name)
        return f"{found.id}{PINNED}{found.version.number}"

    async def is_there(self, namespace: str, pinned: str) -> bool:
        """Whether a voice that was `pinned` is one still, by what the store has now."""
        if self.built_in_name(pinned) is not None:
            return True
        found = self.uploaded and await self.uploaded.find(namespace, pinned, is_exact=True)
        return found is not None

    def describe(self, uploaded: Sequence[StoredVoice] = ()) -> list[dict[str, Any]]:
        """Every built-in voice, and these after them, for clients: id, name, language."""
        return [self.describe_one(name) for name in self._voices] + [
            _described(voice.id, voice.state.name, voice.version.language) for voice in uploaded
        ]

    def describe_one(self, name: str) -> dict[str, Any]:
        """One of the built-in voices."""
        return _described(name, name, self._voices[name].language)


def _described(voice_id: str, name: str, language: str | None) -> dict[str, Any]:
    return {"id": voice_id, "name": name, "language": language, "object": "voice"}
