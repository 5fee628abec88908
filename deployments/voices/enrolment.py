"""From an upload to a voice that is kept, and to its end: checks, report, encoding, word to others.

Whoever wires it says how other routers are told.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from cache_store.flight import SingleFlight
from deployments.config.settings import Settings
from deployments.quotas.spending import Spending, spending
from deployments.voices.consents import (
    Consents,
    StoredConsent,
    consent_of_words,
    is_consent_id,
)
from deployments.voices.documents import Consent, TranscriptSource, VoiceVersion
from deployments.voices.names import VoiceName, checked_name
from deployments.voices.registry import Upload
from deployments.voices.resolver import VoiceLibrary
from deployments.voices.shelf import ROOT
from deployments.voices.states import is_voice_id
from deployments.voices.stored import StoredRoom
from deployments.voices.uploaded import PINNED, StoredVoice, UploadedVoices, unknown_voice
from pipeline.audio.quality.report import assess_clip
from pipeline.errors import (
    MAX_FOUND,
    InputError,
    StageUnavailableError,
    TimbreError,
    UnknownConsentError,
    UnsupportedError,
)

logger = logging.getLogger(__name__)

SWEEP_S = 600.0  # between looks for deleted voices that are to be purged
CLOSE_S = 10.0  # for changes under way when the service stops
FORGET_AGAIN_S = 10.0  # after a removal from the cache that failed


class Routers(Protocol):
    """Every router of the service, this one included."""

    async def forget(self, clip_digest: str, namespace: str) -> None:
        """Remove what is kept of a clip. Raises StageUnavailableError if something may be left."""
        ...

    async def voice_changed(self, namespace: str, voice: str) -> None:
        """Have every router look at the store for this voice. Never raises."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class VoiceRequest:
    """What a caller wants kept; None is as left out.

    clip: its bytes. mime_type: of the clip. consent: the id of one, its words, or all of it.
    transcript: what is said in the clip. language: BCP 47.
    """

    name: str | None = None
    clip: bytes | None = None
    mime_type: str = ""
    consent: str | Consent | None = None
    transcript: str | None = None
    language: str | None = None
    description: str | None = None

    @property
    def changes_what_is_said(self) -> bool:
        """Whether it makes another version."""
        rest = (self.clip, self.consent, self.transcript, self.language, self.description)
        return any(value is not None for value in rest)


class Enrolment:
    """Keeps voices. Use it from one event loop.

    Raises UnsupportedError where the service keeps none, and what UploadedVoices raises.
    """

    def __init__(self, settings: Settings, library: VoiceLibrary, routers: Routers) -> None:
        self._settings = settings.voices
        self._library = library
        self._routers = routers
        self._unforgotten: set[tuple[str, str]] = set()
        self._changes = SingleFlight[StoredVoice]()
        self._room = None if library.shelf is None else StoredRoom(library.shelf)

    @property
    def voices(self) -> UploadedVoices:
        """Where they are kept."""
        if self._library.registry.uploaded is None:
            raise _keeps_none()
        return self._library.registry.uploaded

    @property
    def consents(self) -> Consents:
        """Where consents are kept."""
        if self._library.consents is None:
            raise _keeps_none()
        return self._library.consents

    async def add(self, namespace: str, request: VoiceRequest) -> StoredVoice:
        """Keep a new voice. When this returns, any router and any restart has it encoded.

        Raises InputError for a name, clip or consent that will not do, StageError when the clip
        could not be encoded or kept; then nothing of it is.
        """
        voices = self.voices
        if request.name is None:
            raise InputError("name is required: what the voice is to be called", param="name")
        name = checked_name(request.name, self._library.registry.reserved)
        if request.clip is None:
            raise InputError("audio_sample is required: a clip of the voice", param="audio_sample")
        consent = await self._consent(namespace, request, name)
        await voices.check_room(namespace, name)
        await self.check_stored(namespace, len(request.clip), voices=1)
        version = await self._examined(namespace, request, request.clip)
        kept = self._keep(namespace, name, consent, version, request.clip, spending())
        return await self._whole(kept)

    async def change(self, namespace: str, asked: str, request: VoiceRequest) -> StoredVoice:
        """Rename a voice, or keep another version of it, or both. See `add`."""
        self._refuse_fixed(asked, "changed")
        await self.check_stored(namespace, len(request.clip or b""))
        return await self._whole(self._change(namespace, asked, request))

    async def delete(self, namespace: str, asked: str, *, is_purged: bool = False) -> StoredVoice:
        """Delete a voice by its id or name, with what the caches keep of it.

        is_purged: for good, also one that was deleted before. When this returns, no router that
        answers speaks in it.
        """
        self._refuse_fixed(asked, "deleted")
        return await self._whole(self._delete(namespace, asked, is_purged=is_purged))

    async def restore(self, namespace: str, voice: str, name: str | None = None) -> StoredVoice:
        """Bring a deleted voice back, encoded as at its upload."""
        reserved = self._library.registry.reserved
        borne = None if name is None else checked_name(name, reserved)
        await self.check_stored(namespace, voices=1)
        return await self._whole(self._restore(namespace, voice, borne))

    async def check_stored(self, namespace: str, more_bytes: int = 0, *, voices: int = 0) -> None:
        """Whether whoever asks may keep so much more. Raises QuotaSpentError."""
        if self._room is not None:
            await self._room.check(namespace, spending(), more_bytes, voices=voices)

    async def close(self) -> None:
        """Finish what is being kept."""
        await self._changes.close(CLOSE_S)

    async def _whole(self, change: Coroutine[Any, Any, StoredVoice]) -> StoredVoice:
        """A change runs to its end, also when its caller goes away in the middle."""
        return (await self._changes.run(secrets.token_hex(8), lambda: change))[0]

    async def _keep(
        self,
        namespace: str,
        name: VoiceName,
        consent: StoredConsent | Consent | None,
        version: VoiceVersion,
        clip: bytes,
        caller: Spending,
    ) -> StoredVoice:
        async with self._consented(namespace, consent) as agreed:
            version = version.model_copy(update={"consent": agreed})
            room = self._room if caller.is_limited else None
            async with nullcontext() if room is None else room.turn(namespace):
                made = await self.voices.add(namespace, name, version, clip)
                try:
                    if room is not None:
                        await room.check_kept(namespace, caller, made.id)
                except TimbreError:
                    await self.voices.delete(namespace, made.id)
                    await self._forget(namespace, await self.voices.purge(namespace, made.id))
                    raise
        if agreed is None:
            logger.warning("voice %s was uploaded without a consent", made.id)
        await self._routers.voice_changed(namespace, made.id)
        return made

    async def _change(self, namespace: str, asked: str, request: VoiceRequest) -> StoredVoice:
        """What may be refused comes first: a change that is refused has changed nothing."""
        voices = self.voices
        found = await voices.get(namespace, asked)
        name, consent, version = VoiceName(found.state.name, ""), None, found.version
        if request.name is not None:
            name = checked_name(request.name, self._library.registry.reserved)
        if request.consent is not None:
            consent = await self._consent(namespace, request, name)
        if request.clip is not None:
            version = await self._examined(namespace, request, request.clip)
        async with self._consented(namespace, consent) as agreed:
            if request.name is not None:
                found = await voices.rename(namespace, found.id, name)
            if request.changes_what_is_said:
                said = _said_now(version, found.version, request, agreed)
                found = await voices.add_version(namespace, found.id, said, request.clip)
        await self._routers.voice_changed(namespace, found.id)
        return found

    async def _delete(self, namespace: str, asked: str, *, is_purged: bool) -> StoredVoice:
        voices = self.voices
        found = await voices.find(namespace, asked, is_exact=True)
        if found is None and is_purged:
            found = next(
                (one for one in await voices.list_deleted(namespace) if one.id == asked), None
            )
            if found is not None:
                await self._forget(namespace, await voices.purge(namespace, found.id))
                return found
        if found is None:
            raise unknown_voice(asked)
        versions = await voices.delete(namespace, found.id)
        await self._routers.voice_changed(namespace, found.id)
        await self._forget(namespace, versions)
        if is_purged:
            await voices.purge(namespace, found.id)
        return found

    async def _restore(self, namespace: str, voice: str, borne: VoiceName | None) -> StoredVoice:
        restored = await self.voices.restore(namespace, voice, borne)
        await self._routers.voice_changed(namespace, voice)
        try:
            clip = await self.voices.clip(restored)
            await self._library.warm(clip, is_durable=True, namespace=namespace)
        except TimbreError as error:  # its first use encodes it
            logger.warning("voice %s was restored and not encoded: %s", voice, error)
        return restored

    async def sweep(self) -> None:
        """Purge what was deleted long enough ago, until cancelled."""
        shelf = self._library.shelf
        while shelf is not None:
            await asyncio.sleep(SWEEP_S)
            for namespace in await shelf.names(ROOT):
                purged = await self.voices.sweep(namespace, self._settings.keep_deleted_s)
                if purged:
                    logger.info("purged %d deleted voices of %s", purged, namespace)

    async def forget_again(self) -> None:
        """Repeat removals from the cache that failed, until cancelled."""
        while True:
            await asyncio.sleep(FORGET_AGAIN_S)
            for namespace, clip_digest in list(self._unforgotten):
                await self._forget_clip(namespace, clip_digest)

    async def _consent(
        self, namespace: str, request: VoiceRequest, name: VoiceName
    ) -> StoredConsent | Consent | None:
        """The stored consent that is meant, or a new one, or none where that may be."""
        if isinstance(request.consent, Consent):
            return request.consent
        if request.consent is None or not request.consent.strip():
            if self._settings.consent == "optional":
                return None
            raise InputError(
                "consent is required: the id of a consent (POST /v1/audio/voice_consents), or the "
                "words by which whoever speaks in the clip agreed (ElevenLabs' clients name either "
                'in labels, {"consent": …}); a service can let uploads go without '
                "(voices.consent: optional)",
                param="consent",
            )
        asked = request.consent.strip()
        if not is_consent_id(asked):
            return consent_of_words(asked, name.shown, request.language)
        try:
            return await self.consents.get(namespace, asked)
        except UnknownConsentError as error:
            raise InputError(
                f"consent: none is stored under {asked[:MAX_FOUND]!a}; "
                "GET /v1/audio/voice_consents lists those that are",
                param="consent",
            ) from error

    @asynccontextmanager
    async def _consented(
        self, namespace: str, consent: StoredConsent | Consent | None
    ) -> AsyncGenerator[str | None]:
        """Id of the consent, which is stored now if it is new, and goes again if the body fails."""
        if not isinstance(consent, Consent):
            yield None if consent is None else consent.id
            return
        kept = await self.consents.add(namespace, consent)
        try:
            yield kept.id
        except TimbreError:
            await self.consents.delete(namespace, kept.id)
            raise

    async def _examined(self, namespace: str, request: VoiceRequest, clip: bytes) -> VoiceVersion:
        """The clip measured and encoded, durably, and heard where nobody says what is in it.

        Raises AudioError, StageUnavailableError, InputError when no words are heard.
        """
        limits, conditioning = self._library.clip_limits, self._library.conditioning
        report = await asyncio.to_thread(assess_clip, clip, limits, conditioning)
        warmed = await self._library.warm(clip, is_durable=True, namespace=namespace)
        if not warmed["is_durable"]:
            raise StageUnavailableError("the voice could not be stored; nothing of it was kept")
        upload, words = await Upload.of(clip), request.transcript
        if words is None and self._library.hears:
            words = await self._library.words_of(namespace, upload, warmed["clip"], "ref_text")
        return VoiceVersion(
            number=1,
            created_unix_s=int(time.time()),
            raw=upload.digest,
            size_bytes=len(clip),
            mime_type=request.mime_type,
            clip_digest=warmed["clip"],
            transcript=words,
            transcript_source=_told_by(words, request),
            language=request.language,
            description=request.description,
            quality=asdict(report),
        )

    async def _forget(self, namespace: str, versions: Sequence[VoiceVersion]) -> None:
        """Remove what is cached of them; a clip that another voice has is that voice's as well."""
        try:
            in_use = await self.voices.clips_in_use(namespace)
        except StageUnavailableError:
            in_use = set[str]()  # it costs them another encoding, no more
        for clip_digest in {version.clip_digest for version in versions} - in_use:
            await self._forget_clip(namespace, clip_digest)

    async def _forget_clip(self, namespace: str, clip_digest: str) -> None:
        """Of a voice that is refused already: what a tier keeps of it goes as soon as it can."""
        try:
            await self._routers.forget(clip_digest, namespace)
        except TimbreError as error:
            logger.warning("a deleted voice's record is still cached; trying again: %s", error)
            self._unforgotten.add((namespace, clip_digest))
        else:
            self._unforgotten.discard((namespace, clip_digest))

    def _refuse_fixed(self, asked: str, what: str) -> None:
        if is_voice_id(asked.strip().partition(PINNED)[0]) and PINNED in asked:
            raise UnsupportedError(
                f"{asked.strip()[:MAX_FOUND]!a} is one version of a voice, which stays as it "
                f"is: only the whole voice can be {what}",
                param="voice",
            )
        if self._library.registry.built_in_name(asked) is not None:
            raise UnsupportedError(
                f"{asked.strip()[:MAX_FOUND]!a} is a built-in voice: it cannot be {what}",
                param="voice",
            )


def _said_now(
    version: VoiceVersion, before: VoiceVersion, request: VoiceRequest, consent: str | None
) -> VoiceVersion:
    """The next version, with what the request says of it.

    What it leaves out stays; another clip has other words, but may be the same person's.
    """
    said = {
        "transcript": request.transcript,
        "transcript_source": _told_by(request.transcript, request),
        "language": request.language or before.language,
        "description": request.description,
        "consent": consent or before.consent,
        "created_unix_s": int(time.time()),
    }
    return version.model_copy(update={k: value for k, value in said.items() if value is not None})


def _told_by(words: str | None, request: VoiceRequest) -> TranscriptSource | None:
    if words is None:
        return None
    return "asr" if request.transcript is None else "given"


def _keeps_none() -> UnsupportedError:
    return UnsupportedError("this service keeps no voices: its cache.url is none")
