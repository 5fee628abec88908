"""ElevenLabs' text to speech: its body and query, what they ask for, and how it lists things.

Voice settings other than `speed` have no counterpart here: they are taken, and told in a header.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from deployments.config.settings import Limits
from deployments.http.bodies.fields import (
    NAME,
    OBJECT,
    Cached,
    Lenient,
    Seed,
    Speed,
    refused,
    validated,
)
from deployments.http.bodies.json_text import read_json
from deployments.http.bodies.read import RawBody, is_json
from deployments.http.dialects.parsed_request import (
    Draw,
    ParsedRequest,
    Sound,
    Wish,
    checked_request,
)
from deployments.http.dialects.reading_fields import (
    MOST_DICTIONARIES,
    ReadingFields,
    asked_reading,
)
from deployments.pronunciation.readings import AskedReading
from pipeline.errors import MAX_FOUND, InputError, UnsupportedError

OWN_MODELS = "eleven_"  # names of theirs begin so; all mean the model that is deployed
USUAL_FORMAT = "mp3_44100_128"
KILOBIT = 1_000
_FORMATS = {
    "mp3": "mp3", "pcm": "pcm", "wav": "wav", "opus": "opus", "ulaw": "pcmu", "alaw": "pcma",
}  # fmt: skip
_BIT_RATES = {"mp3": range(8, 321), "opus": range(6, 257)}  # kbit/s that can be asked for
_OUTPUT_FORMAT = re.compile(r"([a-z0-9]+?)_([0-9]{4,6})(?:_([0-9]{1,3}))?")
_CONTEXT = ("previous_text", "next_text", "previous_request_ids", "next_request_ids")


class VoiceSettings(Lenient):
    """How it is said. Only `speed` has an effect."""

    speed: Speed = 1.0
    stability: float | None = None
    similarity_boost: float | None = None
    style: float | None = None
    use_speaker_boost: bool | None = None
    clone_strength: float | None = None


class Locator(Lenient):
    """A pronunciation dictionary. There is one version of each: the newest."""

    pronunciation_dictionary_id: str
    version_id: str | None = None


class ElevenLabsReading(ReadingFields):
    """How a text is read, in their words and ours."""

    apply_text_normalization: Annotated[Literal["auto", "on", "off"], NAME] | None = Field(
        None, description="on or off: as normalize; auto: as the service is set up"
    )
    pronunciation_dictionary_locators: (
        Annotated[list[Locator], Field(max_length=MOST_DICTIONARIES)] | None
    ) = None


class ElevenLabsBody(ElevenLabsReading):
    """`POST /v1/text-to-speech/{voice_id}`."""

    model_config = ConfigDict(json_schema_extra={"required": ["text"]})
    keeps_empty = frozenset({"text"})

    text: str | None = Field(None, description="The text to speak")
    model_id: str | None = Field(None, description="A name of theirs (eleven_…) or of /v1/models")
    voice_settings: Annotated[VoiceSettings, OBJECT] | None = None
    seed: Seed = None
    cache: Cached = None
    language_code: str | None = Field(None, description="Accepted; the text itself tells")
    previous_text: str | None = None
    next_text: str | None = None
    previous_request_ids: list[str] | None = None
    next_request_ids: list[str] | None = None
    audio_effects: Annotated[None, refused("the model speaks and does nothing else")] = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What the address says. output_format: None as usual. is_whole: not streamed."""

    voice_id: str
    output_format: str | None
    is_whole: bool


def read_elevenlabs(raw: RawBody, asked: Asked, limits: Limits) -> tuple[ParsedRequest, str | None]:
    """A body as a request, and the model that it names if that is not one of theirs.

    Raises InputError.
    """
    if not is_json(raw.content):
        raise InputError("the body is no JSON: send an object with text", param="body")
    tree = read_json(raw.content, raw.label.charset)
    body = validated(ElevenLabsBody, tree, tuple(ElevenLabsBody.model_fields))
    settings = body.voice_settings or VoiceSettings.model_validate({})
    wish = Wish(
        text=body.text,
        text_param="text",
        voice=asked.voice_id,
        voice_param="voice_id",
        speed=settings.speed,
        draw=Draw(body.seed),
        reuse=body.cache,
        reading=reading_of(body),
        sound=sound_of(asked.output_format or USUAL_FORMAT),
        rate_param="output_format",
        is_whole=asked.is_whole,
        ignored=_ignored(body, settings),
    )
    model = body.model_id
    is_theirs = model is None or model.strip().lower().startswith(OWN_MODELS)
    return checked_request(wish, limits), None if is_theirs else model


def sound_of(output_format: str) -> Sound:
    """`codec_rate_bitrate` as our format. Raises UnsupportedError naming what is allowed."""
    found = _OUTPUT_FORMAT.fullmatch(output_format.strip().lower())
    if found is not None and found[1] in _FORMATS:
        name = _FORMATS[found[1]]
        bit_rate = int(found[3]) if found[3] else None
        if bit_rate is None or bit_rate in _BIT_RATES.get(name, ()):
            return Sound(name, int(found[2]), bit_rate * KILOBIT if bit_rate else None)
    raise UnsupportedError(
        f"output_format: {output_format[:MAX_FOUND]!r} is not known; allowed are codec_rate, as "
        f"pcm_16000, with a bit rate in kbit/s for mp3 and opus, as {USUAL_FORMAT}; codecs: "
        f"{', '.join(_FORMATS)}",
        param="output_format",
    )


def listed_voice(voice: Mapping[str, Any]) -> dict[str, Any]:
    """A voice as their clients read it. voice: as the registry describes it."""
    is_uploaded = voice["id"] != voice["name"]
    return {
        "voice_id": voice["id"],
        "name": voice["name"],
        "category": "cloned" if is_uploaded else "premade",
        "labels": {"language": voice["language"]} if voice["language"] else {},
        "description": None,
        "preview_url": None,
        "samples": None,
        "settings": None,
        "available_for_tiers": [],
        "high_quality_base_model_ids": [],
    }


def listed_model(name: str) -> dict[str, Any]:
    """A model as their clients read it."""
    return {
        "model_id": name,
        "name": name,
        "can_do_text_to_speech": True,
        "can_do_voice_conversion": False,
        "can_be_finetuned": False,
        "can_use_style": False,
        "can_use_speaker_boost": False,
        "languages": [
            {"language_id": "en", "name": "English"},
            {"language_id": "zh", "name": "Chinese"},
        ],
    }


def reading_of(body: ElevenLabsReading) -> AskedReading:
    """What a body asks for."""
    asked = asked_reading(body)
    if body.apply_text_normalization in {"on", "off"}:
        asked = replace(asked, is_normalised=body.apply_text_normalization == "on")
    located = body.pronunciation_dictionary_locators
    if located:
        param = "pronunciation_dictionary_locators"
        if asked.dictionaries:
            raise InputError(
                f"{param} and pronunciation_dictionary say the same; leave out one", param=param
            )
        ids = tuple(one.pronunciation_dictionary_id for one in located)
        asked = replace(asked, dictionaries=ids, dictionary_param=param)
    return asked


def _ignored(body: ElevenLabsBody, settings: VoiceSettings) -> Sequence[str]:
    no_effect = [name for name in VoiceSettings.model_fields if name != "speed"]
    return (
        *(f"voice_settings.{name}" for name in no_effect if getattr(settings, name) is not None),
        *(name for name in _CONTEXT if getattr(body, name)),
    )
