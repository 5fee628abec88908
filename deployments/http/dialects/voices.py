"""Voices and consents as clients send them and read them: OpenAI's shapes and vLLM-Omni's.

Both post to the same path. What a client reads back is OpenAI's object when it named a stored
consent, and vLLM-Omni's when its consent was words.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from deployments.config.settings import Limits
from deployments.http.bodies.fields import NAME, OBJECT, Lenient, refused
from deployments.voices.consents import StoredConsent
from deployments.voices.documents import Consent, VoiceVersion
from deployments.voices.enrolment import VoiceRequest
from deployments.voices.uploaded import StoredVoice
from pipeline.errors import InputError, TextError, UnsupportedError

VOICE_CLIPS = (
    "audio_sample", "audio", "file", "clip", "audio_file", "ref_audio", "prompt_audio_file",
    "recording",
)  # fmt: skip
CONSENT_CLIPS = ("recording", "audio_sample", "audio", "file")
MAX_DESCRIPTION_CHARS = 1_000
MAX_CONSENT_CHARS = 4_000
MAX_LABEL_CHARS = 200
EMBEDDING_NUMBERS = 192
NO_TRANSCRIPT = {
    "code": "no_transcript",
    "message": "what is said in the clip is not known",
    "advice": "Post ref_text to /v1/audio/voices/{id}, or send it with every request to speak.",
}
HEARD_TRANSCRIPT = {
    "code": "heard_transcript",
    "message": "what is said in the clip was not told: a recogniser heard it",
    "advice": "Read ref_text, and post a corrected one to /v1/audio/voices/{id} where it is wrong.",
}
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8}){0,4}")
LANGUAGE_SHAPE: dict[str, Any] = {"pattern": f"^{_LANGUAGE.pattern}$"}


def language_tag(value: str | None) -> str | None:
    """A BCP 47 tag, without white space around it; None stays None."""
    if value is None:
        return None
    if _LANGUAGE.fullmatch(value.strip()) is None:
        raise PydanticCustomError("language", "a BCP 47 language tag is expected, such as en-US")
    return value.strip()


class ConsentBody(Lenient):
    """`POST /v1/audio/voice_consents`, or `consent` of a voice as an object."""

    model_config = ConfigDict(extra="ignore")

    name: Annotated[str, Field(max_length=MAX_LABEL_CHARS)] | None = Field(
        None, description="A label for the consent"
    )
    language: str | None = Field(
        None,
        description="BCP 47 tag of what was said, such as en-US",
        json_schema_extra=LANGUAGE_SHAPE,
    )
    text: Annotated[str, Field(max_length=MAX_CONSENT_CHARS)] | None = Field(
        None, description="The words of the consent; or send `recording`, a clip of them"
    )
    who: Annotated[str, Field(max_length=MAX_LABEL_CHARS)] | None = Field(
        None, description="Whose voice it is; the label when left out"
    )
    given_at: datetime | None = Field(
        None, description="When it was given, seconds since 1970 or ISO 8601; now when left out"
    )

    _check_language = field_validator("language")(language_tag)

    def consent(self, *, has_recording: bool, param: str = "") -> Consent:
        """As it is to be kept. Raises InputError for one that says nothing."""
        for field in ("name", "language"):
            if getattr(self, field) is None:
                raise InputError(f"{param}{field} is required", param=f"{param}{field}")
        if self.text is None and not has_recording:
            raise InputError(
                "a consent is a recording (of the person saying so) or a text: send one of them",
                param=f"{param}recording",
            )
        now = int(time.time())
        given = self.given_at
        if given is not None and given.tzinfo is None:
            given = given.replace(tzinfo=UTC)
        return Consent(
            status="live",
            created_unix_s=now,
            name=self.name or "",
            language=self.language or "",
            who=self.who or self.name or "",
            given_unix_s=now if given is None else int(given.timestamp()),
            text=self.text,
        )


class ConsentLabel(Lenient):
    """`POST /v1/audio/voice_consents/{id}`."""

    model_config = ConfigDict(extra="ignore")

    name: Annotated[str, Field(max_length=MAX_LABEL_CHARS)] = Field(description="Another label")


class VoiceBody(Lenient):
    """`POST /v1/audio/voices`, and `POST /v1/audio/voices/{id}`, where all may be left out.

    The clip comes beside it: a file part, or base64 in `audio_sample`.
    """

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    name: str | None = Field(None, description="What requests may call the voice")
    consent: Annotated[str | ConsentBody, OBJECT] | None = Field(
        None,
        description="Id of a stored consent (the reply is OpenAI's), or the words of one (the "
        "reply is vLLM-Omni's), or an object with name, language, text, who, given_at",
    )
    type: Annotated[Literal["audio_sample", "prompt"], NAME] = Field(
        "audio_sample", description="How the voice is made; from a clip"
    )
    ref_text: str | None = Field(
        None,
        validation_alias=AliasChoices("ref_text", "transcript", "prompt_text", "audio_text"),
        description="What is said in the clip",
    )
    language: str | None = Field(
        None,
        description="BCP 47 tag of the clip, such as en-US",
        json_schema_extra=LANGUAGE_SHAPE,
    )
    speaker_description: Annotated[str, Field(max_length=MAX_DESCRIPTION_CHARS)] | None = Field(
        None, validation_alias=AliasChoices("speaker_description", "description")
    )
    speaker_embedding: Annotated[
        None, refused("the model speaks from a clip; send audio_sample")
    ] = None

    _check_language = field_validator("language")(language_tag)


def voice_request(
    body: VoiceBody, limits: Limits, clip: bytes | None, mime_type: str
) -> VoiceRequest:
    """A body made unambiguous. Raises InputError naming the field."""
    if body.type == "prompt":
        raise UnsupportedError(
            "type: a voice is made of a clip here, not of a description; leave it out, or send "
            "audio_sample",
            param="type",
        )
    transcript = (body.ref_text or "").strip() or None
    if transcript and len(transcript) > limits.max_transcript_chars:
        raise TextError(
            f"ref_text has {len(transcript)} characters, {limits.max_transcript_chars} are allowed",
            param="ref_text",
        )
    consent = body.consent
    if isinstance(consent, ConsentBody):
        consent = consent.consent(has_recording=False, param="consent.")
    return VoiceRequest(
        name=body.name,
        clip=clip,
        mime_type=mime_type,
        consent=consent,
        transcript=transcript,
        language=body.language,
        description=body.speaker_description,
    )


def openai_voice(voice: StoredVoice) -> dict[str, Any]:
    """OpenAI's `audio.voice`, with what we know beside it."""
    version = voice.version
    return {
        "id": voice.id,
        "object": "audio.voice",
        "created_at": voice.state.created_unix_s,
        "name": voice.state.name,
        "type": "audio_sample",
        **_facts(version),
        "speaker_description": version.description,
        "ref_text": version.transcript,
    }


def omni_voice(voice: StoredVoice) -> dict[str, Any]:
    """vLLM-Omni's voice, with what we know beside it."""
    version = voice.version
    optional = {"ref_text": version.transcript, "speaker_description": version.description}
    return {
        "name": voice.state.name,
        "created_at": voice.state.created_unix_s,
        "file_size": version.size_bytes,
        "mime_type": version.mime_type,
        "embedding_source": "audio",
        "embedding_dim": EMBEDDING_NUMBERS,
        **{key: value for key, value in optional.items() if value is not None},
        "id": voice.id,
        **_facts(version),
    }


def voice_version(version: VoiceVersion) -> dict[str, Any]:
    """One of a voice's versions."""
    return {
        "created_at": version.created_unix_s,
        "file_size": version.size_bytes,
        "mime_type": version.mime_type,
        "ref_text": version.transcript,
        **_facts(version),
    }


def openai_consent(stored: StoredConsent) -> dict[str, Any]:
    """OpenAI's `audio.voice_consent`, with what we know beside it."""
    consent = stored.consent
    return {
        "id": stored.id,
        "object": "audio.voice_consent",
        "created_at": consent.created_unix_s,
        "language": consent.language,
        "name": consent.name,
        "who": consent.who,
        "given_at": consent.given_unix_s,
        "text": consent.text,
        "has_recording": consent.recording is not None,
    }


def _facts(version: VoiceVersion) -> dict[str, Any]:
    return {
        "version": version.number,
        "language": version.language,
        "consent": version.consent,
        "transcript_source": version.told_by,
        "quality": _quality(version),
    }


def told_quality(report: Mapping[str, Any]) -> dict[str, Any]:
    """A clip's report, by the fields of QualityReport, as callers read it."""
    told = {**report, "findings": list(report.get("findings", ()))}
    trim = told.pop("trim_s", None)
    told["suggested_trim"] = trim and {"start_s": trim[0], "stop_s": trim[1]}
    return told


def _quality(version: VoiceVersion) -> dict[str, Any]:
    told = told_quality(version.quality)
    if version.transcript is None:
        told["findings"].append(NO_TRANSCRIPT)
    if version.told_by == "asr":
        told["findings"].append(HEARD_TRANSCRIPT)
    return told
