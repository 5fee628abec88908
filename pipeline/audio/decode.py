"""Decodes an uploaded file into a reference clip, or raises an error with the reason.

Nothing that an upload claims is trusted: libav gets one known container and a list of audio codecs,
decoding stops at the longest allowed clip, and every decoded sample is checked.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from blake3 import blake3

from pipeline.audio.amr import AMR_DECODERS, FRAME_S, speech_frames
from pipeline.audio.channels import ChannelTally, Float64Array, frame_channels
from pipeline.audio.sniff import ACCEPTED, Upload, sniff
from pipeline.contracts import Float32Array, ReferenceClip
from pipeline.errors import (
    ClipDurationError,
    SampleRateError,
    SilentAudioError,
    TooLargeError,
    UndecodableAudioError,
)

_MAX_GAP_S = 0.1  # that an ogg's time stamps may be ahead of its samples
_MAX_FRAME_VALUES = 2**22  # samples times channels of one packet; Vorbis at its largest has half
_PADDING_SAMPLES = 3_200  # that encoders put around a clip: two frames and their delay, at most
_PADDING_S = (0.15, 0.4)  # the same at high and low rates
_CODECS = frozenset(
    [
        *("aac", "aac_latm", "ac3", "alac", "amrnb", "amrwb", "eac3", "flac", "mp2", "mp2float"),
        *("mp3", "mp3float", "opus", "libopus", "vorbis", "libvorbis"),
        *("wavpack", "wmapro", "wmav1", "wmav2"),
        *("adpcm_ima_qt", "adpcm_ima_wav", "adpcm_ms", "gsm_ms"),
        *("pcm_alaw", "pcm_mulaw", "pcm_s8", "pcm_u8"),
        *("pcm_s16be", "pcm_s16le", "pcm_s24be", "pcm_s24le", "pcm_s32be", "pcm_s32le"),
        *("pcm_f32be", "pcm_f32le", "pcm_f64be", "pcm_f64le"),
    ]
)
_EXACT_CODECS = ("pcm_", "flac", "wavpack")  # hold as many samples as were recorded


# Versions that decoding depends on: of our own rules, and of the codecs in PyAV.
DECODER_VERSION = f"2+av-{av.__version__}"


@dataclass(frozen=True, slots=True)
class ClipLimits:
    """Bounds of a reference clip, all inclusive."""

    min_duration_s: float = 0.5
    max_duration_s: float = 30.0
    min_sample_rate_hz: int = 8_000
    max_sample_rate_hz: int = 192_000
    max_bytes: int = 25_000_000
    silence_peak: float = 0.001
    """A clip is silent when all samples lie within this of their mean (full scale is 1)."""
    cuts_long: bool = False
    """What is longer is read up to there, not refused."""


def decode_clip(
    data: bytes, limits: ClipLimits | None = None, *, picks_channels: bool = False
) -> ReferenceClip:
    """Decodes the first audio track of a file in one of the ACCEPTED formats.

    Samples keep their rate; channels are averaged (in float64, rounded once); wav, flac and other
    lossless files are exact. picks_channels: leave out of the mean the channels that are silent, or
    that would cancel the loudest. The digest is BLAKE3 over the rate (8 bytes, little-endian) and
    the little-endian float32 samples.

    A truncated file is used up to its end; one that is visibly damaged in the middle is refused.
    Codec padding around the longest allowed clip is cut off; pauses that an AMR file omits are
    silence. Raises TooLargeError, UndecodableAudioError, SampleRateError,
    ClipDurationError or SilentAudioError, without `param`. Blocks. Memory is bounded by `limits`,
    not by what the file claims.
    """
    limits = limits or ClipLimits()
    if len(data) > limits.max_bytes:
        raise TooLargeError(f"the file has {len(data)} bytes; allowed are {limits.max_bytes}")
    if not data:
        raise UndecodableAudioError("the file is empty")
    upload = sniff(data)
    tally = ChannelTally() if picks_channels else None
    mono = _decode(upload, _MonoBuffer(limits, tally=tally))
    chosen = tally.sounding() if tally else None
    if chosen:  # known only now; keeping all channels until here would take too much memory
        mono = _decode(upload, _MonoBuffer(limits, chosen=chosen))
    samples = mono.finish()
    return ReferenceClip(samples, mono.rate_hz, clip_digest(samples, mono.rate_hz))


def clip_digest(samples: Float32Array, sample_rate_hz: int) -> str:
    """Hex BLAKE3 that names a clip by its rate and samples, float32 (n,)."""
    rate = sample_rate_hz.to_bytes(8, "little")
    return blake3(rate + samples.astype("<f4").tobytes()).hexdigest()


def _decode(upload: Upload, mono: _MonoBuffer) -> _MonoBuffer:
    try:
        with _open(upload) as container:
            _read(container, _audio_track(container), mono)
    except FFmpegError as error:
        raise UndecodableAudioError(f"the file cannot be decoded: {error.strerror}") from error
    return mono


def _open(upload: Upload) -> InputContainer:
    options = {
        "codec_whitelist": ",".join(sorted(_CODECS)),
        "protocol_whitelist": "none",
        "max_samples": str(_MAX_FRAME_VALUES),
    }
    if upload.container is None:
        options["format_whitelist"] = upload.candidates
    try:
        return av.open(
            io.BytesIO(upload.data),
            "r",
            format=upload.container,
            options=options,
            metadata_errors="ignore",
        )
    except FFmpegError as error:
        container = upload.container
        found = f"damaged {container}" if container else "of no known audio format"
        raise UndecodableAudioError(f"the file is {found}; expected is {ACCEPTED}") from error


def _audio_track(container: InputContainer) -> AudioStream:
    if not container.streams.audio:
        raise UndecodableAudioError("the file has no audio track")
    track = container.streams.audio[0]
    context = track.codec_context
    if context is None or context.codec.name not in _CODECS:
        codec = "unknown" if context is None else context.codec.name
        raise UndecodableAudioError(
            f"the audio codec is {codec}, which is not accepted; expected is {ACCEPTED}"
        )
    context.thread_count = 1
    context.options = {"max_samples": str(_MAX_FRAME_VALUES)}
    if context.codec.name == "flac":
        context.options = {**context.options, "err_detect": "crccheck+explode"}
    return track


class _MonoBuffer:
    """Collects decoded frames as mono samples; raises as soon as a limit is exceeded.

    tally: gets every frame's channels. chosen: the channels to average; None for all of them.
    """

    def __init__(
        self,
        limits: ClipLimits,
        *,
        tally: ChannelTally | None = None,
        chosen: list[int] | None = None,
    ) -> None:
        self.rate_hz = 0
        self.n_samples = 0
        self.padding_s = 0.0  # by which the file may exceed the longest clip
        self._limits = limits
        self._tally = tally
        self._chosen = chosen
        self._blocks: list[Float32Array] = []

    @property
    def duration_s(self) -> float:
        return self.n_samples / self.rate_hz if self.rate_hz else 0.0

    def add(self, frame: av.AudioFrame) -> None:
        self._check_rate(frame.sample_rate)
        channels = frame_channels(frame)
        if self._tally:
            self._tally.add(channels)
        mono = self._mean(channels)
        self.n_samples += len(mono)
        if self.is_full and not self._limits.cuts_long:
            raise ClipDurationError(
                f"the clip is longer than {self._limits.max_duration_s:g} s; "
                f"{self._allowed_durations()}"
            )
        self._blocks.append(mono)

    @property
    def is_full(self) -> bool:
        """There is as much as may be."""
        return self.duration_s > self._limits.max_duration_s + self.padding_s

    def finish(self) -> Float32Array:
        """float32 (n,). Raises for a clip that is too short or silent."""
        if not self.n_samples:
            raise UndecodableAudioError("the file holds no audio that can be decoded")
        if self.duration_s < self._limits.min_duration_s:
            raise ClipDurationError(
                f"the clip lasts {self.duration_s:.5g} s; {self._allowed_durations()}"
            )
        samples = np.concatenate(self._blocks)
        samples = samples[: int(self._limits.max_duration_s * self.rate_hz)]
        peak = np.abs(samples - samples.mean(dtype=np.float64)).max()
        if peak <= self._limits.silence_peak:
            raise SilentAudioError(
                f"the clip is silent: its peak is {peak:.5f} of full scale; "
                f"more than {self._limits.silence_peak:g} is needed"
            )
        return samples

    def _mean(self, channels: Float64Array) -> Float32Array:
        if self._chosen is not None and max(self._chosen) < len(channels):
            channels = channels[self._chosen]
        return channels.mean(axis=0).astype(np.float32)

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
    """Decodes into `mono` until the file ends or is truncated, or a limit is reached."""
    timeline = _Timeline(container.format.name)
    mono.padding_s = _padding_s(track)
    is_damaged = False
    for packet in _packets(container, track):
        try:
            frames = _frames(packet, track)
        except FFmpegError:
            is_damaged = mono.n_samples > 0  # before: a stream cut out of a longer one
            continue
        for frame in frames:
            if (is_damaged and packet.size) or timeline.has_gap(frame, mono.n_samples):
                raise UndecodableAudioError(
                    f"the file is damaged after {mono.duration_s:.2f} s of audio"
                )
            mono.add(frame)
            if mono.is_full:
                return


def _padding_s(track: AudioStream) -> float:
    if track.codec_context.name.startswith(_EXACT_CODECS):
        return 0.0
    least_s, most_s = _PADDING_S
    return min(max(_PADDING_SAMPLES / max(track.rate, 1), least_s), most_s)


def _frames(packet: av.Packet, track: AudioStream) -> list[av.AudioFrame]:
    decoder = track.codec_context.name
    if decoder not in AMR_DECODERS or not packet.size:
        return cast("list[av.AudioFrame]", packet.decode())
    frames: list[av.AudioFrame] = []
    for speech in speech_frames(bytes(packet), decoder):
        if speech is None:
            frames.append(_silence(AMR_DECODERS[decoder].sample_rate_hz))
        else:
            frames += track.codec_context.decode(av.Packet(speech))
    return frames


def _silence(rate_hz: int) -> av.AudioFrame:
    nothing = np.zeros((1, round(FRAME_S * rate_hz)), np.float32)
    frame = av.AudioFrame.from_ndarray(nothing, format="flt", layout="mono")
    frame.sample_rate = rate_hz
    return frame


class _Timeline:
    """Detects missing audio in the middle, in containers that number their samples."""

    def __init__(self, container: str) -> None:
        self._container = container
        self._origin: int | None = None

    def has_gap(self, frame: av.AudioFrame, n_samples: int) -> bool:
        """n_samples: decoded before. webm and mp4 may omit silence and are not checked."""
        if self._container == "flac":  # every frame is numbered, in samples
            return frame.pts != n_samples
        if self._container != "ogg" or frame.pts is None or frame.time_base is None:
            return False
        at_samples = round(frame.pts * frame.time_base * frame.sample_rate)
        if self._origin is None:
            self._origin = at_samples
        return at_samples - self._origin - n_samples > _MAX_GAP_S * frame.sample_rate


def _packets(container: InputContainer, track: AudioStream) -> Iterator[av.Packet]:
    while True:
        try:
            yield from container.demux(track)
        except FFmpegError:  # a truncated file: the samples before are used
            return
        except IndexError:  # a packet of a stream that the file begins only now, which PyAV has not
            continue
        return
