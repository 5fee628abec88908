"""What the predecessor's body adds to OpenAI's: `step_audio`, whose keys change what is spoken.

Unknown ones are refused, and so is every value that could not be applied.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from deployments.http.bodies.fields import NAME, OBJECT, Lenient
from deployments.http.dialects.parsed_request import Wish
from pipeline.contracts import BASE_VARIANT, Mode
from pipeline.edit_values import MAX_PASSES
from pipeline.errors import UnsupportedError

NEUTRAL_INTENSITY = 1.0
MAX_ECHOES = 16
MAX_ECHO_CHARS = 200
MODEL_HEADER = "X-StepAudio-Model"
_ECHO_KEY = re.compile(r"[A-Za-z0-9_-]{1,40}")


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
    prompt_audio_url: str | None = Field(None, description="data: URI; an address of clips.hosts")
    input_audio_url: str | None = Field(None, description="data: URI; an address of clips.hosts")
    audio_text: str | None = Field(None, description="Another name for prompt_text, for edits")
    edit_info: str = Field(
        "", description='The value of an edit, for example "happy"; /v1/tags lists them'
    )
    n_edit_iter: Annotated[int, Field(ge=1, le=MAX_PASSES)] = Field(
        1, description="How often an edit is applied, each to the result of the one before"
    )
    intensity: float | None = Field(
        None, description="Only 1.0: the model has none. n_edit_iter applies an edit again"
    )
    model_variant: Annotated[str, NAME] = Field(
        BASE_VARIANT, description="Which deployed language model speaks; /v1/models lists them"
    )


class PredecessorFields(Lenient):
    """What stands beside OpenAI's fields."""

    metadata: Annotated[Any, OBJECT] = Field(
        None, description="Short values come back as X-Metadata-… headers"
    )
    step_audio: Annotated[StepAudio, OBJECT] | None = None


def read_predecessor(body: PredecessorFields, wish: Wish) -> Wish:
    """`wish` with what the predecessor's fields ask for. Raises UnsupportedError."""
    echo = {**wish.echo, **_echo(body.metadata)}
    step = body.step_audio
    if step is None:
        return replace(wish, echo=echo)
    _check_repeats(step)
    clips = {
        "step_audio.prompt_audio_base64": step.prompt_audio_base64,
        "step_audio.input_audio_base64": step.input_audio_base64,
        "step_audio.prompt_audio_url": step.prompt_audio_url,
        "step_audio.input_audio_url": step.input_audio_url,
    }
    said = step.prompt_text if step.prompt_text is not None else step.audio_text
    return replace(
        wish,
        clips={**{name: clip for name, clip in clips.items() if clip is not None}, **wish.clips},
        transcript=wish.transcript if said is None else said,
        mode=step.mode,
        edit=step.edit_info,
        iterations=step.n_edit_iter,
        variant=step.model_variant,
        echo={**echo, MODEL_HEADER: step.model_variant},
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
