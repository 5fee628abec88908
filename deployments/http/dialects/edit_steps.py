"""One step of an edit: its fields, what is allowed in each, and the list of what is possible."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import AliasChoices, ConfigDict, Field

from deployments.config.settings import Limits
from deployments.edits.documents import EditStep
from deployments.http.bodies.fields import NAME, Lenient, Seed
from deployments.http.dialects.parsed_request import value_among
from pipeline.contracts import Mode
from pipeline.edit_values import (
    DIALECT_TAGS,
    EDIT_VALUES,
    LANGUAGES,
    MAX_PASSES,
    PARALINGUISTIC_TAGS,
    REPEATABLE,
    SAME_WORDS,
    WORDLESS,
)
from pipeline.errors import MAX_FOUND, InputError, TextError, UnsupportedError
from pipeline.splitting.weights import TAG

MAX_STEPS = 8
TYPE = AliasChoices("type", "mode", "edit_type")


class StepFields(Lenient):
    """One step, as far as it may also stand at the top of a body."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    keeps_empty: ClassVar[frozenset[str]] = frozenset({"text", "input"})

    value: str = Field(
        "",
        validation_alias=AliasChoices("value", "info", "edit_info"),
        description='The value of the edit, for example "happy"; /v1/tags lists them',
    )
    text: str | None = Field(
        None,
        validation_alias=AliasChoices("text", "input"),
        description="clone: what to say; paralinguistic: the words of the audio with tags such as "
        "[Laughter] where they are to sound. Other steps change no words",
    )
    intensity: float | None = Field(
        None,
        validation_alias=AliasChoices("intensity", "iterations", "n_edit_iter"),
        description=f"How often the step is applied, each time to its own result: 1 to "
        f"{MAX_PASSES}, whole, of {', '.join(sorted(REPEATABLE))}",
    )


class StepBody(StepFields):
    """One step of a chain."""

    type: Annotated[Mode, NAME] = Field(
        validation_alias=TYPE, description="What to do; clone can only be the first step"
    )
    seed: Seed = Field(None, description="Of this step; the body's when left out")


def checked_step(step: StepBody, at: str, limits: Limits) -> EditStep:
    """A step as it is made, without what all steps share: its seed is still to be set.

    at: what stands before the names of its fields in refusals. Raises InputError.
    """
    return EditStep(
        mode=step.type,
        info=_value(step, f"{at}value"),
        text=_text(step, f"{at}text", limits),
        passes=_passes(step, f"{at}intensity"),
        seed=0,
    )


def possible_edits() -> dict[str, Any]:
    """What can be asked for, by the tables that requests are checked against."""
    return {
        **{str(mode): list(values) for mode, values in EDIT_VALUES.items() if values},
        str(Mode.PARALINGUISTIC): list(PARALINGUISTIC_TAGS),
        "dialect": list(DIALECT_TAGS),
        "modes": [str(mode) for mode in Mode],
        "types": [
            {
                "type": str(mode),
                "values": list(EDIT_VALUES[mode]),
                "intensity": {"min": 1, "max": MAX_PASSES if mode in REPEATABLE else 1},
                "needs_text": mode not in SAME_WORDS,
                "needs_transcript": mode not in WORDLESS,
                "only_first": mode is Mode.CLONE,
            }
            for mode in Mode
        ],
        "languages": [{"name": name, "tag": tag or None} for name, tag in LANGUAGES.items()],
        "max_steps": MAX_STEPS,
    }


def _value(step: StepBody, param: str) -> str:
    allowed = EDIT_VALUES[step.type]
    value = value_among(allowed, step.value)
    if value is not None:
        return value
    also = "; for an exact factor send speed, 0.25 to 4" if step.type is Mode.SPEED else ""
    raise UnsupportedError(
        f"{param}: {step.type} has no value {step.value[:MAX_FOUND]!r}; "
        f"{'allowed: ' + ', '.join(allowed) if allowed else 'leave it out'}{also}",
        param=param,
    )


def _text(step: StepBody, param: str, limits: Limits) -> str | None:
    text = (step.text or "").strip()
    if step.type in SAME_WORDS:
        if text:
            raise UnsupportedError(
                f"{param}: {step.type} changes no words; what is said in the audio goes into "
                "transcript",
                param=param,
            )
        return None
    if not text:
        wanted = (
            "the text to speak"
            if step.type is Mode.CLONE
            else f"the words of the audio with tags in it ({', '.join(PARALINGUISTIC_TAGS)})"
        )
        raise InputError(f"{param} is required: {wanted}", param=param)
    if len(text) > limits.max_text_chars:
        raise TextError(
            f"{param} has {len(text)} characters, {limits.max_text_chars} are allowed", param=param
        )
    if step.type is Mode.PARALINGUISTIC:
        _check_tags(text, param)
    return text


def _check_tags(text: str, param: str) -> None:
    tags = TAG.findall(text)
    unknown = [tag for tag in tags if tag not in PARALINGUISTIC_TAGS + DIALECT_TAGS]
    if not unknown and set(tags) & set(PARALINGUISTIC_TAGS):
        return
    found = f"the tag {unknown[0][:MAX_FOUND]} is not known" if unknown else "it holds no tag"
    raise UnsupportedError(
        f"{param}: {found}; allowed: {', '.join(PARALINGUISTIC_TAGS)}", param=param
    )


def _passes(step: StepBody, param: str) -> int:
    asked = 1.0 if step.intensity is None else step.intensity
    most = MAX_PASSES if step.type in REPEATABLE else 1
    if asked.is_integer() and 1 <= asked <= most:
        return int(asked)
    can = f"1 to {MAX_PASSES}, whole: each is one more pass over the result of the one before"
    if most == 1:
        can = f"{step.type} has none, leave it out; {', '.join(sorted(REPEATABLE))} take {can}"
    else:
        can = f"{step.type} takes {can}"
    raise UnsupportedError(f"{param}: found {asked:g}; {can}", param=param)
