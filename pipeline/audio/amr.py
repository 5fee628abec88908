"""Cuts AMR payloads into frames and tells speech from pauses.

A phone that saves power marks pauses with frames of other kinds (discontinuous transmission).
libav's own decoders refuse those, so they never see them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

FRAME_S = 0.02


@dataclass(frozen=True, slots=True)
class _Kind:
    """sample_rate_hz: of the decoded speech. speech_bytes: by frame type, behind the first byte.

    pause_bytes: of the types that stand for a pause or a lost frame.
    """

    sample_rate_hz: int
    speech_bytes: tuple[int, ...]
    pause_bytes: dict[int, int]


AMR_DECODERS = {
    "amrnb": _Kind(8_000, (12, 13, 15, 17, 19, 20, 26, 31), {8: 5, 9: 6, 10: 5, 11: 5, 15: 0}),
    "amrwb": _Kind(16_000, (17, 23, 32, 36, 40, 46, 50, 58, 60), {9: 5, 14: 0, 15: 0}),
}  # RFC 4867, section 5.3, and the comfort noise of 3GPP TS 26.101, annex A
_TYPE_SHIFT, _TYPE_MASK = 3, 0xF
_IS_GOOD = 0b100


def speech_frames(payload: bytes, decoder: str) -> Iterator[bytes | None]:
    """Every 20 ms of `payload` in turn: a frame of speech, or None for a pause or a lost frame.

    decoder: a key of AMR_DECODERS. From a frame of no known type on, all the rest is one frame,
    for the decoder to refuse.
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
