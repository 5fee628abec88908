"""The section of the settings that describes how synthetic speech is marked as such."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from deployments.config.section import Positive, Strict


class MarkSettings(Strict):
    """Marks of all audio that the service makes; see docs/marks.md."""

    enabled: bool = True
    """Put an inaudible watermark into all speech, which `POST /v1/content_provenance_checks` and
    `timbre verify` find. The law may ask for it where the service is used (in the EU, Article 50(2)
    of the AI Act)."""
    c2pa_certificate: str | None = None
    """PEM file of the certificate chain that whole wav, mp3 and flac files are signed with, the
    signer's own first; such files are signed anew for every reply. Needs c2pa_key and the extra
    `c2pa`. Left out: nothing is signed."""
    c2pa_key: str | None = None
    """PEM file (PKCS #8) of the certificate's private key, elliptic curve P-256 (ES256)."""
    max_check_s: Annotated[float, Field(gt=0, le=3_600)] = 120.0
    """Most seconds of a file that are listened to for a mark, from its beginning: a second takes
    the vocoder some 30 ms, on a thread beside its streams."""
    max_checks: Positive = 2
    """Files that one vocoder listens to at a time; further ones get 503."""

    @model_validator(mode="after")
    def _a_certificate_has_its_key(self) -> MarkSettings:
        if (self.c2pa_certificate is None) != (self.c2pa_key is None):
            raise ValueError("c2pa_certificate and c2pa_key go together")
        return self
