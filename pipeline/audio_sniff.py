"""Tells an upload's container from its first bytes and refuses containers built to exhaust memory.

Runs before libav sees a byte: probing all of libav's formats would let an upload choose playlists
and other demuxers that open more than the upload. Knows no codec.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from pipeline.errors import UndecodableAudioError

_MAGIC = (
    (b"RIFF", "wav"),
    (b"RIFX", "wav"),
    (b"RF64", "wav"),
    (b"fLaC", "flac"),
    (b"OggS", "ogg"),
    (b"\x1aE\xdf\xa3", "matroska"),
    (b"#!AMR", "amr"),
)
_MP4_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp", b"moof")
UNMARKED_CONTAINERS = (
    "mp3,aac,flac"  # may start with an ID3 tag or with the first frame: libav probes among these
)
_BOX_HEAD_BYTES = 8
_LONG_BOX_HEAD_BYTES = 16
_TABLE_HEAD_BYTES = 12  # version and flags, sample size, sample count


def sniff_container(data: bytes) -> str | None:
    """libav's name of the container, or None for one of UNMARKED_CONTAINERS.

    Raises UndecodableAudioError for an mp4 whose tables would expand out of all proportion.
    """
    for magic, container in _MAGIC:
        if data.startswith(magic):
            return container
    if data[4:8] in _MP4_FIRST_BOXES:
        _refuse_mp4_bomb(data)
        return "mov"
    return None


def _refuse_mp4_bomb(data: bytes) -> None:
    """Two boxes make libav allocate what they claim before anything is read.

    A compressed moov (`cmov`, unused for decades) expands a thousandfold, and a sample table with
    one size for all samples makes an index entry for each that it claims, be there data or not.
    """
    for box in _boxes_but_mdat(data):
        if b"cmvd" in box:
            raise UndecodableAudioError(
                "the mp4 file has a compressed header; a plain one is needed"
            )
        for sample_bytes, n_samples in _sample_tables(box):
            if sample_bytes * n_samples > len(data):
                raise UndecodableAudioError(
                    f"the mp4 file of {len(data)} bytes claims {n_samples} samples "
                    f"of {sample_bytes} bytes"
                )


def _sample_tables(box: bytes) -> Iterator[tuple[int, int]]:
    """(bytes of every sample, samples) of each `stsz` in the box; 0 bytes: a list follows."""
    at = box.find(b"stsz")
    while at >= 0:
        # a 64-bit size may stand between the name and the content
        is_long = box[max(0, at - 4) : at] == b"\0\0\0\x01"
        content = box[at + (12 if is_long else 4) :][:_TABLE_HEAD_BYTES]
        if len(content) == _TABLE_HEAD_BYTES:
            _, sample_bytes, n_samples = struct.unpack(">III", content)
            yield sample_bytes, n_samples
        at = box.find(b"stsz", at + 4)


def _boxes_but_mdat(data: bytes) -> Iterator[bytes]:
    """The top-level boxes that libav parses; where sizes make no sense, all the rest is one box."""
    start = 0
    while start + _BOX_HEAD_BYTES <= len(data):
        size, kind = struct.unpack_from(">I4s", data, start)
        head_bytes = _BOX_HEAD_BYTES
        if size == 1 and start + _LONG_BOX_HEAD_BYTES <= len(data):
            (size,) = struct.unpack_from(">Q", data, start + _BOX_HEAD_BYTES)
            head_bytes = _LONG_BOX_HEAD_BYTES
        if size < head_bytes:  # 0: up to the end
            size = len(data) - start
        if kind != b"mdat":
            yield data[start : start + size]
        start += size
