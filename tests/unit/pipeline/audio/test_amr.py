"""Phones' recordings, whose encoders leave pauses out."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import numpy as np
import pytest

from pipeline.audio.amr import speech_frames
from pipeline.audio.decode import decode_clip
from pipeline.audio.reference import read_reference
from pipeline.audio.resample import StreamResampler
from pipeline.errors import UndecodableAudioError
from pipeline.voice_list import VOICES_DIR, load_voices
from tests.audio_files import FTYP, box, full_box, libav, numbers

pytestmark = pytest.mark.unit
NARROW, WIDE = b"#!AMR\n", b"#!AMR-WB\n"
NO_DATA = b"\x7c"
NARROW_SID, WIDE_SID = b"\x44" + bytes(5), b"\x4c" + bytes(5)
LOST = b"\x74"  # wide-band only
TWO_S_OF_FRAMES = 100


def narrow_frames() -> list[bytes]:
    """Two seconds of speech in frames of 12.2 kbit/s."""
    voice = decode_clip(load_voices(VOICES_DIR)["bruno"].path.read_bytes())
    resampler = StreamResampler(voice.sample_rate_hz, 8_000)
    samples = np.concatenate([resampler.process(voice.samples), resampler.finish()])[:16_000]
    encoder = "libopencore_amrnb"
    data = libav(samples[np.newaxis], 8_000, "amr", encoder, bit_rate=12_200)
    frames = [frame for frame in speech_frames(data[len(NARROW) :], "amrnb") if frame]
    return frames[:TWO_S_OF_FRAMES]


def wide_frames() -> list[bytes]:
    """Two seconds of noise: valid frames of 12.65 kbit/s, of any bits."""
    rng = np.random.default_rng(6)
    return [b"\x14" + rng.bytes(32) for _ in range(TWO_S_OF_FRAMES)]


def with_pauses(frames: list[bytes], pause: Iterable[bytes]) -> list[bytes]:
    return [*frames[:50], *pause, *frames[50:]]


def damaged_frame(frame: bytes) -> bytes:
    """As the network marks it: the quality bit is off."""
    return bytes([frame[0] & ~4]) + frame[1:]


def in_3gp(entry: bytes, frames: list[bytes], rate_hz: int, per_sample: int = 1) -> bytes:
    """A 3gp with a list of samples, `per_sample` frames in each."""
    samples = [b"".join(frames[at : at + per_sample]) for at in range(0, len(frames), per_sample)]
    damr = box(b"damr", b"test", struct.pack(">BHBB", 0, 0x83FF, 0, per_sample))
    sound = box(
        entry,
        bytes(6) + b"\0\1" + bytes(8) + struct.pack(">HHHH", 1, 16, 0, 0),
        numbers(rate_hz << 16),
        damr,
    )
    ticks = rate_hz // 50 * per_sample
    stbl = box(
        b"stbl",
        full_box(b"stsd", numbers(1), sound),
        full_box(b"stts", numbers(1, len(samples), ticks)),
        full_box(b"stsc", numbers(1, 1, len(samples), 1)),
        full_box(b"stsz", numbers(0, len(samples), *map(len, samples))),
        full_box(b"stco", numbers(1, len(FTYP) + 8)),
    )
    length = ticks * len(samples)
    mdhd = full_box(b"mdhd", numbers(0, 0, rate_hz, length), b"\x55\xc4\0\0")
    handler = full_box(b"hdlr", numbers(0), b"soun", bytes(13))
    media = box(b"mdia", mdhd, handler, box(b"minf", full_box(b"smhd", bytes(4)), stbl))
    header = full_box(b"mvhd", numbers(0, 0, rate_hz, length), bytes(80))
    track = box(b"trak", full_box(b"tkhd", numbers(0, 0, 1, 0, length), bytes(60)), media)
    return FTYP + box(b"mdat", *frames) + box(b"moov", header, track)


PAUSES = [
    [NARROW_SID, *[NO_DATA] * 7, NARROW_SID, *[NO_DATA] * 6],
    [NO_DATA] * 15,
    [NARROW_SID] * 15,
]


@pytest.mark.slow
@pytest.mark.parametrize("pause", PAUSES)
@pytest.mark.parametrize("container", ["amr", "3gp", "3gp, 5 a sample"])
def test_pauses_are_silence_between_the_same_speech(container: str, pause: list[bytes]) -> None:
    frames = with_pauses(narrow_frames(), pause)
    if container == "amr":
        clip = decode_clip(NARROW + b"".join(frames))
    else:
        clip = decode_clip(in_3gp(b"samr", frames, 8_000, 5 if "5" in container else 1))
    assert clip.sample_rate_hz == 8_000
    assert len(clip.samples) == 160 * (TWO_S_OF_FRAMES + 15)
    plain = decode_clip(NARROW + b"".join(narrow_frames())).samples
    np.testing.assert_array_equal(clip.samples[: 160 * 50], plain[: 160 * 50])
    assert not clip.samples[160 * 50 : 160 * 65].any()
    np.testing.assert_array_equal(clip.samples[160 * 65 :], plain[160 * 50 :])


@pytest.mark.parametrize("container", ["amr", "3gp"])
def test_wide_band_pauses_are_silence(container: str) -> None:
    pause = [WIDE_SID, *[NO_DATA] * 7, LOST, *[NO_DATA] * 6]
    frames = with_pauses(wide_frames(), pause)
    data = WIDE + b"".join(frames) if container == "amr" else in_3gp(b"sawb", frames, 16_000)
    clip = decode_clip(data)
    assert clip.sample_rate_hz == 16_000
    assert len(clip.samples) == 320 * (TWO_S_OF_FRAMES + 15)
    assert not clip.samples[320 * 50 : 320 * 65].any()
    assert clip.samples[320 * 65 :].any()


def test_a_file_may_begin_and_end_with_a_pause() -> None:
    frames = narrow_frames()
    data = NARROW + b"".join([NARROW_SID, *[NO_DATA] * 60, *frames, NO_DATA])
    assert len(decode_clip(data).samples) == 160 * (TWO_S_OF_FRAMES + 62)
    assert read_reference(data).clip.duration_s == pytest.approx(2.3, abs=0.1)


def test_lost_frames_are_silence() -> None:
    frames = narrow_frames()
    lost = [*frames[:50], *map(damaged_frame, frames[50:60]), *frames[60:]]
    clip = decode_clip(NARROW + b"".join(lost))
    assert len(clip.samples) == 160 * TWO_S_OF_FRAMES
    assert not clip.samples[160 * 50 : 160 * 60].any()


def test_unknown_frames_in_the_middle_are_damage() -> None:
    frames = narrow_frames()
    unknown = b"\x64"  # type 12 is reserved
    with pytest.raises(UndecodableAudioError, match=r"damaged after 1\.00 s"):
        decode_clip(in_3gp(b"samr", with_pauses(frames, [unknown]), 8_000))


def test_a_cut_frame_at_the_end_is_left_out() -> None:
    data = NARROW + b"".join(narrow_frames())
    assert len(decode_clip(data[:-3]).samples) == 160 * (TWO_S_OF_FRAMES - 1)
