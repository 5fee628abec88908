"""One answer on its way onto a tape: from the cache, from another process, or made here.

It goes on while anybody listens, here or elsewhere, whoever asked first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing

import numpy as np

from cache_store.background import spawn
from cache_store.cache import COMPUTED, CacheResult, VoiceCache
from cache_store.codec import Record
from cache_store.erasures import Watch
from cache_store.errors import CacheClosed, StoreError
from cache_store.keys import SpeechKey
from deployments.speech.records import Answer, from_note, joined, to_answer, to_record
from deployments.speech.relay import Relay
from deployments.speech.tape import JOINED, SAMPLE_BYTES, Tape, sliced
from pipeline.audio.encode import to_pcm16
from pipeline.contracts import Drawn, SpeechChunk, Stream, Verdict
from pipeline.errors import StageError
from pipeline.serving.tracing import here, inside

logger = logging.getLogger(__name__)

FOLLOW_S = 1.0  # one wait for more of what another process makes
AFTER_ANOTHER_S = 0.01  # until a computation that nobody wants any more has ended


class _NotKeptError(Exception):
    """The listeners have it all, and it is nothing to keep."""


class _DesertedError(Exception):
    """Nobody listens any more."""


class Rendition:
    """Fills a tape. Use it from one event loop.

    speak: begins to make it. made_by: the models that the key names. keeps_any: an answer that the
    guard finds bad is kept, too: its caller chose the seed.
    done: called when nobody should join any more. surprised: called when other models were at work.
    """

    def __init__(
        self,
        cache: VoiceCache,
        key: SpeechKey,
        speak: Callable[[], Stream[SpeechChunk]],
        watch: Watch,
        *,
        made_by: frozenset[str],
        keeps_any: bool,
        done: Callable[[Rendition], None],
        surprised: Callable[[], None],
    ) -> None:
        self.key = key
        self.tape = Tape(self._deserted)
        self._cache = cache
        self._speak = speak
        self._watch = watch
        self._made_by = made_by
        self._keeps_any = keeps_any
        self._done = done
        self._surprised = surprised
        self._relay: Relay | None = None
        self._making: asyncio.Task[Drawn | None] | None = None
        self._is_given_up = False
        self._trace = here()
        self._task = spawn("speech for several", self._run())

    @property
    def is_making(self) -> bool:
        """It is being made, here and now."""
        return self._making is not None and not self._making.done()

    async def ended(self) -> None:
        """Wait until it is kept, or will not be."""
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        """In an empty context: Ray cancels what it finds in that of a caller who went away."""
        try:
            self._finish(await self._found_or_made())
        except (_NotKeptError, _DesertedError):
            if not self.tape.is_whole:
                self.tape.fail(StageError("nobody listened any more"))
        except CacheClosed as error:
            self.tape.fail(StageError("the service is stopping", detail=repr(error)))
        except Exception as error:  # noqa: BLE001 - it is every listener's, and raised there
            self.tape.fail(error)
        except asyncio.CancelledError:
            self.tape.fail(StageError("the service is stopping"))
            raise
        finally:
            self._done(self)

    async def _found_or_made(self) -> CacheResult:
        while True:
            try:
                return await self._cache.get_or_compute(
                    self.key, self._compute, watch=self._watch, meanwhile=self._follow
                )
            except _DesertedError:
                if self._is_given_up:
                    raise
            await asyncio.sleep(AFTER_ANOTHER_S)  # it was another one's, which is ending

    def _finish(self, result: CacheResult) -> None:
        """What the tape does not have yet of a record."""
        answer = to_answer(result.record)
        if self.tape.is_whole:  # heard from another process, which sent no tokens
            self.tape.drawn = self.tape.drawn or answer.drawn
            return
        if result.tier != COMPUTED and not self.tape.n_samples:
            self.tape.source = result.tier
        self.tape.quality, self.tape.usage = answer.quality, answer.usage
        self.tape.drawn = answer.drawn
        self.tape.is_single = answer.is_single
        for piece in sliced(answer.samples[self.tape.n_samples :], is_single=answer.is_single):
            self.tape.add(piece)
        self.tape.end()

    async def _follow(self) -> None:
        """Listen in while another process makes it; return when it does no more."""
        shared, tape, held = self._cache.shared, self.tape, b""
        while shared is not None and tape.listeners and not tape.is_whole:
            try:
                start = tape.n_samples * SAMPLE_BYTES + len(held)
                heard = await shared.follow(self.key, start, FOLLOW_S)
            except StoreError as error:
                logger.info("cannot listen in: %s", error)
                return
            if not heard.is_live:
                return
            if heard.note:
                tape.quality, tape.usage, tape.is_single = from_note(heard.note)
            held += heard.data
            if held and (heard.is_whole or not tape.is_single):
                tape.source = JOINED
                tape.add(np.frombuffer(held, np.int16))
                held = b""
            if heard.is_whole:
                tape.end()

    async def _compute(self) -> Record:
        """Make it, for the listeners at once and for the cache in the end.

        What is on the tape already was made by a process that died: it is not said again.
        """
        if self.tape.is_whole:
            raise _NotKeptError
        if not self.tape.listeners:
            self._give_up()
            raise _DesertedError
        if self._cache.shared is not None:
            self._relay = Relay(self._cache.shared, self.key, self.tape, self._look)
        self._making = asyncio.create_task(self._make())
        try:
            await asyncio.wait([self._making])
            if self._making.cancelled():
                raise _DesertedError
            drawn = self._making.result()
            if self._relay is not None:
                await self._relay.finish()
        finally:
            if self._relay is not None:
                self._relay.stop()
            self._making.cancel()
            await asyncio.wait([self._making])
        return to_record(self._kept(drawn))

    async def _make(self) -> Drawn | None:
        """In the trace of whoever asked first."""
        tape, said = self.tape, 0
        drawn: Drawn | None = None
        with inside(self._trace):
            async with aclosing(self._speak()) as speech:
                async for chunk in speech:
                    samples = to_pcm16(chunk.samples)
                    tape.times, tape.quality, tape.usage = chunk.times, chunk.quality, chunk.usage
                    tape.is_single = chunk.last and not said
                    tape.add(samples[max(tape.n_samples - said, 0) :])
                    said += len(samples)
                    if chunk.last:
                        tape.drawn = drawn = chunk.drawn
                        tape.end()  # at once: a single piece is told to be the last one
        return drawn

    def _kept(self, drawn: Drawn | None) -> Answer:
        """The answer, if it is one to keep. Raises _NotKeptError."""
        tape = self.tape
        if drawn is None or not tape.n_samples or not len(drawn.ids):
            raise _NotKeptError
        if drawn.made_by != self._made_by:
            self._surprised()
            raise _NotKeptError
        if tape.quality.verdict is not Verdict.OK and not self._keeps_any:
            raise _NotKeptError
        return Answer(joined(tape.pieces), tape.quality, tape.usage, tape.is_single, drawn)

    def _deserted(self) -> None:
        """The last listener of this process left; what is not made here costs nothing."""
        if not self.is_making:
            return
        if self._relay is None or not self._relay.is_heard:
            self._give_up()

    def _look(self) -> None:
        """The index said whether others listen."""
        relay, tape = self._relay, self.tape
        if relay is not None and not (relay.is_heard or tape.listeners or tape.is_whole):
            self._give_up()

    def _give_up(self) -> None:
        self._is_given_up = True
        self._done(self)
        if self._making is not None:
            self._making.cancel()
