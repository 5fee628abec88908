"""docs/settings.md: every key of the settings tree, with its bounds, default and meaning."""

from __future__ import annotations

import builtins
import json
import types
import typing
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Any, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from deployments.config.settings import Settings
from tests.documents.cells import cell, table

_WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false", Any: "anything"}
_BYTES = ("B", "KiB", "MiB", "GiB")


def part() -> str:
    """A heading and a table for each section."""
    tops = {name: _section_of(field) for name, field in Settings.model_fields.items()}
    alone = {name: Settings.model_fields[name] for name, model in tops.items() if model is None}
    parts = ["## At the top\n", _table(_rows(alone))]
    for name, model in tops.items():
        if model is not None:
            described = Settings.model_fields[name].description or model.__doc__ or ""
            parts += [f"## {name}\n", cell(described) + "\n"]
            parts.append(_table(_rows(model.model_fields)))
    return "\n".join(parts)


def _table(rows: Iterator[Sequence[str]]) -> str:
    return table(("key", "takes", "default", "what it is"), rows)


def _rows(fields: dict[str, FieldInfo], prefix: str = "") -> Iterator[Sequence[str]]:
    """A section within is a row and, the first time, the rows of its keys."""
    first_of: dict[type[BaseModel], str] = {}
    for name, field in fields.items():
        key, text = f"{prefix}{name}", cell(field.description or "")
        if (model := _section_of(field)) is None:
            yield f"`{key}`", _kind(field.annotation, field.metadata), _default(field, key), text
            continue
        below = "NAME." if (is_open := get_origin(field.annotation) is dict) else ""
        if model in first_of:
            yield f"`{key}.{below}…`", f"as `{first_of[model]}.…`", "", text
            continue
        first_of[model] = key
        yield f"`{key}`", "by name" if is_open else "a section", _empty(field), text
        yield from _rows(model.model_fields, f"{key}.{below}")


def _section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The model below a field: of the field itself, or of each value of a mapping."""
    candidates = [field.annotation, *get_args(field.annotation)]
    if get_origin(field.annotation) is tuple:
        return None
    for one in candidates:
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


def _kind(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    of = get_args(annotation)
    match get_origin(annotation):
        case None:
            words = _words(annotation)
            return _WORDS[annotation] + _bounds(metadata) if words is None else _list(words)
        case typing.Annotated:
            said = _kind(of[0], [*_flat(of[1:]), *metadata])
        case typing.Literal:
            said = _list(of)
        case builtins.dict:
            said = f"names: {_kind(of[1])}"
        case builtins.tuple | builtins.list | builtins.frozenset:
            said = f"list of {_kind(of[0])}"
        case _:  # a union
            said = " or ".join(_kind(one, metadata) for one in of if one is not types.NoneType)
    return said


def _words(annotation: Any) -> list[str] | None:
    """The values or keys that a class allows; None if they are without number."""
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return [str(one.value) for one in annotation]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return list(annotation.model_fields)
    return None


def _list(words: Sequence[Any]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _flat(metadata: Sequence[Any]) -> list[Any]:
    """Constraints, of which a Field holds several."""
    found: list[Any] = []
    for one in metadata:
        found += one.metadata if isinstance(one, FieldInfo) else [one]
    return found


def _bounds(metadata: Sequence[Any]) -> str:
    said = [_bound(one) for one in _flat(metadata)]
    shown = ", ".join(one for one in said if one)
    return f" {shown}" if shown else ""


def _bound(constraint: Any) -> str:
    match constraint:
        case annotated_types.Gt(gt=bound):
            return f"> {bound:g}"
        case annotated_types.Ge(ge=bound):
            return f"≥ {bound:g}"
        case annotated_types.Lt(lt=bound):
            return f"< {bound:g}"
        case annotated_types.Le(le=bound):
            return f"≤ {bound:g}"
        case annotated_types.MultipleOf(multiple_of=step):
            return f"in steps of {step}"
    pattern = getattr(constraint, "pattern", None)
    return f"like `{pattern}`" if pattern else ""


def _default(field: FieldInfo, key: str) -> str:
    if field.is_required():
        return "must be given"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return ""
    said = f"`{json.dumps(_plain(value), ensure_ascii=False)}`"
    if key.endswith("_bytes") and isinstance(value, int) and value >= 1024:
        return f"{said} ({_size(value)})"
    return said


def _empty(field: FieldInfo) -> str:
    return "none" if field.default in (None, {}, ()) else ""


def _plain(value: Any) -> Any:
    """As JSON shows it."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, tuple | list | frozenset):
        return [_plain(one) for one in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _size(n_bytes: int) -> str:
    amount, unit = float(n_bytes), 0
    while amount >= 1024 and unit < len(_BYTES) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.4g} {_BYTES[unit]}"
