"""Routers' libraries of speech, as processes of one cluster, and what is heard of them."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cache_store.cache import VoiceCache
from cache_store.index import Index
from cache_store.settings import CacheSettings
from deployments.config.settings import load_settings
from deployments.speech import library as speech
from deployments.speech.records import SPEECH_SCHEMA
from pipeline.contracts import (
    Sampling,
    SpeechChunk,
    SpeechRequest,
    VoiceReference,
)
from tests.fakes import SAMPLES_PER_GROUP, FakeNames, FakeVoices, TellingSpeaker
from tests.unit.cache_store.replicas import DirectTier
from tests.waiting import until

REQUEST = SpeechRequest("One two three.", "Hi there.", sampling=Sampling(seed=7))
UNSEEDED = replace(REQUEST, may_reseed=True, is_adaptive=True)
CLIP = "0" * 64  # of FakeVoices' default voice


class Process:
    """A router's library; several share an index as processes of a cluster do."""

    def __init__(self, index: Index | None = None, url: str = "none", **settings: Any) -> None:
        self.names = FakeNames()
        self.speaker = TellingSpeaker(self.names)
        cache = {"url": url, "l2": "off"}
        tree = load_settings({"cache": cache, "speech_cache": settings})
        self.library = speech.SpeechLibrary(tree, self.speaker, self.names)
        if index is not None:
            self.tier = DirectTier(index, f"holder-{id(self)}")
            opened = CacheSettings(url="none", l2="off")
            self.library._cache = VoiceCache(SPEECH_SCHEMA, [], opened, shared=self.tier)  # type: ignore[arg-type]

    async def ask(
        self, request: SpeechRequest = REQUEST, reuse: Any = None, namespace: str | None = None
    ) -> Any:
        one = self.library.request(FakeVoices(), reuse, namespace)
        voice = await one.resolve(VoiceReference(None, "aria"))
        return one.speak(request, voice.prompt)

    async def hear(
        self, request: SpeechRequest = REQUEST, reuse: Any = None, namespace: str | None = None
    ) -> list[SpeechChunk]:
        """All of it, and until it is kept where it will be."""
        chunks = await self.listen(request, reuse, namespace)
        await until(lambda: not self.live())
        return chunks

    async def listen(
        self, request: SpeechRequest = REQUEST, reuse: Any = None, namespace: str | None = None
    ) -> list[SpeechChunk]:
        async with aclosing(await self.ask(request, reuse, namespace)) as stream:
            return [chunk async for chunk in stream]

    def let_out(self, chunks: int) -> None:
        assert self.speaker.step is not None
        for _ in range(chunks):
            self.speaker.step.release()

    def live(self) -> int:
        return len(self.library._live)


def samples_of(chunks: list[SpeechChunk]) -> bytes:
    assert [chunk.last for chunk in chunks] == [*[False] * (len(chunks) - 1), True]
    return np.concatenate([chunk.samples for chunk in chunks]).tobytes()


def stored_in(directory: Path) -> list[Path]:
    return list(directory.rglob("*.sva"))


async def first_of(stream: Any, groups: int) -> list[SpeechChunk]:
    """So many groups' samples, in chunks as they come."""
    chunks = list[SpeechChunk]()
    while sum(len(chunk.samples) for chunk in chunks) < groups * SAMPLES_PER_GROUP:
        chunks.append(await anext(stream))
    return chunks


def source_of(chunks: list[SpeechChunk]) -> str:
    (source,) = {chunk.times.speech for chunk in chunks}
    return source
