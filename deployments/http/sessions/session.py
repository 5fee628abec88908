"""One session over a WebSocket: text in, speech out, utterance after utterance.

The session listens all the time; a task of its own speaks. An interruption ends that task, and
with it every stage's work.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from starlette.types import Message

from deployments.config.session_settings import SessionSettings
from deployments.http.bodies.budget import Hold
from deployments.http.sessions.messages import (
    AT_ONCE_BYTES,
    InputCancel,
    InputDone,
    InputText,
    Ping,
    Said,
    SessionConfig,
    Setup,
    read_message,
)
from deployments.http.sessions.playback import NOTHING_HEARD, Playback
from deployments.http.sessions.sentence import OpenReply
from deployments.http.sessions.speaker import Speaker, Utterance, Work, stopped
from deployments.http.sessions.wire import ClientGoneError, Wire
from deployments.telemetry.sessions import SessionMetrics
from deployments.telemetry.tracing.tracer import NOT_TRACING, Tracer
from pipeline.errors import CapacityError, InputError, TextError, TimbreError
from pipeline.splitting.committed import Committer, is_speakable

MANY_CHARS = 2_000  # longer pieces are split on a thread
MOST_REMEMBERED = 16  # utterances whose account is kept


@dataclass(frozen=True, slots=True)
class End:
    """Why a session ends.

    code: of the WebSocket's closing; None where its client went away. said: to the client.
    """

    reason: str
    code: int | None = None
    said: str = ""


GONE = End("gone")
CLOSED = End("closed", 1000)
IDLE = End("idle", 1001, "nothing was said for too long; ping keeps a session open")
EXPIRED = End("expired", 1001, "the session is as long as sessions may be; open another")
UNCONFIGURED = End("unconfigured", 1008, "no session.config came in time")
MISTAKES = End("mistakes", 1008, "too many messages in a row were refused")


@dataclass(frozen=True, slots=True)
class Desk:
    """What a session asks of its router.

    set_up: checks a config, by any thread. greet: resolves its voice, so that errors are told at
    once and speech finds it. hold: its share of the budget of bodies, for the clip of its config.
    tracer: begins a trace for each sentence.
    """

    set_up: Callable[[SessionConfig], Setup]
    greet: Callable[[Setup], Awaitable[object]]
    open_reply: OpenReply
    hold: Hold
    tracer: Tracer = NOT_TRACING


class Session:
    """Call `run` once."""

    def __init__(
        self,
        wire: Wire,
        desk: Desk,
        limits: SessionSettings,
        metrics: SessionMetrics,
        request_id: str,
    ) -> None:
        self._wire, self._desk, self._limits = wire, desk, limits
        self._metrics = metrics
        self._speaker = Speaker(wire, desk.open_reply, request_id, desk.tracer)
        self._began_s = time.monotonic()
        self._setup: Setup | None = None
        self._committer = Committer("none")
        self._utterances: deque[Utterance] = deque(maxlen=MOST_REMEMBERED)
        self._open: Utterance | None = None
        self._n_utterances = self._n_mistakes = 0
        self._greeting: asyncio.Task[None] | None = None
        self._receiving: asyncio.Task[Message] | None = None
        self._is_closing = False

    async def run(self) -> None:
        """Serve the client until either side ends the session. Frees every stage."""
        end = End("error")
        try:
            with self._metrics.session():
                end = await self._listen()
                await self._speaker.stop()
                await self._tell(end)
        except ClientGoneError:
            end = GONE
        finally:
            self._metrics.ended(end.reason)
            await self._speaker.stop()
            await stopped(self._greeting)
            await stopped(self._receiving)

    async def _listen(self) -> End:
        while True:
            said = await self._heard()
            if isinstance(said, End):
                return said
            if said is None:
                continue
            try:
                await self._heed(said)
                self._n_mistakes = 0
            except (InputError, CapacityError) as error:
                if (end := await self._refused(error)) is not None:
                    return end

    async def _heard(self) -> Said | End | None:
        """What the client says next; None where something else happened."""
        speaking = self._speaker.task
        if self._is_closing and not self._speaker.is_speaking:
            return CLOSED
        self._receiving = self._receiving or asyncio.create_task(self._wire.receive())
        waited = {self._receiving, *({speaking} if speaking else ())}
        done, _ = await asyncio.wait(
            waited, timeout=self._patience_s(), return_when=asyncio.FIRST_COMPLETED
        )
        if speaking is not None and speaking in done:
            self._speaker.task = None
            speaking.result()  # a fault of ours, or a client that is gone, ends the session
        if self._receiving not in done:
            return None if done else self._overdue()
        message, self._receiving = self._receiving.result(), None
        if message["type"] != "websocket.receive":
            return GONE
        raw = message.get("text") if message.get("bytes") is None else message["bytes"]
        read = partial(read_message, raw, self._limits)
        try:
            return read() if len(raw or "") < AT_ONCE_BYTES else await asyncio.to_thread(read)
        except InputError as error:
            return await self._refused(error)

    async def _refused(self, error: TimbreError) -> End | None:
        await self._wire.refuse(error)
        self._n_mistakes += 1
        return MISTAKES if self._n_mistakes >= self._limits.max_mistakes else None

    async def _heed(self, said: Said) -> None:
        """Raises InputError or CapacityError for what cannot be done."""
        if isinstance(said, Ping):
            await self._wire.say("pong", **({} if said.id is None else {"id": said.id}))
        elif isinstance(said, InputCancel):
            await self._interrupt(said)
        elif self._is_closing:
            raise InputError("session.close came before this message", param="type")
        elif isinstance(said, SessionConfig):
            await self._configure(said)
        elif isinstance(said, InputText):
            await self._take(said.text)
        elif isinstance(said, InputDone):
            self._finish()
        else:
            self._is_closing = True

    async def _configure(self, config: SessionConfig) -> None:
        if self._open is not None:
            raise InputError(
                "session.config cannot change an utterance that has begun; send input.done first",
                param="type",
            )
        setup = await asyncio.to_thread(self._desk.set_up, config)
        self._desk.hold.cover(sum(len(clip) for clip in setup.wish.clips.values()))
        self._setup = setup
        self._committer = Committer(setup.config.split_granularity)
        await stopped(self._greeting)
        self._greeting = asyncio.create_task(self._greet(setup))

    async def _greet(self, setup: Setup) -> None:
        """Tell early what is wrong with a voice; speech itself tells it again."""
        try:
            with suppress(ClientGoneError):
                await self._desk.greet(setup)
        except TimbreError as error:
            with suppress(ClientGoneError):
                await self._wire.refuse(error)

    async def _take(self, text: str) -> None:
        setup = self._configured()
        if not text:
            return
        utterance = self._open = self._open or self._begun()
        utterance.n_pieces += 1
        try:
            self._check_room(utterance, text)
        except TextError:
            utterance.is_faulty = utterance.lost_text = True
            raise
        if len(text) < MANY_CHARS:
            parts = self._committer.feed(text)
        else:
            parts = await asyncio.to_thread(self._committer.feed, text)
        for part in parts:
            self._speaker.append(Work(utterance, setup, part))

    def _check_room(self, utterance: Utterance, text: str) -> None:
        if utterance.lost_text:
            raise TextError(
                "this utterance lost a piece of its text already; input.done ends it", param="text"
            )
        if utterance.n_pieces > self._limits.max_pieces:
            raise TextError(
                f"an utterance may come in {self._limits.max_pieces} pieces", param="text"
            )
        n_chars = self._speaker.n_waiting_chars + len(self._committer.held) + len(text)
        if n_chars > self._limits.max_waiting_chars:
            raise TextError(
                f"{n_chars} characters would wait to be spoken, "
                f"{self._limits.max_waiting_chars} may; this piece was dropped",
                param="text",
            )

    def _finish(self) -> None:
        setup = self._configured()
        utterance, self._open = self._open or self._begun(), None
        for part in self._committer.finish():
            if is_speakable(part):
                self._speaker.append(Work(utterance, setup, part))
        self._speaker.append(Work(utterance, setup, None))

    def _configured(self) -> Setup:
        if self._setup is None:
            raise InputError("session.config must come before text", param="type")
        return self._setup

    def _begun(self) -> Utterance:
        utterance = Utterance(self._n_utterances)
        self._n_utterances += 1
        self._utterances.append(utterance)
        return utterance

    async def _interrupt(self, cancel: InputCancel) -> None:
        """Stop speaking and drop all text; tell what was heard."""
        began_s, now_s = time.perf_counter(), time.monotonic()
        meant = self._meant(cancel.utterance_index)
        dropped = await self._speaker.stop()
        self._metrics.cancelled(time.perf_counter() - began_s)
        held, opened = self._committer.held, self._open
        self._committer.finish()
        self._open = None
        if dropped.sentence is not None:
            await dropped.sentence.cut()
        report = {"utterance_index": None, **NOTHING_HEARD.report()}
        if meant is not None:
            unspoken = dropped.text_of(meant) + (held if meant is opened else "")
            heard = meant.playback.heard(_played_s(cancel, meant.playback, now_s), unspoken)
            report = {"utterance_index": meant.index, **heard.report()}
        await self._wire.say("input.cancelled", **report, is_estimate=cancel.played_ms is None)
        ended = [*dropped.utterances, *([opened] if opened else [])]
        for utterance in dict.fromkeys(ended):
            await self._speaker.say_done(utterance, cancelled=True)

    def _meant(self, index: int | None) -> Utterance | None:
        """The utterance of an interruption: the named one, else the last that could be heard.

        Raises InputError.
        """
        if index is not None:
            for one in self._utterances:
                if one.index == index:
                    return one
            raise InputError(
                f"utterance_index: no utterance {index} is remembered; there were "
                f"{self._n_utterances}, the last {MOST_REMEMBERED} are kept",
                param="utterance_index",
            )
        sounding = [one for one in self._utterances if one.playback.first_s is not None]
        known = sounding or list(self._utterances)
        return known[-1] if known else None

    def _patience_s(self) -> float:
        """How long to wait for a message."""
        now_s = time.monotonic()
        left_s = self._began_s + self._limits.max_session_s - now_s
        if self._setup is None:
            left_s = min(left_s, self._began_s + self._limits.config_timeout_s - now_s)
        elif not self._speaker.is_speaking:
            left_s = min(left_s, self._wire.active_s + self._limits.idle_timeout_s - now_s)
        return max(left_s, 0.0)

    def _overdue(self) -> End | None:
        """Which wait was too long; None where it was not, after all."""
        now_s = time.monotonic()
        if now_s >= self._began_s + self._limits.max_session_s:
            return EXPIRED
        if self._setup is None:
            return UNCONFIGURED
        is_idle = now_s >= self._wire.active_s + self._limits.idle_timeout_s
        return IDLE if is_idle and not self._speaker.is_speaking else None

    async def _tell(self, end: End) -> None:
        """Say why the session ends, and close it."""
        if end.code is None:
            return
        if end.said:
            await self._wire.refuse(InputError(end.said))
        await self._wire.close(end.code, end.said)


def _played_s(cancel: InputCancel, playback: Playback, now_s: float) -> float:
    """As the client says; else as a player without a buffer."""
    if cancel.played_ms is not None:
        return cancel.played_ms / 1e3
    return 0.0 if playback.first_s is None else now_s - playback.first_s
