"""A long text as one stream of speech: its segments in order, joined at silences.

A segment is heard when it is whole, so that a bad one can be drawn again first; it is let go of
earlier where its listener would otherwise have to wait. The first is heard as it is made.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from functools import partial

import numpy as np

from deployments.config.long_text import LongTextSettings
from deployments.edits.account import Account
from deployments.edits.joints import Ends
from deployments.longform.account import SegmentAccount
from deployments.longform.level import leveled
from deployments.longform.lines import lines_of
from deployments.longform.listening import Listener
from deployments.longform.pace import Pace
from deployments.longform.production import Production
from deployments.longform.take import Take
from deployments.speech.library import ReusingSpeech
from deployments.speech.tape import on_grid
from pipeline.contracts import (
    OUTPUT_SAMPLE_RATE_HZ,
    Float32Array,
    SpeechChunk,
    SpeechRequest,
    Stream,
    VoicePrompt,
)
from pipeline.serving.terms import Service

MARGIN_S = 0.5  # of audio that a player must still have when a segment is let go of unfinished
_NOTHING = np.empty(0, np.float32)


class LongSpeech:
    """Synthesizer of one request whose text is spoken in segments; see pipeline.synthesis.

    target_lufs: loudness of every segment, None as they are made. is_paced: it does not run further
    ahead of its playback than the settings say. listener: hears every segment.
    """

    def __init__(
        self,
        speech: ReusingSpeech,
        settings: LongTextSettings,
        *,
        target_lufs: float | None = None,
        is_paced: bool = True,
        listener: Listener | None = None,
    ) -> None:
        self._speech = speech
        self._settings = settings
        self._target_lufs = target_lufs
        self._is_paced = is_paced
        self._listener = listener
        self.segments = SegmentAccount()

    async def speak(
        self, request: SpeechRequest, voice: VoicePrompt
    ) -> AsyncGenerator[SpeechChunk]:
        """Raises what the first segment fails on at once; what a later one does, in its turn.

        A later segment that cannot be spoken at all is left out, and told as lost.
        """
        lines = await asyncio.to_thread(lines_of, request)
        self.segments.count = len(lines)
        account, pace, is_begun = Account(), Pace(request.speed), False
        draw = partial(self._draw, voice, pace, is_seeded=not request.may_reseed)
        made = Production(lines, draw, self._settings.ahead, self._listener)
        async with made as production:
            while (take := await production.next_take()) is not None:
                await self._wait(take, pace)
                is_end = take.line.number == len(lines) - 1
                ends = Ends(at_start=is_begun, at_end=not is_end)
                while (chunk := await self._next_chunk(take)) is not None:
                    told = ends.faded(chunk)
                    pace.sent(len(told.samples) / OUTPUT_SAMPLE_RATE_HZ)
                    yield account.told(told, is_end=False)
                account.quality = account.quality.merged(self.segments.ended(take))
                is_begun = is_begun or take.is_heard
                if take.is_heard and not is_end:
                    pause_s = take.line.segment.pause_s
                    pace.sent(pause_s)
                    yield account.so_far(_silence(pause_s))
        yield account.so_far(_NOTHING, last=True)

    async def _wait(self, take: Take, pace: Pace) -> None:
        if self._is_paced:
            await pace.keep_within(self._settings.lead_s)
        if self._target_lufs is not None:
            await take.settled()
        elif take.line.number:
            await take.settled(max(pace.lead_s - MARGIN_S, 0.0))

    def _draw(
        self,
        voice: VoicePrompt,
        pace: Pace,
        request: SpeechRequest,
        is_again: bool,
        *,
        is_seeded: bool,
    ) -> Stream[SpeechChunk]:
        """An answer; a second draw without a seed is nothing to keep.

        What follows a part that is heard is wanted as that ends.
        """
        terms = request.terms
        if terms.is_begun and terms.service is Service.STREAM:
            due_s = time.monotonic() + max(pace.lead_s, 0.0)
            request = replace(request, terms=replace(terms, due_s=due_s))
        reuse = "off" if is_again and not is_seeded else None
        return self._speech.speak(request, voice, keeps_any=is_seeded, reuse=reuse)

    async def _next_chunk(self, take: Take) -> SpeechChunk | None:
        """Of a take as it is heard: all of it at once where it has a target loudness."""
        chunk = await take.next_chunk()
        if chunk is None:
            return None
        if self._target_lufs is None:
            return replace(chunk, drawn=None)
        chunks = [chunk]
        while (chunk := await take.next_chunk()) is not None:
            chunks.append(chunk)
        samples = np.concatenate([one.samples for one in chunks])
        loud = on_grid(leveled(samples, self._target_lufs))
        return replace(chunks[-1], samples=loud, drawn=None)


def _silence(length_s: float) -> Float32Array:
    return np.zeros(round(length_s * OUTPUT_SAMPLE_RATE_HZ), np.float32)
