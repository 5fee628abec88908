"""What vLLM-Omni's and SGLang-Omni's bodies add to OpenAI's.

Fields that would change the sound and cannot be served here are refused by name; a neutral value
of theirs is as left out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, ConfigDict, Field

from deployments.http.bodies.fields import (
    ITEMS,
    NAME,
    OBJECT,
    ONLY,
    Lenient,
    MaxTokens,
    Seed,
    Temperature,
    TopK,
    TopP,
    refused,
)
from deployments.http.dialects.parsed_request import Draw, Wish
from pipeline.errors import InputError, UnsupportedError


class Reference(Lenient):
    """One entry of `references`, as fish-speech, vLLM-Omni and SGLang-Omni send it."""

    keeps_empty = frozenset({"audio", "audio_path", "ref_audio", "data"})

    audio: str | None = Field(
        None, validation_alias=AliasChoices("audio", "audio_path", "ref_audio", "data")
    )
    text: str = ""
    vq_codes: Annotated[None, refused("send the clip itself in audio")] = None


class ExtraParams(Lenient):
    """`extra_params`: what vLLM-Omni hands to the model's sampler. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid")

    seed: Seed = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: TopK = None
    max_new_tokens: MaxTokens | None = None
    repetition_penalty: Annotated[None, refused("leave it out, or send 1", 1, "1", "1.0")] = None


class OmniFields(Lenient):
    """What stands beside OpenAI's fields."""

    keeps_empty = frozenset({"ref_audio"})

    task_type: Annotated[Literal["base", "customvoice", "voicedesign"], NAME] | None = Field(
        None, description="Base: the voice of a clip; CustomVoice: a listed voice"
    )
    ref_audio: Annotated[str, ONLY] | None = Field(
        None,
        description="Reference clip, base64 or data: URI; an address where clips.hosts allows it",
    )
    ref_text: str | None = Field(None, description="What is said in the reference clip")
    references: Annotated[list[Reference], Field(max_length=1), ITEMS] | None = None
    stream: bool | None = Field(
        None,
        description="true: events, unless stream_format says audio; false: the whole reply at "
        "once, with its length; left out: bytes as they are made",
    )
    sample_rate: int | None = Field(
        None, description="Hz of the reply, 8,000 to 48,000; mp3, aac and opus have fixed ones"
    )
    language: str | None = Field(None, description="Accepted; the text itself tells")
    extra_params: Annotated[ExtraParams, OBJECT] | None = None
    seed: Seed = Field(
        None, description="Same request and seed, same bytes; random when left out or -1"
    )
    temperature: Temperature | None = Field(
        None, description="0 is greedy; the checkpoint's own (0.7 as released) when left out"
    )
    top_p: TopP | None = Field(
        None, description="1 is off; the checkpoint's own (1 as released) when left out"
    )
    top_k: TopK = Field(
        None, description="0 or -1 is off; the checkpoint's own (50 as released) when left out"
    )
    max_new_tokens: MaxTokens | None = Field(
        None, description="Audio tokens of the whole answer, 41.7 a second; no limit when left out"
    )
    initial_codec_chunk_frames: Annotated[int, Field(ge=0, le=250)] | None = Field(
        None,
        description="Frames (40 ms) of the first audio: fewer for sound sooner; 0 as usual",
    )
    repetition_penalty: Annotated[None, refused("leave it out, or send 1", 1, "1", "1.0")] = None
    ref_audio_2: Annotated[None, refused("one clip makes a voice")] = None
    ref_audio_codes: Annotated[None, refused("send the clip itself in ref_audio")] = None
    speaker_embedding: Annotated[None, refused("send a clip in ref_audio")] = None
    x_vector_only_mode: Annotated[None, refused("a clip is used with its ref_text")] = None
    ambient_sound: Annotated[None, refused("the model speaks and does nothing else")] = None
    duration_seconds: Annotated[None, refused("speed sets how long a text takes")] = None
    token_count: Annotated[None, refused("speed sets how long a text takes")] = None
    duration_tokens: Annotated[None, refused("speed sets how long a text takes")] = None
    word_timestamps: Annotated[None, refused("no aligner is deployed")] = None
    stage_params: Annotated[None, refused("send temperature, top_p, top_k, seed")] = None


def read_omni(body: OmniFields, wish: Wish) -> Wish:
    """`wish` with what these fields ask for. Raises InputError."""
    clips: dict[str, str | bytes] = {**wish.clips}
    if body.ref_audio is not None:
        clips["ref_audio"] = body.ref_audio
    reference = body.references[0] if body.references else None
    if reference is not None and reference.audio is not None:
        clips["references"] = reference.audio
    said = body.ref_text if body.ref_text is not None else reference and reference.text
    _check_task(body.task_type, clips)
    return replace(
        wish,
        clips=clips,
        transcript=wish.transcript if said is None else said,
        beside={**wish.beside, "ref_audio": "ref_text", "references": "references.0.text"},
        draw=_draw(body),
        first_rows=body.initial_codec_chunk_frames,
        sound=replace(wish.sound, sample_rate_hz=body.sample_rate),
        is_sse=wish.is_sse or body.stream is True,
        is_whole=body.stream is False,
    )


def _check_task(task: str | None, clips: dict[str, str | bytes]) -> None:
    if task == "voicedesign":
        raise UnsupportedError(
            "task_type: VoiceDesign is not served: no voice can be made from a description; name a "
            "listed voice (CustomVoice) or send a clip (Base)",
            param="task_type",
        )
    if task == "customvoice" and any(clips.values()):
        param = next(name for name, clip in clips.items() if clip)
        raise InputError(
            f"{param}: task_type CustomVoice speaks in a listed voice, and a clip came with it; "
            "send Base for the voice of the clip",
            param=param,
        )


def _draw(body: OmniFields) -> Draw:
    """Top-level fields win over extra_params."""
    extra = body.extra_params or ExtraParams.model_validate({})

    def first(name: str) -> Any:
        value = getattr(body, name)
        return getattr(extra, name) if value is None else value

    return Draw(
        seed=first("seed"),
        temperature=first("temperature"),
        top_p=first("top_p"),
        top_k=first("top_k"),
        max_tokens=first("max_new_tokens"),
    )
