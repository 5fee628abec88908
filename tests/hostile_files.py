"""Uploads made to break the decoder, by name, with what the decoder owes each of them."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.errors import (
    AudioError,
    ClipDurationError,
    InputError,
    SampleRateError,
    SilentAudioError,
    UndecodableAudioError,
)
from tests.audio_files import (
    FTYP,
    box,
    compressed_header_mp4,
    damaged,
    flac_bomb,
    fragmented_mp4,
    libav,
    mp4,
    tone,
    wav,
    wav_of,
)

OK = None  # decodes
ANY = InputError  # an error or a clip within the limits: both are right
Case = tuple[bytes, type[InputError] | None]


def hostile_cases() -> dict[str, Case]:
    """Every case: the upload, and the error it must raise."""
    return {**dict(_junk()), **dict(_wavs()), **dict(_packed()), **dict(bombs())}


def _junk() -> Iterator[tuple[str, Case]]:
    rng = np.random.default_rng(3)
    refused = UndecodableAudioError
    yield "empty", (b"", refused)
    yield "one byte", (b"R", refused)
    yield "text", (b"this is not audio\n" * 500, refused)
    yield "html", (b"<html><body>502 Bad Gateway</body></html>", refused)
    yield "json", (b'{"audio": "base64"}', refused)
    yield "zeros", (bytes(100_000), refused)
    yield "ones", (b"\xff" * 100_000, refused)
    yield "png", (b"\x89PNG\r\n\x1a\n" + rng.bytes(5_000), refused)
    yield "zip", (b"PK\x03\x04" + rng.bytes(5_000), refused)
    yield "pdf", (b"%PDF-1.7\n" + rng.bytes(5_000), refused)
    yield "elf", (Path(sys.executable).resolve().read_bytes()[:50_000], refused)
    yield "playlist", (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n", refused)
    yield "concat", (b"ffconcat version 1.0\nfile /etc/hostname\n", refused)
    yield "id3 alone", (b"ID3\x04\0\0\0\0\x0f\x7f" + bytes(3_000), refused)
    magics = [
        b"RIFF",
        b"RIFX",
        b"RF64",
        b"fLaC",
        b"OggS",
        b"\x1aE\xdf\xa3",
        b"#!AMR\n",
        b"#!AMR-WB\n",
        b"\xff\xfb\x90",
        b"RIFF\xff\xff\xff\xffWAVE",
        b"RIFX\xff\xff\xff\xffWAVEfmt \0\0\0\x10",
        b"FORM\xff\xff\xff\xffAIFF",
        b"FORM\0\0\0\0AIFC",
        b"caff\0\1\0\0",
        b"caff\0\1\0\0desc" + bytes(7) + b"\x20",
        b"wvpk",
        ASF_MAGIC,
        b"\x0bw",
        b"\x0bw" + bytes(3) + b"\x80",
        b"G" + (bytes(187) + b"G") * 4,
    ]
    for magic in [*magics, b"\xff\xf1\x50", b"ID3\x04\0\0\0\0\0\x10", b"\0\0\0\x18ftypM4A "]:
        yield f"{magic!r} then noise", (magic + rng.bytes(30_000), ANY)
        yield f"{magic!r} then nothing", (magic, refused)


def _wavs() -> Iterator[tuple[str, Case]]:
    second = tone(16_000, 1)
    body = np.rint(second[0] * 32_767).astype("<i2").tobytes()
    yield "wav header alone", (wav(second, 16_000)[:44], UndecodableAudioError)
    yield "wav cut in the header", (wav(second, 16_000)[:30], UndecodableAudioError)
    yield "wav claims 10 h", (wav(second, 16_000, data_bytes=36_000 * 32_000), OK)
    yield "wav claims 4 GiB", (wav(second, 16_000, data_bytes=2**32 - 1), OK)
    yield "wav claims nothing", (wav(second, 16_000, data_bytes=0), OK)
    yield "wav with an odd byte", (wav(second, 16_000) + b"x", OK)
    yield "wav 0.1 s", (wav(tone(16_000, 0.1), 16_000), ClipDurationError)
    yield "wav 31 s", (wav(tone(8_000, 31), 8_000), ClipDurationError)
    yield "wav 8 bit", (wav(second, 16_000, 8), OK)
    yield "wav 7.1", (wav(tone(48_000, 1, 8), 48_000), OK)
    yield "wav silent", (wav(second * 0, 16_000), SilentAudioError)
    yield "wav constant", (wav(second * 0 + 0.5, 16_000), SilentAudioError)
    yield "wav float nan", (wav(second * np.nan, 16_000, -32), UndecodableAudioError)
    yield "wav double inf", (wav(second + np.inf, 16_000, -64), UndecodableAudioError)
    yield "wav double 1e300", (wav(second * 1e300, 16_000, -64), UndecodableAudioError)
    yield "wav integers as floats", (wav(second * 32_768, 16_000, -32), UndecodableAudioError)
    for rate_hz in (1, 100, 7_999, 192_001, 2**31 - 1):
        yield f"wav {rate_hz} Hz", (wav_of(body, rate_hz), SampleRateError)
    for rate_hz in (0, 2**31, 2**32 - 1):
        yield f"wav {rate_hz} Hz", (wav_of(body, rate_hz), AudioError)
    for n_channels in (0, 100, 600, 65_535):
        yield f"wav {n_channels} channels", (wav_of(body, 16_000, n_channels), ANY)
    for bits in (0, 1, 7, 12, 17, 33, 64, 255, 65_535):
        yield f"wav {bits} bits", (wav_of(body, 16_000, bits=bits), ANY)
    for tag in (0, 2, 6, 7, 0x11, 0x31, 0x55, 0x161, 0xFF, 0xF1AC, 0xFFFE, 0xFFFF):
        yield f"wav tag {tag:#x}", (wav_of(body, 16_000, tag=tag), ANY)


def _packed() -> Iterator[tuple[str, Case]]:
    music = tone(48_000, 2)
    files = {
        "flac": libav(music, 48_000, "flac", "flac"),
        "mp3": libav(music, 48_000, "mp3", "libmp3lame"),
        "opus": libav(music, 48_000, "ogg", "libopus"),
        "webm": libav(music, 48_000, "webm", "libopus"),
        "aac": libav(music, 48_000, "adts", "aac"),
        "m4a": libav(music, 48_000, "ipod", "aac"),
        "video": libav(music, 48_000, "mp4", "aac"),
        "aiff": libav(music, 48_000, "aiff", "pcm_s24be"),
        "caf": libav(music, 48_000, "caf", "pcm_s16le"),
        "caf of packets": libav(music, 48_000, "caf", "alac"),
        "wavpack": libav(music, 48_000, "wv", "wavpack", sample_format="s16p"),
        "wma": libav(music, 44_100, "asf", "wmav2", bit_rate=96_000),
        "ac3": libav(music, 48_000, "ac3", "ac3"),
        "eac3": libav(music, 48_000, "eac3", "eac3"),
        "ts": libav(music, 48_000, "mpegts", "aac"),
    }
    for name, data in files.items():
        yield name, (data, OK)
        has_checks = name in ("flac", "caf", "caf of packets")  # or ends with its samples
        yield f"{name} with a zero tail", (data + bytes(5_000), ANY if has_checks else OK)
        for share in (0.02, 0.3, 0.7, 0.99):
            yield f"{name} cut at {share}", (data[: int(len(data) * share)], ANY)
            yield f"{name} damaged at {share}", (damaged(data, share), ANY)
    # a header flipped such that libav's decoder finds 33 channels
    odd = bytearray(libav(tone(48_000, 1), 48_000, "adts", "aac"))
    odd[5], odd[25], odd[26], odd[56] = 0, 143, 0, 127
    yield "aac of 33 channels", (bytes(odd), ANY)
    yield "flac then mp3", (files["flac"] + files["mp3"], ANY)
    yield (
        "aac that changes its rate",
        (
            libav(music, 48_000, "adts", "aac") + libav(tone(24_000, 2), 24_000, "adts", "aac"),
            UndecodableAudioError,
        ),
    )


ASF_MAGIC = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")


def wavpack_bomb(n_channels: int) -> bytes:
    """A block of silence that claims many channels of its largest size."""
    claim = b"\x8d\x01" + struct.pack("<H", n_channels & 0xFFF) if n_channels > 255 else b""
    channel_info = claim or bytes([0x0D, 1, n_channels, 0])
    body = channel_info + bytes([0x0A, 0, 0x02, 0, 0x03, 0, 0x04, 0, 0x05, 0])
    head = struct.pack(
        "<4sIHBBIIIII", b"wvpk", 24 + len(body), 0x410, 0, 0, 150_000, 0, 150_000, 0x1807 | 4, 0
    )
    return (head + body) * 4


def caf_bomb(n_packets: int, *, hidden_behind: bytes = b"") -> bytes:
    """A table of packets that takes a byte for each, and much more in libav."""
    sound = struct.pack(">d4sIIIII", 48_000.0, b"aac ", 0, 0, 1024, 1, 0)
    table = struct.pack(">qqii", n_packets, n_packets * 1024, 0, 0) + b"\x01" * n_packets
    chunk = struct.Struct(">4sq")
    return b"".join(
        [
            b"caff\0\1\0\0",
            chunk.pack(b"desc", len(sound)) + sound,
            hidden_behind,
            chunk.pack(b"pakt", len(table)) + table,
            chunk.pack(b"data", -1) + bytes(4) + bytes(1_000),
        ]
    )


def wma_claims() -> Iterator[tuple[str, Case]]:
    """A wma file with a huge number in each place of its header in turn."""
    asf = bytearray(libav(tone(44_100, 1), 44_100, "asf", "wmav2", bit_rate=96_000))
    for at in range(24, 700, 4):
        yield f"wma with a huge number at {at}", (
            bytes(asf[:at] + b"\xff\xff\xff\x7f" + asf[at + 4 :]), ANY
        )  # fmt: skip


def bombs() -> Iterator[tuple[str, Case]]:
    for n_channels in (3, 255, 4_095):
        yield f"wavpack of {n_channels} channels", (wavpack_bomb(n_channels), AudioError)
    yield "caf with a huge table", (caf_bomb(8_000_000), UndecodableAudioError)
    for name, chunk in (
        ("free", struct.pack(">4sq", b"free", 0)),
        ("negative", struct.pack(">4sq", b"info", -1)),
        ("empty", struct.pack(">4sq", b"kuki", 0)),
    ):
        hidden = caf_bomb(8_000_000, hidden_behind=chunk)
        yield f"caf with a huge table behind {name}", (hidden, UndecodableAudioError)
    claims = caf_bomb(100).replace(struct.pack(">q", 100), struct.pack(">q", 2**31 // 24 - 1), 1)
    yield "caf that claims a huge table", (claims, UndecodableAudioError)
    yield "flac of 20 min that claims 10 h", (flac_bomb(1_200, 36_000), ClipDurationError)
    yield "flac of 1 s that claims 10 h", (flac_bomb(1, 36_000), SilentAudioError)
    yield (
        "mp4 with a compressed header",
        (compressed_header_mp4(500_000_000), UndecodableAudioError),
    )
    for is_long in (False, True):
        claims = mp4(b".mp3", 30_000_000, 24, bytes(16_000), is_long=is_long)
        yield f"mp4 with a huge table, long {is_long}", (claims, UndecodableAudioError)
    chunks = mp4(b"sowt", 8_000, 2, bytes(16_000), n_chunks=500, chunk_samples=2**31 - 1)
    yield "mp4 with huge chunks", (chunks, UndecodableAudioError)
    edits = mp4(b".mp3", 100_000, 1, bytes(100_000), n_edits=5_000)
    yield "mp4 with an index repeated by edits", (edits, UndecodableAudioError)
    yield "mp4 with a huge fragment", (fragmented_mp4(50_000_000), UndecodableAudioError)
    yield "mp4 with a million tables", (FTYP + b"stsc" * 1_000_000, UndecodableAudioError)
    yield "mp4 with a million boxes", (FTYP + box(b"free") * 1_000_000, UndecodableAudioError)
    # the table hides behind boxes whose sizes lie
    huge = mp4(b".mp3", 30_000_000, 24, bytes(16_000))
    moov = huge[huge.index(b"moov") - 4 :]
    for name, prefix in (
        ("free", box(b"free", bytes(8))),
        ("long free", struct.pack(">I4sQ", 1, b"free", 24) + bytes(8)),
        ("empty mdat", box(b"mdat")),
        ("size 4", struct.pack(">I4s", 4, b"free")),
    ):
        yield f"mp4 with a huge table after {name}", (FTYP + prefix + moov, UndecodableAudioError)
    yield (
        "mp4 whose mdat swallows the header",
        (
            FTYP + struct.pack(">I4s", 2**31, b"mdat") + moov,
            UndecodableAudioError,
        ),
    )
