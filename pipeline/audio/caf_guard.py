"""Refuses caf files built to exhaust memory, before libav reads them.

libav keeps an entry of 24 bytes for every packet that a table lists, and the table may take a byte
for it.
"""

from __future__ import annotations

import struct

from pipeline.errors import UndecodableAudioError

_MAX_PACKETS = 1_000_000  # of 2.5 ms at least; the longest clip has some 12,000
_MAX_CHUNKS = 10_000
_LEAST_DATA_BYTES = 4  # its edit count
_FILE_HEAD_BYTES = 8
_CHUNK_HEAD = struct.Struct(">4sq")


def refuse_caf_bomb(data: bytes) -> None:
    """Raises UndecodableAudioError for packet tables out of proportion, or chunks without size."""
    n_packets = 0
    at = _FILE_HEAD_BYTES
    for _ in range(_MAX_CHUNKS):
        if at + _CHUNK_HEAD.size > len(data):
            return
        name, n_bytes = _CHUNK_HEAD.unpack_from(data, at)
        at += _CHUNK_HEAD.size
        if name == b"data" and n_bytes < _LEAST_DATA_BYTES:
            return  # up to the end, and libav reads nothing behind it
        if n_bytes < 0 or (n_bytes == 0 and name != b"free"):
            raise UndecodableAudioError(f"the caf file has a chunk {name!r} of {n_bytes} bytes")
        if name == b"pakt" and at + 8 <= len(data):
            n_packets += struct.unpack_from(">Q", data, at)[0]
        if n_packets > _MAX_PACKETS:
            raise UndecodableAudioError(
                f"the caf file claims {n_packets} packets; allowed are {_MAX_PACKETS}"
            )
        at += n_bytes
    raise UndecodableAudioError(f"the caf file has more than {_MAX_CHUNKS} chunks")
