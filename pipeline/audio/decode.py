"""Turns an uploaded file into a reference clip, or says why not. Knows no HTTP and no model.

Nothing an upload claims is believed: libav gets one known container and a list of audio codecs,
decoding stops at the longest allowed clip, and what comes out is checked sample by sample.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from blake3 import blake3
from numpy.typing import NDArray

from pipeline.audio.sniff import UNMARKED_CONTAINERS, sniff_container
from pipeline.contracts import Float32Array, ReferenceClip
from pipeline.errors import (
    ClipDurationError,
    SampleRateError,
    SilentAudioError,
    TooLargeError,
    UndecodableAudioError,
)

_MAX_PEAK = 16.0  # +24 dB over full scale: hotter floats are integers in disguise, or noise
_UNSAFE_PLANES = 8
_MAX_GAP_S = 0.1  # by which an ogg's time stamps may run ahead of its samples
_FULL_SCALE = {"u8": 2**7, "s16": 2**15, "s32": 2**31, "flt": 1, "dbl": 1}
_CODECS = frozenset(
    [
        *(
            "aac",
            "aac_latm",
            "alac",
            "amrnb",
            "amrwb",
            "flac",
            "mp2",
            "mp2float",
            "mp3",
            "mp3float",
        ),
        *("opus", "libopus", "vorbis", "libvorbis"),
        *("adpcm_ima_wav", "adpcm_ms", "gsm_ms", "pcm_alaw", "pcm_mulaw", "pcm_s8", "pcm_u8"),
        *("pcm_s16be", "pcm_s16le", "pcm_s24be", "pcm_s24le", "pcm_s32be", "pcm_s32le"),
        *("pcm_f32be", "pcm_f32le", "pcm_f64be", "pcm_f64le"),
    ]
)


# What decoding depends on besides the bytes and limits: our own rules and the codecs that come with
# PyAV.
DECODER_VERSION = f"1+av-{av.__version__}"


@dataclass(frozen=True, slots=True)
class ClipLimits:
    """What a reference clip may be; each bound is itself allowed.

    silence_peak: a clip whose samples all lie this close to their mean (full scale is 1) is silent.
    """

    min_duration_s: float = 0.5
    max_duration_s: float = 30.0
    min_sample_rate_hz: int = 8_000
    max_sample_rate_hz: int = 192_000
    max_bytes: int = 25_000_000
    silence_peak: float = 0.001


def decode_clip(data: bytes, limits: ClipLimits | None = None) -> ReferenceClip:
    """Decodes the first audio track of a wav, flac, mp3, ogg, aac, amr, mp4, m4a, webm or mkv file.

    Samples keep their rate; channels are averaged (in float64, rounded once); wav and flac are
    exact. The digest is BLAKE3 over the rate (8 bytes, little-endian) and the little-endian float32
    samples.

    A file that breaks off is used as far as it goes; one that is visibly damaged in the middle is
    refused. Raises TooLargeError, UndecodableAudioError, SampleRateError, ClipDurationError or
    SilentAudioError, without `param`. Blocks. Memory is bounded by `limits`, not by what the file
    claims.
    """
    limits = limits or ClipLimits()
    if len(data) > limits.max_bytes:
        raise TooLargeError(f"the file has {len(data)} bytes; allowed are {limits.max_bytes}")
    if not data:
        raise UndecodableAudioError("the file is empty")
    mono = _MonoBuffer(limits)
    try:
        with _open(data) as container:
            _read(container, _audio_track(container), mono)
    except FFmpegError as error:
        raise UndecodableAudioError(f"the file cannot be decoded: {error.strerror}") from error
    samples = mono.finish()
    digest = blake3(mono.rate_hz.to_bytes(8, "little") + samples.astype("<f4").tobytes())
    return ReferenceClip(samples, mono.rate_hz, digest.hexdigest())


def _open(data: bytes) -> InputContainer:
    options = {"codec_whitelist": ",".join(sorted(_CODECS)), "protocol_whitelist": "none"}
    container = sniff_container(data)
    if container is None:
        options["format_whitelist"] = UNMARKED_CONTAINERS
    try:
        return av.open(
            io.BytesIO(data), "r", format=container, options=options, metadata_errors="ignore"
        )
    except FFmpegError as error:
        expected = "wav, flac, mp3, ogg, aac, amr, mp4, m4a, webm or mkv"
        found = f"damaged {container}" if container else "of no known audio format"
        raise UndecodableAudioError(f"the file is {found}; expected is {expected}") from error


def _audio_track(container: InputContainer) -> AudioStream:
    if not container.streams.audio:
        raise UndecodableAudioError("the file has no audio track")
    track = container.streams.audio[0]
    context = track.codec_context
    if context is None or context.codec.name not in _CODECS:
        codec = "unknown" if context is None else context.codec.name
        raise UndecodableAudioError(f"the audio codec is {codec}, which is not accepted")
    context.thread_count = 1
    if context.codec.name == "flac":
        context.options = {"err_detect": "crccheck+explode"}
    return track


class _MonoBuffer:
    """Collects decoded frames as mono samples and refuses what breaks a limit at once."""

    def __init__(self, limits: ClipLimits) -> None:
        self.rate_hz = 0
        self.n_samples = 0
        self._limits = limits
        self._blocks: list[Float32Array] = []

    @property
    def duration_s(self) -> float:
        return self.n_samples / self.rate_hz if self.rate_hz else 0.0

    def add(self, frame: av.AudioFrame) -> None:
        self._check_rate(frame.sample_rate)
        mono = _mono(frame)
        self.n_samples += len(mono)
        if self.duration_s > self._limits.max_duration_s:
            raise ClipDurationError(
                f"the clip is longer than {self._limits.max_duration_s:g} s; "
                f"{self._allowed_durations()}"
            )
        self._blocks.append(mono)

    def finish(self) -> Float32Array:
        """float32 (n,). Raises for a clip that is too short or silent."""
        if not self.n_samples:
            raise UndecodableAudioError("the file holds no audio that can be decoded")
        if self.duration_s < self._limits.min_duration_s:
            raise ClipDurationError(
                f"the clip lasts {self.duration_s:.5g} s; {self._allowed_durations()}"
            )
        samples = np.concatenate(self._blocks)
        peak = np.abs(samples - samples.mean(dtype=np.float64)).max()
        if peak <= self._limits.silence_peak:
            raise SilentAudioError(
                f"the clip is silent: its peak is {peak:.5f} of full scale; "
                f"more than {self._limits.silence_peak:g} is needed"
            )
        return samples

    def _check_rate(self, rate_hz: int) -> None:
        if rate_hz == self.rate_hz:
            return
        limits = self._limits
        if not limits.min_sample_rate_hz <= rate_hz <= limits.max_sample_rate_hz:
            raise SampleRateError(
                f"the sample rate is {rate_hz} Hz; "
                f"allowed is {limits.min_sample_rate_hz} to {limits.max_sample_rate_hz} Hz"
            )
        if self.rate_hz:
            raise UndecodableAudioError(
                f"the sample rate changes from {self.rate_hz} to {rate_hz} Hz "
                f"after {self.duration_s:.2f} s; one rate is expected"
            )
        self.rate_hz = rate_hz

    def _allowed_durations(self) -> str:
        return f"allowed is {self._limits.min_duration_s:g} to {self._limits.max_duration_s:g} s"


def _read(container: InputContainer, track: AudioStream, mono: _MonoBuffer) -> None:
    """Decodes into `mono` until the file ends, breaks off, or a limit is hit."""
    timeline = _Timeline(container.format.name)
    is_damaged = False
    for packet in _packets(container, track):
        try:
            frames = packet.decode()
        except FFmpegError:
            is_damaged = (
                mono.n_samples > 0
            )  # before the first sample: a stream cut out of a longer one
            continue
        for frame in frames:
            if (is_damaged and packet.size) or timeline.has_gap(frame, mono.n_samples):
                raise UndecodableAudioError(
                    f"the file is damaged after {mono.duration_s:.2f} s of audio"
                )
            mono.add(frame)


class _Timeline:
    """Finds audio missing in the middle, in containers that number their samples."""

    def __init__(self, container: str) -> None:
        self._container = container
        self._origin: int | None = None

    def has_gap(self, frame: av.AudioFrame, n_samples: int) -> bool:
        """n_samples: decoded before. webm and mp4 may leave silence out and are not judged."""
        if self._container == "flac":  # every frame is numbered, in samples
            return frame.pts != n_samples
        if self._container != "ogg" or frame.pts is None or frame.time_base is None:
            return False
        at_samples = round(frame.pts * frame.time_base * frame.sample_rate)
        if self._origin is None:
            self._origin = at_samples
        return at_samples - self._origin - n_samples > _MAX_GAP_S * frame.sample_rate


def _packets(container: InputContainer, track: AudioStream) -> Iterator[av.Packet]:
    try:
        yield from container.demux(track)
    except FFmpegError:  # the file breaks off: what came before is used
        return


def _mono(frame: av.AudioFrame) -> Float32Array:
    """float32 (n,), full scale ±1: the mean of a frame's channels."""
    frame = _with_safe_planes(frame)
    sample_format = frame.format.name.removesuffix("p")
    values = frame.to_ndarray()  # planar: [C, n]; packed: [1, n * C]
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    channels: NDArray[np.float64] = values.astype(np.float64)
    if sample_format == "u8":
        channels -= _FULL_SCALE["u8"]
    channels /= _FULL_SCALE[sample_format]
    peak = np.abs(channels).max(initial=0.0)
    if not peak <= _MAX_PEAK:  # also for NaN
        raise UndecodableAudioError(
            f"the clip has a sample of {peak:g} times full scale; "
            f"allowed are finite values up to {_MAX_PEAK:g}"
        )
    return channels.mean(axis=0).astype(np.float32)


def _with_safe_planes(frame: av.AudioFrame) -> av.AudioFrame:
    """The same samples in one plane if there are many.

    PyAV finds the planes by looking for a null pointer behind the last; from eight on there is
    none, and it reads foreign memory.
    """
    if not frame.format.is_planar or frame.layout.nb_channels < _UNSAFE_PLANES:
        return frame
    packed = av.AudioResampler(format=frame.format.packed).resample(frame)
    if len(packed) != 1:
        raise UndecodableAudioError(
            f"the clip has {frame.layout.nb_channels} channels that cannot be told apart"
        )
    return packed[0]
