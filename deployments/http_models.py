"""Bodies of the HTTP API, and their translation into a speech order. Knows no Ray and no stage.

The top level follows OpenAI's speech API and ignores fields it does not know, as its peers do,
because clients send extras. `step_audio`, whose keys change what is spoken, refuses unknown keys.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from deployments.settings import Limits
from pipeline.contracts import BASE_VARIANT, NO_LIMIT_TOKENS, Mode, Sampling, SpeechRequest
from pipeline.errors import InputError, TextError, UnsupportedError

AudioFormat = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]


class StepAudio(BaseModel):
    """What OpenAI's fields cannot say: the reference clip, its transcript, and edits."""

    model_config = ConfigDict(extra="forbid")

    mode: Mode = Field(Mode.CLONE, description="clone, or the edit to apply to the clip")
    prompt_text: str | None = Field(None, description="What is said in the reference clip")
    prompt_audio_base64: str | None = Field(
        None, description="The reference clip, any common container, base64 or data: URI"
    )
    input_audio_base64: str | None = Field(None, description="Another name for the clip, for edits")
    audio_text: str | None = Field(None, description="Another name for prompt_text, for edits")
    edit_info: str = Field("", description='The value of an edit, for example "happy"')
    model_variant: str = Field(
        BASE_VARIANT, description="Which deployed language model speaks; /v1/models lists them"
    )


class Reference(BaseModel):
    """One entry of `references`, as fish-speech and vLLM-Omni send it."""

    audio: str = Field(validation_alias=AliasChoices("audio", "audio_path"))
    text: str = ""


class VoiceId(BaseModel):
    """OpenAI's object form of a voice."""

    id: str


class SpeechBody(BaseModel):
    """`POST /v1/audio/speech`."""

    model_config = ConfigDict(populate_by_name=True)

    input: str = Field(description="The text to speak")
    model: str | None = Field(None, description="A name from /v1/models; OpenAI's names work too")
    voice: str | VoiceId | None = Field(
        None,
        validation_alias=AliasChoices("voice", "speaker"),
        description="A name from /v1/voices; ignored when a reference clip is given",
    )
    instructions: str | None = Field(None, description="Accepted for compatibility; has no effect")
    response_format: AudioFormat = Field("mp3", description="Container and codec of the reply")
    speed: Annotated[float, Field(ge=0.25, le=4.0)] = 1.0
    stream_format: Literal["audio", "sse"] = Field(
        "audio", description="audio: bytes as they are made; sse: OpenAI's events"
    )
    step_audio: StepAudio | None = None
    ref_audio: str | None = Field(None, description="Reference clip, base64 or data: URI")
    ref_text: str | None = Field(None, description="What is said in the reference clip")
    references: Annotated[list[Reference], Field(max_length=1)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = Field(
        None, description="Same request and seed, same bytes; random when left out"
    )
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] | None = Field(
        None, description="0 is greedy; the checkpoint's own (0.7 as released) when left out"
    )
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] | None = Field(
        None, description="1 is off; the checkpoint's own (1 as released) when left out"
    )
    top_k: Annotated[int, Field(ge=0, le=5120)] | None = Field(
        None, description="0 is off; the checkpoint's own (50 as released) when left out"
    )
    max_new_tokens: Annotated[int, Field(ge=5, le=8192)] | None = Field(
        None, description="Audio tokens of the whole answer, 41.7 a second; no limit when left out"
    )
    initial_codec_chunk_frames: Annotated[int, Field(ge=0, le=250)] | None = Field(
        None,
        description="Frames (40 ms) of the first audio: fewer for sound sooner; 0 as usual",
    )


@dataclass(frozen=True, slots=True, eq=False)
class SpeechOrder:
    """A body made unambiguous.

    upload: the reference clip's bytes, or None when `voice` names a listed one. clip_param: the
    field that the clip came in, or would have. request: what is to be spoken, with the transcript
    as far as the caller gave it.
    """

    upload: bytes | None
    clip_param: str
    voice: str | None
    request: SpeechRequest
    response_format: str
    is_sse: bool


def read_order(
    body: SpeechBody, limits: Limits, upload: tuple[bytes, str] | None = None
) -> SpeechOrder:
    """Check a body against the limits.

    upload: a clip that came as a file, and the name of its part.
    Raises InputError naming the field, what was found and what is allowed.
    """
    step = body.step_audio or StepAudio.model_construct(mode=Mode.CLONE, edit_info="")
    clip, clip_param = upload or _clip_of(body, step)
    transcript = _transcript_of(body, step).strip()
    text = body.input.strip()
    _check_length("input", text, limits.max_text_chars)
    _check_length("prompt_text", transcript, limits.max_transcript_chars)
    if not text:
        raise TextError("the text to speak is empty", param="input")
    if clip is not None and not transcript:
        raise InputError(
            "a reference clip needs its transcript: give step_audio.prompt_text or ref_text",
            param="prompt_text",
        )
    if step.mode is not Mode.CLONE and clip is None:
        raise InputError(
            f"mode {step.mode.value!r} edits a clip: give one in step_audio.prompt_audio_base64",
            param=clip_param,
        )
    voice = body.voice.id if isinstance(body.voice, VoiceId) else body.voice
    request = SpeechRequest(
        text=text,
        transcript=transcript,
        speaker="",
        mode=step.mode,
        info=step.edit_info,
        sampling=_sampling_of(body),
        speed=body.speed,
        may_reseed=body.seed is None,
        first_chunk_rows=body.initial_codec_chunk_frames or None,
        is_adaptive=body.seed is None and body.initial_codec_chunk_frames is None,
        variant=step.model_variant,
    )
    is_sse = body.stream_format == "sse"
    return SpeechOrder(clip, clip_param, voice, request, body.response_format, is_sse)


def _sampling_of(body: SpeechBody) -> Sampling:
    return Sampling(
        temperature=body.temperature,
        seed=secrets.randbits(63) if body.seed is None else body.seed,
        max_tokens=NO_LIMIT_TOKENS if body.max_new_tokens is None else body.max_new_tokens,
        top_p=body.top_p,
        top_k=body.top_k,
    )


def _clip_of(body: SpeechBody, step: StepAudio) -> tuple[bytes | None, str]:
    given = {
        "step_audio.prompt_audio_base64": step.prompt_audio_base64,
        "step_audio.input_audio_base64": step.input_audio_base64,
        "ref_audio": body.ref_audio,
        "references": body.references[0].audio if body.references else None,
    }
    clips = {name: value for name, value in given.items() if value is not None}
    if len(clips) > 1:
        found = " and ".join(clips)
        raise InputError(f"one reference clip is allowed, found {found}", param=list(clips)[1])
    for name, value in clips.items():
        return _decode_base64(value, name), name
    return None, "step_audio.prompt_audio_base64"


def _decode_base64(value: str, param: str) -> bytes:
    if value.startswith(("http://", "https://", "file:", "s3://")):
        raise UnsupportedError(
            f"{param} must hold the clip itself, as base64 or a data: URI; "
            "addresses are not fetched",
            param=param,
        )
    payload = value
    if value.startswith("data:"):
        head, _, payload = value.partition(",")
        if not head.endswith(";base64"):
            raise InputError(f"{param}: a data: URI must be base64-encoded", param=param)
    try:
        return base64.b64decode("".join(payload.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{param} is not valid base64: {error}", param=param) from error


def _transcript_of(body: SpeechBody, step: StepAudio) -> str:
    for value in (step.prompt_text, step.audio_text, body.ref_text):
        if value is not None:
            return value
    return body.references[0].text if body.references else ""


def _check_length(param: str, text: str, limit: int) -> None:
    if len(text) > limit:
        raise TextError(f"{param} has {len(text)} characters, {limit} are allowed", param=param)


def explain_validation(errors: Sequence[Any]) -> tuple[str, str]:
    """Pydantic's report on a body → (message, param).

    The first mistake, and what is allowed there.
    """
    problem = errors[0]
    if problem["type"] == "json_invalid":
        return f"the body is not valid JSON: {problem['ctx']['error']}", "body"
    path = [str(part) for part in problem["loc"] if part != "body"]
    param = ".".join(path) or "body"
    if problem["type"] == "extra_forbidden":
        return f"{param}: unknown field; allowed: {', '.join(StepAudio.model_fields)}", param
    if problem["type"] == "missing":
        return f"{param} is required", param
    found = problem.get("input")
    shown = f", found {found!r}" if isinstance(found, str | int | float | bool) else ""
    return f"{param}: {problem['msg']}{shown}"[:500], param
