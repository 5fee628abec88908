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
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from deployments.http.dialects.openai import SpeechOrder
from deployments.http.errors import PublicError
from deployments.http.reply_codec import ReplyCodec
from deployments.telemetry.metrics import RequestMetrics
from pipeline.continuity import PlaybackMeter
from pipeline.contracts import SpeechChunk, StageTimes
from pipeline.errors import AudioError, InputError, StageError, TooLargeError
from pipeline.synthesis import Speaker, VoiceResolver, synthesize
from pipeline.timing import StopWatch, stage_line

logger = logging.getLogger(__name__)

SSE_MEDIA_TYPE = "text/event-stream"


class SpeechReply:
    """Owns one request from its order to its last byte.

    Everything dies with the generator it returns.
    """

    def __init__(
        self,
        order: SpeechOrder,
        voices: VoiceResolver,
        speaker: Speaker,
        metrics: RequestMetrics,
        request_id: str,
    ) -> None:
        self._order = order
        self._voices = voices
        self._speaker = speaker
        self._metrics = metrics
        self._request_id = request_id
        self._watch = StopWatch()
        self._playback = PlaybackMeter(time.perf_counter())
        frame = _audio_event if order.is_sse else None
        self._codec = ReplyCodec(order.response_format, order.request.speed, frame)
        self._has_begun = False

    async def start(self) -> Response:
        """Wait for the first bytes, then answer with a stream of them and the rest."""
        payload = self._payload()
        if self._order.is_sse:
            payload = self._telling(payload)
        try:
            first = await anext(payload)
        except BaseException:
            await payload.aclose()
            raise
        media_type = SSE_MEDIA_TYPE if self._order.is_sse else self._codec.media_type
        times = self._watch.times()
        headers = {
            "Server-Timing": server_timing(times),
            "X-Cache": times.tier,
            "X-Quality": str(self._watch.quality),
            "Cache-Control": "no-store",
            **self._order.echo,
            **audio_warning(self._watch.warnings),
        }
        return ClosingResponse(_chained(first, payload), media_type=media_type, headers=headers)

    async def _payload(self) -> AsyncGenerator[bytes]:
        """The reply's bytes; logs one line when it ends, however it ends."""
        outcome = "error"
        try:
            with self._metrics.running() as heard:
                async with aclosing(self._pieces()) as pieces:
                    async for piece in pieces:
                        heard()
                        yield piece
                        self._has_begun = True
            outcome = "ok"
        except (asyncio.CancelledError, GeneratorExit):
            outcome = "cancelled"
            raise
        except InputError:
            outcome = "refused"
            raise
        finally:
            self._account(outcome)

    async def _telling(self, payload: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        """`payload`, and where it breaks off after its first event, a last one that says so."""
        async with aclosing(payload):
            try:
                async for event in payload:
                    yield event
            except Exception as error:
                if not self._has_begun:
                    raise  # still a status code
                told = PublicError.of(error, self._request_id).body()["error"]
                told["partial_audio"] = True
                yield _event({"type": "speech.audio.error", "error": told})

    async def _pieces(self) -> AsyncGenerator[bytes]:
        """Audio in chunks as they are made, as events or plain; every piece is non-empty.

        The last event carries the stage times.
        """
        order, self._order = self._order, self._order.without_upload()
        request = order.request
        speech = synthesize(order.reference, request, self._voices, self._speaker, self._watch)
        del order  # from here on the clip lives as long as `synthesize` wants it, no longer
        async with aclosing(_naming(self._order.clip_param, speech)) as chunks:
            async for chunk in chunks:
                if not len(chunk.samples):
                    continue  # a header alone would be a first byte without audio
                piece = await self._codec.encode(chunk.samples)
                self._playback.sent(piece.audio_s, time.perf_counter())
                if piece.data:
                    yield piece.data
        if not self._watch.times().audio_s:
            raise StageError("the model produced no audio for this request; try another seed")
        rest = await self._codec.finish()
        self._playback.sent(rest.audio_s, time.perf_counter())
        if rest.data:
            yield rest.data
        if self._order.is_sse:
            report = stage_report(self._watch.times())
            report["quality"] = str(self._watch.quality)
            yield _event({"type": "speech.audio.done", "timbre": report})

    def _account(self, outcome: str) -> None:
        times = self._watch.times()
        quality = self._watch.quality
        self._metrics.finished(times, self._playback.account(), outcome, quality)
        is_error = outcome == "error"
        logger.log(
            logging.ERROR if is_error else logging.INFO,
            "speech %s %s %s",
            self._request_id,
            outcome,
            stage_line(times),
            exc_info=is_error and self._has_begun,  # before that, whoever answers logs the cause
        )


class ClosingResponse(StreamingResponse):
    """Closes its body when it ends for any reason.

    Starlette leaves that to the garbage collector.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            if isinstance(self.body_iterator, AsyncGenerator):
                await self.body_iterator.aclose()


async def _naming(
    clip_param: str, speech: AsyncGenerator[SpeechChunk]
) -> AsyncGenerator[SpeechChunk]:
    """`speech`, whose errors about the clip name the field that it came in."""
    try:
        async with aclosing(speech) as chunks:
            async for chunk in chunks:
                yield chunk
    except (AudioError, TooLargeError) as error:
        raise error.about(clip_param) from error


async def _chained(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece


def _audio_event(audio: bytes) -> bytes:
    return _event({"type": "speech.audio.delta", "audio": base64.b64encode(audio).decode()})


def _event(data: dict[str, Any]) -> bytes:
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()


def audio_warning(warnings: tuple[str, ...]) -> dict[str, str]:
    """The header that says what is wrong with a clip that was used all the same."""
    return {"X-Audio-Warning": ", ".join(warnings)} if warnings else {}


def stage_report(times: StageTimes) -> dict[str, Any]:
    """Stage times as a client reads them in the closing event, seconds."""
    return {
        "tier": times.tier,
        "tokenizer_s": times.tokenizer_s,
        "llm_s": times.llm_s,
        "vocoder_s": times.vocoder_s,
        "ttfa_s": times.ttfa_s,
        "total_s": times.total_s,
        "audio_s": times.audio_s,
        "rtf": times.rtf,
        "line": stage_line(times),
    }


def server_timing(times: StageTimes) -> str:
    """Server-Timing as known when the first audio leaves, milliseconds."""
    return (
        f'tokenizer;dur={times.tokenizer_s * 1e3:.1f};desc="{times.tier}", '
        f"llm;dur={times.llm_s * 1e3:.1f}, vocoder;dur={times.vocoder_s * 1e3:.1f}, "
        f"ttfa;dur={times.ttfa_s * 1e3:.1f}, total;dur={times.total_s * 1e3:.1f}"
    )
