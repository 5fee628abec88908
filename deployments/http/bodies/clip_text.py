"""A clip as text: base64 in its usual variants, or a data: URI. Fetches no address itself.

Decodes in slices, so that a thread with 25 MiB lets others run: a single call of `binascii` would
hold the interpreter for a tenth of a second.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from urllib.parse import unquote, unquote_to_bytes

from pipeline.errors import InputError, UnsupportedError

SLICE_CHARS = 2**18  # about a millisecond of decoding
_ADDRESS = re.compile(r"(?:[a-z][a-z0-9+.-]*://|file:)", re.IGNORECASE)
_WEB = re.compile(r"\s*https?://", re.IGNORECASE)
_DATA_URI = "data:"
_SPACES = b" \t\r\n\f\v"
_FROM_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_GROUP = 4  # base64 characters that hold three bytes


def web_address(value: str) -> str | None:
    """The address that stands in place of a clip, if one does."""
    return value.strip() if _WEB.match(value) else None


def clip_bytes(value: str, param: str) -> bytes:
    """The clip in `value`: base64 (plain or URL-safe, padded or not, in lines or not) or data: URI.

    param: the field it came in. Raises UnsupportedError for an address, InputError for anything
    else that holds no clip.
    """
    text = value.strip() if value[:1].isspace() or value[-1:].isspace() else value
    if _ADDRESS.match(text):
        raise UnsupportedError(
            f"{param}: addresses are not fetched; send the clip itself, as base64 or a data: URI "
            "in step_audio.prompt_audio_base64, or as a file part to /v1/audio/speech/upload "
            "(requests for speech may name a host that the service lists in clips.hosts)",
            param=param,
        )
    if text[: len(_DATA_URI)].lower() != _DATA_URI:
        return _from_base64(text, param)
    head, comma, payload = text[len(_DATA_URI) :].partition(",")
    if not comma:
        raise InputError(f"{param}: a data: URI needs a comma before its data", param=param)
    if head.replace(" ", "").lower().endswith(";base64"):
        return _from_base64(unquote(payload) if "%" in payload else payload, param)
    try:
        return unquote_to_bytes(payload)
    except UnicodeEncodeError as error:
        raise InputError(
            f"{param}: a data: URI holds half a surrogate pair", param=param
        ) from error


def _from_base64(text: str, param: str) -> bytes:
    try:
        return b"".join(_decoded(text))
    except (binascii.Error, UnicodeEncodeError) as error:
        why = "holds a character outside ASCII" if isinstance(error, UnicodeError) else str(error)
        raise InputError(f"{param} is not valid base64: {why}", param=param) from error


def _decoded(text: str) -> Iterator[bytes]:
    """`text` decoded slice by slice; what does not fill a group of four waits for the next slice.

    Padding may be missing, and is allowed at the end alone.
    """
    rest, is_padded = b"", False
    for start in range(0, len(text), SLICE_CHARS):
        piece = text[start : start + SLICE_CHARS].encode("ascii")
        piece = piece.translate(_FROM_URL_SAFE, delete=_SPACES)
        if not piece:
            continue
        body = piece.rstrip(b"=")
        if (body and is_padded) or b"=" in body:
            raise binascii.Error("characters follow the padding")
        is_padded = len(body) < len(piece)
        rest += body
        whole = len(rest) - len(rest) % _GROUP
        yield binascii.a2b_base64(rest[:whole], strict_mode=True)
        rest = rest[whole:]
    yield binascii.a2b_base64(rest + b"=" * (-len(rest) % _GROUP), strict_mode=True)
