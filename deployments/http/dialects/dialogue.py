"""Dialogues: `inputs` of texts and voices, beside OpenAI's fields and as ElevenLabs sends them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import AliasChoices, ConfigDict, Field

from deployments.config.settings import Limits
from deployments.http.bodies.fields import ITEMS, OBJECT, VOICE, Lenient, Seed, validated
from deployments.http.bodies.json_text import read_json
from deployments.http.bodies.read import RawBody, is_json
from deployments.http.dialects.elevenlabs import (
    OWN_MODELS,
    USUAL_FORMAT,
    Asked,
    ElevenLabsReading,
    reading_of,
    sound_of,
)
from deployments.http.dialects.parsed_request import (
    Draw,
    ParsedRequest,
    Wish,
    check_spoken_length,
    checked_request,
)
from deployments.jobs.dialogue import Turn
from deployments.speech.seeds import derived_seed
from pipeline.errors import InputError, TextError

MOST_TURNS = 100


class DialogueInput(Lenient):
    """What one of them says."""

    model_config = ConfigDict(populate_by_name=True)
    keeps_empty = frozenset({"text", "input"})

    text: str = Field(validation_alias=AliasChoices("text", "input"), description="What is said")
    voice: Annotated[str, VOICE] | None = Field(
        None,
        validation_alias=AliasChoices("voice", "voice_id", "reference_id", "speaker"),
        description="A name or id from /v1/audio/voices",
    )


Inputs: TypeAlias = Annotated[
    list[DialogueInput], Field(min_length=1, max_length=MOST_TURNS), ITEMS
]


class DialogueFields(Lenient):
    """What stands beside OpenAI's fields."""

    inputs: Inputs | None = Field(
        None, description="Several voices in one reply: texts in turn, in place of input"
    )


Said = TypeVar("Said", bound=DialogueFields)
_OF_ONE_VOICE = ("input", "step_audio", "ref_audio", "ref_text", "references", "target_lufs")


class ElevenLabsDialogue(ElevenLabsReading):
    """`POST /v1/text-to-dialogue`."""

    inputs: Inputs = Field(description="Turns, each in its voice")
    model_id: str | None = Field(None, description="A name of theirs (eleven_…) or of /v1/models")
    settings: Annotated[dict[str, Any], OBJECT] | None = Field(None, description="Taken")
    seed: Seed = None
    language_code: str | None = Field(None, description="Accepted; the text itself tells")


def with_first_turn(body: Said, inputs: Sequence[DialogueInput], *, has_clip: bool) -> Said:
    """A body as if its first turn were all of it. Raises InputError for what does not go together.

    has_clip: a clip came beside it.
    """
    stray = next((name for name in _OF_ONE_VOICE if getattr(body, name, None)), None)
    if stray is not None or has_clip:
        found = stray or "a clip"
        raise InputError(
            f"inputs: each turn has its own text and named voice; leave out {found}", param="inputs"
        )
    first = inputs[0]
    said = {"input": first.text}
    if first.voice is not None:
        said["voice"] = first.voice
    return body.model_copy(update=said)


def in_turns(
    parsed: ParsedRequest, inputs: Sequence[DialogueInput], limits: Limits
) -> ParsedRequest:
    """A request whose text is said by several. Raises TextError naming the turn.

    parsed: of the first turn; the others are asked for as it is.
    """
    turns: list[Turn] = []
    for number, one in enumerate(inputs):
        param = f"inputs.{number}.text"
        text = one.text.strip()
        if not text:
            raise TextError("the text to speak is empty", param=param)
        if len(text) > limits.max_text_chars:
            raise TextError(
                f"{param} has {len(text)} characters, {limits.max_text_chars} are allowed",
                param=param,
            )
        request = replace(parsed.request, text=text)
        if number:
            drawn = derived_seed("turn", f"{parsed.request.sampling.seed}/{number}")
            sampling = replace(request.sampling, seed=drawn)
            request = replace(request, sampling=sampling, first_chunk_rows=None, is_adaptive=False)
        voice = one.voice or parsed.voice
        turns.append(Turn(voice, request, f"inputs.{number}.voice"))
    n_chars = sum(len(turn.request.text) for turn in turns)
    is_held = parsed.is_whole and not parsed.is_sse
    check_spoken_length("inputs", n_chars, limits, is_held=is_held)
    return replace(parsed, turns=tuple(turns))


def read_elevenlabs_dialogue(
    raw: RawBody, asked: Asked, limits: Limits
) -> tuple[ParsedRequest, str | None]:
    """A body as a request, and the model that it names if that is not one of theirs.

    Raises InputError.
    """
    if not is_json(raw.content):
        raise InputError("the body is no JSON: send an object with inputs", param="body")
    tree = read_json(raw.content, raw.label.charset)
    body = validated(ElevenLabsDialogue, tree, tuple(ElevenLabsDialogue.model_fields))
    wish = Wish(
        text=body.inputs[0].text,
        text_param="inputs.0.text",
        voice=body.inputs[0].voice,
        voice_param="inputs.0.voice",
        draw=Draw(body.seed),
        sound=sound_of(asked.output_format or USUAL_FORMAT),
        rate_param="output_format",
        is_whole=asked.is_whole,
        reading=reading_of(body),
        ignored=("settings",) if body.settings else (),
    )
    parsed = in_turns(checked_request(wish, limits), body.inputs, limits)
    model = body.model_id
    is_theirs = model is None or model.strip().lower().startswith(OWN_MODELS)
    return parsed, None if is_theirs else model
