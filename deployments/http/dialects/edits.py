"""The body of `/v1/audio/edits`: what is edited, and one step or a list of them.

It is a dialect of ours alone, so unknown fields are refused, at the top and in every step.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, ConfigDict, Field, ValidationError

from deployments.config.settings import Limits
from deployments.edits.documents import EditStep
from deployments.edits.performance import EditOrder
from deployments.http.bodies.fields import (
    ITEMS,
    NAME,
    OBJECT,
    VOICE,
    Cached,
    Lenient,
    MaxTokens,
    Seed,
    Speed,
    Temperature,
    TopK,
    TopP,
    explain_validation,
)
from deployments.http.bodies.json_text import read_json
from deployments.http.bodies.read import CLIP_PARTS, PAYLOAD, Clip, RawBody
from deployments.http.bodies.uploads import read_upload
from deployments.http.dialects.edit_steps import MAX_STEPS, TYPE, StepBody, StepFields, checked_step
from deployments.http.dialects.openai import AudioFormat
from deployments.http.dialects.parsed_request import ParsedRequest
from deployments.http.dialects.reading_fields import ReadingFields, asked_reading
from deployments.http.model_names import ModelNames
from deployments.speech.seeds import SEED_BITS
from pipeline.audio.encode import check_rate
from pipeline.contracts import BASE_VARIANT, Mode
from pipeline.edit_values import WORDLESS
from pipeline.errors import InputError, TextError
from pipeline.serving.terms import Service, Terms

AUDIO = "audio"
CLIPS = (*dict.fromkeys((AUDIO, *CLIP_PARTS)), "input_audio_base64")


class FromBody(Lenient):
    """A step of an earlier edit."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    edit: str = Field(
        validation_alias=AliasChoices("edit", "id"), description="`X-Edit-Id` of its reply"
    )
    step: int | None = Field(None, description="Counted from 1; the last one when left out")


def _origin(value: Any) -> Any:
    """An edit's id alone means its last step."""
    if isinstance(value, str) and not value.lstrip().startswith("{"):
        return {"edit": value.strip()}
    return value


_ORIGIN = BeforeValidator(_origin)


class EditsBody(StepFields, ReadingFields):
    """`POST /v1/audio/edits`: `audio`, `voice` or `from`, and `steps` or one flat step."""

    steps: Annotated[list[StepBody], Field(max_length=MAX_STEPS), ITEMS] | None = Field(
        None, description="The steps in turn; each takes the audio tokens of the one before"
    )
    type: Annotated[Mode, NAME] | None = Field(
        None, validation_alias=TYPE, description="Of a single step, in place of `steps`"
    )
    voice: Annotated[str, VOICE] | None = Field(
        None,
        validation_alias=AliasChoices("voice", "speaker"),
        description="A name from /v1/voices: its clip is edited, or its voice speaks (clone)",
    )
    origin: Annotated[FromBody, OBJECT, _ORIGIN] | None = Field(
        None,
        validation_alias=AliasChoices("from", "origin"),
        description='Continue an earlier edit: its id, or {"edit": id, "step": 2}',
    )
    transcript: str | None = Field(
        None,
        validation_alias=AliasChoices("transcript", "prompt_text", "audio_text", "ref_text"),
        description=f"What is said in the audio; steps other than {' and '.join(sorted(WORDLESS))} "
        "need it. Of a named voice it is known",
    )
    model: str | None = Field(None, description="A name from /v1/models")
    model_variant: Annotated[str, NAME] = Field(
        BASE_VARIANT, description="Which deployed language model speaks; /v1/models lists them"
    )
    response_format: Annotated[AudioFormat, NAME] = "mp3"
    sample_rate: int | None = Field(None, description="Hz of the reply, 8,000 to 48,000")
    speed: Speed = Field(1.0, description="Of the reply's playback; not the edit of that name")
    stream: bool | None = Field(
        None, description="false: the whole reply at once, with its length; else as it is made"
    )
    stream_format: Annotated[Literal["audio", "sse"], NAME] | None = None
    seed: Seed = Field(None, description="Of every step; drawn, and told, when left out")
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: TopK = None
    max_new_tokens: MaxTokens | None = Field(None, description="Of every step")
    cache: Cached = None
    mark: bool | None = Field(None, description="As of /v1/audio/speech")


def _names(model: type[StepFields] | type[FromBody]) -> Sequence[str]:
    return [("from" if name == "origin" else name) for name in model.model_fields]


@dataclass(frozen=True, slots=True, eq=False)
class ParsedEdit:
    """A body made unambiguous. reply: as for speech; its request is of the first new step.

    Texts are read as the reply says.
    """

    order: EditOrder
    reply: ParsedRequest


def read_edit(raw: RawBody, limits: Limits, names: ModelNames) -> ParsedEdit:
    """A body as an order. Raises InputError naming the field, what was found, what is allowed."""
    tree, clip = read_upload(raw, CLIPS)
    if PAYLOAD in tree:
        tree, clip = _of_payload(tree[PAYLOAD], clip)
    body = _validated(tree)
    if body.model is not None:
        names.check(body.model)
    asked = _asked(body)
    order = EditOrder(
        transcript=(body.transcript or "").strip(),
        edit_id=body.origin and body.origin.edit,
        upto=body.origin and body.origin.step,
        reuse=body.cache,
        is_flat=body.steps is None,
    )
    order = replace(order, steps=_steps(body, asked, order, limits, names))
    _check_origin(order, body.voice, clip)
    if len(order.transcript) > limits.max_text_chars:
        raise TextError(
            f"transcript has {len(order.transcript)} characters, {limits.max_text_chars} are "
            "allowed",
            param="transcript",
        )
    return ParsedEdit(order, _reply(body, order, clip))


def _validated(tree: Any) -> EditsBody:
    try:
        return EditsBody.model_validate(tree)
    except ValidationError as error:
        found = error.errors(include_url=False)
        place = found[0]["loc"]
        model = StepBody if "steps" in place else FromBody if "from" in place else EditsBody
        message, param = explain_validation(found, _names(model))
        raise InputError(message, param=param) from error


def _of_payload(payload: Any, clip: Clip | None) -> tuple[dict[str, Any], Clip | None]:
    """A form's part `payload`, which holds the JSON body, beside the file."""
    if not isinstance(payload, str):
        raise InputError("payload is a part of forms: put its fields at the top", param=PAYLOAD)
    tree = read_json(payload.encode("utf-8", "surrogatepass"))
    if not isinstance(tree, dict):
        raise InputError("payload must hold a JSON object", param=PAYLOAD)
    found = [name for name in CLIPS if tree.get(name)]
    if found and clip is not None:
        raise InputError(f"one clip is allowed, found {clip[1]} and {found[0]}", param=found[0])
    if not found:
        return tree, clip
    raise InputError(f"{found[0]}: send the clip as a file part of the form", param=found[0])


def _asked(body: EditsBody) -> Sequence[StepBody]:
    """The steps of the list, or the single one that stands at the top."""
    flat = {
        "type": body.type,
        "value": body.value or None,
        "text": body.text,
        "intensity": body.intensity,
    }
    stray = next((name for name, value in flat.items() if value is not None), None)
    if body.steps is not None and stray is not None:
        raise InputError(
            f"{stray}: with steps, each says its own; move it into one of them", param=stray
        )
    if body.steps is not None:
        if not body.steps:
            raise InputError("steps is empty: at least one is needed", param="steps")
        return body.steps
    if body.type is None:
        raise InputError(
            "steps is required: a list of steps, each with its type; or type, for one step alone",
            param="steps",
        )
    return [StepBody.model_validate(flat)]


def _steps(
    body: EditsBody,
    asked: Sequence[StepBody],
    order: EditOrder,
    limits: Limits,
    names: ModelNames,
) -> tuple[EditStep, ...]:
    """With what all of them share, and a seed each, which is the body's, or one that is drawn."""
    drawn = secrets.randbits(SEED_BITS)
    shared = {
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": body.top_k,
        "max_tokens": body.max_new_tokens,
        "variant": names.variant(body.model_variant, "model_variant"),
    }
    steps = list[EditStep]()
    for index, step in enumerate(asked):
        seed = body.seed if step.seed is None else step.seed
        seeded = {"seed": drawn if seed is None else seed, "may_reseed": seed is None}
        checked = checked_step(step, order.field(index, ""), limits)
        steps.append(checked.model_copy(update={**shared, **seeded}))
    return tuple(steps)


def _check_origin(order: EditOrder, voice: str | None, clip: Clip | None) -> None:
    """One thing is edited, and it is clear which."""
    given = {"from": order.edit_id, "voice": voice, clip[1] if clip else AUDIO: clip}
    found = [name for name, value in given.items() if value is not None]
    if len(found) > 1:
        raise InputError(
            f"one of audio, voice and from says what is edited, found {' and '.join(found)}",
            param=found[1],
        )
    if not found and order.steps[0].mode is not Mode.CLONE:
        raise InputError(
            f"{order.steps[0].mode} edits something: send audio with its transcript (a file part, "
            "base64 or a data: URI), name a voice, or continue an earlier edit with from",
            param=AUDIO,
        )
    if order.edit_id is not None and order.transcript:
        raise InputError(
            "transcript: what is said in an earlier edit is known; leave it out", param="transcript"
        )


def _reply(body: EditsBody, order: EditOrder, clip: Clip | None) -> ParsedRequest:
    check_rate(body.response_format, body.sample_rate, "sample_rate")
    first = order.steps[0]
    is_sse = body.stream_format == "sse"
    is_whole = body.stream is False and not is_sse
    request = first.request(order.transcript, first.text or "")
    terms = Terms(Service.WHOLE if is_whole else Service.STREAM)
    return ParsedRequest(
        upload=None if clip is None else clip[0],
        clip_param=AUDIO if clip is None else clip[1],
        voice=body.voice,
        request=replace(request, speed=body.speed, terms=terms),
        response_format=body.response_format,
        is_sse=is_sse,
        sample_rate_hz=body.sample_rate,
        is_whole=is_whole,
        reuse=body.cache,
        reading=asked_reading(body),
        mark=body.mark,
    )
