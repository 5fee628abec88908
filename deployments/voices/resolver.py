"""Voices as the router sees them.

The listed ones, and any uploaded clip resolved through the cache. Owns the record schema of a voice
prompt and the single path from an upload to a prompt. Knows no tier and no model.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cache_store.aliases import Alias
from cache_store.cache import CacheResult, VoiceCache
from cache_store.codec import FieldSpec, Record, RecordSchema
from cache_store.erasures import Watch
from cache_store.errors import RecordError, StoreError
from cache_store.keys import AliasKey, ClipKey, VoiceKey, fingerprint, raw_key
from cache_store.opening import open_cache
from cache_store.stats import CacheStats
from deployments.config.settings import Settings
from deployments.stages.clients import RemoteEncoder
from deployments.voices.failures import InputFailures
from pipeline.audio.decode import DECODER_VERSION, ClipLimits
from pipeline.audio.reference import Reference, read_reference
from pipeline.contracts import VOICE_PROMPT_SCHEMA, VoicePrompt, VoiceReference
from pipeline.errors import (
    MAX_FOUND,
    AudioError,
    StageError,
    StageUnavailableError,
    TimbreError,
    UnknownVoiceError,
)
from pipeline.synthesis import ResolvedVoice
from pipeline.voice_list import VOICES_DIR, ListedVoice, load_voices

logger = logging.getLogger(__name__)

HASH_INLINE_BYTES = 2**20  # a larger upload is hashed off the event loop (0.25 ms per MiB)
ENCODER_POLL_S = 10.0  # how long a replaced tokenizer may go unnoticed by cached voices
ENCODER_CHANGES = 3  # resolving restarts this often when encoders are replaced meanwhile
SET_ASIDE = "does not answer; served without it (see the log, or: timbre cache doctor)"
LENGTH_SLACK = 0.25  # code counts against the duration; trimming makes them fewer


def _check_lengths(record: Record) -> None:
    """The streams of one clip cover the same time.

    2 vq02 to 3 vq06, mel at 50 Hz of the untrimmed clip.
    """
    arrays = record.arrays
    vq02_s, vq06_s = len(arrays["vq02"]) * 0.06, len(arrays["vq06"]) * 0.04
    mel_s, duration_s = len(arrays["prompt_mel"]) * 0.02, float(arrays["duration_s"][0])
    if abs(vq02_s - vq06_s) > LENGTH_SLACK or abs(mel_s - duration_s) > LENGTH_SLACK:
        raise RecordError(
            f"lengths contradict: vq02 {vq02_s:.2f} s, vq06 {vq06_s:.2f} s, "
            f"mel {mel_s:.2f} s, clip {duration_s:.2f} s"
        )


VOICE_SCHEMA = RecordSchema(
    "voice",
    VOICE_PROMPT_SCHEMA,
    (
        FieldSpec("vq02", "int16", (None,), minimum=0, maximum=1023, min_rows=2),
        FieldSpec("vq06", "int16", (None,), minimum=0, maximum=4095, min_rows=3),
        FieldSpec("prompt_mel", "float32", (None, 80), min_rows=1),
        FieldSpec("speaker_embedding", "float32", (192,)),
        FieldSpec("duration_s", "float64", (1,), minimum=0.0),
    ),
    check=_check_lengths,
)


@dataclass(frozen=True, slots=True, eq=False)
class _Upload:
    """Bytes of a clip, and the digest that its alias is found by."""

    data: bytes
    digest: str

    @classmethod
    async def of(cls, data: bytes) -> _Upload:
        if len(data) <= HASH_INLINE_BYTES:
            return cls(data, raw_key(data))
        return cls(data, await asyncio.to_thread(raw_key, data))


class EncoderChangedError(Exception):
    """A tokenizer with another fingerprint came while a clip was being resolved."""


class VoiceLibrary:
    """Resolves clips and names. Use it from one event loop, between `start` and `close`."""

    def __init__(self, settings: Settings, encoder: RemoteEncoder) -> None:
        limits = settings.limits
        self._encoder = encoder
        self._namespace = settings.cache.namespace
        self._clip_limits = ClipLimits(
            min_duration_s=limits.min_clip_s,
            max_duration_s=limits.max_clip_s,
            min_sample_rate_hz=limits.min_sample_rate_hz,
            max_sample_rate_hz=limits.max_sample_rate_hz,
            max_bytes=limits.max_body_bytes,
        )
        parts = {name: str(value) for name, value in asdict(self._clip_limits).items()}
        parts["conditioning"] = settings.voices.conditioning.fingerprint
        self._decode_fingerprint = fingerprint("decode", {"version": DECODER_VERSION, **parts})
        self._listed = load_voices(VOICES_DIR)
        clips = {name: voice.path.read_bytes() for name, voice in self._listed.items()}
        self._clips = {name: _Upload(data, raw_key(data)) for name, data in clips.items()}
        self._settings = settings.voices
        self._cache: VoiceCache = open_cache(settings.cache, VOICE_SCHEMA, InputFailures())
        self._fingerprint: str | None = None

    async def start(self) -> None:
        """Make the cache ready; reads no records."""
        await self._cache.start()

    async def follow_encoder(self) -> None:
        """Notice a replaced tokenizer until cancelled: hits alone would never ask for it.

        While none answers, cached voices are served as before; the log tells when that begins and
        ends.
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
        """Write what is queued for the tiers below."""
        await self._cache.close()

    def describe(self) -> list[dict[str, str]]:
        """Listed voices for clients: id, name, language."""
        return [
            {"id": name, "name": name, "language": voice.language, "object": "voice"}
            for name, voice in self._listed.items()
        ]

    async def resolve(self, reference: VoiceReference) -> ResolvedVoice:
        """See pipeline.synthesis.VoiceResolver. A hit decodes nothing and calls no encoder."""
        if reference.upload is None:
            listed = self._named(reference.name or self._settings.default)
            upload, transcript = self._clips[listed.name], listed.transcript
        else:
            upload, transcript = await _Upload.of(reference.upload), None
        alias, result = await self._find(upload, is_durable=False)
        prompt = to_prompt(result.record)
        return ResolvedVoice(prompt, alias.clip, result.tier, alias.warnings, transcript)

    async def warm(self, upload: bytes, *, is_durable: bool) -> dict[str, Any]:
        """Resolve ahead of use.

        With `is_durable`, answer only when a restart would find the record.
        """
        alias, result = await self._find(await _Upload.of(upload), is_durable=is_durable)
        prompt = to_prompt(result.record)
        return {
            "clip": alias.clip,
            "tier": result.tier,
            "is_durable": result.is_durable,
            "duration_s": prompt.duration_s,
            "warnings": list(alias.warnings),
        }

    async def forget(self, clip: str) -> None:
        """Remove a clip's records of every encoder, and its aliases, from every tier.

        Raises StageUnavailableError when a tier may have kept something, and names no tier.
        """
        try:
            await self._cache.forget(ClipKey(self._namespace, clip))
        except StoreError as error:
            raise StageUnavailableError(
                "the clip could not be removed from the cache", detail=str(error)
            ) from error

    async def _find(self, upload: _Upload, *, is_durable: bool) -> tuple[Alias, CacheResult]:
        with self._cache.watch() as watch:
            for _ in range(ENCODER_CHANGES):
                encoder = await self._current_fingerprint()
                try:
                    return await self._find_encoded_by(
                        encoder, upload, watch, is_durable=is_durable
                    )
                except EncoderChangedError:
                    logger.info("the tokenizer was replaced; asking for its new fingerprint")
                    self._fingerprint = None
        raise StageError("the tokenizer keeps changing its fingerprint")

    def cache_stats(self) -> CacheStats:
        """Counters since the start and sizes now, of this process."""
        return self._cache.stats()

    def cache_ailments(self) -> dict[str, str]:
        """Tiers set aside at the moment, and why; requests are served without them."""
        return self._cache.ailments()

    async def cache_report(self) -> dict[str, Any]:
        """Counters of this process and of the cluster's index, and what is set aside.

        Anybody may read it: why a tier is set aside names addresses and is in the log.
        """
        return {
            **self._cache.stats().as_dict(),
            "index": await self._cache.cluster_stats(),
            "set_aside": dict.fromkeys(self.cache_ailments(), SET_ASIDE),
        }

    async def _find_encoded_by(
        self, encoder_fingerprint: str, upload: _Upload, watch: Watch, *, is_durable: bool
    ) -> tuple[Alias, CacheResult]:
        alias_key = AliasKey(self._namespace, upload.digest, self._decode_fingerprint)
        alias = await self._cache.find_alias(alias_key)
        read: Reference | None = None
        if alias is None:
            read = await self._read(upload.data, alias_key)
            alias = Alias(read.clip.digest, read.clip.duration_s, read.warnings)
            self._cache.publish_alias(alias_key, alias, watch)

        async def encode() -> Record:
            reference = read or await self._read(upload.data, alias_key)
            prompt = await self._encoder.encode(reference.clip)
            if prompt.fingerprint != encoder_fingerprint:
                raise EncoderChangedError
            return to_record(prompt)

        key = VoiceKey(self._namespace, alias.clip, encoder_fingerprint)
        result = await self._cache.get_or_compute(key, encode, durable=is_durable, watch=watch)
        return alias, result

    async def _read(self, upload: bytes, alias_key: AliasKey) -> Reference:
        try:
            return await asyncio.to_thread(
                read_reference, upload, self._clip_limits, self._settings.conditioning
            )
        except AudioError as error:
            self._cache.remember_failure(alias_key, error)
            raise

    async def _current_fingerprint(self) -> str:
        if self._fingerprint is None:
            self._fingerprint = await self._encoder.fingerprint()
        return self._fingerprint

    def _named(self, name: str) -> ListedVoice:
        asked = name.strip().lower()
        voice = self._listed.get(self._settings.aliases.get(asked, asked))
        if voice is None:
            raise UnknownVoiceError(
                f"no voice is named {name[:MAX_FOUND]!r}; listed: {', '.join(self._listed)}",
                param="voice",
            )
        return voice


def to_record(prompt: VoicePrompt) -> Record:
    """A voice prompt as the cache stores it."""
    arrays = {
        "vq02": prompt.vq02,
        "vq06": prompt.vq06,
        "prompt_mel": prompt.prompt_mel,
        "speaker_embedding": prompt.speaker_embedding,
        "duration_s": np.array([prompt.duration_s], np.float64),
    }
    return Record(arrays, {"fingerprint": prompt.fingerprint})


def to_prompt(record: Record) -> VoicePrompt:
    """The inverse of `to_record`; arrays stay the record's read-only views."""
    arrays = record.arrays
    return VoicePrompt(
        vq02=arrays["vq02"],
        vq06=arrays["vq06"],
        prompt_mel=arrays["prompt_mel"],
        speaker_embedding=arrays["speaker_embedding"],
        duration_s=float(arrays["duration_s"][0]),
        fingerprint=record.metadata["fingerprint"],
    )
