"""One speech reply: runs the main path, encodes audio as it comes, and keeps the account.

Knows no route. The reply starts when the first audio is at hand, so that every earlier fault is
still a status code. After the first byte a fault is the last event of an event stream, and cuts a
stream of plain audio; its cause is logged.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from fastapi.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from deployments.http.dialects.openai import ParsedRequest
from deployments.http.errors import PublicError, about_clip
from deployments.http.reply_codec import ReplyCodec
from deployments.telemetry.requests import RequestMetrics
from pipeline.continuity import PlaybackMeter
from pipeline.contracts import Stream
from pipeline.errors import InputError, StageError
from pipeline.synthesis import Synthesizer, VoiceResolver, synthesize
from pipeline.timing import Timings, server_timing, stage_line, stage_report

logger = logging.getLogger(__name__)

SSE_MEDIA_TYPE = "text/event-stream"


class SpeechReply:
    """Owns one request from its order to its last byte.

    Everything dies with the generator it returns.
    """

    def __init__(
        self,
        parsed: ParsedRequest,
        voices: VoiceResolver,
        synthesizer: Synthesizer,
        metrics: RequestMetrics,
        request_id: str,
    ) -> None:
        self._parsed = parsed
        self._voices = voices
        self._synthesizer = synthesizer
        self._metrics = metrics
        self._request_id = request_id
        self._timings = Timings()
        self._playback = PlaybackMeter(time.perf_counter())
        frame = _audio_event if parsed.is_sse else None
        self._codec = ReplyCodec(parsed.response_format, parsed.request.speed, frame)
        self._has_begun = False

    async def start(self) -> Response:
        """Wait for the first bytes, then answer with a stream of them and the rest."""
        payload = self._payload()
        try:
            first = await anext(payload)
        except BaseException:
            await payload.aclose()
            raise
        media_type = SSE_MEDIA_TYPE if self._parsed.is_sse else self._codec.media_type
        times = self._timings.times()
        headers = {
            "Server-Timing": server_timing(times),
            "X-Cache": times.tier,
            "X-Quality": str(self._timings.quality),
            "Cache-Control": "no-store",
            **self._parsed.echo,
            **audio_warning(self._timings.warnings),
        }
        return ClosingResponse(_Begun(first, payload), media_type, headers)

    async def _payload(self) -> AsyncGenerator[bytes]:
        """The reply's bytes; the account is closed when they end, however they end.

        Where a stream of events breaks off after its first one, a last one says so.
        """
        try:
            with self._metrics.running() as heard:
                async with aclosing(self._pieces()) as pieces:
                    async for piece in pieces:
                        heard()
                        yield piece
                        self._has_begun = True
        except (asyncio.CancelledError, GeneratorExit):
            self._account("cancelled")
            raise
        except Exception as error:
            self._account("refused" if isinstance(error, InputError) else "error", error)
            if not (self._has_begun and self._parsed.is_sse):
                raise  # still a status code, or audio cut off
            told = PublicError.of(error, self._request_id).body()["error"]
            yield _event({"type": "speech.audio.error", "error": {**told, "partial_audio": True}})
        else:
            self._account("ok")

    async def _pieces(self) -> AsyncGenerator[bytes]:
        """Audio in chunks as they are made, as events or plain; every piece is non-empty.

        The last event carries the stage times.
        """
        parsed, self._parsed = self._parsed, self._parsed.without_upload()
        request = parsed.request
        speech = synthesize(
            parsed.reference, request, self._voices, self._synthesizer, self._timings
        )
        del parsed  # from here on the clip lives as long as `synthesize` wants it, no longer
        with about_clip(self._parsed.clip_param):
            async with aclosing(speech) as chunks:
                async for chunk in chunks:
                    if not len(chunk.samples):
                        continue  # a header alone would be a first byte without audio
                    piece = await self._codec.encode(chunk.samples)
                    self._playback.sent(piece.audio_s, time.perf_counter())
                    if piece.data:
                        yield piece.data
        if not self._timings.times().audio_s:
            raise StageError("the model produced no audio for this request; try another seed")
        rest = await self._codec.finish()
        self._playback.sent(rest.audio_s, time.perf_counter())
        if rest.data:
            yield rest.data
        if self._parsed.is_sse:
            report = stage_report(self._timings.times())
            report["quality"] = str(self._timings.quality)
            yield _event({"type": "speech.audio.done", "timbre": report})

    def _account(self, outcome: str, error: Exception | None = None) -> None:
        """Count the request and log its line. error: what ended it.

        Its trace only once the reply has begun: before, whoever answers logs it.
        """
        times = self._timings.times()
        self._metrics.finished(times, self._playback.continuity(), outcome, self._timings.quality)
        is_error = outcome == "error"
        logger.log(
            logging.ERROR if is_error else logging.INFO,
            "speech %s %s %s",
            self._request_id,
            outcome,
            stage_line(times),
            exc_info=error if is_error and self._has_begun else None,
        )


class ClosingResponse(StreamingResponse):
    """Closes its body when it ends for any reason.

    Starlette leaves that to the garbage collector.
    """

    def __init__(self, body: Stream[bytes], media_type: str, headers: Mapping[str, str]) -> None:
        super().__init__(body, media_type=media_type, headers=headers)
        self._body = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._body.aclose()


class _Begun(Stream[bytes]):
    """A stream whose first piece is at hand."""

    def __init__(self, first: bytes, rest: Stream[bytes]) -> None:
        self._first: bytes | None = first
        self._rest = rest

    async def __anext__(self) -> bytes:
        first, self._first = self._first, None
        return await anext(self._rest) if first is None else first

    async def aclose(self) -> None:
        await self._rest.aclose()


def _audio_event(audio: bytes) -> bytes:
    return _event({"type": "speech.audio.delta", "audio": base64.b64encode(audio).decode()})


def _event(data: dict[str, Any]) -> bytes:
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()


def audio_warning(warnings: tuple[str, ...]) -> dict[str, str]:
    """The header that says what is wrong with a clip that was used all the same."""
    return {"X-Audio-Warning": ", ".join(warnings)} if warnings else {}
