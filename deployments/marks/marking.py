"""What a reply says of its provenance, and how its file is signed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from deployments.config.marks.mark_settings import MarkSettings
from deployments.marks.signing import Signer

HEADER = "X-Provenance"
WATERMARK = "resemble-perth"


def provenance(*, is_marked: bool, is_signed: bool = False) -> str:
    """The header's value: a list of tokens, as RFC 8941 has them."""
    told = f"synthetic, watermark={WATERMARK if is_marked else 'none'}"
    return f"{told}, c2pa" if is_signed else told


@dataclass(frozen=True, slots=True)
class ReplyMarks:
    """Of one reply. sign: signs its file, blocking; None for what is not signed."""

    is_marked: bool = False
    sign: Callable[[bytes], bytes] | None = None

    @property
    def told(self) -> str:
        """The header's value."""
        return provenance(is_marked=self.is_marked, is_signed=self.sign is not None)

    def unsigned(self) -> ReplyMarks:
        """Of audio that is no file."""
        return ReplyMarks(self.is_marked)


NO_MARKS = ReplyMarks()


class Marking:
    """How the service marks. Raises ConfigError for a certificate that cannot be used."""

    def __init__(self, settings: MarkSettings) -> None:
        self.is_on = settings.enabled
        self.signer = Signer.of(settings)

    def of_reply(self, audio_format: str, *, is_marked: bool, is_whole: bool) -> ReplyMarks:
        """is_marked: unless the caller may have it without. is_whole: its file is sent as one."""
        is_marked = self.is_on and is_marked
        signer = self.signer if is_whole else None
        if signer is None or not signer.signs(audio_format):
            return ReplyMarks(is_marked)
        return ReplyMarks(is_marked, partial(signer.signed, audio_format=audio_format))
