"""One speech reply: runs the main path, encodes audio as it comes, and keeps the account.

The reply starts when the first audio is at hand, so that every earlier fault is
still a status code. After the first byte a fault is the last event of an event stream, and cuts a
stream of plain audio; its cause is logged, and how the request ended is told to whoever asks later.
A reply that is not to be streamed starts when its last byte is there, so that all faults of it are
status codes and its length is known. One whose first audio is its last waits for its end as well:
a wav then tells its length.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from fastapi.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from deployments.http.dialects.parsed_request import ParsedRequest
from deployments.http.errors import PublicError, about_clip
from deployments.http.reply_codec import ReplyCodec
from deployments.longform.account import SegmentAccount
from deployments.marks.marking import HEADER as PROVENANCE_HEADER
from deployments.marks.marking import NO_MARKS, ReplyMarks
from deployments.quotas.spending import Charge, spending
from deployments.telemetry.outcomes import Outcome, usage_report
from deployments.telemetry.requests import RequestMetrics
from pipeline.continuity import PlaybackMeter
from pipeline.contracts import (
    NOT_REUSED,
    OUTPUT_SAMPLE_RATE_HZ,
    SpeechChunk,
    SpeechRequest,
    StageTimes,
    Stream,
)
from pipeline.errors import CapacityError, InputError, StageError
from pipeline.serving.tracing import here
from pipeline.splitting.weights import S_PER_UNIT
from pipeline.synthesis import Synthesizer, VoiceResolver, synthesize
from pipeline.timing import Timings, account_line, server_timing, stage_line, stage_report

logger = logging.getLogger(__name__)

HAND_OVER_S = 0.002
SECOND = 2  # piece of a reply
SSE_MEDIA_TYPE = "text/event-stream"


class SpeechReply:
    """Owns one request from its body to its last byte.

    Everything dies with the generator it returns.
    """

    def __init__(
        self,
        parsed: ParsedRequest,
        voices: VoiceResolver,
        synthesizer: Synthesizer,
        metrics: RequestMetrics,
        request_id: str,
        tell: Callable[[Outcome], None] | None = None,
        segments: SegmentAccount | None = None,
        *,
        marks: ReplyMarks = NO_MARKS,
    ) -> None:
        """tell: hears how the request ended. segments: of a text that is spoken in segments.

        marks: what is told of its provenance, and how its file is signed.
        """
        self._parsed = parsed
        self._voices = voices
        self._synthesizer = synthesizer
        self._metrics = metrics
        self._request_id = request_id
        self._tell = tell
        self._segments = segments
        self._spending, self._charge = spending(), Charge()
        self._marks = marks
        self._began_unix_s = time.time()
        self._timings = Timings()
        self._playback = PlaybackMeter(time.perf_counter())
        self._codec = ReplyCodec(
            parsed.response_format,
            parsed.request.speed,
            partial(_audio_event, parsed.response_format) if parsed.is_sse else None,
            sample_rate_hz=parsed.sample_rate_hz,
            bit_rate=parsed.bit_rate,
        )
        self._is_whole = parsed.is_whole
        self._has_begun = False

    async def start(self) -> Response:
        """Wait for the first bytes, then answer with a stream of them and the rest."""
        payload = self._payload()
        try:
            first = await anext(payload)
            if self._is_whole:
                first = self._codec.whole([first, *[piece async for piece in payload]])
        except BaseException:
            await payload.aclose()
            raise
        if self._parsed.is_whole:
            sign = self._marks.sign
            return self._whole(first if sign is None else await asyncio.to_thread(sign, first))
        media_type = SSE_MEDIA_TYPE if self._parsed.is_sse else self._codec.media_type
        return ClosingResponse(_Begun(first, payload), media_type, self._headers())

    def frames(self) -> Stream[bytes]:
        """The reply for those who frame it themselves: as it is made, or whole in one; unsigned."""
        self._marks = self._marks.unsigned()
        if self._is_whole:
            return _InOne(self._payload(), self._codec.whole)
        self._has_begun = True  # whoever frames it logs no fault of it
        return self._payload()

    @property
    def audio_s(self) -> float:
        """How long it sounds so far, seconds."""
        return self._playback.continuity().audio_s

    @property
    def is_marked(self) -> bool:
        """Its audio has a watermark."""
        return self._marks.is_marked

    @property
    def provenance(self) -> str:
        """What is told of it."""
        return self._marks.told

    @property
    def sample_rate_hz(self) -> int:
        """Of the audio."""
        return self._codec.sample_rate_hz

    def _whole(self, audio: bytes) -> Response:
        used = usage_report(self._timings.usage)
        counts = {
            f"X-VLLM-OMNI-{name.upper().replace('_', '-')}": str(count)
            for name, count in used.items()
        }
        headers = {**self._headers(), **counts}
        return Response(audio, 200, headers, self._codec.media_type)

    def _headers(self) -> dict[str, str]:
        times, ignored = self._timings.times(), ", ".join(self._parsed.ignored)
        return {
            "Server-Timing": server_timing(times),
            "X-Cache": tiers(times),
            "X-Quality": str(self._timings.quality),
            "X-Audio-Sample-Rate": str(self._codec.sample_rate_hz),
            "X-Audio-Channels": "1",
            PROVENANCE_HEADER: self._marks.told,
            "Cache-Control": "no-store",
            **self._parsed.echo,
            **audio_warning(self._timings.warnings),
            **({"X-Ignored-Fields": ignored} if ignored else {}),
        }

    async def _payload(self) -> AsyncGenerator[bytes]:
        """The reply's bytes; the account is closed when they end, however they end.

        Where a stream of events breaks off after its first one, a last one says so.
        """
        try:
            with self._metrics.running() as heard, await self._charged() as self._charge:
                with about_clip(self._parsed.clip_param, self._parsed.voice_param):
                    async with aclosing(self._speech()) as chunks:
                        async for chunk in chunks:
                            if piece := await self._encoded(chunk):
                                heard()
                                yield piece
                                self._has_begun = not self._is_whole
                for piece in await self._end():
                    heard()
                    yield piece
        except (asyncio.CancelledError, GeneratorExit):
            self._account("cancelled")
            raise
        except Exception as error:
            is_refusal = isinstance(error, InputError) or (
                isinstance(error, CapacityError) and not (self._has_begun and self.audio_s)
            )
            self._account("refused" if is_refusal else "error", error)
            if not (self._has_begun and self._parsed.is_sse):
                raise  # still a status code, or audio cut off
            told = PublicError.of(error, self._request_id).body()["error"]
            fault = {"type": "speech.audio.error", "error": {**told, "partial_audio": True}}
            yield _event({**fault, **self._told_of_segments()})
        else:
            self._account("ok")

    def _speech(self) -> Stream[SpeechChunk]:
        """The main path. From here on the clip lives as long as that wants it, no longer."""
        parsed, self._parsed = self._parsed, self._parsed.without_upload()
        return synthesize(
            parsed.reference, parsed.request, self._voices, self._synthesizer, self._timings
        )

    async def _encoded(self, chunk: SpeechChunk) -> bytes:
        """A chunk's bytes; none where nothing of it is to be sent yet."""
        if not len(chunk.samples):
            return b""  # a header alone would be a first byte without audio
        self._is_whole |= self._is_all(chunk)
        with here().span("codec"):
            piece = await self._codec.encode(chunk.samples)
        self._sent(piece.audio_s)
        return piece.data

    async def _end(self) -> list[bytes]:
        """What comes behind the last chunk. The last event carries the stage times."""
        if not self._timings.times().audio_s:
            raise StageError("the model produced no audio for this request; try another seed")
        with here().span("codec", last=True):
            rest = await self._codec.finish()
        self._sent(rest.audio_s)
        pieces = [rest.data] if rest.data else []
        if self._parsed.is_sse:
            report = stage_report(self._timings.times())
            report["quality"] = str(self._timings.quality)
            used = usage_report(self._timings.usage)
            done = {"type": "speech.audio.done", "usage": used, "timbre": report}
            pieces.append(_event({**done, **self._told_of_segments()}))
        return pieces

    async def _charged(self) -> Charge:
        """Room for it under its caller's quota."""
        requests = [turn.request for turn in self._parsed.turns] or [self._parsed.request]
        with here().span("quota"):
            return await self._spending.speech(sum(_likely_s(one) for one in requests))

    def _sent(self, audio_s: float) -> None:
        self._playback.sent(audio_s, time.perf_counter())
        self._charge.sent(audio_s)

    def _told_of_segments(self) -> dict[str, Any]:
        return {} if self._segments is None else {"segments": self._segments.report()}

    def _is_all(self, chunk: SpeechChunk) -> bool:
        """Whether nothing was heard before this chunk and nothing will be after it."""
        first_s = len(chunk.samples) / OUTPUT_SAMPLE_RATE_HZ
        return chunk.last and self._timings.times().audio_s <= first_s and not self._parsed.is_sse

    def _account(self, outcome: str, error: Exception | None = None) -> None:
        """Count the request and log its line. error: what ended it.

        Its trace only once the reply has begun: before, whoever answers logs it.
        """
        times, quality = self._timings.times(), self._timings.quality
        answers = None if self._segments is None else self._segments.qualities
        continuity = self._playback.continuity()
        self._metrics.finished(times, continuity, outcome, quality, answers)
        if self._tell is not None:
            self._tell(self._outcome(outcome, error))
        is_error = outcome == "error"
        if self._metrics.is_slow(times):
            logger.warning("slow speech %s %s %s", self._request_id, outcome, account_line(times))
        logger.log(
            logging.ERROR if is_error else logging.INFO,
            "speech %s %s %s",
            self._request_id,
            outcome,
            stage_line(times),
            exc_info=error if is_error and self._has_begun else None,
        )

    def _outcome(self, outcome: str, error: Exception | None) -> Outcome:
        told = PublicError.of(error, self._request_id).body()["error"] if error else None
        return Outcome(
            request_id=self._request_id,
            outcome=outcome,
            times=self._timings.times(),
            quality=self._timings.quality,
            usage=self._timings.usage,
            sound=self._parsed.response_format,
            sample_rate_hz=self._codec.sample_rate_hz,
            began_unix_s=self._began_unix_s,
            error=told,
            segments=None if self._segments is None else self._segments.report(),
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


class _InOne(Stream[bytes]):
    """All pieces of a stream as one, made by `joined`."""

    def __init__(self, pieces: Stream[bytes], joined: Callable[[Sequence[bytes]], bytes]) -> None:
        self._pieces = pieces
        self._joined = joined
        self._is_over = False

    async def __anext__(self) -> bytes:
        if self._is_over:
            raise StopAsyncIteration
        self._is_over = True
        return self._joined([piece async for piece in self._pieces])

    async def aclose(self) -> None:
        await self._pieces.aclose()


class _Begun(Stream[bytes]):
    """A stream whose first piece is at hand.

    Serve sends from another thread, which would not run before all that is at hand went by: a
    moment after the first piece lets it go by itself.
    """

    def __init__(self, first: bytes, rest: Stream[bytes]) -> None:
        self._first: bytes | None = first
        self._rest = rest
        self._n_given = 0

    async def __anext__(self) -> bytes:
        self._n_given += 1
        first, self._first = self._first, None
        if first is not None:
            return first
        if self._n_given == SECOND:
            await asyncio.sleep(HAND_OVER_S)
        return await anext(self._rest)

    async def aclose(self) -> None:
        await self._rest.aclose()


def _likely_s(request: SpeechRequest) -> float:
    """How long it may sound, at a glance: a letter is a byte of UTF-8, a Chinese one three."""
    return len(request.text.encode(errors="surrogatepass")) * S_PER_UNIT / request.speed


def _audio_event(audio_format: str, audio: bytes) -> bytes:
    encoded = base64.b64encode(audio).decode()
    return _event({"type": "speech.audio.delta", "audio": encoded, "response_format": audio_format})


def _event(data: dict[str, Any]) -> bytes:
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()


def tiers(times: StageTimes) -> str:
    """What answered: for the voice, and before it for the speech where it was not made anew."""
    return times.tier if times.speech == NOT_REUSED else f"speech-{times.speech}, {times.tier}"


def audio_warning(warnings: tuple[str, ...]) -> dict[str, str]:
    """The header that says what is wrong with a clip that was used all the same."""
    return {"X-Audio-Warning": ", ".join(warnings)} if warnings else {}
