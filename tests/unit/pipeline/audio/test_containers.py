"""Kinds of files: those that joined the accepted ones, look-alikes, odd words, padded ends."""

from __future__ import annotations

import io
import struct

import av
import numpy as np
import pytest

from pipeline.audio.decode import ClipLimits, decode_clip
from pipeline.audio.sniff import ACCEPTED
from pipeline.errors import ClipDurationError, UndecodableAudioError
from tests.audio_files import libav, quantised, tone, wav, wav_of

pytestmark = pytest.mark.unit
RATE_HZ = 24_000
GUID_TAIL = bytes.fromhex("800000aa00389b71")


@pytest.mark.parametrize(
    ("container", "encoder"),
    [
        ("aiff", "pcm_s16be"),
        ("aiff", "pcm_s16le"),  # sowt
        ("aiff", "pcm_s24be"),
        ("aiff", "pcm_f32be"),
        ("caf", "pcm_s16be"),
        ("caf", "pcm_s16le"),
        ("caf", "pcm_s24le"),
        ("caf", "pcm_f32le"),
        ("wv", "wavpack"),
        ("matroska", "wavpack"),
        ("mov", "pcm_s16be"),  # twos
        ("mov", "pcm_s24le"),
        ("mov", "alac"),
    ],
)
def test_lossless_files_are_exact(container: str, encoder: str) -> None:
    samples = tone(RATE_HZ, 0.7, 2)
    sample_format = "s16p" if encoder in ("wavpack", "alac") else None
    data = libav(samples, RATE_HZ, container, encoder, "stereo", sample_format=sample_format)
    stored = quantised(samples, 16) / 2**15
    if "24" in encoder:
        stored = (quantised(samples, 32) >> 8) / 2**23
    elif "f32" in encoder:
        stored = samples.astype(np.float32).astype(np.float64)
    expected = stored.mean(axis=0).astype(np.float32)
    np.testing.assert_array_equal(decode_clip(data).samples, expected)


@pytest.mark.parametrize(
    ("container", "encoder", "rate_hz", "bit_rate"),
    [
        ("asf", "wmav2", 44_100, 96_000),
        ("asf", "wmav1", 22_050, 32_000),
        ("ac3", "ac3", 48_000, None),
        ("eac3", "eac3", 48_000, None),
        ("mpegts", "aac", 48_000, None),
        ("mpegts", "mp2", 48_000, None),
        ("mpegts", "libmp3lame", 44_100, None),
        ("mpegts", "ac3", 48_000, None),
        ("mpegts", "libopus", 48_000, None),
        ("caf", "adpcm_ima_qt", 24_000, None),
        ("caf", "alac", 24_000, None),
        ("aiff", "pcm_mulaw", 8_000, None),
        ("matroska", "ac3", 48_000, None),
    ],
)
def test_files_that_joined_the_accepted_ones(
    container: str, encoder: str, rate_hz: int, bit_rate: int | None
) -> None:
    data = libav(tone(rate_hz, 1.5), rate_hz, container, encoder, bit_rate=bit_rate)
    clip = decode_clip(data)
    assert clip.sample_rate_hz == rate_hz
    assert clip.duration_s == pytest.approx(1.5, abs=0.05)
    middle = clip.samples[rate_hz // 2 : rate_hz]
    t = np.arange(len(middle)) / rate_hz
    level = 2 * abs(np.mean(middle * np.exp(-2j * np.pi * 220 * t)))
    assert level == pytest.approx(0.4 * 0.95, rel=0.1)


def test_discs_time_stamps_before_mpeg_ts_packets() -> None:
    data = libav(tone(48_000, 1), 48_000, "mpegts", "aac", muxer={"mpegts_m2ts_mode": "1"})
    assert data[4] == 0x47
    assert decode_clip(data).duration_s == pytest.approx(1, abs=0.05)


def extensible(samples: np.ndarray, word_bits: int, valid_bits: int, *, order: str = "<") -> bytes:
    """A WAVE_FORMAT_EXTENSIBLE file: `valid_bits` at the top of every word."""
    body = words(samples, word_bits, valid_bits, order)
    align = len(samples) * word_bits // 8
    fmt = struct.pack(
        f"{order}HHIIHHHHI", 0xFFFE, len(samples), RATE_HZ, RATE_HZ * align, align, word_bits,
        22, valid_bits, (1 << len(samples)) - 1,
    )  # fmt: skip
    return riff(fmt + struct.pack(f"{order}IHH", 1, 0, 16) + GUID_TAIL, body, order)


def words(samples: np.ndarray, word_bits: int, valid_bits: int, order: str = "<") -> bytes:
    shifted = quantised(samples, valid_bits).T << (word_bits - valid_bits)
    little = shifted.astype("<i8").reshape(-1, 1).view(np.uint8)[:, : word_bits // 8]
    return (little if order == "<" else little[:, ::-1]).tobytes()


def riff(fmt: bytes, body: bytes, order: str = "<") -> bytes:
    size = 4 + 8 + len(fmt) + 8 + len(body)
    magic = b"RIFF" if order == "<" else b"RIFX"
    head = magic + struct.pack(f"{order}I", size) + b"WAVE"
    chunk = struct.Struct(f"{order}4sI")
    return head + chunk.pack(b"fmt ", len(fmt)) + fmt + chunk.pack(b"data", len(body)) + body


@pytest.mark.parametrize("n_channels", [1, 2])
@pytest.mark.parametrize(
    ("word_bits", "valid_bits"),
    [(32, 24), (32, 20), (32, 16), (32, 31), (24, 20), (24, 16), (16, 12), (16, 8), (32, 32)],
)
def test_words_with_fewer_valid_bits(word_bits: int, valid_bits: int, n_channels: int) -> None:
    samples = tone(RATE_HZ, 0.6, n_channels)
    stored = quantised(samples, valid_bits) / 2 ** (valid_bits - 1)
    expected = stored.mean(axis=0).astype(np.float32)
    for order in ("<", ">"):
        data = extensible(samples, word_bits, valid_bits, order=order)
        np.testing.assert_array_equal(decode_clip(data).samples, expected, err_msg=order)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("word_bits", "valid_bits"), [(32, 24), (32, 20), (32, 16), (24, 12)])
def test_plain_wavs_with_words_larger_than_their_bits(
    word_bits: int, valid_bits: int, order: str
) -> None:
    samples = tone(RATE_HZ, 0.6, 2)
    align = 2 * word_bits // 8
    fmt = struct.pack(f"{order}HHIIHH", 1, 2, RATE_HZ, RATE_HZ * align, align, valid_bits)
    clip = decode_clip(riff(fmt, words(samples, word_bits, valid_bits, order), order))
    stored = quantised(samples, valid_bits) / 2 ** (valid_bits - 1)
    np.testing.assert_array_equal(clip.samples, stored.mean(axis=0).astype(np.float32))


def test_24_valid_bits_in_a_caf() -> None:
    samples = tone(RATE_HZ, 0.6)
    caf = bytearray(libav(samples, RATE_HZ, "caf", "pcm_s32le"))
    at = caf.index(b"desc") + 12 + 28
    assert struct.unpack_from(">I", caf, at) == (32,)
    struct.pack_into(">I", caf, at, 24)
    clip = decode_clip(bytes(caf))
    assert len(clip.samples) == samples.shape[1]
    np.testing.assert_allclose(clip.samples, samples[0], atol=1e-6)


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_big_endian_wavs(bits: int) -> None:
    samples = tone(RATE_HZ, 0.6, 2)
    align = 2 * bits // 8
    fmt = struct.pack(">HHIIHH", 1, 2, RATE_HZ, RATE_HZ * align, align, bits)
    body = words(samples, bits, bits, ">")
    if bits == 8:
        body = bytes(value ^ 0x80 for value in body)
    stored = quantised(samples, bits) / 2 ** (bits - 1)
    clip = decode_clip(riff(fmt, body, ">"))
    np.testing.assert_array_equal(clip.samples, stored.mean(axis=0).astype(np.float32))


def test_large_wavs_by_their_other_names() -> None:
    samples = tone(RATE_HZ, 0.6)
    data = libav(samples, RATE_HZ, "wav", "pcm_s16le", muxer={"rf64": "always"})
    assert data.startswith(b"RF64")
    expected = quantised(samples[0], 16) / np.float32(32_768)
    np.testing.assert_array_equal(decode_clip(data).samples, expected)
    np.testing.assert_array_equal(decode_clip(b"BW64" + data[4:]).samples, expected)


def riff_of(form: bytes, magic: bytes = b"RIFF") -> bytes:
    data = form + b"LIST" + struct.pack("<I", 4) + b"hdrl" + bytes(4_000)
    return magic + struct.pack("<I", len(data)) + data


def video(container: str, codec: str = "mpeg4") -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format=container) as file:
        stream = file.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(25):
            file.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        file.mux(stream.encode(None))
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (riff_of(b"AVI "), "an AVI video"),
        (riff_of(b"WEBP"), "a WebP picture"),
        (riff_of(b"RMID"), "a MIDI file"),
        (riff_of(b"ACON"), "an animated cursor"),
        (riff_of(b"what"), "a RIFF file of kind 'what' and no wav"),
        (riff_of(b"what", b"RIFX"), "a RIFF file of kind 'what' and no wav"),
        (b"FORM\0\0\1\0ILBM" + bytes(400), "an IFF picture"),
        (b"FORM\0\0\1\0XXXX" + bytes(400), "an IFF file of kind 'XXXX' and no aiff"),
        (b"\0\0\0\x18ftypheic" + bytes(400), "a HEIC picture"),
        (b"\0\0\0\x18ftypavif" + bytes(400), "an AVIF picture"),
        (b"\x89PNG\r\n\x1a\n" + bytes(400), "a PNG picture"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(400), "a JPEG picture"),
        (b"GIF89a" + bytes(400), "a GIF picture"),
        (b"%PDF-1.7\n" + bytes(400), "a PDF document"),
        (b"PK\x03\x04" + bytes(400), "a zip archive"),
        (b"MThd\0\0\0\6" + bytes(400), "a MIDI file"),
        (b"\x02#!SILK_V3" + bytes(400), "a SILK recording"),
        (b"ID3\x04\0\0\0\0\0\x08" + bytes(8) + riff_of(b"AVI "), "an AVI video"),
        (b"ID3\x04\0\0\0\0\0\x08" + bytes(8) + b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    ],
)
def test_files_that_share_their_first_bytes_are_named(data: bytes, kind: str) -> None:
    with pytest.raises(UndecodableAudioError) as raised:
        decode_clip(data)
    assert raised.value.message.startswith(f"the file is {kind}")
    assert raised.value.message.endswith(f"expected is {ACCEPTED}")
    assert "damaged" not in raised.value.message


@pytest.mark.parametrize("container", ["avi", "flv"])
def test_real_videos_of_other_kinds_are_named(container: str) -> None:
    with pytest.raises(UndecodableAudioError, match=r"the file is an? (AVI|Flash) video; expected"):
        decode_clip(video(container, "flv1" if container == "flv" else "mpeg4"))


@pytest.mark.parametrize("container", ["mp4", "mov", "matroska", "mpegts", "asf"])
def test_videos_without_sound_are_refused(container: str) -> None:
    with pytest.raises(UndecodableAudioError, match="the file has no audio track"):
        decode_clip(video(container))


@pytest.mark.parametrize("codec", ["vp8", "theora"])
def test_ogg_videos_without_sound_are_refused(codec: str) -> None:
    opus = libav(tone(48_000, 1), 48_000, "ogg", "libopus")
    head = {"vp8": b"OVP80\x01\x01", "theora": b"\x80theora\x03\x02\x01"}[codec]
    page = opus[: opus.index(b"OpusHead")] + head + bytes(12) + opus[opus.index(b"OggS", 4) :]
    with pytest.raises(UndecodableAudioError) as raised:
        decode_clip(page)
    assert raised.value.message


@pytest.mark.parametrize(
    ("container", "encoder"),
    [("wav", "pcm_s16le"), ("flac", "flac"), ("ogg", "libopus"), ("adts", "aac"), ("ac3", "ac3")],
)
def test_an_id3_tag_may_come_before_any_format(container: str, encoder: str) -> None:
    data = libav(tone(48_000, 1), 48_000, container, encoder)
    tag = b"ID3\x04\0\0\0\0\x02\x00" + bytes(256)
    footed = b"ID3\x04\0\x10\0\0\x00\x10" + bytes(16) + b"3DI\x04\0\x10\0\0\x00\x10"
    expected = decode_clip(data).digest
    assert decode_clip(tag + data).digest == expected
    if container != "adts":  # left to libav, which takes one tag
        assert decode_clip(tag + footed + data).digest == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("container", "encoder", "rate_hz", "muxer"),
    [
        ("webm", "libopus", 48_000, {}),
        ("ogg", "libopus", 48_000, {}),
        ("adts", "aac", 44_100, {}),
        ("adts", "aac", 16_000, {}),
        ("adts", "aac", 8_000, {}),
        ("ipod", "aac", 44_100, {}),
        ("mp4", "aac", 44_100, {"movflags": "frag_keyframe+empty_moov"}),
        ("mp4", "aac", 8_000, {"movflags": "frag_keyframe+empty_moov"}),
        ("mp3", "libmp3lame", 44_100, {"write_xing": "0"}),
        ("mp3", "libmp3lame", 8_000, {"write_xing": "0"}),
        ("matroska", "aac", 16_000, {}),
        ("mpegts", "aac", 48_000, {}),
        ("ac3", "ac3", 48_000, {}),
        ("amr", "libopencore_amrnb", 8_000, {}),
        ("3gp", "libopencore_amrnb", 8_000, {}),
        ("wav", "adpcm_ms", 22_050, {}),
        ("wav", "pcm_s16le", 44_100, {}),
        ("aiff", "pcm_s16be", 44_100, {}),
        ("flac", "flac", 44_100, {}),
    ],
)
def test_the_longest_clip_is_accepted_in_any_codec(
    container: str, encoder: str, rate_hz: int, muxer: dict[str, str]
) -> None:
    limits = ClipLimits(max_duration_s=1.0)
    longest = libav(tone(rate_hz, 1.0), rate_hz, container, encoder, muxer=muxer)
    clip = decode_clip(longest, limits)
    assert 0.95 < clip.duration_s <= 1.0
    with pytest.raises(ClipDurationError, match=r"longer than 1 s; allowed is 0\.5 to 1 s"):
        decode_clip(libav(tone(rate_hz, 1.5), rate_hz, container, encoder, muxer=muxer), limits)


def test_an_unaccepted_codec_says_what_is_accepted() -> None:
    body = wav_of(bytes(64_000), 16_000, bits=4, tag=0x20)
    with pytest.raises(UndecodableAudioError, match=r"codec is adpcm_yamaha.* expected is wav"):
        decode_clip(body)


def test_floats_of_24_bits_are_not_taken_for_integers() -> None:
    body = (tone(RATE_HZ, 1)[0] * 2**23).astype("<f4").tobytes()
    fmt = struct.pack("<HHIIHH", 1, 1, RATE_HZ, RATE_HZ * 4, 4, 24)
    with pytest.raises(UndecodableAudioError, match="codec is pcm_f24le"):
        decode_clip(riff(fmt, body))
    assert decode_clip(wav(tone(RATE_HZ, 1), RATE_HZ)).duration_s == 1
