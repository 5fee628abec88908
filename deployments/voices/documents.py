"""What is written of uploaded voices and of consents."""

from __future__ import annotations

import secrets
import time
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

from deployments.voices.shelf import Document

_TIME_DIGITS = 12  # hex digits of milliseconds since 1970: ids sort by age until the year 10889
_RANDOM_BYTES = 10


def new_id(kind: str) -> str:
    """`voice_…` or `cons_…`: later ones sort later, and none can be guessed."""
    return (
        f"{kind}_{time.time_ns() // 1_000_000:0{_TIME_DIGITS}x}{secrets.token_hex(_RANDOM_BYTES)}"
    )


class Written(BaseModel):
    """Frozen; fields of later versions are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    @classmethod
    def read(cls, document: Document) -> Self:
        """Of a document."""
        return cls.model_validate(document)

    def written(self) -> Document:
        """As a document."""
        return self.model_dump(mode="json", exclude_none=True)


TranscriptSource = Literal["given", "asr"]
Status = Literal["live", "deleted", "purged"]


class VoiceState(Written):
    """How an uploaded voice stands: one entry of its journal.

    That of a deletion or a purge holds nothing of the voice; the entry before it still does.
    """

    status: Status
    at_unix_s: int
    """When this was written."""
    name: str = ""
    """As it is shown."""
    version: int = 0
    """The newest one, from 1."""
    created_unix_s: int = 0
    """Of the voice."""


class VoiceVersion(Written):
    """What was uploaded, and what is known of it. Never changes."""

    number: int
    created_unix_s: int
    raw: str
    """Hex digest of the clip's bytes as they came, `cache_store.keys.raw_key`."""
    size_bytes: int
    mime_type: str
    clip_digest: str
    """Hex digest of the decoded clip: what the cache's records of it are removed by."""
    transcript: str | None = None
    """What is said in the clip."""
    transcript_source: TranscriptSource | None = None
    """Who told it; None in documents from before anybody but the caller did."""
    language: str | None = None
    """BCP 47."""
    description: str | None = None
    consent: str | None = None
    """Id of a consent; None only where settings let uploads go without."""
    quality: dict[str, Any] = {}
    """pipeline.audio.quality.report.QualityReport."""

    @property
    def told_by(self) -> TranscriptSource | None:
        """Who told the transcript; None where there is none."""
        return None if self.transcript is None else self.transcript_source or "given"


class Consent(Written):
    """Somebody's consent to the use of a voice: one entry of its journal."""

    status: Status
    created_unix_s: int = 0
    name: str = ""
    """A label."""
    language: str = ""
    """BCP 47, of the recording or text."""
    who: str = ""
    """Whose voice it is."""
    given_unix_s: int = 0
    text: str | None = None
    """The words, where they were written."""
    recording: str | None = None
    """Hex digest of a recording of them."""
    mime_type: str | None = None
