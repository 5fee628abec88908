"""ElevenLabs' instant voice clones: what their forms ask to be kept.

Theirs have no field for a consent or for the words of the clip, which this model needs: `labels`
takes both, `{"consent": "cons_…", "ref_text": "…", "language": "en"}`, and so do fields beside it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AliasChoices, BeforeValidator, ConfigDict, Field, field_validator
from pydantic_core import from_json

from deployments.http.bodies.fields import Lenient, refused, validated
from deployments.http.dialects.voices import (
    LANGUAGE_SHAPE,
    MAX_DESCRIPTION_CHARS,
    VoiceBody,
    language_tag,
)

ELEVENLABS_CLIPS = ("files", "files[]", "file", "audio")
MOST_IGNORED = 16  # labels that a header repeats
_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,40}")


def _labels(value: Any) -> Any:
    """As their clients send it: JSON text, of an object, of nothing, or of such a text again."""
    for _ in range(2):
        if isinstance(value, str):
            try:
                value = from_json(value)
            except ValueError:
                break
    return {} if value is None or value == "" else value


class VoiceLabels(Lenient):
    """What can be told of a voice, in `labels` or beside it."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    consent: str | None = Field(None, description="Id of a stored consent, or the words of one")
    language: str | None = Field(
        None,
        description="BCP 47 tag of the clip, such as en-US",
        json_schema_extra=LANGUAGE_SHAPE,
    )
    ref_text: str | None = Field(
        None,
        validation_alias=AliasChoices("ref_text", "transcript", "prompt_text", "audio_text"),
        description="What is said in the clip: without it the voice cannot speak in this dialect",
    )

    _check_language = field_validator("language")(language_tag)


class ElevenLabsVoice(VoiceLabels):
    """`POST /v1/voices/add`, and `POST /v1/voices/{voice_id}/edit`, where all may be left out.

    The clip comes beside it, as the one file of `files`.
    """

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    name: str | None = Field(None, description="What requests may call the voice")
    description: Annotated[str, Field(max_length=MAX_DESCRIPTION_CHARS)] | None = None
    labels: Annotated[VoiceLabels, BeforeValidator(_labels)] | None = Field(
        None, description="As JSON text. Others than these are taken, without effect"
    )
    remove_background_noise: Annotated[None, refused("clean the clip first (mode denoise)")] = None


def read_elevenlabs_voice(fields: Mapping[str, Any]) -> tuple[VoiceBody, Sequence[str]]:
    """A form's fields as OpenAI's, and those that are taken without effect. Raises InputError."""
    body = validated(ElevenLabsVoice, fields, ())
    labels = body.labels or VoiceLabels.model_validate({})
    told = {name: getattr(body, name) or getattr(labels, name) for name in VoiceLabels.model_fields}
    others = sorted(name for name in labels.model_extra or () if _PLAIN.fullmatch(name))
    described = {"name": body.name, "speaker_description": body.description}
    voice = VoiceBody.model_validate({**described, **told})
    return voice, [f"labels.{name}" for name in others[:MOST_IGNORED]]
