"""Speaks the sentences of a session in order, in a task of its own that can be stopped at any time.

The next sentence is made while the client plays this one: audio goes out as soon as it is made.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from deployments.http.sessions.messages import Setup
from deployments.http.sessions.playback import Playback
from deployments.http.sessions.sentence import OpenReply, Sentence
from deployments.http.sessions.wire import ClientGoneError, Wire
from deployments.telemetry.tracing.tracer import NOT_TRACING, Tracer

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Utterance:
    """Text up to `input.done`, and what became of it."""

    index: int
    playback: Playback = field(default_factory=Playback)
    n_pieces: int = 0
    n_sentences: int = 0
    is_faulty: bool = False
    """Some of its text was refused, or could not be spoken."""
    lost_text: bool = False
    """A piece of its text was refused; no other is taken."""


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """What is to be spoken; text: None where the utterance ends."""

    utterance: Utterance
    setup: Setup
    text: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Dropped:
    """What an interruption ended. sentence: the one that was being spoken. work: what waited."""

    sentence: Sentence | None
    current: Utterance | None
    work: tuple[Work, ...]

    def text_of(self, utterance: Utterance) -> str:
        """Text that was to be spoken."""
        return "".join(one.text or "" for one in self.work if one.utterance is utterance)

    @property
    def utterances(self) -> list[Utterance]:
        """Those that were not spoken to their end, each once."""
        ended = [self.current] if self.current else []
        return list(dict.fromkeys([*ended, *(one.utterance for one in self.work)]))


class Speaker:
    """Use it from one event loop."""

    def __init__(
        self, wire: Wire, open_reply: OpenReply, request_id: str, tracer: Tracer = NOT_TRACING
    ) -> None:
        self._wire, self._open_reply, self._request_id = wire, open_reply, request_id
        self._tracer = tracer
        self._waiting: deque[Work] = deque()
        self._current: Utterance | None = None
        self._sentence: Sentence | None = None
        self.n_waiting_chars = 0
        self.task: asyncio.Task[None] | None = None
        """At work; its exception is a fault of ours, or that the client is gone."""

    @property
    def is_speaking(self) -> bool:
        return self.task is not None and not self.task.done()

    @property
    def _has_failed(self) -> bool:
        """Of which nobody has heard yet."""
        if self.task is None or not self.task.done() or self.task.cancelled():
            return False
        return self.task.exception() is not None

    def append(self, work: Work) -> None:
        """Speak it after all that waits."""
        self._waiting.append(work)
        self.n_waiting_chars += len(work.text or "")
        if not (self.is_speaking or self._has_failed):
            self.task = asyncio.create_task(self._run())

    async def stop(self) -> Dropped:
        """Speak no more of what was appended. When it returns, every stage was told."""
        await stopped(self.task)
        dropped = Dropped(self._sentence, self._current, tuple(self._waiting))
        self.task = self._sentence = self._current = None
        self._waiting.clear()
        self.n_waiting_chars = 0
        return dropped

    async def say_done(self, utterance: Utterance, **how: Any) -> None:
        """The last message about an utterance."""
        await self._wire.say(
            "session.done",
            utterance_index=utterance.index,
            total_sentences=utterance.n_sentences,
            error=utterance.is_faulty,
            **how,
        )

    async def _run(self) -> None:
        while self._waiting:
            work = self._waiting.popleft()
            self._current = work.utterance
            self.n_waiting_chars -= len(work.text or "")
            if work.text is None:
                await self.say_done(work.utterance)
            else:
                await self._speak(work.utterance, work.setup, work.text)
            self._current = None

    async def _speak(self, utterance: Utterance, setup: Setup, text: str) -> None:
        index = utterance.n_sentences
        utterance.n_sentences += 1
        names = {
            "utterance_index": utterance.index,
            "sentence_index": index,
            "request_id": f"{self._request_id}:{utterance.index}:{index}",
        }
        self._sentence = Sentence(self._wire, setup, text, utterance.playback, names)
        with self._tracer.traced("sentence", request_id=str(names["request_id"])):
            is_spoken = await self._sentence.speak(self._open_reply)
        if not is_spoken:
            utterance.is_faulty = True
        self._sentence = None


async def stopped(task: asyncio.Task[Any] | None) -> None:
    """Cancel a task and wait for its end; its failure is logged, unless the client is gone."""
    if task is None:
        return
    task.cancel()
    await asyncio.wait([task])
    error = None if task.cancelled() else task.exception()
    if error is not None and not isinstance(error, ClientGoneError):
        logger.error("a session's task failed", exc_info=error)
