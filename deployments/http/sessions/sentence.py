"""One sentence of a session: spoken as any request is, framed for its client."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from deployments.http.dialects.parsed_request import ParsedRequest
from deployments.http.reply import SpeechReply
from deployments.http.sessions.messages import Setup
from deployments.http.sessions.playback import Playback, Spoken
from deployments.http.sessions.wire import ClientGoneError, Piece, Wire
from pipeline.errors import TimbreError
from pipeline.serving.terms import Terms

logger = logging.getLogger(__name__)

OpenReply = Callable[[ParsedRequest, str], Awaitable[SpeechReply]]  # of a request, by its id


class Sentence:
    """Sends audio.start, the audio and audio.done, in this order, whatever happens between.

    playback: of its utterance, told what goes to the client.
    """

    def __init__(
        self, wire: Wire, setup: Setup, text: str, playback: Playback, names: dict[str, Any]
    ) -> None:
        """names: what every message about it says: its indices and its request id."""
        self._wire, self._setup, self._names = wire, setup, names
        self._playback = playback
        self._spoken = Spoken(text, setup.config.speed)
        playback.sentences.append(self._spoken)
        self._is_started = False
        self._n_bytes = 0

    async def speak(self, open_reply: OpenReply) -> bool:
        """Speak it to its end. False where it failed, which the client was told.

        Raises ClientGoneError. Cancelling it frees every stage.
        """
        fault: Exception | None = None
        try:
            reply = await open_reply(self._request(), self._names["request_id"])
            await self._stream(reply)
        except ClientGoneError:
            raise
        except TimbreError as error:
            fault = error
        except Exception as error:
            logger.exception("request %s failed", self._names["request_id"])
            fault = error
        self._spoken.is_whole, self._spoken.failed = True, fault is not None
        if not self._is_started:
            await self._start(None)
        if fault is not None:
            partial = {"partial_audio": True, "action": "discard"} if self._n_bytes else {}
            await self._wire.refuse(fault, **self._names, **partial)
        await self._done(error=fault is not None)
        return fault is None

    async def cut(self) -> None:
        """Tell that no more of it follows; once `speak` was cancelled."""
        if self._is_started:
            await self._done(error=False, cancelled=True)

    def _request(self) -> ParsedRequest:
        """Of an utterance that is heard already it is the rest, and not refused as others are."""
        parsed = self._setup.request(self._spoken.text)
        dry_s = self._playback.dry_s
        if dry_s is None:
            return parsed
        terms = Terms(is_begun=True, due_s=max(dry_s, time.monotonic()))
        return replace(parsed, request=replace(parsed.request, terms=terms))

    async def _stream(self, reply: SpeechReply) -> None:
        config, number, before_s = self._setup.config, 0, 0.0
        about = {name: self._names[name] for name in ("utterance_index", "sentence_index")}
        async with aclosing(reply.frames()) as frames:
            async for data in frames:
                if not self._is_started:
                    await self._start(reply)
                self._spoken.audio_s = end_s = reply.audio_s
                self._n_bytes += len(data)
                piece = Piece(data, number, before_s, end_s, reply.sample_rate_hz)
                is_binary = config.audio_transport == "binary"
                await self._wire.audio(piece, is_binary=is_binary, **about)
                if self._playback.first_s is None:
                    self._playback.first_s = time.monotonic()
                number, before_s = number + 1, end_s
        self._spoken.audio_s = reply.audio_s

    async def _start(self, reply: SpeechReply | None) -> None:
        known: dict[str, Any] = {}
        if reply is not None:
            known = {"sample_rate": reply.sample_rate_hz, "channels": 1}
            if not reply.is_marked:  # the handshake says of all others that they are
                known["provenance"] = reply.provenance
        ignored = self._setup.wish.ignored
        await self._wire.say(
            "audio.start",
            **self._names,
            sentence_text=self._spoken.text,
            format=self._setup.config.response_format,
            **known,
            **({"ignored_fields": list(ignored)} if ignored else {}),
        )
        self._is_started = True

    async def _done(self, *, error: bool, **how: Any) -> None:
        audio_ms = round(self._spoken.audio_s * 1e3)
        about = {"total_bytes": self._n_bytes, "audio_ms": audio_ms, "error": error}
        await self._wire.say("audio.done", **self._names, **about, **how)
