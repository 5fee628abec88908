"""The listed voices, and the other names that requests may call them by."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from cache_store.keys import raw_key
from deployments.config.settings import VoiceSettings
from pipeline.errors import MAX_FOUND, UnknownVoiceError
from pipeline.voice_list import load_voices

HASH_INLINE_BYTES = 2**20  # a larger upload is hashed off the event loop (0.25 ms per MiB)


@dataclass(frozen=True, slots=True, eq=False)
class Upload:
    """Bytes of a clip, and the digest that its alias is found by."""

    data: bytes
    digest: str

    @classmethod
    async def of(cls, data: bytes) -> Upload:
        """Hashes the bytes, large ones on a thread."""
        if len(data) <= HASH_INLINE_BYTES:
            return cls(data, raw_key(data))
        return cls(data, await asyncio.to_thread(raw_key, data))


@dataclass(frozen=True, slots=True, eq=False)
class RegisteredVoice:
    """A voice that requests name. clip: hashed once. transcript: what is said in it."""

    upload: Upload
    transcript: str
    language: str


class VoiceRegistry:
    """Finds voices by name. Reads and hashes every listed clip when it is made."""

    def __init__(self, settings: VoiceSettings) -> None:
        self._default, self._aliases = settings.default, settings.aliases
        self._voices: dict[str, RegisteredVoice] = {}
        for name, voice in load_voices().items():
            data = voice.path.read_bytes()
            upload = Upload(data, raw_key(data))
            self._voices[name] = RegisteredVoice(upload, voice.transcript, voice.language)

    def find(self, name: str | None) -> RegisteredVoice:
        """The voice of a name or another name for it; the default one for None.

        Raises UnknownVoiceError, which lists the names.
        """
        name = name or self._default
        asked = name.strip().lower()
        voice = self._voices.get(self._aliases.get(asked, asked))
        if voice is None:
            raise UnknownVoiceError(
                f"no voice is named {name[:MAX_FOUND]!r}; listed: {', '.join(self._voices)}",
                param="voice",
            )
        return voice

    def describe(self) -> list[dict[str, str]]:
        """Every voice for clients: id, name, language."""
        return [
            {"id": name, "name": name, "language": voice.language, "object": "voice"}
            for name, voice in self._voices.items()
        ]
