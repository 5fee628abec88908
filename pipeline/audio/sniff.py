"""Detects an upload's container by its first bytes, and names other kinds of files.

Runs before libav sees a byte: probing all of libav's formats would let an upload choose playlists
and other demuxers that open more than the upload.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.audio.caf_guard import refuse_caf_bomb
from pipeline.audio.mp4_guard import refuse_mp4_bomb
from pipeline.audio.pcm_words import readable_caf, readable_wav
from pipeline.errors import UndecodableAudioError

ACCEPTED = (
    "wav, flac, mp3, ogg, aac, amr, mp4, m4a, webm, mkv, aiff, caf, wavpack, wma, ac3 or mpeg-ts"
)

_MAGIC = (
    (b"fLaC", "flac"),
    (b"OggS", "ogg"),
    (b"\x1aE\xdf\xa3", "matroska"),
    (b"#!AMR", "amr"),
    (b"wvpk", "wv"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c", "asf"),
)
_MP4_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp", b"moof")
_FORM = slice(8, 12)  # the type in RIFF, IFF and mp4 files
_RIFF = (b"RIFF", b"RIFX", b"RF64", b"BW64")
_AC3_SYNC = (b"\x0bw", b"w\x0b")
_TS_SYNC = b"\x47"
_TS_STRIDES = ((0, 188), (4, 192), (0, 204))  # first sync byte and distance; discs add time stamps
# these may start with an ID3 tag or with the first frame: libav probes among them
_UNMARKED = "mp3,aac,flac"
_ID3_HEAD_BYTES = 10
_ID3_HAS_FOOTER = 0x10
_MAX_ID3_TAGS = 8

_RIFF_KINDS = {
    b"AVI ": "an AVI video",
    b"AVIX": "an AVI video",
    b"WEBP": "a WebP picture",
    b"RMID": "a MIDI file, which holds notes and no sound",
    b"ACON": "an animated cursor",
    b"sfbk": "a SoundFont",
    b"CDDA": "a CD track's index",
}
_FORM_KINDS = {b"ILBM": "an IFF picture", b"8SVX": "an IFF 8SVX sample"}
_MP4_KINDS = {
    b"heic": "a HEIC picture",
    b"heix": "a HEIC picture",
    b"mif1": "a HEIF picture",
    b"msf1": "a HEIF picture",
    b"avif": "an AVIF picture",
    b"avis": "an AVIF picture",
    b"crx ": "a raw photo",
}
_OTHER_KINDS = (
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89PNG\r\n", "a PNG picture"),
    (b"GIF8", "a GIF picture"),
    (b"%PDF-", "a PDF document"),
    (b"PK\x03\x04", "a zip archive or an office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a", "a rar archive"),
    (b"MThd", "a MIDI file, which holds notes and no sound"),
    (b"FLV\x01", "a Flash video"),
    (b"\x00\x00\x01\xba", "an MPEG program stream"),
    (b".RMF", "a RealMedia file"),
    (b"MAC ", "a Monkey's Audio file"),
    (b"TTA1", "a True Audio file"),
    (b".snd", "an AU file"),
    (b"riff\x2e\x91\xcf\x11", "a Wave64 file"),
    (b"DSD ", "a DSF file"),
    (b"#!SILK", "a SILK recording"),
    (b"\x02#!SILK", "a SILK recording"),
)


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload for libav, and the format to read it as."""

    data: bytes
    container: str | None
    """libav's name; None when it may probe among `candidates` only."""
    candidates: str = ""


def sniff(data: bytes) -> Upload:
    """An upload that libav may read.

    Raises UndecodableAudioError naming the kind of a file that is not accepted, or for an mp4 or
    caf whose tables would expand out of all proportion.
    """
    marked = _marked(data)
    if marked is None and data.startswith(b"ID3"):
        marked = _marked(_behind_id3(data))
    return Upload(data, None, _UNMARKED) if marked is None else marked


def _marked(data: bytes) -> Upload | None:
    """The upload, if its first bytes identify it."""
    for magic, container in _MAGIC:
        if data.startswith(magic):
            return Upload(data, container)
    for family in (_riff, _iff, _caf, _mp4, _ac3, _mpeg_ts):
        upload = family(data)
        if upload is not None:
            return upload
    for magic, kind in _OTHER_KINDS:
        if data.startswith(magic):
            raise _refusal(kind)
    return None


def _riff(data: bytes) -> Upload | None:
    if not data.startswith(_RIFF):
        return None
    form = data[_FORM]
    if form not in (b"WAVE", b""):
        raise _refusal(_RIFF_KINDS.get(form, f"a RIFF file of kind {_word(form)} and no wav"))
    return Upload(readable_wav(data), "wav")


def _iff(data: bytes) -> Upload | None:
    if not data.startswith(b"FORM"):
        return None
    form = data[_FORM]
    if form not in (b"AIFF", b"AIFC", b""):
        raise _refusal(_FORM_KINDS.get(form, f"an IFF file of kind {_word(form)} and no aiff"))
    return Upload(data, "aiff")


def _caf(data: bytes) -> Upload | None:
    if not data.startswith(b"caff"):
        return None
    refuse_caf_bomb(data)
    return Upload(readable_caf(data), "caf")


def _mp4(data: bytes) -> Upload | None:
    first_box = data[4:8]
    if first_box not in _MP4_FIRST_BOXES:
        return None
    brand = data[_FORM]
    if first_box == b"ftyp" and brand in _MP4_KINDS:
        raise _refusal(_MP4_KINDS[brand])
    refuse_mp4_bomb(data)
    return Upload(data, "mov")


def _ac3(data: bytes) -> Upload | None:
    return Upload(data, None, "ac3,eac3") if data.startswith(_AC3_SYNC) else None


def _mpeg_ts(data: bytes) -> Upload | None:
    is_ts = any(data[at : at + 2 * step + 1 : step] == _TS_SYNC * 3 for at, step in _TS_STRIDES)
    return Upload(data, "mpegts") if is_ts else None


def _behind_id3(data: bytes) -> bytes:
    """The bytes behind ID3 tags, which some programs put in front of any format."""
    at = 0
    for _ in range(_MAX_ID3_TAGS):
        head = data[at : at + _ID3_HEAD_BYTES]
        if len(head) < _ID3_HEAD_BYTES or not head.startswith(b"ID3"):
            break
        n_bytes = 0
        for seven_bits in head[6:]:
            n_bytes = n_bytes << 7 | seven_bits & 0x7F
        at += _ID3_HEAD_BYTES * (2 if head[5] & _ID3_HAS_FOOTER else 1) + n_bytes
    return data[at:]


def _refusal(kind: str) -> UndecodableAudioError:
    return UndecodableAudioError(f"the file is {kind}; expected is {ACCEPTED}")


def _word(form: bytes) -> str:
    return repr(form.decode("latin-1"))
