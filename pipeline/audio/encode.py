"""Turns speech into the bytes of an audio format, chunk by chunk or as a file.

Bytes depend on the samples alone: input is cut into the codec's own frames, and nothing random or
timed is written.
"""

from __future__ import annotations

import io
import struct
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import av
import numpy as np
from av.audio.stream import AudioStream

from pipeline.audio.blocks import BlockBuffer
from pipeline.audio.resample import StreamResampler
from pipeline.contracts import OUTPUT_SAMPLE_RATE_HZ, Float32Array, Int16Array
from pipeline.errors import MAX_FOUND, UnsupportedError

MIN_OUTPUT_RATE_HZ = 8_000
MAX_OUTPUT_RATE_HZ = 48_000
PCM16_SCALE = np.float32(32_768)
_UNKNOWN_BYTES = 0xFFFFFFFF  # a stream's length in a wav header
_WAV_HEADER_BYTES = 44
_PCM16_BYTES = 2
_OGG_PAGE_US = 60_000  # three Opus packets
_OPUS_BIT_RATE = 64_000
_LOSSY_BITS_PER_SAMPLE = 4  # 96 kbit/s at 24 kHz, well above what speech needs
_MPEG_RATES_HZ = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_OPUS_RATES_HZ = (8_000, 12_000, 16_000, 24_000, 48_000)
_G711_RATE_HZ = 8_000  # what telephones take; other rates are for whoever asks for them
_FRAMELESS_BLOCK_SAMPLES = 80  # 10 ms at 8 kHz, for codecs that have no frames of their own


class AudioEncoder(Protocol):
    """One stream of one format. Calls in order: encode any number of times, finish once."""

    @property
    def media_type(self) -> str:
        """For the Content-Type header."""
        ...

    @property
    def sample_rate_hz(self) -> int:
        """Of the output."""
        ...

    def encode(self, samples: Float32Array) -> bytes:
        """samples: float32 (n,), 24 kHz mono, clipped at ±1. Returns the bytes that are ready."""
        ...

    def finish(self) -> bytes:
        """The remaining bytes, the container's end included."""
        ...


@dataclass(frozen=True, slots=True)
class _Codec:
    """How libav makes a format.

    container, encoder, sample_format: libav's names. rates_hz: what the codec takes; empty is any.
    has_bit_rate: it can be chosen. bit_rate: bits per second; None means _LOSSY_BITS_PER_SAMPLE.
    rate_hz: of who asks for none. options: of the muxer; stream_options: the same, only where the
    output cannot seek.
    """

    media_type: str
    container: str
    encoder: str
    sample_format: str
    rates_hz: tuple[int, ...] = ()
    has_bit_rate: bool = True
    bit_rate: int | None = None
    rate_hz: int = OUTPUT_SAMPLE_RATE_HZ
    options: tuple[tuple[str, str], ...] = ()
    stream_options: tuple[tuple[str, str], ...] = ()


_CODECS = {
    "flac": _Codec(
        "audio/flac",
        "flac",
        "flac",
        "s16",
        has_bit_rate=False,
        options=(("metadata_header_padding", "0"),),
    ),
    "mp3": _Codec(
        "audio/mpeg",
        "mp3",
        "libmp3lame",
        "fltp",
        _MPEG_RATES_HZ,
        options=(("id3v2_version", "0"),),
        stream_options=(("write_xing", "0"),),  # its frame count could not be filled in afterwards
    ),
    "opus": _Codec(
        "audio/ogg",
        "ogg",
        "libopus",
        "flt",
        _OPUS_RATES_HZ,
        bit_rate=_OPUS_BIT_RATE,
        options=(("page_duration", str(_OGG_PAGE_US)),),
    ),
    "aac": _Codec("audio/aac", "adts", "aac", "fltp", _MPEG_RATES_HZ),
    "pcmu": _Codec(
        "audio/pcmu", "mulaw", "pcm_mulaw", "s16", has_bit_rate=False, rate_hz=_G711_RATE_HZ
    ),
    "pcma": _Codec(
        "audio/pcma", "alaw", "pcm_alaw", "s16", has_bit_rate=False, rate_hz=_G711_RATE_HZ
    ),
}
_FILE_CODECS = {**_CODECS, "m4a": _Codec("audio/mp4", "ipod", "aac", "fltp", _MPEG_RATES_HZ)}
_SUFFIXES = {
    ".wav": "wav",
    ".flac": "flac",
    ".mp3": "mp3",
    ".ogg": "opus",
    ".opus": "opus",
    ".aac": "aac",
    ".m4a": "m4a",
}
AUDIO_FORMATS = ("wav", "pcm", *_CODECS)


def make_encoder(
    audio_format: str, *, sample_rate_hz: int | None = None, bit_rate: int | None = None
) -> AudioEncoder:
    """A fresh encoder for one stream of 24 kHz speech.

    audio_format: one of AUDIO_FORMATS. sample_rate_hz: of the output, 8 to 48 kHz; None: 8 kHz for
    pcmu and pcma, 24 for others; mp3, aac and opus have fixed rates (Opus decodes at 48 kHz
    whatever went in). bit_rate: bits a second, of mp3, aac and opus; others have none to choose.
    Sample counts are exact for wav, pcm, flac, opus, pcmu and pcma; mp3 and aac streams have no
    field for their padding. Raises UnsupportedError naming what is allowed.
    """
    if audio_format not in AUDIO_FORMATS:
        raise UnsupportedError(
            f"unknown audio format {audio_format!r}; allowed are {', '.join(AUDIO_FORMATS)}"
        )
    codec = _CODECS.get(audio_format)
    rate_hz = check_rate(audio_format, sample_rate_hz)
    if codec is not None:
        return _LibavEncoder(codec, rate_hz, _Outbox(), bit_rate)
    if audio_format == "wav":
        return _PcmEncoder("audio/wav", rate_hz, wav_header(rate_hz, n_samples=None))
    return _PcmEncoder("audio/pcm", rate_hz, b"")


def check_rate(audio_format: str, sample_rate_hz: int | None, param: str | None = None) -> int:
    """The rate of a format's output; None asks for its own.

    param: the field that asked. Raises UnsupportedError naming what is allowed.
    """
    codec = _FILE_CODECS.get(audio_format)
    if sample_rate_hz is None:
        return codec.rate_hz if codec else OUTPUT_SAMPLE_RATE_HZ
    if not MIN_OUTPUT_RATE_HZ <= sample_rate_hz <= MAX_OUTPUT_RATE_HZ:
        raise UnsupportedError(
            f"output sample rate is {str(sample_rate_hz)[:MAX_FOUND]} Hz; "
            f"allowed is {MIN_OUTPUT_RATE_HZ} to {MAX_OUTPUT_RATE_HZ} Hz",
            param=param,
        )
    if codec is not None and codec.rates_hz and sample_rate_hz not in codec.rates_hz:
        allowed = ", ".join(map(str, codec.rates_hz))
        raise UnsupportedError(
            f"{audio_format} cannot hold {sample_rate_hz} Hz; allowed are {allowed} Hz",
            param=param,
        )
    return sample_rate_hz


def whole_wav(stream: bytes, sample_rate_hz: int) -> bytes:
    """The bytes of a finished wav stream with its true length in the header."""
    pcm = stream[_WAV_HEADER_BYTES:]
    return wav_header(sample_rate_hz, n_samples=len(pcm) // _PCM16_BYTES) + pcm


def encode_file(
    samples: Float32Array, path: Path, *, sample_rate_hz: int = OUTPUT_SAMPLE_RATE_HZ
) -> None:
    """Writes float32 (n,) 24 kHz mono to `path`, in the format of its suffix, with true lengths.

    Suffixes: .wav .flac .mp3 .ogg .opus .aac .m4a. Raises UnsupportedError for any other suffix
    or a rate that the format cannot hold, OSError from the disk.
    """
    audio_format = file_format(path)
    codec = _FILE_CODECS.get(audio_format)
    check_rate(audio_format, sample_rate_hz)
    if codec is None:
        encoder = _PcmEncoder("audio/wav", sample_rate_hz, b"")
        pcm = encoder.encode(samples) + encoder.finish()
        path.write_bytes(wav_header(sample_rate_hz, n_samples=len(pcm) // _PCM16_BYTES) + pcm)
        return
    seekable = io.BytesIO()
    encoder = _LibavEncoder(codec, sample_rate_hz, seekable)
    encoder.encode(samples)
    encoder.finish()
    path.write_bytes(seekable.getvalue())


def file_format(path: Path) -> str:
    """The audio format that a file's suffix names.

    Raises UnsupportedError with the allowed suffixes.
    """
    audio_format = _SUFFIXES.get(path.suffix.lower())
    if audio_format is None:
        raise UnsupportedError(
            f"cannot tell an audio format from {path.name!r}; "
            f"allowed suffixes are {' '.join(_SUFFIXES)}"
        )
    return audio_format


def wav_header(sample_rate_hz: int, *, n_samples: int | None) -> bytes:
    """44 bytes in front of mono 16-bit PCM; n_samples None: a stream of unknown length."""
    if n_samples is None:
        riff_bytes = data_bytes = _UNKNOWN_BYTES
    else:
        data_bytes = n_samples * _PCM16_BYTES
        riff_bytes = data_bytes + _WAV_HEADER_BYTES - 8
    byte_rate = sample_rate_hz * _PCM16_BYTES
    pcm_mono = (1, 1, sample_rate_hz, byte_rate, _PCM16_BYTES, 8 * _PCM16_BYTES)
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        riff_bytes,
        b"WAVE",
        b"fmt ",
        16,
        *pcm_mono,
        b"data",
        data_bytes,
    )


def to_pcm16(samples: Float32Array) -> Int16Array:
    """float32 (n,) to little-endian int16 (n,), rounded and clipped; full scale is 32,768."""
    scaled = np.rint(samples.astype(np.float32) * PCM16_SCALE)
    return np.clip(scaled, -PCM16_SCALE, PCM16_SCALE - 1).astype("<i2")


def from_pcm16(samples: Int16Array) -> Float32Array:
    """int16 (n,) to float32 (n,); `to_pcm16` has the same back."""
    return np.divide(samples, PCM16_SCALE, dtype=np.float32)


class _PcmEncoder:
    """Raw 16-bit PCM behind a header that leaves with the first bytes."""

    def __init__(self, media_type: str, sample_rate_hz: int, header: bytes) -> None:
        self.media_type = media_type
        self.sample_rate_hz = sample_rate_hz
        self._resampler = StreamResampler(OUTPUT_SAMPLE_RATE_HZ, sample_rate_hz)
        self._header = header

    def encode(self, samples: Float32Array) -> bytes:
        return self._take_header() + to_pcm16(self._resampler.process(samples)).tobytes()

    def finish(self) -> bytes:
        return self._take_header() + to_pcm16(self._resampler.finish()).tobytes()

    def _take_header(self) -> bytes:
        header, self._header = self._header, b""
        return header


class _Outbox:
    """What libav writes into: bytes that wait to be taken. It cannot seek, and libav sees that."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def write(self, data: bytes) -> int:
        self._waiting += data
        return len(data)

    def take(self) -> bytes:
        taken = bytes(self._waiting)
        self._waiting.clear()
        return taken


class _LibavEncoder:
    """A libav encoder and muxer. In a seekable target the bytes stay; `encode` returns none."""

    def __init__(
        self,
        codec: _Codec,
        sample_rate_hz: int,
        target: _Outbox | io.BytesIO,
        bit_rate: int | None = None,
    ) -> None:
        self.media_type = codec.media_type
        self.sample_rate_hz = sample_rate_hz
        self._codec = codec
        self._target = target
        self._resampler = StreamResampler(OUTPUT_SAMPLE_RATE_HZ, sample_rate_hz)
        options = {"fflags": "+bitexact", "flush_packets": "1", **dict(codec.options)}
        if isinstance(target, _Outbox):
            options.update(codec.stream_options)
        self._container = av.open(target, "w", format=codec.container, options=options)
        # libav's muxer for flac leaks when its container is dropped open, as after a disconnect
        weakref.finalize(self, self._container.close).atexit = False
        stream = self._container.add_stream(codec.encoder, rate=sample_rate_hz)
        self._stream = cast("AudioStream", stream)
        context = self._stream.codec_context
        context.layout = "mono"
        context.format = codec.sample_format
        context.thread_count = 1
        if codec.has_bit_rate:
            usual = codec.bit_rate or sample_rate_hz * _LOSSY_BITS_PER_SAMPLE
            context.bit_rate = bit_rate or usual
        self._container.start_encoding()
        self._blocks = BlockBuffer(context.frame_size or _FRAMELESS_BLOCK_SAMPLES)
        self._read_samples = 0

    def encode(self, samples: Float32Array) -> bytes:
        for block in self._blocks.push(self._resampler.process(samples)):
            self._mux(block)
        return self._take()

    def finish(self) -> bytes:
        for block in self._blocks.push(self._resampler.finish()):
            self._mux(block)
        rest = self._blocks.rest()
        if len(rest):
            self._mux(rest)
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._take()

    def _mux(self, block: Float32Array) -> None:
        values = to_pcm16(block) if self._codec.sample_format == "s16" else np.clip(block, -1, 1)
        frame = av.AudioFrame.from_ndarray(
            values[np.newaxis], format=self._codec.sample_format, layout="mono"
        )
        frame.sample_rate = self.sample_rate_hz
        frame.pts = self._read_samples
        self._read_samples += len(block)
        self._container.mux(self._stream.encode(frame))

    def _take(self) -> bytes:
        return self._target.take() if isinstance(self._target, _Outbox) else b""
