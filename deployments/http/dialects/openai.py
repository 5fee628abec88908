"""Bodies of the HTTP API, and their translation into a speech order. Knows no Ray and no stage.

The top level follows OpenAI's speech API and ignores fields it does not know, as its peers do,
because clients send extras. `step_audio`, whose keys change what is spoken, refuses unknown keys.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, ConfigDict, Field

from deployments.config.settings import Limits
from deployments.http.bodies.clip_text import clip_bytes
from deployments.http.bodies.fields import (
    ANY_SEED,
    ITEMS,
    NAME,
    OBJECT,
    OFF,
    ONLY,
    VOICE,
    Lenient,
)
from pipeline.contracts import (
    BASE_VARIANT,
    NO_LIMIT_TOKENS,
    Mode,
    Sampling,
    SpeechRequest,
    VoiceReference,
)
from pipeline.edit_values import EDIT_VALUES, SAME_WORDS
from pipeline.errors import MAX_FOUND, InputError, TextError, UnsupportedError

AudioFormat = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
NEUTRAL_INTENSITY = 1.0
MAX_ECHOES = 16
MAX_ECHO_CHARS = 200
_ECHO_KEY = re.compile(r"[A-Za-z0-9_-]{1,40}")
_BETWEEN_WORDS = re.compile(r"[\s_-]+")


class StepAudio(Lenient):
    """What OpenAI's fields cannot say: the reference clip, its transcript, and edits."""

    model_config = ConfigDict(extra="forbid")
    keeps_empty = frozenset({"prompt_audio_base64", "input_audio_base64"})

    mode: Annotated[Mode, NAME] = Field(
        Mode.CLONE, description="clone, or the edit to apply to the clip"
    )
    prompt_text: str | None = Field(None, description="What is said in the reference clip")
    prompt_audio_base64: str | None = Field(
        None, description="The reference clip, any common container, base64 or data: URI"
    )
    input_audio_base64: str | None = Field(None, description="Another name for the clip, for edits")
    prompt_audio_url: str | None = Field(None, description="A data: URI; nothing is fetched")
    input_audio_url: str | None = Field(None, description="A data: URI; nothing is fetched")
    audio_text: str | None = Field(None, description="Another name for prompt_text, for edits")
    edit_info: str = Field(
        "", description='The value of an edit, for example "happy"; /v1/tags lists them'
    )
    n_edit_iter: Annotated[int, Field(ge=1, le=4)] = Field(
        1, description="How often an edit is applied, each to the result of the one before"
    )
    intensity: float | None = Field(
        None, description="Only 1.0: the model has none. n_edit_iter applies an edit again"
    )
    model_variant: Annotated[str, NAME] = Field(
        BASE_VARIANT, description="Which deployed language model speaks; /v1/models lists them"
    )


PLAIN = StepAudio.model_validate({})  # of a body that has none


class Reference(Lenient):
    """One entry of `references`, as fish-speech and vLLM-Omni send it."""

    keeps_empty = frozenset({"audio", "audio_path"})

    audio: str | None = Field(None, validation_alias=AliasChoices("audio", "audio_path"))
    text: str = ""


class SpeechBody(Lenient):
    """`POST /v1/audio/speech`."""

    model_config = ConfigDict(populate_by_name=True)
    keeps_empty = frozenset({"input", "ref_audio"})

    input: str | None = Field(
        None, description="The text to speak; may be left out of an edit that changes no words"
    )
    model: str | None = Field(None, description="A name from /v1/models; OpenAI's names work too")
    voice: Annotated[str, VOICE] | None = Field(
        None,
        validation_alias=AliasChoices("voice", "speaker"),
        description='A name from /v1/voices, or {"id": name}; ignored when a clip is given',
    )
    instructions: str | None = Field(None, description="Accepted for compatibility; has no effect")
    response_format: Annotated[AudioFormat, NAME] = Field(
        "mp3", description="Container and codec of the reply"
    )
    speed: Annotated[float, Field(ge=0.25, le=4.0)] = 1.0
    stream_format: Annotated[Literal["audio", "sse"], NAME] = Field(
        "audio", description="audio: bytes as they are made; sse: OpenAI's events"
    )
    metadata: Annotated[Any, OBJECT] = Field(
        None, description="Short values come back as X-Metadata-… headers"
    )
    step_audio: Annotated[StepAudio, OBJECT] | None = None
    ref_audio: Annotated[str, ONLY] | None = Field(
        None, description="Reference clip, base64 or data: URI"
    )
    ref_text: str | None = Field(None, description="What is said in the reference clip")
    references: Annotated[list[Reference], Field(max_length=1), ITEMS] | None = None
    seed: Annotated[Annotated[int, Field(ge=0, lt=2**63)] | None, ANY_SEED] = Field(
        None, description="Same request and seed, same bytes; random when left out or -1"
    )
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] | None = Field(
        None, description="0 is greedy; the checkpoint's own (0.7 as released) when left out"
    )
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] | None = Field(
        None, description="1 is off; the checkpoint's own (1 as released) when left out"
    )
    top_k: Annotated[Annotated[int, Field(ge=0, le=5120)] | None, OFF] = Field(
        None, description="0 or -1 is off; the checkpoint's own (50 as released) when left out"
    )
    max_new_tokens: Annotated[int, Field(ge=5, le=8192)] | None = Field(
        None, description="Audio tokens of the whole answer, 41.7 a second; no limit when left out"
    )
    initial_codec_chunk_frames: Annotated[int, Field(ge=0, le=250)] | None = Field(
        None,
        description="Frames (40 ms) of the first audio: fewer for sound sooner; 0 as usual",
    )

    @property
    def clip_texts(self) -> dict[str, str]:
        """What the fields that may hold a clip say, by the field."""
        step = self.step_audio or PLAIN
        texts = {
            "step_audio.prompt_audio_base64": step.prompt_audio_base64,
            "step_audio.input_audio_base64": step.input_audio_base64,
            "step_audio.prompt_audio_url": step.prompt_audio_url,
            "step_audio.input_audio_url": step.input_audio_url,
            "ref_audio": self.ref_audio,
            "references": self.references[0].audio if self.references else None,
        }
        return {name: text for name, text in texts.items() if text is not None}


@dataclass(frozen=True, slots=True, eq=False)
class ParsedRequest:
    """A body made unambiguous.

    upload: the reference clip's bytes, or None when `voice` names a listed one. clip_param: the
    field that the clip came in, or would have. request: what is to be spoken, with the transcript
    as far as the caller gave it. echo: headers of the reply that the caller asked for.
    """

    upload: bytes | None
    clip_param: str
    voice: str | None
    request: SpeechRequest
    response_format: str
    is_sse: bool
    echo: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def reference(self) -> VoiceReference:
        """The voice that is meant."""
        return VoiceReference(self.upload, self.voice)

    def without_upload(self) -> ParsedRequest:
        """The order as it lives on once its clip is in other hands."""
        return replace(self, upload=None)


def parse_request(
    body: SpeechBody, limits: Limits, upload: tuple[bytes, str] | None = None
) -> ParsedRequest:
    """Check a body against the limits.

    upload: a clip that came as a file, and the name of its part.
    Raises InputError naming the field, what was found and what is allowed.
    """
    step = body.step_audio or PLAIN
    transcript = _transcript_of(body, step).strip()
    text = (body.input or "").strip()
    _check_length("input", text, limits.max_text_chars)
    _check_length("prompt_text", transcript, limits.max_transcript_chars)
    info = _edit_value(step)
    _check_repeats(step)
    if step.mode in SAME_WORDS:
        text = transcript  # of a listed voice, whose words are known, it comes with the clip
    elif body.input is None:
        raise InputError("input is required: the text to speak", param="input")
    elif not text:
        raise TextError("the text to speak is empty", param="input")
    clip, clip_param = _clip_of(body, transcript, upload)
    _check_clip(step.mode, clip, clip_param, transcript, body.voice)
    request = SpeechRequest(
        text=text,
        transcript=transcript,
        speaker_name="",
        mode=step.mode,
        info=info,
        sampling=_sampling_of(body),
        speed=body.speed,
        may_reseed=body.seed is None,
        first_chunk_rows=body.initial_codec_chunk_frames or None,
        is_adaptive=body.seed is None and body.initial_codec_chunk_frames is None,
        variant=step.model_variant,
        iterations=step.n_edit_iter,
    )
    is_sse = body.stream_format == "sse"
    return ParsedRequest(
        clip, clip_param, body.voice, request, body.response_format, is_sse, _echo(body.metadata)
    )


def _sampling_of(body: SpeechBody) -> Sampling:
    return Sampling(
        temperature=body.temperature,
        seed=secrets.randbits(63) if body.seed is None else body.seed,
        max_tokens=NO_LIMIT_TOKENS if body.max_new_tokens is None else body.max_new_tokens,
        top_p=body.top_p,
        top_k=body.top_k,
    )


def _edit_value(step: StepAudio) -> str:
    """`edit_info` in the model's own spelling. Raises UnsupportedError with the values allowed."""
    allowed = EDIT_VALUES[step.mode]
    if not allowed and not step.edit_info:
        return ""
    found = _BETWEEN_WORDS.sub(" ", step.edit_info.strip().lower())
    for value in allowed:
        if _BETWEEN_WORDS.sub(" ", value) == found:
            return value
    values = f"allowed: {', '.join(allowed)}" if allowed else "leave it out"
    hints = {
        Mode.CLONE: "; name an edit in step_audio.mode",
        Mode.SPEED: "; for an exact factor send speed, 0.25 to 4",
        Mode.PARALINGUISTIC: "; write tags such as [Laughter] into input (/v1/tags lists them)",
    }
    raise UnsupportedError(
        f"step_audio.edit_info: mode {step.mode.value} has no value "
        f"{step.edit_info[:MAX_FOUND]!r}, {values}{hints.get(step.mode, '')}",
        param="step_audio.edit_info",
    )


def _check_repeats(step: StepAudio) -> None:
    if step.mode is Mode.CLONE and step.n_edit_iter > 1:
        raise UnsupportedError(
            "step_audio.n_edit_iter repeats an edit, and mode is clone: leave it out, or send 1",
            param="step_audio.n_edit_iter",
        )
    if step.intensity in {None, NEUTRAL_INTENSITY}:
        return
    stronger = " or edit_info 'more faster' or 'more slower'" if step.mode is Mode.SPEED else ""
    raise UnsupportedError(
        "step_audio.intensity: the model knows no intensity; leave it out or send 1.0. To make an "
        f"edit stronger send n_edit_iter 2 to 4, which applies it again{stronger}",
        param="step_audio.intensity",
    )


def _clip_of(
    body: SpeechBody, transcript: str, upload: tuple[bytes, str] | None
) -> tuple[bytes | None, str]:
    """The clip and the field it came in. An empty one counts where its transcript was sent."""
    texts = body.clip_texts
    filled = {name: text for name, text in texts.items() if text and not text.isspace()}
    found = [upload[1], *filled] if upload else list(filled)
    if len(found) > 1:
        raise InputError(
            f"one reference clip is allowed, found {' and '.join(found)}", param=found[1]
        )
    if upload:
        return upload
    for name, text in filled.items():
        return clip_bytes(text, name), name
    if texts and transcript:
        return b"", next(iter(texts))
    return None, "step_audio.prompt_audio_base64"


def _check_clip(
    mode: Mode, clip: bytes | None, clip_param: str, transcript: str, voice: str | None
) -> None:
    is_edit = mode is not Mode.CLONE
    if clip is None and is_edit and voice is None:
        raise InputError(
            f"mode {mode.value!r} edits a clip: give one in step_audio.input_audio_base64 or as a "
            "file part to /v1/audio/speech/upload, or name a listed voice in voice",
            param=clip_param,
        )
    if clip is None or transcript:
        return
    fields = "step_audio.audio_text" if is_edit else "step_audio.prompt_text or ref_text"
    raise InputError(
        f"a reference clip needs its transcript: say what is spoken in it in {fields}",
        param=_transcript_param(clip_param, is_edit=is_edit),
    )


def _transcript_param(clip_param: str, *, is_edit: bool) -> str:
    """Where the transcript of a clip that came in `clip_param` belongs."""
    beside = {"ref_audio": "ref_text", "references": "references.0.text"}
    usual = "step_audio.audio_text" if is_edit else "step_audio.prompt_text"
    return beside.get(clip_param, usual)


def _transcript_of(body: SpeechBody, step: StepAudio) -> str:
    for value in (step.prompt_text, step.audio_text, body.ref_text):
        if value is not None:
            return value
    return body.references[0].text if body.references else ""


def _check_length(param: str, text: str, limit: int) -> None:
    if len(text) > limit:
        raise TextError(f"{param} has {len(text)} characters, {limit} are allowed", param=param)


def _echo(metadata: Any) -> dict[str, str]:
    """Headers for the short, plain values of `metadata`; what else there is stays unsaid."""
    if not isinstance(metadata, dict):
        return {}
    headers: dict[str, str] = {}
    for key, value in metadata.items():
        said = str(value) if isinstance(value, str | int | float) else ""
        is_plain = said.isascii() and said.isprintable() and len(said) <= MAX_ECHO_CHARS
        if said and is_plain and _ECHO_KEY.fullmatch(key) and len(headers) < MAX_ECHOES:
            headers[f"X-Metadata-{key.replace('_', '-')}"] = said
    return headers
