"""Lenient reading of body fields, and the messages about mistakes in them.

Null means left out, and so does an empty string in an optional field. White space around a name and
its case are ignored. -1 stands for "off" or "any", as in other servers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError, from_json

from deployments.config.settings import Reuse
from pipeline.errors import MAX_FOUND, InputError

VOICE_SHAPES = 'a name is expected, or an object with one: {"id": name}'
VOICE_KEYS = ("id", "name", "voice_id", "voice")
_KINDS = frozenset({"str", "bytes", "int", "float", "bool"})
HUGE = 10**30  # larger integers are not quoted in messages

Body = TypeVar("Body", bound=BaseModel)


class Lenient(BaseModel):
    """Null means left out; so does an empty string, except in the fields `keeps_empty`."""

    model_config = ConfigDict(allow_inf_nan=False)
    keeps_empty: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _without_what_is_left_out(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {
            key: value
            for key, value in data.items()
            if value is not None and (key in cls.keeps_empty or not _is_blank(value))
        }


def validated(model: type[Body], tree: Any, allowed: Sequence[str]) -> Body:
    """`tree` as a body. allowed: the fields of the part that refuses unknown ones.

    Raises InputError about the first mistake.
    """
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        message, param = explain_validation(error.errors(include_url=False), allowed)
        raise InputError(message, param=param) from error


def explain_validation(errors: Sequence[Any], allowed: Sequence[str] = ()) -> tuple[str, str]:
    """Pydantic's report on a body → (message, param): the first mistake, and what is allowed there.

    allowed: the fields of the object that refuses unknown ones.
    """
    problem = _first(errors)
    path = [str(part) for part in problem["loc"] if part != "body" and not _is_branch(part)]
    param = ".".join(path)[:MAX_FOUND] or "body"
    kind = problem["type"]
    if kind == "extra_forbidden":
        return f"{param}: unknown field; allowed: {', '.join(allowed)}", param
    if kind == "missing":
        return f"{param} is required", param
    found = _found(problem.get("input"))
    if kind in {"model_type", "model_attributes_type"}:
        return f"{'the body' if param == 'body' else param} must be a JSON object{found}", param
    return f"{param}: {problem['msg']}{found}", param


def _first(errors: Sequence[Any]) -> Any:
    """The first mistake; of a field that may be several things, in the one that came closest."""
    first = errors[0]
    for depth, part in enumerate(first["loc"]):
        if _is_branch(part):
            field = first["loc"][:depth]
            alike = [error for error in errors if error["loc"][:depth] == field]
            return max(alike, key=lambda error: len(error["loc"]))
    return first


def _is_branch(part: str | int) -> bool:
    """Whether a step of pydantic's path is no field of a caller's but a kind that it may be."""
    return isinstance(part, str) and (part in _KINDS or part[:1].isupper())


def _found(value: Any) -> str:
    if isinstance(value, int) and abs(value) > HUGE:
        return ", found a huge number"
    if isinstance(value, str):
        value = value[:MAX_FOUND]
    return f", found {value!r}" if isinstance(value, str | int | float | bool) else ""


def _is_blank(value: Any) -> bool:
    return isinstance(value, str) and (not value or value.isspace())


def _name(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def from_text(value: Any) -> Any:
    """A field of a form that holds JSON, as that; any other value as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[")):
        return value
    try:
        return from_json(value)
    except ValueError:
        return value


def _voice(value: Any) -> Any:
    value = from_text(value)
    if isinstance(value, dict):
        named = (value.get(key) for key in VOICE_KEYS)
        value = next((name for name in named if isinstance(name, str) and name.strip()), None)
    if not isinstance(value, str):
        raise PydanticCustomError("voice_shape", "{shapes}", {"shapes": VOICE_SHAPES})
    return value.strip()


def _items(value: Any) -> Any:
    value = from_text(value)
    if isinstance(value, list):
        return [item for item in value if item is not None]
    return [value] if isinstance(value, dict) else value


def _only(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    if len(value) != 1:
        raise PydanticCustomError("only", "one is allowed, found {n} in a list", {"n": len(value)})
    return value[0]


NAME = BeforeValidator(_name)  # white space around it and its case are ignored
VOICE = BeforeValidator(_voice)  # a name in any of the shapes that clients send
OBJECT = BeforeValidator(from_text)  # may come as JSON text, as in a form's field
ITEMS = BeforeValidator(_items)  # a list of objects, or a single one
ONLY = BeforeValidator(_only)  # a text, or a list of one
ANY_SEED = BeforeValidator(lambda value: None if value in (-1, "-1") else value)
OFF = BeforeValidator(lambda value: 0 if value in (-1, "-1") else value)

# What every dialect says the same way.
Seed = Annotated[Annotated[int, Field(ge=0, lt=2**63)] | None, ANY_SEED]
Temperature = Annotated[float, Field(ge=0.0, le=2.0)]
TopP = Annotated[float, Field(gt=0.0, le=1.0)]
TopK = Annotated[Annotated[int, Field(ge=0, le=5120)] | None, OFF]
MaxTokens = Annotated[int, Field(ge=5, le=8192)]
Speed = Annotated[float, Field(ge=0.25, le=4.0)]
TargetLufs = Annotated[
    Annotated[float, Field(ge=-40.0, le=-10.0)] | None,
    Field(
        description="Loudness of the reply, LUFS (EBU R128), such as -16 for podcasts or -23 for "
        "broadcast; as the model speaks when left out. Each part of the text is complete before it "
        "is heard: first audio comes later"
    ),
]
Cached = Annotated[
    Annotated[Reuse, NAME] | None,
    Field(
        description="Finished speech: reuse answers from it (as a request with a seed does), "
        "refresh makes it anew, off neither reads nor keeps it"
    ),
]


def refused(instead: str, *neutral: object, is_switch: bool = True) -> BeforeValidator:
    """Of a field that is taken with a neutral value alone: what stands for nothing, or `neutral`.

    instead: what its sender can do. is_switch: false and 0 stand for nothing.
    """
    off = (False, "false", 0, "0") if is_switch else ()

    def check(value: object) -> None:
        said = value.strip().lower() if isinstance(value, str) else value
        is_nothing = said is None or said in ("", "null", [], {})
        if not is_nothing and said not in (*off, *neutral):
            raise PydanticCustomError("refused", "not served here: {instead}", {"instead": instead})

    return BeforeValidator(check)
