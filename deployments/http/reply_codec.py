"""Turns speech into one client's bytes: its speed, its format, its frame in a stream.

Codecs take tens of milliseconds a chunk, so they run on a thread; the event loop serves the other
streams meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pipeline.audio.encode import make_encoder, whole_wav
from pipeline.audio.speed import SpeedChanger
from pipeline.contracts import OUTPUT_SAMPLE_RATE_HZ, Float32Array

CHEAP_FORMATS = frozenset({"wav", "pcm"})  # well below a millisecond a chunk: a thread costs more
CHEAP_SAMPLES = 240_000  # ten seconds: a larger piece, of speech that was kept, is worth a thread

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Encoded:
    """A piece of a reply. data: its bytes, may be empty. audio_s: how long it sounds, seconds."""

    data: bytes
    audio_s: float


class ReplyCodec:
    """One stream. Await each call before the next: order in is order out, one thread at a time.

    frame: what the bytes of a piece become, on the same thread; None leaves them as they are.
    sample_rate_hz, bit_rate: as `make_encoder` has them.
    Raises UnsupportedError for an unknown format, a rate that it cannot hold, or a speed out of
    range.
    """

    def __init__(
        self,
        audio_format: str,
        speed: float,
        frame: Callable[[bytes], bytes] | None = None,
        *,
        sample_rate_hz: int | None = None,
        bit_rate: int | None = None,
    ) -> None:
        self._encoder = make_encoder(audio_format, sample_rate_hz=sample_rate_hz, bit_rate=bit_rate)
        self._speed = SpeedChanger(speed)
        self._is_wav = audio_format == "wav"
        self._frame = frame
        is_as_made = speed == 1 and self._encoder.sample_rate_hz == OUTPUT_SAMPLE_RATE_HZ
        self._is_cheap = audio_format in CHEAP_FORMATS and is_as_made and frame is None

    @property
    def media_type(self) -> str:
        """Of the bytes without a frame."""
        return self._encoder.media_type

    @property
    def sample_rate_hz(self) -> int:
        """Of the audio that leaves."""
        return self._encoder.sample_rate_hz

    def whole(self, pieces: Sequence[bytes]) -> bytes:
        """All pieces of a finished stream as one file, which knows its length where it can."""
        stream = b"".join(pieces)
        return whole_wav(stream, self.sample_rate_hz) if self._is_wav else stream

    async def encode(self, samples: Float32Array) -> Encoded:
        """samples: float32 (n,), 24 kHz mono. A call that is cancelled ends after its thread."""
        is_cheap = len(samples) <= CHEAP_SAMPLES
        return await self._run(lambda: self._encode(samples), is_cheap=is_cheap)

    async def finish(self) -> Encoded:
        """The rest of the stream, its container's end included. Nothing may follow."""
        return await self._run(self._finish)

    def _encode(self, samples: Float32Array) -> Encoded:
        spoken = self._speed.process(samples)
        return self._framed(self._encoder.encode(spoken), len(spoken))

    def _finish(self) -> Encoded:
        rest = self._speed.finish()
        return self._framed(self._encoder.encode(rest) + self._encoder.finish(), len(rest))

    def _framed(self, data: bytes, n_samples: int) -> Encoded:
        if data and self._frame is not None:
            data = self._frame(data)
        return Encoded(data, n_samples / OUTPUT_SAMPLE_RATE_HZ)

    async def _run(self, work: Callable[[], Encoded], *, is_cheap: bool = True) -> Encoded:
        return work() if is_cheap and self._is_cheap else await _on_thread(work)


async def _on_thread(work: Callable[[], Result]) -> Result:
    """What `work` gives on a thread.

    Cancelled, it ends only after the thread: whoever closes or reuses what `work` touches then is
    alone with it.
    """
    job = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(job)
    finally:
        while not job.done():
            with contextlib.suppress(asyncio.CancelledError):  # already on its way to the caller
                await asyncio.wait([job])
        if not job.cancelled():
            job.exception()  # nobody may be left to hear of it
