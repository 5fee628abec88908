"""Speech by what was asked for: kept, being made, or made now."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import fields, replace
from functools import partial
from typing import Any

from cache_store.cache import VoiceCache
from cache_store.codec import Record
from cache_store.erasures import Watch
from cache_store.errors import StoreError
from cache_store.keys import ClipKey, SpeechKey, VoiceKey, digest
from cache_store.opening import open_cache
from cache_store.stats import CacheStats, Savings
from deployments.config.settings import Reuse, Settings
from deployments.speech.models import ModelBook, Namer, SpeechModels
from deployments.speech.records import SPEECH_SCHEMA, to_answer
from deployments.speech.rendition import Rendition
from deployments.speech.seeds import derived_seed
from deployments.speech.tape import MEMORY, Listener, Tape, on_grid, sliced
from pipeline.contracts import (
    Sampling,
    SpeechChunk,
    SpeechRequest,
    Stream,
    VoicePrompt,
    VoiceReference,
)
from pipeline.errors import StageUnavailableError
from pipeline.synthesis import ResolvedVoice, Synthesizer, VoiceResolver

logger = logging.getLogger(__name__)

SAMPLING = tuple(one.name for one in fields(Sampling))
SET_ASIDE = "does not answer; served without it (see the log)"


class SpeechLibrary:
    """Answers requests from what was spoken before. Use it between `start` and `close`."""

    def __init__(self, settings: Settings, synthesizer: Synthesizer, namer: Namer) -> None:
        self._synthesizer = synthesizer
        self._namespace = settings.cache.namespace
        self._marks = settings.marks.enabled
        self._derives = settings.speech_cache.unseeded == "derive"
        self._models = ModelBook(namer)
        self._live: dict[str, Rendition] = {}
        self._joined = 0
        self._cache: VoiceCache | None = None
        if settings.speech_cache.enabled:
            opened = settings.speech_cache.opened_beside(settings.cache)
            self._cache = open_cache(opened, SPEECH_SCHEMA)

    async def start(self) -> None:
        """Make the cache ready; reads no records."""
        if self._cache is not None:
            await self._cache.start()

    async def follow_models(self) -> None:
        """Notice replaced models until cancelled."""
        await self._models.follow()

    async def close(self) -> None:
        """Finish what is being made, and write what is queued for the tiers below."""
        if self._cache is not None:
            await self._cache.close()

    def request(
        self, voices: VoiceResolver, reuse: Reuse | None, namespace: str | None = None
    ) -> ReusingSpeech:
        """Voices and synthesizer of one request.

        reuse: its wish; None where it has none. namespace: its tenant, None for the one without a
        key.
        """
        watch = self.begin_watch()
        return ReusingSpeech(self, voices, reuse, namespace or self._namespace, watch)

    async def open(
        self,
        request: SpeechRequest,
        voice: ResolvedVoice,
        reuse: Reuse | None,
        namespace: str,
        watch: Watch | None,
        *,
        keeps_any: bool = False,
    ) -> Stream[SpeechChunk]:
        """The answer to a request: from memory, with others who listen, or as it comes.

        namespace: of the tenant whose voice it is. watch: from before the voice was resolved.
        keeps_any: its seed is one to keep, though a bad answer may be drawn again.
        """
        request = replace(request, terms=replace(request.terms, tenant=namespace))
        is_fit = keeps_any or not request.may_reseed or self._derives
        if self._cache is None or watch is None or reuse == "off" or not (reuse or is_fit):
            return OnGrid(self._synthesizer.speak(request, voice.prompt))
        models = await self._models.of(request.variant)
        said = models and await self._models.worded(request, models)
        if models is None or said is None:
            return OnGrid(self._synthesizer.speak(request, voice.prompt))
        key_of = partial(self._key, said, namespace, voice, models)
        if request.may_reseed and not keeps_any:
            request = _seeded(request, key_of(seed=""))
        key = key_of(seed=str(request.sampling.seed))
        if reuse == "refresh":
            listener = await self._refreshed(self._cache, key)
        else:
            listener = self._in_memory(self._cache, key) or self._joined_to(key)
        if listener is not None:
            return listener
        rendition = Rendition(
            self._cache,
            key,
            partial(self._synthesizer.speak, request, voice.prompt),
            watch,
            made_by=models.made_by,
            keeps_any=keeps_any or not request.may_reseed,
            done=self._done,
            surprised=self._models.doubt,
        )
        self._live[key.digest] = rendition
        return rendition.tape.listen()

    def begin_watch(self) -> Watch | None:
        """To be held from before a voice is resolved until what is made in it is kept."""
        return self._cache and self._cache.begin_watch()

    async def models_now(self, variant: str) -> str | None:
        """Fingerprint of the models that speak; None while a stage does not say what it is."""
        models = await self._models.of(variant)
        return models and models.fingerprint

    async def find(
        self, request: SpeechRequest, voice: ResolvedVoice, namespace: str, made_by: str
    ) -> Listener | None:
        """The answer that models of another time gave, if it is kept. made_by: as models_now."""
        models = await self._models.of(request.variant)
        said = models and await self._models.worded(request, models)
        if self._cache is None or models is None or said is None:
            return None
        then = replace(models, fingerprint=made_by)
        seed = str(request.sampling.seed)
        found = await self._cache.get(self._key(said, namespace, voice, then, seed=seed))
        return None if found is None else _listener(found.record, found.tier)

    async def forget(self, clip_digest: str, namespace: str | None = None) -> None:
        """Remove all speech in a clip's voice, from every tier.

        namespace: the tenant whose clip it is, None for the one without a key.
        Raises StageUnavailableError when a tier may have kept something, and names no tier.
        """
        if self._cache is None:
            return
        owner = ClipKey(namespace or self._namespace, clip_digest)
        try:
            self._detach(owner.owner)
            await self._cache.forget(owner)
            self._detach(owner.owner)
        except StoreError as error:
            raise StageUnavailableError(
                "the clip's speech could not be removed from the cache", detail=str(error)
            ) from error

    def stats(self) -> CacheStats | None:
        """Counters since the start and sizes now, of this process; None when nothing is kept."""
        return None if self._cache is None else self._cache.stats()

    def take_savings(self) -> Savings:
        """What its cache saved since the last call, by owner of the voices' clips."""
        return {} if self._cache is None else self._cache.take_savings()

    async def report(self) -> dict[str, Any]:
        """Counters of this process and of the cluster's index, and what is set aside."""
        if self._cache is None:
            return {"enabled": False}
        return {
            "enabled": True,
            **self._cache.stats().as_dict(),
            "listened_in": self._joined,
            "index": await self._cache.cluster_stats(),
            "set_aside": dict.fromkeys(self._cache.unhealthy_tiers(), SET_ASIDE),
        }

    def _key(
        self,
        said: SpeechRequest,
        namespace: str,
        voice: ResolvedVoice,
        models: SpeechModels,
        *,
        seed: str,
    ) -> SpeechKey:
        is_marked = self._marks and said.terms.is_marked
        return _key(said, namespace, voice, models, seed=seed, is_marked=is_marked)

    def _in_memory(self, cache: VoiceCache, key: SpeechKey) -> Listener | None:
        """The answer as this process has it in memory."""
        record = cache.at_hand(key)
        return None if record is None else _listener(record, MEMORY)

    def _joined_to(self, key: SpeechKey) -> Listener | None:
        """The answer as it is on its way to others here."""
        live = self._live.get(key.digest)
        if live is None:
            return None
        self._joined += 1
        return live.tape.listen()

    async def _refreshed(self, cache: VoiceCache, key: SpeechKey) -> Listener | None:
        """The answer if it is being made; else what is kept of it goes."""
        while (live := self._live.get(key.digest)) is not None:
            if live.is_making:
                return self._joined_to(key)
            await live.ended()
        await cache.drop(key)
        return self._joined_to(key)

    def _detach(self, owner: str) -> None:
        """Whoever asks from now on joins none of the owner's; who listens hears it to its end."""
        for rendition in list(self._live.values()):
            if rendition.key.owner == owner:
                self._done(rendition)

    def _done(self, rendition: Rendition) -> None:
        if self._live.get(rendition.key.digest) is rendition:
            del self._live[rendition.key.digest]


class ReusingSpeech:
    """Voices and synthesizer of one request; see pipeline.synthesis for both.

    What is removed from its beginning on, it does not bring back.
    """

    def __init__(
        self,
        library: SpeechLibrary,
        voices: VoiceResolver,
        reuse: Reuse | None,
        namespace: str,
        watch: Watch | None,
    ) -> None:
        self._library = library
        self._voices = voices
        self._reuse: Reuse | None = reuse
        self._namespace = namespace
        self._watch = watch
        self._voice: ResolvedVoice | None = None

    async def resolve(self, reference: VoiceReference) -> ResolvedVoice:
        """See VoiceResolver."""
        self._voice = await self._voices.resolve(reference)
        return self._voice

    def speak(
        self,
        request: SpeechRequest,
        voice: VoicePrompt,
        *,
        keeps_any: bool = False,
        reuse: Reuse | None = None,
    ) -> Stream[SpeechChunk]:
        """See Synthesizer; of the voice that was resolved.

        keeps_any: as in SpeechLibrary.open. reuse: in place of the request's own wish.
        """
        resolved = self._voice
        if resolved is None or resolved.prompt is not voice:
            raise ValueError("a request speaks in the voice that was resolved for it")
        how = reuse or self._reuse, self._namespace, self._watch
        opened = partial(self._library.open, request, resolved, *how, keeps_any=keeps_any)
        return _Opened(opened)


class OnGrid(Stream[SpeechChunk]):
    """Speech for one listener alone, in the steps that all speech has."""

    def __init__(self, speech: Stream[SpeechChunk]) -> None:
        self._speech = speech

    async def __anext__(self) -> SpeechChunk:
        chunk = await anext(self._speech)
        return replace(chunk, samples=on_grid(chunk.samples))

    async def aclose(self) -> None:
        await self._speech.aclose()


class _Opened(Stream[SpeechChunk]):
    """A stream that is opened when its first item is wanted."""

    def __init__(self, opened: Callable[[], Awaitable[Stream[SpeechChunk]]]) -> None:
        self._open = opened
        self._stream: Stream[SpeechChunk] | None = None

    async def __anext__(self) -> SpeechChunk:
        if self._stream is None:
            self._stream = await self._open()
        return await anext(self._stream)

    async def aclose(self) -> None:
        if self._stream is not None:
            await self._stream.aclose()


def _listener(record: Record, tier: str) -> Listener:
    """An answer that is all there."""
    answer, tape = to_answer(record), Tape()
    tape.source, tape.quality = tier, answer.quality
    tape.usage, tape.drawn = answer.usage, answer.drawn
    tape.is_single = answer.is_single
    for piece in sliced(answer.samples, is_single=answer.is_single):
        tape.add(piece)
    tape.end()
    return tape.listen()


def _key(
    said: SpeechRequest,
    namespace: str,
    voice: ResolvedVoice,
    models: SpeechModels,
    *,
    seed: str,
    is_marked: bool,
) -> SpeechKey:
    """All that an answer depends on; not its speed, format and rate, which come behind it."""
    drawn = {
        **{name: repr(getattr(said.sampling, name)) for name in SAMPLING},
        "seed": seed,
        "may_reseed": repr(said.may_reseed),
        "first_chunk_rows": repr(said.first_chunk_rows),
        "iterations": repr(said.iterations),
    }
    if said.source is not None:
        drawn["source"] = digest("tokens", said.source.ids.astype("<i2").tobytes())
    return SpeechKey(
        VoiceKey(namespace, voice.clip_digest, voice.prompt.fingerprint),
        mode=said.mode,
        info=said.info,
        text=said.text,
        transcript=said.transcript,
        drawn=tuple(drawn.items()),
        model_fingerprint=models.fingerprint,
        is_marked=is_marked,
    )


def _seeded(request: SpeechRequest, key: SpeechKey) -> SpeechRequest:
    """The request with a seed that follows from what it asks for."""
    seed = derived_seed("seed", key.digest)
    return replace(request, sampling=replace(request.sampling, seed=seed), is_adaptive=False)
