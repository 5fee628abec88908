"""Every edit of the service: where chains are asked for, and what is kept of them goes."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from cache_store.erasures import Erasures
from cache_store.keys import ClipKey
from deployments.config.settings import Settings
from deployments.config.stages import Stages
from deployments.edits.book import EditBook
from deployments.edits.performance import EditOrder, Performance
from deployments.edits.sources import Sources
from deployments.pronunciation.readings import AskedReading, Readings
from deployments.speech.library import SpeechLibrary
from deployments.voices.resolver import VoiceLibrary
from pipeline.errors import TimbreError, UnsupportedError

logger = logging.getLogger(__name__)

SWEEP_S = 600.0  # between looks for edits that are too old


class EditLibrary:
    """Use it from one event loop. Edits are written down where there is a store."""

    def __init__(self, settings: Settings, voices: VoiceLibrary, speech: SpeechLibrary) -> None:
        self._speech = speech
        self._variants = frozenset(Stages.of(settings).llms)
        self._sources = Sources(voices, settings.limits)
        self._namespace = voices.namespace
        self._erasures = Erasures()
        self._book: EditBook | None = None
        if voices.shelf is not None:
            self._book = EditBook(voices.shelf, settings.speech_cache.keep_edits_s)

    def perform(self, order: EditOrder, namespace: str) -> Performance:
        """The chain that is asked for, of which nothing is made yet."""
        watch = self._erasures.begin()
        parts = (self._sources, self._speech, self._book)
        return Performance(order, namespace, *parts, watch, self._variants)

    async def read_as(
        self,
        order: EditOrder,
        namespace: str,
        voice: str | None,
        readings: Readings,
        asked: AskedReading,
        *,
        is_clip: bool,
    ) -> EditOrder:
        """The order with how each text is read, for good: who asks again finds what it was.

        voice: as the request names it. is_clip: it sent its own. Raises UnknownEditError.
        """
        if order.edit_id is not None:
            voice = (await self.perform(order, namespace).written()).voice
            is_clip = voice is None
        whole = await readings.whole(asked, namespace, voice, is_clip=is_clip)
        steps = await asyncio.to_thread(lambda: [step.read_as(whole) for step in order.steps])
        return replace(order, steps=tuple(steps))

    @property
    def book(self) -> EditBook:
        """Where they are written down. Raises UnsupportedError where none are."""
        if self._book is None:
            raise UnsupportedError("this service keeps no edits: its cache.url is none")
        return self._book

    async def forget(self, clip_digest: str, namespace: str | None = None) -> None:
        """Remove all edits of a clip. namespace: None for the tenant without a key.

        Raises StageUnavailableError when some may be left.
        """
        namespace = namespace or self._namespace
        self._erasures.erase(ClipKey(namespace, clip_digest).owner)
        if self._book is not None:
            await self._book.forget(namespace, clip_digest)

    async def sweep(self) -> None:
        """Remove what is too old, until cancelled."""
        while self._book is not None:
            await asyncio.sleep(SWEEP_S)
            try:
                n_removed = await self._book.sweep()
            except TimbreError as error:
                logger.warning("old edits could not be removed: %s", error)
            else:
                if n_removed:
                    logger.info("removed %d old edits", n_removed)
