"""Refuses mp4 files built to exhaust memory, before libav reads them.

libav allocates an index of the size that a header claims, before it looks for the data: a file of
500 bytes can request gigabytes. The size of the index is computed here from the tables alone.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from pipeline.errors import UndecodableAudioError

_BOX_HEAD_BYTES = 8
_LONG_SIZE_BYTES = 8
_MAX_INDEX_ENTRIES = 12_000_000  # of about 24 bytes; 30 s of 192 kHz PCM with two edits stays below
_ENTRIES_PER_BYTE = 4  # a sample has at least a byte, and some files list samples twice
_FREE_ENTRIES = 100_000
_MAX_BOXES = 10_000  # of one kind; thirty seconds in fragments stay far below
_MAX_TRACKS = 100
_LEAST_PCM_SAMPLES = 160  # that libav puts into one entry when it cuts chunks of PCM


def refuse_mp4_bomb(data: bytes) -> None:
    """Raises UndecodableAudioError for a compressed header or an index out of proportion."""
    _refuse_crowds(data)
    n_entries = n_edits = n_chunks = chunk_samples = 0
    for box in _boxes_but_mdat(data):
        if b"cmvd" in box:  # unused for decades, and expands a thousandfold
            raise UndecodableAudioError(
                "the mp4 file has a compressed header; a plain one is needed"
            )
        n_entries += sum(_claimed_samples(box))
        n_edits += sum(_count(content) for content in _contents(box, b"elst"))
        for name, entry_bytes in ((b"stco", 4), (b"co64", 8)):
            for content in _contents(box, name):
                n_chunks = max(n_chunks, min(_count(content), len(content) // entry_bytes))
        chunk_samples += sum(_largest_chunk(content) for content in _contents(box, b"stsc"))
    n_entries += n_chunks + n_chunks * chunk_samples // _LEAST_PCM_SAMPLES
    n_entries *= max(1, n_edits)  # every edit may repeat all of it
    allowed = min(_MAX_INDEX_ENTRIES, _FREE_ENTRIES + _ENTRIES_PER_BYTE * len(data))
    if n_entries > allowed:
        raise UndecodableAudioError(
            f"the mp4 file of {len(data)} bytes claims an index of {n_entries} entries; "
            f"allowed are {allowed}"
        )


def _refuse_crowds(data: bytes) -> None:
    """Bound the number of boxes: the time of the sums below grows with it."""
    for name in (b"stsz", b"trun", b"elst", b"stco", b"co64", b"stsc"):
        allowed = _MAX_TRACKS if name == b"stsc" else _MAX_BOXES
        found = data.count(name)
        if found > allowed:
            raise UndecodableAudioError(
                f"the mp4 file has {found} {name.decode()} boxes; allowed are {allowed}"
            )


def _claimed_samples(box: bytes) -> Iterator[int]:
    for content in _contents(box, b"stsz"):
        if len(content) < struct.calcsize(">III"):
            continue
        _, sample_bytes, n_samples = struct.unpack_from(">III", content)
        # with one size for all no list follows, and the claim costs nothing
        yield n_samples if sample_bytes else min(n_samples, len(content) // 4)
    for content in _contents(box, b"trun"):  # may leave out every field of its samples
        yield _count(content)


def _count(content: memoryview) -> int:
    """The number after version and flags."""
    return struct.unpack_from(">I", content, 4)[0]


def _largest_chunk(content: memoryview) -> int:
    """Samples per chunk, at most, by an `stsc`: entries of (first chunk, samples, description)."""
    whole = len(content) - len(content) % 4
    numbers = np.frombuffer(content[:whole], ">u4")[2:]
    runs = numbers[1 : 3 * _count(content) : 3]
    return int(runs.max(initial=0))


def _contents(box: bytes, name: bytes) -> Iterator[memoryview]:
    """What follows each `name`, up to the end of the box that holds it; at least 8 bytes."""
    at = box.find(name)
    while at >= 0:
        start = at + len(name)
        if box[max(0, at - 4) : at] == b"\0\0\0\x01":  # a 64-bit size comes first
            start += _LONG_SIZE_BYTES
        content = memoryview(box)[start:]
        if len(content) >= struct.calcsize(">II"):
            yield content
        at = box.find(name, at + 1)


def _boxes_but_mdat(data: bytes) -> Iterator[bytes]:
    """The top-level boxes that libav parses; where sizes make no sense, all the rest is one box."""
    start = 0
    for _ in range(_MAX_BOXES):
        if start + _BOX_HEAD_BYTES > len(data):
            return
        size, kind = struct.unpack_from(">I4s", data, start)
        head_bytes = _BOX_HEAD_BYTES
        if size == 1 and start + _BOX_HEAD_BYTES + _LONG_SIZE_BYTES <= len(data):
            (size,) = struct.unpack_from(">Q", data, start + _BOX_HEAD_BYTES)
            head_bytes += _LONG_SIZE_BYTES
        if size < head_bytes:  # 0: up to the end
            size = len(data) - start
        if kind != b"mdat":
            yield data[start : start + size]
        start += size
    raise UndecodableAudioError(f"the mp4 file has more than {_MAX_BOXES} boxes")
