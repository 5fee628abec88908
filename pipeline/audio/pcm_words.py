"""Rewrites PCM files that libav misreads: words with unused bits, big-endian wavs.

Samples fill the upper bits of their words, so the whole word can be read as the sample. libav looks
at the number of used bits only: it takes 24 bits in words of 32 for a rare float format.
"""

from __future__ import annotations

import struct

import numpy as np

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_FMT = struct.Struct("<HHIIHH")  # tag, channels, rate, byte rate, bytes of all channels, bits
_EXTENSION = struct.Struct("<HHII")  # size, valid bits, speakers, the tag as the head of a GUID
_GUID_TAIL = bytes.fromhex("00001000800000aa00389b71")
_BITS_AT = 14
_VALID_BITS_AT = 18
_CHUNK = struct.Struct("<4sI")
_RIFF_HEAD_BYTES = 12
_MAX_CHUNKS = 1_000
_MAX_WORD_BYTES = 8
_WORD_BITS = (16, 24, 32)
_CAF_DESC_AT = 8 + 12  # behind the file's head and the chunk's, which always comes first
_CAF_BITS_AT = _CAF_DESC_AT + 28


def readable_wav(data: bytes) -> bytes:
    """A wav that libav reads correctly; `data` itself if it already does, or is not understood."""
    if data.startswith(b"RIFX"):
        data = _little_endian(data)
    chunks = _chunks(data, "<")
    start, n_bytes = chunks.get(b"fmt ", (0, 0))
    if n_bytes < _FMT.size or start + n_bytes > len(data) or data.startswith(b"RIFX"):
        return data
    tag, n_channels, _, _, align, bits = _FMT.unpack_from(data, start)
    if tag == _EXTENSIBLE and n_bytes >= _FMT.size + _EXTENSION.size:
        _, valid, _, subformat = _EXTENSION.unpack_from(data, start + _FMT.size)
        if subformat in (_PCM, _FLOAT) and bits in _WORD_BITS and 0 < valid < bits:
            return _with_number(data, start + _VALID_BITS_AT, bits, "<H")
    word_bits = align * 8 // n_channels if n_channels else 0
    used_bytes = -(-bits // 8)
    if tag == _PCM and word_bits in _WORD_BITS and used_bytes * 8 < word_bits:
        body = _body(data, chunks)
        if _low_bytes_are_zero(body, word_bits // 8, word_bits // 8 - used_bytes):
            return _with_number(data, start + _BITS_AT, word_bits, "<H")
    return data


def readable_caf(data: bytes) -> bytes:
    """A caf of plain samples whose header says the word's size; `data` itself for any other."""
    if data[_CAF_DESC_AT - 12 : _CAF_DESC_AT - 8] != b"desc" or len(data) < _CAF_BITS_AT + 4:
        return data
    form, _, packet_bytes, packet_frames, n_channels, bits = struct.unpack_from(
        ">4sIIIII", data, _CAF_DESC_AT + 8
    )
    word_bits = packet_bytes * 8 // n_channels if n_channels and packet_frames == 1 else 0
    if form != b"lpcm" or word_bits not in _WORD_BITS or not 0 < bits < word_bits:
        return data
    return _with_number(data, _CAF_BITS_AT, word_bits, ">I")


def _little_endian(data: bytes) -> bytes:
    """A RIFX file of plain samples as RIFF: libav swaps the header's bytes, not the samples'."""
    chunks = _chunks(data, ">")
    start, n_bytes = chunks.get(b"fmt ", (0, 0))
    if n_bytes < _FMT.size or start + n_bytes > len(data):
        return data
    tag, n_channels, rate_hz, byte_rate, align, bits = struct.unpack_from(">HHIIHH", data, start)
    fmt = _FMT.pack(tag, n_channels, rate_hz, byte_rate, align, bits)
    if tag == _EXTENSIBLE and n_bytes >= _FMT.size + _EXTENSION.size:
        more = struct.unpack_from(">HHII", data, start + _FMT.size)
        fmt += _EXTENSION.pack(*more) + _GUID_TAIL
    word_bytes = align // n_channels if n_channels else 0
    is_plain = tag in (_PCM, _FLOAT) or len(fmt) > _FMT.size
    if not is_plain or not 0 < word_bytes <= _MAX_WORD_BYTES:
        return data
    body = _body(data, chunks)
    words = np.frombuffer(body[: len(body) - len(body) % word_bytes], np.uint8)
    turned = words.reshape(-1, word_bytes)[:, ::-1].tobytes()
    head = _CHUNK.pack(b"fmt ", len(fmt)) + fmt + _CHUNK.pack(b"data", len(turned))
    return _CHUNK.pack(b"RIFF", 4 + len(head) + len(turned)) + b"WAVE" + head + turned


def _with_number(data: bytes, at: int, number: int, form: str) -> bytes:
    packed = struct.pack(form, number)
    return b"".join((data[:at], packed, data[at + len(packed) :]))


def _chunks(data: bytes, order: str) -> dict[bytes, tuple[int, int]]:
    """Start and size of a RIFF file's chunks, the first of each name, up to its samples."""
    found: dict[bytes, tuple[int, int]] = {}
    at = _RIFF_HEAD_BYTES
    for _ in range(_MAX_CHUNKS):
        if at + _CHUNK.size > len(data) or b"data" in found:
            break
        name, n_bytes = struct.unpack_from(f"{order}4sI", data, at)
        at += _CHUNK.size
        found.setdefault(name, (at, n_bytes))
        at += n_bytes + n_bytes % 2
    return found


def _body(data: bytes, chunks: dict[bytes, tuple[int, int]]) -> memoryview:
    """The samples' bytes. A size of 0 or beyond the file is that of a stream: up to its end."""
    start, n_bytes = chunks.get(b"data", (len(data), 0))
    return memoryview(data)[start : start + n_bytes if n_bytes else None]


def _low_bytes_are_zero(body: memoryview, word_bytes: int, n_low: int) -> bool:
    """Whether samples fill the upper bits of their words; floats of 24 bits do not."""
    words = np.frombuffer(body[: len(body) - len(body) % word_bytes], np.uint8)
    lows = words.reshape(-1, word_bytes)[:, :n_low]
    return lows.size > 0 and not lows.any()
