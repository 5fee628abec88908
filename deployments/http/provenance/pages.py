"""What the API's pages say of checks: bodies and replies, each with an example."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from deployments.http.api_pages import BINARY, answers, refusal, takes
from deployments.marks.checks import CHECK
from deployments.marks.marking import WATERMARK


class ProvenanceResult(BaseModel):
    """Of one kind of mark. Those of `c2pa` have an issuer and a validation_state."""

    type: Literal["watermark", "c2pa"]
    outcome: Literal["detected", "not_detected"]
    generated_at: str | None
    model: str | None
    watermark: str | None = None
    score: float | None = None
    checked_s: float | None = None
    marked_s: float | None = None
    stretches: list[list[float]] | None = None
    issuer: str | None = None
    validation_state: Literal["trusted", "valid", "invalid", "not_present"] | None = None


class ProvenanceCheck(BaseModel):
    """What a file says of where it comes from."""

    object: Literal["content_provenance_check"]
    created_at: int
    results: list[ProvenanceResult]


BODIES: tuple[type[BaseModel], ...] = (ProvenanceCheck,)
_EXAMPLE = {
    "object": CHECK,
    "created_at": 1_795_728_000,
    "results": [
        {
            "type": "watermark",
            "outcome": "detected",
            "watermark": WATERMARK,
            "score": 0.998,
            "checked_s": 4.6,
            "marked_s": 4.6,
            "stretches": [[0.0, 4.6, 0.998]],
            "generated_at": None,
            "model": None,
        },
        {
            "type": "c2pa",
            "outcome": "not_detected",
            "validation_state": "not_present",
            "issuer": None,
            "generated_at": None,
            "model": None,
        },
    ],
}
_FORM = {
    "schema": {"type": "object", "required": ["file"], "properties": {"file": BINARY}},
    "example": {"file": "RIFF…"},
}
CHECK_DOC: dict[str, Any] = {
    **answers(_EXAMPLE, ProvenanceCheck, refused=(400, 413, 415, 422, 503, 504)),
    **takes({"multipart/form-data": _FORM}),
}
CHECK_DOC["responses"] |= {422: refusal("The file's audio is too short, or of a strange rate")}
