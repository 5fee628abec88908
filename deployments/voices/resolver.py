"""From a reference (a name or an uploaded clip) to a voice prompt, through the cache."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Protocol

from cache_store.aliases import Alias
from cache_store.cache import COMPUTED, CacheResult, VoiceCache
from cache_store.codec import Record
from cache_store.erasures import Watch
from cache_store.errors import StoreError
from cache_store.keys import AliasKey, ClipKey, VoiceKey, fingerprint
from cache_store.opening import open_cache
from cache_store.stats import CacheStats, Savings
from deployments.config.settings import Settings
from deployments.voices.consents import Consents
from deployments.voices.failures import InputFailures
from deployments.voices.records import VOICE_SCHEMA, to_prompt, to_record
from deployments.voices.registry import DEFAULT_NAME, Clip, RegisteredVoice, Upload, VoiceRegistry
from deployments.voices.shelf import Shelf
from deployments.voices.transcripts import Hearing, Transcripts
from deployments.voices.uploaded import UploadedVoices
from pipeline.audio.decode import DECODER_VERSION, ClipLimits
from pipeline.audio.reference import Reference, read_reference
from pipeline.contracts import ReferenceClip, VoicePrompt, VoiceReference
from pipeline.errors import (
    AudioError,
    InputError,
    StageError,
    StageUnavailableError,
    TimbreError,
)
from pipeline.serving.tracing import here, inside, now_ns
from pipeline.synthesis import ResolvedVoice, VoiceResolver

logger = logging.getLogger(__name__)

ENCODER_POLL_S = 10.0  # a replaced tokenizer is noticed within this time
ENCODER_CHANGES = 3  # most restarts of one resolution because the encoder was replaced
MOST_NAMES = 10_000  # remembered for the account of what voices save
SET_ASIDE = "does not answer; served without it (see the log, or: timbre cache doctor)"


class Encoder(Protocol):
    """What encodes clips, wherever it runs, and whatever it is just now."""

    async def fingerprint(self) -> str:
        """Of the encoder that runs now. Raises StageError when none answers."""
        ...

    async def encode(self, clip: ReferenceClip) -> VoicePrompt:
        """See contracts.VoiceEncoder."""
        ...


class EncoderChangedError(Exception):
    """The tokenizer's fingerprint changed while a clip was being resolved."""


class VoiceLibrary:
    """Resolves clips and names. Use it from one event loop, between `start` and `close`."""

    def __init__(
        self, settings: Settings, encoder: Encoder, hearing: Hearing | None = None
    ) -> None:
        """hearing: None where no recogniser is deployed."""
        limits = settings.limits
        self._encoder = encoder
        self._transcripts = None if hearing is None else Transcripts(settings.cache, hearing)
        self.namespace = settings.cache.namespace
        self.conditioning = settings.voices.conditioning
        self.clip_limits = ClipLimits(
            min_duration_s=limits.min_clip_s,
            max_duration_s=limits.max_clip_s,
            min_sample_rate_hz=limits.min_sample_rate_hz,
            max_sample_rate_hz=limits.max_sample_rate_hz,
            max_bytes=limits.max_body_bytes,
        )
        parts = {name: str(value) for name, value in asdict(self.clip_limits).items()}
        parts["conditioning"] = self.conditioning.fingerprint
        self._decode_fingerprint = fingerprint("decode", {"version": DECODER_VERSION, **parts})
        self.shelf = Shelf.open(settings.cache)
        uploaded = None
        if self.shelf is not None:
            uploaded = UploadedVoices(self.shelf, settings.voices.max_uploaded)
        self.registry = VoiceRegistry(settings.voices, uploaded)
        self.consents = None if self.shelf is None else Consents(self.shelf)
        self._cache: VoiceCache = open_cache(settings.cache, VOICE_SCHEMA, InputFailures())
        self._fingerprint: str | None = None
        self._names: dict[str, str] = {}

    async def start(self) -> None:
        """Make the cache ready; reads no records."""
        await self._cache.start()
        if self._transcripts is not None:
            await self._transcripts.start()

    async def follow_encoder(self) -> None:
        """Poll the tokenizer's fingerprint until cancelled: cache hits alone notice no change.

        While no tokenizer answers, cached voices are served as before; the log tells when that
        begins and ends.
        """
        is_silent = False
        while True:
            await asyncio.sleep(ENCODER_POLL_S)
            try:
                self._fingerprint = await self._encoder.fingerprint()
            except TimbreError as error:
                if not is_silent:
                    logger.warning("the tokenizer does not tell its fingerprint: %s", error.message)
                is_silent = True
            else:
                if is_silent:
                    logger.info("the tokenizer tells its fingerprint again")
                is_silent = False

    async def close(self) -> None:
        """Write queued entries to the tiers below."""
        await self._cache.close()
        if self._transcripts is not None:
            await self._transcripts.close()
        if self.shelf is not None:
            self.shelf.close()

    async def resolve(self, reference: VoiceReference) -> ResolvedVoice:
        """See pipeline.synthesis.VoiceResolver. A hit decodes nothing and calls no encoder."""
        return await self._resolved(await self._meant(reference), reference)

    @property
    def hears(self) -> bool:
        """Whether a recogniser is deployed."""
        return self._transcripts is not None

    def hearing(self, param: str) -> VoiceResolver:
        """Voices for a request that does not tell the words of its clip; a recogniser may.

        Without one, the library itself. param: what refusals name when it hears none.
        """
        return _HearingVoices(self, param) if self.hears else self

    async def resolve_heard(self, reference: VoiceReference, param: str) -> ResolvedVoice:
        """The same, with the words of a clip whose words nobody told. See `words_of`."""
        meant = await self._meant(reference)
        found = await self._resolved(meant, reference)
        if found.transcript is not None:
            return found
        namespace = reference.namespace or self.namespace
        words = await self.words_of(namespace, meant.upload, found.clip_digest, param)
        return replace(found, transcript=words)

    async def words_of(self, namespace: str, clip: Clip, clip_digest: str, param: str) -> str:
        """What is said in a clip, heard by the recogniser, which must be deployed.

        Raises InputError naming `param` when it hears no words, and what Transcripts raises.
        """
        if self._transcripts is None:
            raise ValueError("no recogniser is deployed")

        async def read() -> ReferenceClip:
            upload = await clip.read()
            limits = (self.clip_limits, self.conditioning)
            return (await asyncio.to_thread(read_reference, upload, *limits)).clip

        words = await self._transcripts.of(namespace, clip_digest, read)
        if not words:
            raise InputError(
                f"the recogniser heard no words in the clip: say what is spoken in it in {param}",
                param=param,
            )
        return words

    async def _meant(self, reference: VoiceReference) -> RegisteredVoice:
        """The clip that is meant, and its words as far as they are known."""
        if reference.upload is not None:
            return RegisteredVoice(await Upload.of(reference.upload), None, None)
        return await self.registry.named(reference.namespace or self.namespace, reference.name)

    async def _resolved(self, meant: RegisteredVoice, reference: VoiceReference) -> ResolvedVoice:
        namespace = reference.namespace or self.namespace
        alias, result = await self._find(namespace, meant.upload, is_durable=False)
        prompt = to_prompt(result.record, alias.clip_digest)
        if reference.upload is None and len(self._names) < MOST_NAMES:
            owner = ClipKey(namespace, alias.clip_digest).owner
            self._names[owner] = reference.name or DEFAULT_NAME
        return ResolvedVoice(prompt, result.tier, alias.warnings, meant.transcript)

    def names(self) -> Mapping[str, str]:
        """By what voices were asked for here, by their clips' owners; see ClipKey."""
        return self._names

    async def recall(
        self, namespace: str, clip_digest: str, encoder_fingerprint: str
    ) -> ResolvedVoice | None:
        """A voice that was resolved before, if its record is kept; without a transcript."""
        result = await self._cache.get(VoiceKey(namespace, clip_digest, encoder_fingerprint))
        if result is None:
            return None
        return ResolvedVoice(to_prompt(result.record, clip_digest), result.tier)

    async def warm(
        self, upload: bytes, *, is_durable: bool, namespace: str | None = None
    ) -> dict[str, Any]:
        """Resolve ahead of use.

        With `is_durable`, return only after a durable tier holds the record.
        """
        clip = await Upload.of(upload)
        alias, result = await self._find(namespace or self.namespace, clip, is_durable=is_durable)
        prompt = to_prompt(result.record, alias.clip_digest)
        return {
            "clip": alias.clip_digest,
            "tier": result.tier,
            "is_durable": result.is_durable,
            "duration_s": prompt.duration_s,
            "warnings": list(alias.warnings),
        }

    async def forget(self, clip_digest: str, namespace: str | None = None) -> None:
        """Remove a clip's records of every encoder, aliases and transcript, from every tier.

        Raises StageUnavailableError when a tier may have kept something; the message names no tier.
        """
        clip = ClipKey(namespace or self.namespace, clip_digest)
        self._names.pop(clip.owner, None)
        try:
            if self._transcripts is not None:
                await self._transcripts.forget(clip)
        finally:
            await self._forget(clip)

    async def _forget(self, clip: ClipKey) -> None:
        try:
            await self._cache.forget(clip)
        except StoreError as error:
            raise StageUnavailableError(
                "the clip could not be removed from the cache", detail=str(error)
            ) from error

    def voice_changed(self, namespace: str, voice: str) -> None:
        """An uploaded voice was made, changed or deleted by another router."""
        if self.registry.uploaded is not None:
            self.registry.uploaded.forget(namespace, voice)

    async def _find(
        self, namespace: str, clip: Clip, *, is_durable: bool
    ) -> tuple[Alias, CacheResult]:
        with self._cache.watch() as watch:
            for _ in range(ENCODER_CHANGES):
                encoder = await self._current_fingerprint()
                try:
                    return await self._find_encoded_by(
                        encoder, namespace, clip, watch, is_durable=is_durable
                    )
                except EncoderChangedError:
                    logger.info("the tokenizer was replaced; asking for its new fingerprint")
                    self._fingerprint = None
        raise StageError("the tokenizer keeps changing its fingerprint")

    def take_savings(self) -> Savings:
        """What its cache saved since the last call, by owner of clips."""
        return self._cache.take_savings()

    def cache_stats(self) -> CacheStats:
        """Counters since the start and sizes now, of this process."""
        return self._cache.stats()

    def unhealthy_cache_tiers(self) -> dict[str, str]:
        """Unhealthy tiers by name, each with its reason; requests are served without them."""
        return self._cache.unhealthy_tiers()

    async def cache_report(self) -> dict[str, Any]:
        """Counters of this process and of the cluster's index, and the unhealthy tiers.

        Public: the reasons, which name addresses, are in the log only.
        """
        return {
            **self._cache.stats().as_dict(),
            "index": await self._cache.cluster_stats(),
            "set_aside": dict.fromkeys(self.unhealthy_cache_tiers(), SET_ASIDE),
        }

    async def _find_encoded_by(
        self,
        encoder_fingerprint: str,
        namespace: str,
        clip: Clip,
        watch: Watch,
        *,
        is_durable: bool,
    ) -> tuple[Alias, CacheResult]:
        trace, looked_ns = here(), now_ns()
        alias_key = AliasKey(namespace, clip.digest, self._decode_fingerprint)
        alias = await self._cache.find_alias(alias_key)
        trace.noted("look up", looked_ns, of="alias")
        read: Reference | None = None
        if alias is None:
            read = await self._read(await clip.read(), alias_key)
            alias = Alias(read.clip.digest, read.clip.duration_s, read.warnings)
            self._cache.publish_alias(alias_key, alias, watch)

        async def encode() -> Record:
            """For others, too, and so in no request's context."""
            trace.noted("look up", looked_ns)
            with inside(trace):
                reference = read or await self._read(await clip.read(), alias_key)
                with here().span("encode"):
                    prompt = await self._encoder.encode(reference.clip)
            if prompt.fingerprint != encoder_fingerprint:
                raise EncoderChangedError
            return to_record(prompt)

        key, looked_ns = VoiceKey(namespace, alias.clip_digest, encoder_fingerprint), now_ns()
        result = await self._cache.get_or_compute(key, encode, durable=is_durable, watch=watch)
        if result.tier != COMPUTED:
            trace.noted("look up", looked_ns, tier=result.tier)
        return alias, result

    async def _read(self, upload: bytes, alias_key: AliasKey) -> Reference:
        try:
            with here().span("decode", bytes=len(upload)):
                return await asyncio.to_thread(
                    read_reference, upload, self.clip_limits, self.conditioning
                )
        except AudioError as error:
            self._cache.remember_failure(alias_key, error)
            raise

    async def _current_fingerprint(self) -> str:
        if self._fingerprint is None:
            self._fingerprint = await self._encoder.fingerprint()
        return self._fingerprint


class _HearingVoices:
    """See VoiceLibrary.hearing."""

    def __init__(self, library: VoiceLibrary, param: str) -> None:
        self._library, self._param = library, param

    async def resolve(self, reference: VoiceReference) -> ResolvedVoice:
        """See pipeline.synthesis.VoiceResolver."""
        return await self._library.resolve_heard(reference, self._param)
