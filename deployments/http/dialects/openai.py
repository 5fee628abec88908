"""OpenAI's speech body, and what it asks for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AliasChoices, ConfigDict, Field

from deployments.http.bodies.fields import NAME, VOICE, Cached, Lenient, Speed, TargetLufs
from deployments.http.dialects.parsed_request import Sound, Wish

AudioFormat = Literal["mp3", "opus", "aac", "flac", "wav", "pcm", "pcmu", "pcma"]


class OpenAIFields(Lenient):
    """What OpenAI's clients send, `speaker` being another name for `voice`."""

    model_config = ConfigDict(populate_by_name=True)
    keeps_empty = frozenset({"input"})

    input: str | None = Field(
        None, description="The text to speak; may be left out of an edit that changes no words"
    )
    model: str | None = Field(None, description="A name from /v1/models; OpenAI's names work too")
    voice: Annotated[str, VOICE] | None = Field(
        None,
        validation_alias=AliasChoices("voice", "speaker"),
        description='A name from /v1/voices, or {"id": name}; ignored when a clip is given',
    )
    instructions: str | None = Field(
        None,
        description="Accepted for compatibility; has no effect, which X-Ignored-Fields tells. "
        "Styles and emotions are edits: see step_audio",
    )
    response_format: Annotated[AudioFormat, NAME] = Field(
        "mp3", description="Container and codec of the reply; pcmu and pcma are G.711, at 8 kHz"
    )
    speed: Speed = 1.0
    target_lufs: TargetLufs = None
    cache: Cached = None
    mark: bool | None = Field(
        None,
        description="false: without the watermark, for keys that allow it; the header X-Mark: off "
        "says the same of every route that speaks",
    )
    stream_format: Annotated[Literal["audio", "sse"], NAME] | None = Field(
        None, description="audio (as usual): bytes as they are made; sse: OpenAI's events"
    )


def read_openai(body: OpenAIFields) -> Wish:
    """What OpenAI's fields ask for."""
    return Wish(
        text=body.input,
        voice=body.voice,
        sound=Sound(body.response_format),
        speed=body.speed,
        reuse=body.cache,
        target_lufs=body.target_lufs,
        is_sse=body.stream_format == "sse",
        ignored=("instructions",) if body.instructions else (),
        mark=body.mark,
    )
