"""Tells an upload's container from its first bytes. Knows no codec.

Runs before libav sees a byte: probing all of libav's formats would let an upload choose playlists
and other demuxers that open more than the upload.
"""

from __future__ import annotations

from pipeline.audio.mp4_guard import refuse_mp4_bomb

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
# these may start with an ID3 tag or with the first frame: libav probes among them
UNMARKED_CONTAINERS = "mp3,aac,flac"


def sniff_container(data: bytes) -> str | None:
    """libav's name of the container, or None for one of UNMARKED_CONTAINERS.

    Raises UndecodableAudioError for an mp4 whose tables would expand out of all proportion.
    """
    for magic, container in _MAGIC:
        if data.startswith(magic):
            return container
    if data[4:8] in _MP4_FIRST_BOXES:
        refuse_mp4_bomb(data)
        return "mov"
    return None
