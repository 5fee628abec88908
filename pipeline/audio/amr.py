"""Splits AMR payloads into frames and tells speech from pauses.

With discontinuous transmission a phone marks pauses by frames of other types. libav's decoders
refuse those, so they are removed first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

FRAME_S = 0.02


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of AMR."""

    sample_rate_hz: int
    """Of the decoded speech."""
    speech_bytes: tuple[int, ...]
    """Bytes behind the first one, by frame type."""
    pause_bytes: dict[int, int]
    """The same for frame types that stand for a pause or a lost frame."""


AMR_DECODERS = {
    "amrnb": _Kind(8_000, (12, 13, 15, 17, 19, 20, 26, 31), {8: 5, 9: 6, 10: 5, 11: 5, 15: 0}),
    "amrwb": _Kind(16_000, (17, 23, 32, 36, 40, 46, 50, 58, 60), {9: 5, 14: 0, 15: 0}),
}  # RFC 4867, section 5.3, and the comfort noise of 3GPP TS 26.101, annex A
_TYPE_SHIFT, _TYPE_MASK = 3, 0xF
_IS_GOOD = 0b100


def speech_frames(payload: bytes, decoder: str) -> Iterator[bytes | None]:
    """Each 20 ms of `payload`: a frame of speech, or None for a pause or a lost frame.

    decoder: a key of AMR_DECODERS. From a frame of unknown type on, the rest is one frame, which
    the decoder refuses.
    """
    kind = AMR_DECODERS[decoder]
    at = 0
    while at < len(payload):
        head = payload[at]
        frame_type = head >> _TYPE_SHIFT & _TYPE_MASK
        is_speech = frame_type < len(kind.speech_bytes)
        if not is_speech and frame_type not in kind.pause_bytes:
            yield payload[at:]
            return
        n_bytes = kind.speech_bytes[frame_type] if is_speech else kind.pause_bytes[frame_type]
        frame = payload[at : at + 1 + n_bytes]
        yield frame if is_speech and head & _IS_GOOD else None
        at += len(frame)
